"""The tiles of a room, and the places of its doors.

The letters are those of The Legend of Zelda in the Video Game Level Corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

import outlast

Room: TypeAlias = NDArray[np.uint8]
"""(16, 11): the number of each tile, its index in `TILES`."""

TILES = "-FWBMPOISD"
"""Void, floor, wall, block, monster, water or lava, the same with floor, the same with a block, stair, door."""

VOID, FLOOR, WALL, BLOCK, MONSTER, ELEMENT, ELEMENT_FLOOR, ELEMENT_BLOCK, STAIR, DOOR = range(len(TILES))
HEIGHT, WIDTH = 16, 11
RING = 2
"""Thickness of the wall around a room, in tiles."""

Side = Literal["N", "E", "S", "W"]
SIDES: tuple[Side, ...] = ("N", "E", "S", "W")
OPPOSITE: dict[Side, Side] = {"N": "S", "E": "W", "S": "N", "W": "E"}
DOOR_SLOTS: dict[Side, tuple[tuple[int, int], ...]] = {
    "N": ((1, 4), (1, 5), (1, 6)),
    "E": ((7, 9), (8, 9)),
    "S": ((14, 4), (14, 5), (14, 6)),
    "W": ((7, 1), (8, 1)),
}
"""Row and column of each tile of a door. In the corpus, all tiles of a slot are doors or all are walls."""


def encode(lines: Sequence[str]) -> Room:
    """A room of its 16 lines of 11 letters.

    Raises:
        outlast.DataError: the size is another one, or a letter is no tile.
    """
    widths = sorted({len(line) for line in lines})
    if len(lines) != HEIGHT or widths != [WIDTH]:
        raise outlast.DataError(
            f"A room has {len(lines)} lines of {' or '.join(map(str, widths)) or 'no'} letters; expected {HEIGHT} "
            f"lines of {WIDTH}."
        )
    for row, line in enumerate(lines, 1):
        for column, letter in enumerate(line, 1):
            if letter not in TILES:
                raise outlast.DataError(
                    f"Line {row} of a room has {letter!r} in column {column}; expected one of {TILES}."
                )
    return np.array([[TILES.index(letter) for letter in line] for line in lines], np.uint8)


def decode(room: Room) -> list[str]:
    """The 16 lines of a room."""
    return ["".join(TILES[tile] for tile in row) for row in room]


def mirror(room: Room, axis: Literal[0, 1]) -> Room:
    """A room with top and bottom exchanged (axis 0), or left and right (axis 1)."""
    return np.flip(room, axis).copy()


def doors_of(room: Room) -> frozenset[Side]:
    """The sides that have a door."""
    return frozenset(side for side, slot in DOOR_SLOTS.items() if any(room[place] == DOOR for place in slot))


def has_stairs(room: Room) -> bool:
    """Whether a room has a stair."""
    return bool((room == STAIR).any())
