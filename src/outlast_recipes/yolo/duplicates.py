"""Images that are copies of others: of the same bytes, or of the same picture after the usual augmentations.

The perceptual hash has 255 bits: signs of the low frequencies of a 32 x 32 picture in grey (a DCT), about their median.
Two images are near when the bits of one agree with those of a view of the other: mirrored, turned by 90 degrees,
rotated by up to 12 degrees, or a part of it. The agreement is 0 by chance and 1 of equal bits.

Measured on all 99,736 pairs of bccd_yolo and lspet_pose: pairs of different pictures agree by at most 0.39. Of copies
that were recompressed, blurred, halved, made darker, lighter or grey, mirrored, rotated by up to 15 degrees, partly
covered or cut to 90 % of the sides, all agree by more than NEAR; of those cut to 80 %, 58 %.

All images of a split are compared with all of another, as products of matrices. An index cannot answer the same: NEAR
lets 73 of 255 bits differ, so bands of bits that must be equal are too short to exclude anything, and an image's views
differ from each other as much as images do, so the triangle inequality excludes nothing either (docs/log.md has the
figures). Up to about 30,000 images, the fingerprints take longer than the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

NEAR = 0.42
"""Agreement from which two images are told to be the same."""
_SIZE, _KEPT = 32, 16
_BITS = _KEPT * _KEPT - 1  # without the mean
_ANGLES = (-12, -8, -4, 4, 8, 12)
_PARTS = ((0.92, 0.04), (0.85, 0.06), (0.75, 0.08))  # share of the sides that is kept, and offsets of the middle
_GREY = 114  # where a rotated view has no picture
_MOST = 2**28  # bytes of agreements at a time


@dataclass(frozen=True)
class Fingerprint:
    """The hashes of an image's views, (V, 32) uint8: 255 bits, eight in a byte. The first is that of the image."""

    views: NDArray[np.uint8]


@dataclass(frozen=True)
class Copy:
    """Two images of two splits that show the same, and how much they agree: 1 is equal."""

    first: Path
    second: Path
    agreement: float


def fingerprint(image: Image.Image) -> Fingerprint:
    """The perceptual hash of an image and of its views."""
    grey = image.convert("L")
    small = np.asarray(grey.resize((_SIZE, _SIZE), Image.Resampling.BOX), np.float32)
    turned = [np.rot90(small, count) for count in range(4)]
    pictures = turned + [each[:, ::-1] for each in turned]
    base = grey.resize((3 * _SIZE, 3 * _SIZE), Image.Resampling.BOX)
    shape = image.width / image.height
    for angle in _ANGLES:
        view = _view(base, shape, angle, 1.0, 0.0, 0.0)
        pictures += [view, view[:, ::-1]]
    for share, offset in _PARTS:
        for x in (-offset, 0.0, offset):
            for y in (-offset, 0.0, offset):
                view = _view(base, shape, 0.0, share, x, y)
                pictures += [view, view[:, ::-1]]
    return Fingerprint(np.packbits(_bits(np.stack(pictures)), axis=1))


def _view(base: Image.Image, shape: float, degrees: float, share: float, x: float, y: float) -> NDArray[np.float32]:
    """A part of a picture, rotated about its middle as it is seen, although `base` is squeezed into a square."""
    angle = np.radians(degrees)
    sine, cosine = share * np.sin(angle), share * np.cos(angle)
    matrix = np.array([[cosine, -sine / shape], [sine * shape, cosine]])
    shift = base.width * (np.array([0.5 + x, 0.5 + y]) - matrix @ (0.5, 0.5))
    a, b, d, e = (matrix * base.width / _SIZE).ravel()
    made = base.transform(
        (_SIZE, _SIZE),
        Image.Transform.AFFINE,
        (a, b, shift[0], d, e, shift[1]),
        Image.Resampling.BILINEAR,
        fillcolor=_GREY,
    )
    return np.asarray(made, np.float32)


def _bits(pictures: NDArray[np.float32]) -> NDArray[np.bool_]:
    low = dctn(pictures, axes=(1, 2), norm="ortho")[:, :_KEPT, :_KEPT].reshape(len(pictures), -1)[:, 1:]
    return np.asarray(low > np.median(low, axis=1, keepdims=True))


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Hashes (..., 32) as signs (..., 255): +1 and -1."""
    return np.unpackbits(packed, axis=-1, count=_BITS).astype(np.float32) * 2 - 1


def copies_across(prints: Mapping[str, Mapping[Path, Fingerprint]]) -> list[Copy]:
    """Images of two splits that are near, the nearest first.

    Args:
        prints: split -> image -> its fingerprint.
    """
    names, found = list(prints), []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            found += _between(prints[one], prints[other])
    return sorted(found, key=lambda copy: (-copy.agreement, str(copy.first)))


def _between(one: Mapping[Path, Fingerprint], other: Mapping[Path, Fingerprint]) -> list[Copy]:
    """Each image of either side is compared with the views of the other: a part may be on both sides."""
    found: dict[tuple[Path, Path], float] = {}
    for left, right, swapped in ((one, other, False), (other, one, True)):
        if not left or not right:
            continue
        paths, signs = list(right), _signs(np.stack([each.views[0] for each in right.values()]))
        views = len(next(iter(left.values())).views)
        step = max(1, _MOST // (4 * views * len(paths)))
        for start in range(0, len(left), step):
            block = list(left)[start : start + step]
            for path, agreements in zip(block, _agreements([left[each] for each in block], signs), strict=True):
                for place in np.flatnonzero(agreements >= NEAR):
                    pair = (paths[place], path) if swapped else (path, paths[place])
                    found[pair] = max(found.get(pair, 0.0), float(agreements[place]))
    return [Copy(first, second, agreement) for (first, second), agreement in found.items()]


def _agreements(prints: Sequence[Fingerprint], signs: NDArray[np.float32]) -> NDArray[Any]:
    """(len(prints), len(signs)): of the view that agrees best."""
    views = _signs(np.concatenate([each.views for each in prints]))
    return (views @ signs.T).reshape(len(prints), -1, len(signs)).max(1) / _BITS
