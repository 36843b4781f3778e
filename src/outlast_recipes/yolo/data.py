"""A dataset as one table of images and labels; `reading` reads it from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and the N objects that are labelled in it. An image without objects has arrays of length 0.

    Attributes:
        path: of the image file.
        width, height: in pixels, after the rotation that its EXIF data ask for.
        boxes: (N, 4) float32: x1, y1, x2, y2 in pixels.
        classes: (N,) int64: numbers of the dataset's names.
        keypoints: (N, K, 2) float32: x, y in pixels; None in a dataset without keypoints. With K = 4 they are the
            corners in reading order: top left, top right, bottom right, bottom left.
        visible: (N, K) uint8: 0 not labelled, 1 hidden, 2 visible; None in a dataset without keypoints.
        source: file of the labels; None when the image has none.
        lines: the line in `source` of each object.
    """

    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    keypoints: NDArray[np.float32] | None = None
    visible: NDArray[np.uint8] | None = None
    source: Path | None = None
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, by split.

    Attributes:
        root: the folder that all its files are in.
        names: of the classes.
        splits: "train", "val" and perhaps "test" -> samples, in the order of their paths.
        keypoints: K, the number of keypoints of every object; 0 without keypoints.
        flip_index: (K,) the keypoint that each becomes in a mirrored image; None when mirroring is not allowed.
        hash: of all labels and of the names and sizes of the images, as hexadecimal digits.
    """

    root: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Sample, ...]]
    keypoints: int = 0
    flip_index: tuple[int, ...] | None = None
    hash: str = ""
