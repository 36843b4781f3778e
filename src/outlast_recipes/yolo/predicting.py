"""Predictions of pictures in files, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import outlast
from outlast_recipes.yolo.detector import Detector, Prediction
from outlast_recipes.yolo.images import SUFFIXES, ImageRefused, decode, quiet


def pictures_in(paths: Sequence[Path]) -> list[Path]:
    """Image files, and those in folders, sorted; raises outlast.DataError for what is neither."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
            if not inside:
                raise outlast.DataError(
                    f"{path} has no images; expected files that end with {', '.join(sorted(SUFFIXES))}."
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise outlast.DataError(f"{path} does not exist; expected an image, or a folder of images.")
    return found


def opened(path: Path) -> Image.Image:
    """A picture as it is seen, in RGB; raises outlast.DataError."""
    try:
        with quiet():
            return decode(path)
    except ImageRefused as error:
        raise outlast.DataError(f"{path} {error}.") from error


def predicted(
    detector: Detector, paths: Iterable[Path], confidence: float, skipped: list[str] | None = None
) -> Iterator[tuple[int, Image.Image, Prediction]]:
    """The number of each path, its picture, and what is found in it, one at a time.

    Args:
        detector: that looks.
        paths: of the pictures.
        confidence: the least.
        skipped: receives what is wrong with pictures that cannot be read; without it, outlast.DataError is raised.
    """
    for number, path in enumerate(paths):
        try:
            picture = opened(path)
        except outlast.DataError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
            continue
        (found,) = detector.predict([np.asarray(picture)], confidence=confidence)
        yield number, picture, found


def refuse_skipped(skipped: Sequence[str], count: int) -> None:
    """Raise outlast.DataError if pictures were skipped, of so many; the others are done."""
    if skipped:
        raise outlast.DataError(
            f"Pictures that cannot be read and have no result: {len(skipped)} of {count}. "
            f"{' '.join(skipped[:3])}{' ...' if len(skipped) > 3 else ''}"
        )


def surest(found: Prediction, confidence: float) -> Prediction:
    """What was found with at least this confidence."""
    kept = found.scores >= confidence
    points = found.keypoints[kept] if found.keypoints is not None else None
    return Prediction(found.boxes[kept], found.scores[kept], found.classes[kept], points)


def record(file: str, size: tuple[int, int], found: Prediction, names: Sequence[str]) -> dict[str, Any]:
    """What was found in a picture, as JSON: boxes x1, y1, x2, y2 and keypoints x, y, all in pixels."""
    objects: list[dict[str, Any]] = []
    for number in range(len(found.scores)):
        one: dict[str, Any] = {
            "class": int(found.classes[number]),
            "name": names[int(found.classes[number])],
            "score": round(float(found.scores[number]), 5),
            "box": [round(float(value), 2) for value in found.boxes[number]],
        }
        if found.keypoints is not None:
            points = [[round(float(x), 2), round(float(y), 2)] for x, y in found.keypoints[number]]
            one["corners" if len(points) == 4 else "keypoints"] = points
        objects.append(one)
    return {"file": file, "width": size[0], "height": size[1], "objects": objects}


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name without ending for what is made of each file: its stem, with a number where two are the same."""
    used: dict[str, int] = {}
    made = []
    for path in paths:
        count = used[path.stem] = used.get(path.stem, 0) + 1
        made.append(path.stem if count == 1 else f"{path.stem}-{count}")
    return made
