"""A clip of keypoints as a GIF: the body over time, and below it how much each frame spoke for the decision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.common.clips import Floats, Mask

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

HEIGHT, BAR, TITLE = 360, 56, 24  # pixels
MILLISECONDS = 80  # of a picture; a GIF's unit is 10 ms
MOST = 150  # pictures; of a longer clip every second one, and so on
_POSE = (
    (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24), (0, 2), (2, 7), (0, 5), (5, 8),
    (9, 10),
)  # fmt: skip
_FINGERS = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
_BONES = (
    ((70, 70, 80), 3, _POSE),
    ((200, 90, 20), 2, tuple((25 + start, 25 + end) for start, end in _FINGERS)),
    ((20, 100, 190), 2, tuple((46 + start, 46 + end) for start, end in _FINGERS)),
)
"""Colour, width and pairs of keypoints: pose, left hand, right hand."""
_FACE = (120, 120, 130)
_WARM = np.array([255, 176, 90])  # the background of a frame that decided


def animate(points: Floats, seen: Mask, weight: Floats, aspect: float, path: Path, title: str) -> None:
    """Write the GIF.

    Args:
        points: (T, 78, 2) shares of the frame.
        seen: (T, 78).
        weight: (T,) how much each frame spoke for the decision, 0 to 1.
        aspect: width of the frame by its height.
        path: of the GIF.
        title: line above the pictures.
    """
    every = -(-len(points) // MOST)
    width = round(HEIGHT * aspect)
    view = _view(points, seen, aspect)
    pictures = [_picture(points, seen, weight, frame, width, view, title) for frame in range(0, len(points), every)]
    first, *others = pictures
    first.save(path, format="GIF", save_all=True, append_images=others, duration=MILLISECONDS * every, loop=0)


def _view(points: Floats, seen: Mask, aspect: float) -> tuple[NDArray[np.float64], float]:
    """Middle and half height of what is shown: all that is seen, with a margin, in heights of the frame."""
    places = points[seen] * (aspect, 1.0)
    low, high = places.min(0), places.max(0)
    half = 0.55 * max(high[1] - low[1], (high[0] - low[0]) / aspect, 0.1)
    return (low + high) / 2, float(half)


def _picture(
    points: Floats, seen: Mask, weight: Floats, frame: int, width: int, view: tuple[NDArray[np.float64], float],
    title: str,
) -> Image:  # fmt: skip
    from PIL import Image, ImageDraw

    ground = tuple(np.rint(255 + 0.6 * float(weight[frame]) * (_WARM - 255)).astype(int).tolist())
    picture = Image.new("RGB", (width, TITLE + HEIGHT + BAR), "white")
    pencil = ImageDraw.Draw(picture)
    pencil.rectangle((0, TITLE, width, TITLE + HEIGHT), fill=ground)
    middle, half = view
    places = (points[frame] * (width / HEIGHT, 1.0) - middle) / (2 * half) * HEIGHT + (width / 2, TITLE + HEIGHT / 2)
    for colour, thick, pairs in _BONES:
        for start, end in pairs:
            if seen[frame, start] and seen[frame, end]:
                pencil.line((*places[start].tolist(), *places[end].tolist()), fill=colour, width=thick)
    for point in (0, *range(67, 78)):
        if seen[frame, point]:
            x, y = places[point].tolist()
            pencil.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_FACE)
    pencil.rectangle((0, 0, width, TITLE), fill="white")
    pencil.text((6, 6), f"{title}, frame {frame + 1} of {len(points)}", fill="black")
    _bars(pencil, weight, frame, width)
    return picture


def _bars(pencil: ImageDraw, weight: Floats, frame: int, width: int) -> None:
    """A bar for each frame; that of the frame that is shown has a mark below."""
    top, bottom, step = TITLE + HEIGHT, TITLE + HEIGHT + BAR, width / len(weight)
    pencil.rectangle((0, top, width, bottom), fill="white")
    for number, share in enumerate(weight.tolist()):
        left, right = number * step, max(number * step + 1, (number + 1) * step - 1)
        pencil.rectangle((left, bottom - 8 - share * (BAR - 14), right, bottom - 8), fill=(225, 120, 30))
        if number == frame:
            pencil.rectangle((left, bottom - 6, right, bottom - 2), fill="black")
