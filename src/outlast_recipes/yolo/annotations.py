"""Objects of one image, checked: what both formats of labels have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outlast_recipes.common.problems import Problems
from outlast_recipes.yolo import corners
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.images import Header

MOST_OBJECTS = 10_000
"""Objects of one image; more are a mistake, or meant to take long."""

_SLACK = 1.0  # pixels by which an edge may leave the image without a word: labels are rounded


@dataclass
class Annotations:
    """The objects of one image, gathered.

    Attributes:
        path: of the image.
        header: its size.
        keypoints: K.
        are_corners: whether the keypoints are four corners in reading order.
        problems: receives what is wrong.
        source: file of the labels.
    """

    path: Path
    header: Header
    keypoints: int
    are_corners: bool
    problems: Problems
    source: Path | None = None
    _rows: list[tuple[list[float], int, list[tuple[float, float, int]], int]] = field(default_factory=list)
    _seen: dict[Any, int] = field(default_factory=dict)  # object -> line

    def add(
        self,
        place: str,
        line: int,
        number: int,
        box: Sequence[float],
        points: Sequence[tuple[float, float, int]] = (),
    ) -> None:
        """Take an object if it is sound; otherwise a problem is noted.

        Args:
            place: file and line, for messages.
            line: in the file.
            number: its class, which is known to exist.
            box: x1, y1, x2, y2 in pixels.
            points: K keypoints: x, y in pixels and 0, 1 or 2 for not labelled, hidden, visible.
        """
        if len(self._seen) > MOST_OBJECTS:  # which is said once
            return
        clipped = self._clipped(place, box)
        if clipped is None:
            return
        checked = [(x, y, seen) if seen else (0.0, 0.0, 0) for x, y, seen in points]
        if not self._points_are_inside(place, checked, clipped):
            return
        if self.are_corners and all(seen for *_, seen in checked):
            wrong = corners.order_error(np.array([point[:2] for point in checked]))
            if wrong:
                self.problems.error(
                    "corner-order",
                    place,
                    f"the four corners {wrong}; expected top left, top right, bottom right, bottom left of the text.",
                )
                return
        elif self.are_corners:
            self.problems.warning("corner-missing", place, "not all four corners are labelled.")
        first = self._seen.setdefault((tuple(clipped), number, tuple(checked)), line)
        if len(self._seen) == len(self._rows):
            self.problems.warning("repeated", place, f"is the same object as in line {first}; it is taken once.")
        elif len(self._rows) == MOST_OBJECTS:
            self.problems.error("objects", place, f"the image has more than {MOST_OBJECTS:,} objects.")
        else:
            self._rows.append((clipped, number, checked, line))

    def _clipped(self, place: str, box: Sequence[float]) -> list[float] | None:
        width, height = self.header.width, self.header.height
        if not all(map(math.isfinite, box)):
            self.problems.error("number", place, "a coordinate is not a finite number; expected pixels.")
            return None
        x1, y1, x2, y2 = box
        inside = [min(max(x1, 0.0), width), min(max(y1, 0.0), height), min(x2, width), min(y2, height)]
        if x2 <= x1 or y2 <= y1 or inside[2] <= inside[0] or inside[3] <= inside[1]:
            words = (
                "has no area; expected a width and a height above 0"
                if x2 <= x1 or y2 <= y1
                else f"is outside the image of {width} x {height}; expected labels of this image, and of its size"
            )
            self.problems.error("box-size", place, f"the box {_shown(box)} (x1, y1, x2, y2 in pixels) {words}.")
            return None
        beyond = max(abs(a - b) for a, b in zip(box, inside, strict=True))
        if beyond > _SLACK:
            self.problems.warning(
                "box-clipped",
                place,
                f"the box {_shown(box)} leaves the image of {width} x {height} by {beyond:.1f} pixels and is clipped.",
            )
        return [float(value) for value in inside]

    def _points_are_inside(self, place: str, points: Sequence[tuple[float, float, int]], box: Sequence[float]) -> bool:
        width, height = self.header.width, self.header.height
        for count, (x, y, seen) in enumerate(points, 1):
            if not (math.isfinite(x) and math.isfinite(y)):
                self.problems.error("number", place, f"keypoint {count} is not a finite number; expected pixels.")
                return False
            if seen and not (-_SLACK <= x <= width + _SLACK and -_SLACK <= y <= height + _SLACK):
                self.problems.error(
                    "keypoint-range",
                    place,
                    f"keypoint {count} is at {_shown((x, y))}, outside the image of {width} x {height}; label it with "
                    "0 if it cannot be seen.",
                )
                return False
        labelled = [(x, y) for x, y, seen in points if seen]
        slack = 0.5 * max(box[2] - box[0], box[3] - box[1])
        if any(
            not (box[0] - slack <= x <= box[2] + slack and box[1] - slack <= y <= box[3] + slack) for x, y in labelled
        ):
            self.problems.warning("keypoint-far", place, "a keypoint is far from the object's box.")
        return True

    def sample(self) -> Sample:
        """The image with the objects that were taken."""
        count, points = len(self._rows), self.keypoints
        table = np.array([row[2] for row in self._rows], np.float64).reshape(count, points, 3)
        return Sample(
            path=self.path,
            width=self.header.width,
            height=self.header.height,
            boxes=np.array([row[0] for row in self._rows], np.float32).reshape(count, 4),
            classes=np.array([row[1] for row in self._rows], np.int64),
            keypoints=table[..., :2].astype(np.float32) if points else None,
            visible=table[..., 2].astype(np.uint8) if points else None,
            source=self.source,
            lines=tuple(row[3] for row in self._rows),
        )


def _shown(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)
