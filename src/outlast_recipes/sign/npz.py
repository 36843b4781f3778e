"""Reads the .npz file of one clip: without pickle, and without memory for what its headers merely claim.

    X      (T, 156) numbers: x and y of 78 keypoints in shares of the frame, missing ones (0, 0); or (T, 2048) features
    X2048  (T, 2048) numbers: image features
    mask   (T, 78) bool, optional: which keypoints were seen
    meta   text, optional: JSON with width and height of the video in pixels

Other members of a file are not read.
"""

from __future__ import annotations

import io
import json
import math
import stat
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.common.clips import Floats, Mask
from outlast_recipes.sign.batch import FEATURES, POINTS

LARGEST = 2**29
"""Bytes of an array: an hour of keypoints at 30 frames a second has 67 MB, half an hour of features 442 MB."""
_HEADER = 2**13  # bytes of a .npy header
_NAMED = 8  # arrays of a file, in a message
_PACKED = 1100  # deflate makes data at most 1,032 times smaller (zlib.net/zlib_tech.html)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LONG = 20  # letters of a value in a message
_META = "; expected JSON text with width and height in pixels"
_ASPECTS = (0.1, 10.0)  # of frames
_FRAME = (-1.0, 2.0)
"""Coordinates of keypoints: a share of the frame, with room for trackers that look beyond its edges."""

_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    MemoryError,
    RecursionError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    zipfile.BadZipFile,
)  # what zipfile and NumPy raise for files that are not what they should be


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of a clip.

    Attributes:
        points: (T, 78, 2) float32, shares of the frame; 0 where `seen` is False.
        seen: (T, 78) bool.
        aspect: width of the frame by its height; None when the file does not say.
        fault: what is wrong with the file's `meta`; empty when it can be read, or there is none.
    """

    points: Floats
    seen: Mask
    aspect: float | None
    fault: str = ""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        kinds: "keypoints", "features", or both.
        fault: as in `Keypoints`; empty without keypoints, as the aspect of features is not read.
    """

    kinds: str
    fault: str = ""


def read_keypoints(path: Path, key: str = "X") -> Keypoints:
    """The keypoints of a file.

    Args:
        path: of the file.
        key: of the array of keypoints.

    Raises:
        outlast.DataError: it is not such a file, has no frames, or no keypoint is seen in any frame.
    """
    with _Members(path) as members:
        flat = members.numbers(key, 2 * POINTS)
        points = flat.reshape(len(flat), POINTS, 2)
        if not (_FRAME[0] <= points.min() and points.max() <= _FRAME[1]):
            raise outlast.DataError(
                f"{path}: {key} has values from {points.min():g} to {points.max():g}; expected shares of the frame, 0 "
                "to 1. Divide x by the width and y by the height."
            )
        seen = members.mask(len(points)) if "mask" in members.names else (points != 0).any(-1)
        if not seen.any():
            raise outlast.DataError(f"{path}: no keypoint is seen in any of its {len(points)} frames. Remove the clip.")
        return Keypoints(points * seen[..., None], seen, *members.aspect())


def read_features(path: Path, key: str = "X2048") -> Floats:
    """(T, 2048) float32: the image features of a file. They may stand under X when it has no other.

    Raises:
        outlast.DataError: it is not such a file, or has no frames.
    """
    with _Members(path) as members:
        if key not in members.names and "X" in members.names and members.shape("X")[1:] == (FEATURES,):
            key = "X"
        return members.numbers(key, FEATURES)


def check(path: Path, *, key: str = "X", require_x2048: bool = False) -> Contents:
    """What a file holds, every array of it read.

    Args:
        path: of the file.
        key: of the array of keypoints.
        require_x2048: refuse a file without X2048.

    Raises:
        outlast.DataError: something is wrong with it.
    """
    with _Members(path) as members:
        names = members.names
        kinds = []
        if require_x2048 or "X2048" in names:
            kinds.append("features")
            members.numbers("X2048", FEATURES)
        if not kinds and key in names and members.shape(key)[1:] == (FEATURES,):
            kinds.append("features")
            members.numbers(key, FEATURES)
        elif not kinds or key in names:
            kinds.insert(0, "keypoints")
    fault = read_keypoints(path, key).fault if "keypoints" in kinds else ""
    return Contents(" and ".join(kinds), fault)


class _Members:
    """The arrays in an .npz file; raises outlast.DataError for a file that is no archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
                raise OSError("it is no ordinary file")
            self._size = about.st_size
            self._archive = zipfile.ZipFile(path)
            found = self._archive.infolist()
        except FileNotFoundError as error:
            raise outlast.DataError(f"There is no file {path}; expected an .npz file.") from error
        except _DAMAGED as error:
            raise outlast.DataError(
                f"{path} cannot be read as .npz ({type(error).__name__}: {error}). Make it again, or remove it."
            ) from error
        self.names = {info.filename.removesuffix(".npy"): info for info in found if info.filename.endswith(".npy")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def numbers(self, key: str, width: int) -> Floats:
        """(T, width) float32; T is at least 1 and all numbers are finite."""
        shape = self.shape(key)
        if len(shape) != 2 or shape[1] != width:
            raise outlast.DataError(f"{self.path}: {key} has the shape {_text(shape)}; expected [T,{width}].")
        if not shape[0]:
            raise outlast.DataError(f"{self.path}: {key} has no frames. Remove the clip.")
        array = self._array(key, "fiu")
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(numbers).all():
            frame = int(np.flatnonzero(~np.isfinite(numbers).all(1))[0])
            found = numbers[frame][~np.isfinite(numbers[frame])][0]
            raise outlast.DataError(f"{self.path}: {key} holds {found} in frame {frame}; expected finite numbers.")
        return numbers

    def mask(self, frames: int) -> Mask:
        """(frames, 78) bool."""
        if self.shape("mask") != (frames, POINTS):
            raise outlast.DataError(
                f"{self.path}: mask has the shape {_text(self.shape('mask'))}; expected [{frames},{POINTS}], as the "
                "keypoints have."
            )
        array = self._array("mask", "biuf")
        if not np.isin(array, (0, 1)).all():
            raise outlast.DataError(f"{self.path}: mask holds other values than 0 and 1; expected bool.")
        return array.astype(np.bool_)

    def aspect(self) -> tuple[float | None, str]:
        """Width by height, from `meta`, or None when it does not say so; and what is wrong with it, or empty."""
        if "meta" not in self.names:
            return None, ""
        shape, _, dtype, _ = self._header("meta")
        if shape != () or dtype.kind not in "US":
            return None, f"meta is {dtype} of the shape {_text(shape)}{_META}"
        try:
            meta = json.loads(self._array("meta", "US").item())  # str, or bytes of UTF-8
        except (ValueError, RecursionError) as error:
            return None, f"meta is no JSON ({type(error).__name__}){_META}"
        if not isinstance(meta, dict):
            return None, f"meta is JSON without names{_META}"
        if not {"width", "height"} & meta.keys():
            return None, ""
        width, height = meta.get("width"), meta.get("height")
        try:
            aspect = float(width) / float(height)  # type: ignore[arg-type]
        except (ValueError, TypeError, ArithmeticError):
            aspect = 0.0
        if not _ASPECTS[0] < aspect < _ASPECTS[1]:
            return None, f"meta has the width {_shown(width)} and the height {_shown(height)}{_META}"
        return aspect, ""

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an array, from its header."""
        if key not in self.names:
            names = [ascii(name)[1:-1] for name in sorted(self.names)]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise outlast.DataError(
                f"{self.path} has no array {key}; it has {', '.join(names[:_NAMED]) or 'none'}{more}."
            )
        return self._header(key)[0]

    def _header(self, key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        """Shape, whether in Fortran's order, type, and length of the header."""
        info = self.names[key]
        if info.compress_type not in _METHODS or info.flag_bits & 1 or info.compress_size > self._size:
            raise outlast.DataError(f"{self.path}: {key} is damaged, encrypted, or packed otherwise than NumPy does.")
        try:
            with self._archive.open(info) as member:
                begin = io.BytesIO(member.read(_HEADER))
            version = np.lib.format.read_magic(begin)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            try:
                shape, fortran, dtype = read(begin)
            except SystemError:  # Python's parser, before 3.11.8, when garbage is collected in it (CPython gh-106905)
                begin.seek(len(np.lib.format.magic(*version)))
                shape, fortran, dtype = read(begin)
        except (*_DAMAGED, KeyError) as error:
            raise outlast.DataError(
                f"{self.path}: the header of {key} cannot be read ({type(error).__name__}: {error})."
            ) from error
        return shape, fortran, dtype, begin.tell()

    def _array(self, key: str, kinds: str) -> NDArray[Any]:
        """The array of a member; its size is believed only when the file can hold it."""
        shape, fortran, dtype, header = self._header(key)
        if dtype.hasobject or dtype.kind not in kinds:
            raise outlast.DataError(
                f"{self.path}: {key} holds {dtype}, which is not read; expected numbers. Objects would need pickle, "
                "which can run code."
            )
        nbytes = math.prod(shape) * dtype.itemsize
        info = self.names[key]
        packed = min(info.compress_size, self._size)
        if min(shape, default=0) < 0 or nbytes > min(LARGEST, _PACKED * (packed + _HEADER)):
            raise outlast.DataError(
                f"{self.path}: {key} claims the shape {_text(shape)}, {nbytes / 1e6:,.0f} MB, and {packed:,} bytes of "
                f"the file hold it; expected at most {LARGEST // 10**6} MB. The file is damaged or forged."
            )
        try:
            with self._archive.open(info) as member:
                member.read(header)
                content = member.read(nbytes + 1)  # the end is reached, so the checksum is compared
        except _DAMAGED as error:
            raise outlast.DataError(
                f"{self.path}: {key} cannot be read ({type(error).__name__}: {error}). The file is damaged."
            ) from error
        if len(content) != nbytes:
            raise outlast.DataError(
                f"{self.path}: {key} has the shape {_text(shape)} and {'less' if len(content) < nbytes else 'more'} "
                "data than that. The file is damaged."
            )
        array = np.frombuffer(content, dtype)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _shown(value: object) -> str:
    """A value of a file in a message; a long one is cut."""
    text = ascii(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
