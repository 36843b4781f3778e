"""Image files: their sizes and pixels, within bounds. Pillow reads them; only these formats are tried.

Ultralytics trains with OpenCV. Where the two read a file differently, a dataset may not have it: see `read_header`.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MOST_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded: Pillow's own bound, above which it suspects a decompression bomb."""
_TOO_LARGE = f"has no pixels, or more than {MOST_PIXELS:,}; expected fewer: scale it down"
_TOO_DEEP = "has pixels of 32 bits, whose white is unknown; expected 8 or 16 bits: convert it"
_TURNED_BY_SOME = (
    "is rotated by its EXIF data, which only some readers of {} obey; expected the pixels as they are seen"
)
_OTHER_COLOURS = "is a TIFF of the colours {}, which readers convert differently; expected RGB or grey: convert it"
_AMBIGUOUS = ("RGBA", "RGBX", "RGBa", "LAB", "HSV")  # modes of a TIFF
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # values of EXIF's orientation with width and height exchanged


class ImageRefused(Exception):
    """An image cannot be used; the text says why, without its name."""


@dataclass(frozen=True)
class Header:
    """What an image file says about itself: pixels after its rotation, and whether EXIF data ask for one."""

    width: int
    height: int
    is_rotated: bool


def read_header(path: Path) -> Header:
    """The size of an image of a dataset, without decoding it.

    Raises:
        ImageRefused: it cannot be read, or OpenCV and Pillow, or two versions of one of them, may read it differently.
    """
    with _opened(path) as image:
        orientation = _orientation(image)
        width, height = image.size
        kind = str(image.format)
        _check(orientation == 1 or kind in ("JPEG", "MPO"), _TURNED_BY_SOME.format(kind))
        _check(kind != "TIFF" or image.mode not in _AMBIGUOUS, _OTHER_COLOURS.format(image.mode))
        if orientation in _TURNED:
            width, height = height, width
        return Header(width, height, is_rotated=orientation != 1)


def decode(path: Path) -> Image.Image:
    """The whole image in RGB, rotated as its EXIF data ask. Raises ImageRefused."""
    with _opened(path) as image:
        upright = _orientation(image) == 1
        image.load()
        turned = image if upright else ImageOps.exif_transpose(image)
        if _has_16_bits(
            image
        ):  # which `convert` would cut at 255; OpenCV, which trains ultralytics', keeps the upper 8
            turned = Image.fromarray((np.asarray(turned).astype(np.uint16) >> 8).astype(np.uint8))
        return turned.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation of an opened image, 1 to 8."""
    # Pillow decodes a whole PNG to answer this, so one is asked only where EXIF data come before the pixels.
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _has_16_bits(image: Image.Image) -> bool:
    """Whether its pixels are grey of 16 bits; older versions of Pillow open such a PNG as one of 32."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow's warnings are not printed inside, such as those of damaged EXIF data. Not in threads: around them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        # A pipe that has an image's name would wait for ever without O_NONBLOCK.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            _check(stat.S_ISREG(found.st_mode), "is no ordinary file")
            _check(found.st_size > 0, "is empty")
            with Image.open(file, formats=FORMATS) as image:
                _check(0 < image.size[0] * image.size[1] <= MOST_PIXELS, _TOO_LARGE)
                _check(_has_16_bits(image) or image.mode not in ("I", "F"), _TOO_DEEP)
                yield image
    except ImageRefused:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageRefused(_TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise ImageRefused(f"is no image that can be read; expected one of {', '.join(FORMATS)}") from error
    except OSError as error:
        raise ImageRefused(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise ImageRefused(f"is damaged: {type(error).__name__}: {error}") from error


def _check(sound: bool, words: str) -> None:  # noqa: FBT001 - a condition and what is wrong without it
    if not sound:
        raise ImageRefused(words)
