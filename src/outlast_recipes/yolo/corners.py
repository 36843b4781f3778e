"""Four corners of a plate or a number, in reading order: top left, top right, bottom right, bottom left.

The order is that of the text, not of the picture: the text runs from the first corner to the second. So in the picture
(y down) the corners go round clockwise however the text is rotated, and anticlockwise when it is mirrored. Functions
take corners (4, 2) or many of them (N, 4, 2), in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.floating[Any]] | Sequence[Sequence[float]]

SIGMA = 0.025
"""Sigma of a corner in the object keypoint similarity (OKS). The usual default for keypoints other than COCO's, 1 / K =
0.25, rates corners that are all off by 10 % of the object's size (the root of its area) 0.98. This one rates an error
of 2 % 0.92, of 5 % 0.61 and of 10 % 0.14."""

LOSS_SIGMA = 0.1
"""Sigma in the loss, which is 1 - OKS. With that of the measure it is flat where an untrained network's corners are:
off by 30 % of the object's size, it is 1 and has no slope."""


def order_error(corners: Points) -> str | None:
    """What is wrong with four corners as a plate in reading order, or None.

    They must go round clockwise and be convex; which corner is the first, only the text says (see `angle`).
    """
    turns = _turns(np.asarray(corners, np.float64))
    if (turns > 0).all():
        return None
    if (turns < 0).all():
        return "go round anticlockwise, as those of a mirrored text do"
    if not np.abs(turns).any() or (np.abs(turns) == 0).any():
        return "lie on one line, or two of them are the same"
    return "cross over, or one of them is inside the others' triangle"


def angle(corners: Points) -> float:
    """Rotation of the text in degrees, -180 to 180: of its upper edge, clockwise from the picture's left to right."""
    x, y = np.asarray(corners, np.float64)[1] - np.asarray(corners, np.float64)[0]
    return float(np.degrees(np.arctan2(y, x)))


def in_reading_order(corners: Points) -> NDArray[np.float64]:
    """The corners (4, 2) of a convex quadrilateral, sorted for a text that is rotated by less than 45 degrees.

    They go round clockwise, and the first is the one from which the upper edge points most to the right.
    """
    points = np.asarray(corners, np.float64)
    middle = points - points.mean(0)
    points = points[np.argsort(np.arctan2(middle[:, 1], middle[:, 0]), kind="stable")]
    # Of the two edges that a rotation of 90 degrees exchanges, the text runs along the one that is nearer to level.
    return np.roll(points, -int(np.argmin([abs(angle(np.roll(points, -first, 0))) for first in range(4)])), 0)


def area(polygon: Points) -> float:
    """Area of a simple polygon (K, 2), by the shoelace formula."""
    x, y = np.asarray(polygon, np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def quad_iou(found: Points, truth: Points) -> float:
    """Area that two quadrilaterals (4, 2) share, as a share of the area that either has: 0 to 1.

    `truth` must be convex; a `found` that crosses itself has no area, and its IoU is 0.
    """
    subject = np.asarray(found, np.float64)
    if _crosses(subject) or not np.isfinite(subject).all():
        return 0.0
    shared = area(_clipped(subject, np.asarray(truth, np.float64)))
    either = area(subject) + area(truth) - shared
    return shared / either if either > 0 else 0.0


def corner_error(found: Points, truth: Points) -> float:
    """Mean distance of the four corners from the true ones, as a share of the root of the true area."""
    distances = np.linalg.norm(np.asarray(found, np.float64) - np.asarray(truth, np.float64), axis=1)
    return float(distances.mean() / np.sqrt(max(area(truth), 1e-9)))


def best_shift(found: Points, truth: Points) -> int:
    """By how many places `found` must be rolled to fit `truth` best; 0 unless the order is wrong."""
    errors = [corner_error(np.roll(found, shift, 0), truth) for shift in range(4)]
    return int(np.argmin(errors))


def _turns(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the area of the triangle at each corner: positive where the way turns clockwise in the picture."""
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.where(np.abs(turns) < 1e-9 * max(1.0, float(np.abs(points).max()) ** 2), 0.0, turns)


def _crosses(points: NDArray[np.float64]) -> bool:
    """Whether the outline of four corners crosses itself: opposite edges then meet."""
    a, b, c, d = points
    return _meet(a, b, c, d) or _meet(b, c, d, a)


def _meet(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]) -> bool:
    def side(p: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64]) -> float:
        return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _clipped(subject: NDArray[np.float64], convex: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a polygon that is inside a convex one. Sutherland and Hodgman, CACM 17(1), 1974."""
    if float(_turns(convex).sum()) < 0:
        convex = convex[::-1]
    points = list(subject)
    for start, end in zip(convex, np.roll(convex, -1, 0), strict=True):
        edge = end - start
        sides = [edge[0] * (p[1] - start[1]) - edge[1] * (p[0] - start[0]) for p in points]
        kept = []
        for number, (point, side) in enumerate(zip(points, sides, strict=True)):
            other, before = points[number - 1], sides[number - 1]
            if (side < 0) != (before < 0):
                kept.append(other + (point - other) * (before / (before - side)))
            if side >= 0:
                kept.append(point)
        points = kept
        if not points:
            return np.zeros((0, 2))
    return np.array(points)
