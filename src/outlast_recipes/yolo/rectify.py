"""A plate or a number, straightened: its four corners become those of a rectangle."""

from __future__ import annotations

import numpy as np
from PIL import Image

from outlast_recipes.yolo.corners import Points, order_error

LARGEST = 4096  # pixels of a side


def size_of(corners: Points, height: int | None = None) -> tuple[int, int]:
    """Width and height in pixels of the straightened picture: the longest edges, or scaled to a height."""
    points = np.asarray(corners, np.float64)
    top, right, bottom, left = np.linalg.norm(np.roll(points, -1, 0) - points, axis=1)
    wide, high = max(top, bottom), max(left, right)
    scale = min(height / high if height else 1.0, LARGEST / max(wide, high))
    return max(1, round(wide * scale)), max(1, round(high * scale))


def rectified(image: Image.Image, corners: Points, height: int | None = None, margin: float = 0.0) -> Image.Image:
    """Cut out a quadrilateral and straighten it by perspective. What is outside the image becomes black.

    Args:
        image: of any mode.
        corners: (4, 2) in pixels, in reading order; pixel (0, 0) covers 0 to 1.
        height: of the result, in pixels; by default that of the longer side edge.
        margin: that is added on each side, as a share of the quadrilateral's height.

    Raises:
        ValueError: the corners are not those of a quadrilateral in reading order.
    """
    if wrong := order_error(corners):
        raise ValueError(f"the four corners {wrong}")
    width, high = size_of(corners, height)
    edge = round(margin * high)
    rectangle = np.array([(0, 0), (width, 0), (width, high), (0, high)], np.float64) + edge
    coefficients = perspective(rectangle, np.asarray(corners, np.float64))
    size = (width + 2 * edge, high + 2 * edge)
    return image.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)


def perspective(source: Points, target: Points) -> tuple[float, ...]:
    """a to h of the map (x, y) -> ((ax + by + c) / w, (dx + ey + f) / w), w = gx + hy + 1, of four points to four."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows, np.float64), np.array(values, np.float64)).tolist())
