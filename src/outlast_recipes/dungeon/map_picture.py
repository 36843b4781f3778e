"""The map of a dungeon as a picture: every tile, what lies there, and what each passage asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from outlast_recipes.common.problems import counted
from outlast_recipes.dungeon.dungeon import Dungeon
from outlast_recipes.dungeon.mission import NODE_LABELS, Edge
from outlast_recipes.dungeon.tile_pictures import (
    GOLD,
    GREEN,
    GREY,
    INK,
    PALE,
    RED,
    SIZE,
    VIOLET,
    Colour,
    draw_thing,
    draw_tile,
    shade,
)
from outlast_recipes.dungeon.tiles import DOOR, DOOR_SLOTS, HEIGHT, WIDTH, Side

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

MARGIN, HEAD, FOOT = 24, 44, 84  # pixels
TINTS: tuple[Colour, ...] = (
    (196, 180, 150), (158, 186, 158), (150, 176, 204), (196, 162, 186), (206, 166, 134), (170, 170, 196),
    (188, 190, 140), (160, 190, 190), (204, 150, 150),
)  # fmt: skip
"""Colours of the floor: one for the rooms before the first lock, one for those behind each small key."""
LOCKS = {"k": GOLD, "K": RED, "I": VIOLET, "S": GREEN, "S1": GREEN}


def draw_map(dungeon: Dungeon, path: Path) -> None:
    """Write the map as a PNG."""
    map_image(dungeon).save(path, format="PNG", optimize=True)


def map_image(dungeon: Dungeon) -> Image:
    """The map: 16 pixels a tile, a title above it, and the signs below it."""
    from PIL import Image, ImageDraw

    rows, columns = dungeon.layout.size
    size = (columns * WIDTH * SIZE + 2 * MARGIN, rows * HEIGHT * SIZE + HEAD + FOOT)
    picture = Image.new("RGB", (max(size[0], 980), size[1]), INK)
    pencil = ImageDraw.Draw(picture)
    _title(pencil, dungeon)
    regions = _regions(dungeon)
    for room, (row, column) in dungeon.layout.cells.items():
        tint = TINTS[regions[room] % len(TINTS)]
        x, y = MARGIN + column * WIDTH * SIZE, HEAD + row * HEIGHT * SIZE
        for (down, right), tile in _tiles(dungeon, room):
            draw_tile(pencil, tile, x + right * SIZE, y + down * SIZE, tint)
        for edge in dungeon.graph.leaving[room]:
            side = dungeon.layout.side(room, edge.target)
            if frozenset(edge[:2]) not in dungeon.layout.stairs and side is not None:
                _passage(pencil, edge, side, x, y, tint)
        for thing in dungeon.things:
            if thing.room == room:
                draw_thing(pencil, thing.label, x + thing.column * SIZE, y + thing.row * SIZE)
        words = "".join([room, *(f", stairs to {other}" for other in _below(dungeon, room))])
        pencil.text((x + 5, y + 1), words, fill=shade(PALE, 0.75), font=_font(11))
    _signs(pencil, dungeon, size[1] - FOOT + 14)
    return picture


def _tiles(dungeon: Dungeon, room: str) -> list[tuple[tuple[int, int], int]]:
    tiles = dungeon.rooms[room]
    return [((row, column), int(tiles[row, column])) for row in range(HEIGHT) for column in range(WIDTH)]


def _below(dungeon: Dungeon, room: str) -> list[str]:
    return [other for stairs in dungeon.layout.stairs if room in stairs for other in stairs - {room}]


def _regions(dungeon: Dungeon) -> dict[str, int]:
    """Room -> how many small keys the certificate has spent when the player first gets there, or, for rooms off its
    way, those of the nearest room on it."""
    spent, found = 0, {dungeon.graph.start: 0}
    for step in dungeon.certificate:
        spent += step.key
        found.setdefault(step.target, spent)
    waiting = list(found)
    for room in waiting:
        for edge in dungeon.graph.leaving[room]:
            if edge.target not in found:
                found[edge.target] = found[room]
                waiting.append(edge.target)
    return found


def _passage(pencil: ImageDraw, edge: Edge, side: Side, x: int, y: int, tint: Colour) -> None:
    """The outer wall behind a door is opened, and the lock, crack or shutter is drawn into the door."""
    slot = DOOR_SLOTS[side]
    outer = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}[side]
    for row, column in slot:
        draw_tile(pencil, DOOR, x + (column + outer[1]) * SIZE, y + (row + outer[0]) * SIZE, tint)
    places = [(row + step * outer[0], column + step * outer[1]) for row, column in slot for step in (0, 1)]
    top, left = (min(place[axis] for place in places) for axis in (0, 1))
    bottom, right = (max(place[axis] for place in places) + 1 for axis in (0, 1))
    box = (x + left * SIZE, y + top * SIZE, x + right * SIZE - 1, y + bottom * SIZE - 1)
    lock = next((label for label in edge.labels if label in LOCKS), None)
    if "b" in edge.labels:
        _crack(pencil, box, tint)
    elif lock is not None:
        _lock(pencil, box, LOCKS[lock])
    if "l" in edge.labels:
        _shutter(pencil, slot, x, y, side)


def _lock(pencil: ImageDraw, box: tuple[int, int, int, int], colour: Colour) -> None:
    pencil.rectangle(box, fill=shade(colour, 0.45), outline=INK)
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    pencil.rectangle((box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2), outline=colour)
    pencil.rectangle((x - 6, y - 4, x + 6, y + 7), fill=colour, outline=INK)
    pencil.arc((x - 4, y - 10, x + 4, y), 180, 360, fill=colour, width=2)
    pencil.rectangle((x - 1, y - 1, x + 1, y + 3), fill=INK)


def _crack(pencil: ImageDraw, box: tuple[int, int, int, int], tint: Colour) -> None:
    pencil.rectangle(box, fill=shade(tint, 0.46))
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    for bend in (((-12, -9), (-3, -2), (-6, 3), (4, 9)), ((-3, -2), (6, -6), (11, -3)), ((-6, 3), (-12, 8))):
        pencil.line([(x + across, y + down) for across, down in bend], fill=INK, width=2)


def _shutter(pencil: ImageDraw, slot: tuple[tuple[int, int], ...], x: int, y: int, side: Side) -> None:
    for row, column in slot:
        left, top = x + column * SIZE, y + row * SIZE
        for bar in (2, 7, 12):
            if side in ("N", "S"):
                pencil.rectangle((left + bar, top + 2, left + bar + 1, top + SIZE - 3), fill=GREY)
            else:
                pencil.rectangle((left + 2, top + bar, left + SIZE - 3, top + bar + 1), fill=GREY)


def _title(pencil: ImageDraw, dungeon: Dungeon) -> None:
    about = dungeon.about
    keys = len(dungeon.graph.having("k"))
    steps = counted(len(dungeon.certificate), "step")
    words = f"{len(dungeon.rooms)} rooms, {counted(keys, 'key')}, finished in {steps}"
    pencil.text((MARGIN, 10), "Dungeon " + str(about.get("seed", "")), fill=GOLD, font=_font(20))
    pencil.text((MARGIN + 170, 16), f"{words}; drawn by {about.get('sampled_by', '?')}", fill=PALE, font=_font(13))


def _signs(pencil: ImageDraw, dungeon: Dungeon, y: int) -> None:
    """What the signs mean: those that this dungeon has."""
    x = MARGIN
    present = {label for labels in dungeon.graph.nodes.values() for label in labels}
    for label in (label for label in NODE_LABELS if label in present):
        name = "bombs, or another minor item" if label == "i" and not dungeon.graph.bombs else NODE_LABELS[label]
        draw_thing(pencil, label, x + 2, y)
        pencil.text((x + 26, y + 1), name, fill=PALE, font=_font(12))
        x += 44 + int(_font(12).getlength(name))
    x, y = MARGIN, y + 34
    locks = {label for edge in dungeon.graph.edges for label in edge.labels}
    names = {"k": "a small key", "K": "the boss key", "I": "the key item", "S": "the switch", "S1": "the second switch"}
    box = (0, 0, 3 * SIZE - 1, 2 * SIZE - 1)
    for label in (label for label in (*names, "b", "l") if label in locks):
        here = (x, y - 8, x + box[2], y - 8 + box[3])
        if label in LOCKS:
            _lock(pencil, here, LOCKS[label])
        elif label == "b":
            _crack(pencil, here, TINTS[0])
        else:
            pencil.rectangle(here, fill=shade(TINTS[0], 0.88))
            _shutter(pencil, tuple((0, column) for column in range(3)), x, y, "N")
        name = {"b": "bomb this wall", "l": "opens when the room is done"}.get(label, f"needs {names.get(label)}")
        pencil.text((x + 56, y + 1), name, fill=PALE, font=_font(12))
        x += 76 + int(_font(12).getlength(name))


def _font(size: int):  # type: ignore[no-untyped-def]
    from PIL import ImageFont

    return ImageFont.load_default(size)
