"""Pictures of single tiles, and of what lies and lives on them, 16 by 16 pixels each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from outlast_recipes.dungeon.tiles import TILES

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIZE = 16
"""Pixels of a tile."""
Colour = tuple[int, int, int]
GOLD, RED, VIOLET, GREEN, INK = (236, 190, 60), (205, 60, 56), (150, 100, 215), (92, 176, 96), (24, 20, 30)
PALE, GREY, BLUE = (236, 232, 220), (126, 126, 140), (66, 128, 200)


def shade(colour: Colour, by: float) -> Colour:
    """A colour lighter (above 1) or darker."""
    red, green, blue = (max(0, min(255, round(part * by))) for part in colour)
    return red, green, blue


def draw_tile(pencil: ImageDraw, tile: int, x: int, y: int, tint: Colour) -> None:
    """Draw a tile.

    Args:
        pencil: of the picture.
        tile: its number.
        x, y: its upper left corner, in pixels.
        tint: colour of the floor of its room.
    """
    _TILES[TILES[tile]](pencil, x, y, tint)


def _box(pencil: ImageDraw, x: int, y: int, colour: Colour, edge: int = 0) -> None:
    pencil.rectangle((x + edge, y + edge, x + SIZE - 1 - edge, y + SIZE - 1 - edge), fill=colour)


def _floor(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    _box(pencil, x, y, shade(tint, 1.0 if (x // SIZE + y // SIZE) % 2 else 0.95))
    pencil.point(((x + 3, y + 4), (x + 11, y + 9), (x + 6, y + 13)), fill=shade(tint, 0.84))


def _wall(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    stone = shade(tint, 0.42)
    _box(pencil, x, y, shade(tint, 0.3))
    for row, shift in ((0, 0), (8, -8)):
        for left in (shift, shift + SIZE):
            box = (max(x, x + left), y + row, min(x + SIZE - 1, x + left + SIZE - 2), y + row + 6)
            if box[0] < box[2]:
                pencil.rectangle(box, fill=stone)
                pencil.line((box[0], box[1], box[2], box[1]), fill=shade(tint, 0.54))


def _block(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    _floor(pencil, x, y, tint)
    _box(pencil, x, y, shade(tint, 0.5), 1)
    _box(pencil, x, y, shade(tint, 0.8), 3)
    pencil.line((x + 1, y + 14, x + 1, y + 1, x + 14, y + 1), fill=shade(tint, 1.15))


def _statue(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    _floor(pencil, x, y, tint)
    pencil.rectangle((x + 2, y + 11, x + 13, y + 14), fill=shade(GREY, 0.6))
    pencil.ellipse((x + 4, y + 2, x + 11, y + 12), fill=GREY)
    pencil.polygon(((x + 3, y + 4), (x + 5, y), (x + 6, y + 4)), fill=GREY)
    pencil.polygon(((x + 12, y + 4), (x + 10, y), (x + 9, y + 4)), fill=GREY)
    pencil.point(((x + 6, y + 6), (x + 9, y + 6)), fill=RED)


def _element(pencil: ImageDraw, x: int, y: int, _tint: Colour) -> None:
    _box(pencil, x, y, BLUE)
    for row, left in ((4, 2), (11, 8)):
        pencil.arc((x + left - 1, y + row - 2, x + left + 5, y + row + 2), 180, 360, fill=shade(BLUE, 1.45))


def _element_floor(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    sand = (222, 200, 150)
    _box(pencil, x, y, tuple((a + b) // 2 for a, b in zip(sand, tint, strict=True)))  # type: ignore[arg-type]
    for dot in ((2, 3), (9, 2), (5, 8), (13, 7), (3, 13), (11, 12)):
        pencil.point((x + dot[0], y + dot[1]), fill=shade(sand, 0.72))


def _element_block(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    _element(pencil, x, y, tint)
    pencil.ellipse((x + 2, y + 2, x + 13, y + 13), fill=shade(GREY, 0.8), outline=shade(GREY, 0.5))


def _stair(pencil: ImageDraw, x: int, y: int, _tint: Colour) -> None:
    _box(pencil, x, y, INK)
    for step in range(4):
        pencil.rectangle(
            (x + 1 + 3 * step, y + 1 + 3 * step, x + 14, y + 3 + 3 * step), fill=shade(PALE, 0.85 - 0.2 * step)
        )


def _door(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    _box(pencil, x, y, shade(tint, 0.88))


def _void(pencil: ImageDraw, x: int, y: int, tint: Colour) -> None:
    _box(pencil, x, y, shade(tint, 0.2 if (x // SIZE + y // SIZE) % 2 else 0.17))


_TILES: dict[str, Callable[[ImageDraw, int, int, Colour], None]] = {
    "-": _void, "F": _floor, "W": _wall, "B": _block, "M": _statue, "P": _element, "O": _element_floor,
    "I": _element_block, "S": _stair, "D": _door,
}  # fmt: skip


def draw_thing(pencil: ImageDraw, label: str, x: int, y: int) -> None:
    """Draw what a label of a room stands for, in the tile whose upper left corner is at x, y."""
    _THINGS[label](pencil, x, y)


def _creature(colour: Colour, grow: int, *, horns: bool = False) -> Callable[[ImageDraw, int, int], None]:
    def draw(pencil: ImageDraw, x: int, y: int) -> None:
        left, top, right, bottom = x + 2 - grow, y + 3 - grow, x + 13 + grow, y + 14 + grow
        if horns:
            for side, lean in ((left + 1, -2), (right - 1, 2)):
                pencil.polygon(((side - 2, top + 4), (side + lean, top - 4), (side + 2, top + 4)), fill=PALE)
        pencil.ellipse((left, top, right, bottom), fill=colour, outline=INK)
        pencil.rectangle((left + 1, (top + bottom) // 2 + 1, right - 1, bottom - 1), fill=colour)
        pencil.line((left, bottom, right, bottom), fill=INK)
        middle = (top + bottom) // 2 - 1
        for eye in (x + 5, x + 10):
            pencil.ellipse((eye - 2, middle - 2, eye + 1, middle + 1), fill=PALE)
            pencil.point((eye, middle), fill=INK)

    return draw


def _key(colour: Colour) -> Callable[[ImageDraw, int, int], None]:
    def draw(pencil: ImageDraw, x: int, y: int) -> None:
        for grow, ink in ((1, INK), (0, colour)):
            pencil.ellipse((x + 4 - grow, y + 1 - grow, x + 11 + grow, y + 7 + grow), fill=ink)
            pencil.rectangle((x + 7 - grow, y + 6 - grow, x + 8 + grow, y + 14 + grow), fill=ink)
            pencil.rectangle((x + 8, y + 10 - grow, x + 11 + grow, y + 10 + grow), fill=ink)
            pencil.rectangle((x + 8, y + 13 - grow, x + 11 + grow, y + 13 + grow), fill=ink)
        pencil.ellipse((x + 6, y + 3, x + 9, y + 5), fill=INK)

    return draw


def _chest(pencil: ImageDraw, x: int, y: int) -> None:
    pencil.rectangle((x + 1, y + 4, x + 14, y + 14), fill=VIOLET, outline=INK)
    pencil.rectangle((x + 1, y + 4, x + 14, y + 8), fill=shade(VIOLET, 1.25), outline=INK)
    pencil.rectangle((x + 6, y + 7, x + 9, y + 11), fill=GOLD, outline=INK)


def _bag(pencil: ImageDraw, x: int, y: int) -> None:
    pencil.ellipse((x + 3, y + 5, x + 13, y + 15), fill=shade(BLUE, 0.6), outline=INK)
    pencil.line((x + 8, y + 5, x + 11, y + 1), fill=PALE, width=2)
    pencil.ellipse((x + 10, y, x + 13, y + 3), fill=GOLD)


def _plate(pencil: ImageDraw, x: int, y: int) -> None:
    pencil.rectangle((x + 2, y + 2, x + 13, y + 13), outline=INK, fill=shade(GOLD, 0.6))
    pencil.rectangle((x + 5, y + 5, x + 10, y + 10), fill=GOLD)


def _switch(pencil: ImageDraw, x: int, y: int) -> None:
    pencil.rectangle((x + 2, y + 10, x + 13, y + 14), fill=GREY, outline=INK)
    pencil.line((x + 7, y + 10, x + 11, y + 3), fill=INK, width=3)
    pencil.ellipse((x + 9, y, x + 14, y + 5), fill=GREEN, outline=INK)


def _goal(pencil: ImageDraw, x: int, y: int) -> None:
    for grow, colour in ((5, shade(GOLD, 0.55)), (3, GOLD), (0, shade(GOLD, 1.3))):
        pencil.polygon(
            ((x + 8, y - grow), (x + 14 + grow, y + 8), (x + 8, y + 15 + grow), (x + 1 - grow, y + 8)), fill=colour
        )


def _hero(pencil: ImageDraw, x: int, y: int) -> None:
    pencil.rectangle((x + 4, y + 8, x + 11, y + 15), fill=GREEN, outline=INK)
    pencil.ellipse((x + 4, y + 2, x + 11, y + 9), fill=(240, 200, 160), outline=INK)
    pencil.polygon(((x + 2, y + 5), (x + 8, y - 3), (x + 13, y + 5)), fill=GREEN, outline=INK)
    pencil.point(((x + 6, y + 6), (x + 9, y + 6)), fill=INK)


_THINGS: dict[str, Callable[[ImageDraw, int, int], None]] = {
    "s": _hero, "t": _goal, "e": _creature((222, 120, 70), 0), "m": _creature(VIOLET, 2),
    "b": _creature(RED, 6, horns=True), "p": _plate, "k": _key(GOLD), "K": _key(RED), "I": _chest, "i": _bag,
    "S": _switch, "S1": _switch,
}  # fmt: skip
