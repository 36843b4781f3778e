"""Frames of a video at a fixed rate, by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import outlast

SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
LONGEST = 120_000  # frames of a clip: more than an hour at 30 frames a second
_USUAL = 30.0  # frames a second of a file that does not say


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        time: milliseconds from the start.
        picture: (H, W, 3) uint8, RGB.
    """

    time: int
    picture: NDArray[np.uint8]


def frames_of(path: Path, rate: float) -> Iterator[Frame]:
    """The frames of a video, each the last one that is shown by its time.

    Args:
        path: of the video.
        rate: frames a second of the result.

    Raises:
        outlast.DataError: it has no frame that can be decoded, or it is longer than an hour.
        outlast.OutlastError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise outlast.OutlastError(
            f"Reading a video needs OpenCV, which is not installed ({error}): pip install 'outlast[sign]'"
        ) from error
    video = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)  # by its contents; a name is no pattern and no URL
    try:
        own = video.get(cv2.CAP_PROP_FPS)
        own = own if 1 <= own <= 1000 else _USUAL
        number = given = 0
        while True:
            read, picture = video.read()
            if not read:
                break
            number += 1
            while given / rate < number / own - 1e-9:
                if given == LONGEST:
                    raise outlast.DataError(f"{path} has more than {LONGEST} frames. Cut it into clips.")
                yield Frame(round(1000 * given / rate), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
                given += 1
        if not given:
            raise outlast.DataError(f"{path} has no frame that can be decoded. The file is damaged or no video.")
    finally:
        video.release()


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder, at any depth.

    Raises:
        outlast.DataError: it is no folder, there are none, or two have the same name.
    """
    if not folder.is_dir():
        raise outlast.DataError(f"{folder} is not a folder; expected a folder of videos.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise outlast.DataError(f"{folder} holds no videos; expected files such as {', '.join(SUFFIXES)}.")
    names: dict[str, Path] = {}
    for path in found:
        if (other := names.setdefault(path.stem, path)) != path:
            raise outlast.DataError(f"{path} and {other} have the same name, which names their clip. Rename one.")
    return found
