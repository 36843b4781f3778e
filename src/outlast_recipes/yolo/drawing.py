"""Pictures with what was found in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from outlast_recipes.yolo.detector import Prediction

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Of the classes, in turn: those of Okabe and Ito, which the colour-blind can tell apart."""
_TRUE = (255, 255, 255)
_FIRST, _OTHERS = (255, 40, 40), (40, 160, 255)  # the first corner, and the others


def drawn(
    picture: Image.Image, found: Prediction, names: Sequence[str], truth: NDArray[np.float32] | None = None
) -> Image.Image:
    """A copy of a picture with boxes, classes and scores.

    Keypoints are dots. Four corners are an outline with a thick upper edge, numbered from the first, which is red.

    Args:
        picture: in RGB.
        found: what a detector found in it.
        names: of the classes.
        truth: labelled boxes (N, 4), drawn as thin white lines.
    """
    made = picture.convert("RGB")
    draw = ImageDraw.Draw(made)
    width = max(1, round(max(made.size) / 400))
    font = ImageFont.load_default(max(10, round(max(made.size) / 55)))
    for box in truth if truth is not None else ():
        draw.rectangle([float(value) for value in box], outline=_TRUE, width=1)
    for number in reversed(range(len(found.scores))):  # the surest last, on top
        colour = COLOURS[int(found.classes[number]) % len(COLOURS)]
        left, top, right, bottom = (float(value) for value in found.boxes[number])
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
        if found.keypoints is not None:
            _draw_points(draw, found.keypoints[number], font, width)
        words = f"{names[int(found.classes[number])]} {float(found.scores[number]):.2f}"
        _draw_words(draw, words, (left, top, bottom), font, colour)
    return made


def _draw_words(
    draw: ImageDraw.ImageDraw,
    words: str,
    place: tuple[float, float, float],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: tuple[int, int, int],
) -> None:
    """Above a box, or below it where there is no room above.

    Args:
        place: left, top and bottom of the box.
    """
    wide, high = draw.textbbox((0, 0), words, font=font)[2:]
    left = max(0.0, min(place[0], draw.im.size[0] - wide - 4))
    top = place[1] - high - 6 if place[1] - high - 6 >= 0 else place[2] + 2
    draw.rectangle((left, top, left + wide + 4, top + high + 4), fill=colour)
    draw.text((left + 2, top + 1), words, fill=(0, 0, 0), font=font)


def _draw_points(
    draw: ImageDraw.ImageDraw,
    points: NDArray[np.float32],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> None:
    places = [(float(x), float(y)) for x, y in points]
    radius = 1.5 * width + 1
    if len(places) == 4:
        draw.line([*places[1:], places[0]], fill=_OTHERS, width=width)
        draw.line(places[:2], fill=_FIRST, width=2 * width)
    for number, (x, y) in enumerate(places):
        colour = _FIRST if number == 0 and len(places) == 4 else _OTHERS
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        if len(places) == 4:
            draw.text(
                (x + radius, y + radius), str(number + 1), fill=_TRUE, font=font, stroke_width=1, stroke_fill=(0, 0, 0)
            )


def sheet(pictures: Sequence[Image.Image], columns: int = 3, width: int = 480) -> Image.Image:
    """Pictures side by side in rows, each scaled to a width; at least one."""
    columns = min(columns, len(pictures))
    small = [
        each.resize((width, max(1, round(each.height * width / each.width))), Image.Resampling.LANCZOS)
        for each in pictures
    ]
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    heights = [max(each.height for each in row) for row in rows]
    made = Image.new("RGB", (columns * width, sum(heights)), (255, 255, 255))
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, each in enumerate(row):
            made.paste(each, (column * width, top))
        top += height
    return made
