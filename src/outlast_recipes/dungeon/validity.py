"""Whether a room is one: its wall, its doors, and whether its doors and stairs reach one another.

The rule is calibrated on The Legend of Zelda in the Video Game Level Corpus: all of its rooms pass. Two things that the
letters do not say are assumed for that, as the game has them:

- The player has the ladder, which crosses water.
- One block of a room can be pushed away, if a tile before it and the tile behind it can be walked on.

Void within the wall is dark floor there. `strict=True` assumes none of the three.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.dungeon.tiles import (
    BLOCK,
    DOOR,
    DOOR_SLOTS,
    ELEMENT,
    ELEMENT_FLOOR,
    FLOOR,
    HEIGHT,
    MONSTER,
    RING,
    SIDES,
    STAIR,
    TILES,
    VOID,
    WALL,
    WIDTH,
    Room,
)

WALKABLE = (FLOOR, MONSTER, ELEMENT_FLOOR, STAIR, DOOR)
"""Tiles that a player walks on."""
WITH_LADDER = (*WALKABLE, VOID, ELEMENT)
"""Tiles that a player with the ladder walks on."""

_WALL: NDArray[np.bool_] = np.ones((HEIGHT, WIDTH), bool)
_WALL[RING:-RING, RING:-RING] = False
_NO_DOOR = _WALL.copy()
for _slot in DOOR_SLOTS.values():
    _NO_DOOR[tuple(zip(*_slot, strict=True))] = False


def is_valid(room: Room, *, strict: bool = False) -> bool:
    """Whether a room (16, 11) has no `problems`."""
    return not problems(room, strict=strict)


def problems(room: Room, *, strict: bool = False) -> list[str]:
    """Phrases on what is wrong with a room (16, 11); none if it is valid.

    Args:
        room: numbers of tiles.
        strict: whether void and water cannot be walked on and no block can be pushed. Stairs need not be reached then:
            a room of the corpus whose stair is under a block has no problem.
    """
    found = []
    for side in SIDES:
        tiles = {int(room[place]) for place in DOOR_SLOTS[side]}
        if tiles not in ({WALL}, {DOOR}):
            found.append(f"the door {side} is {_letters(tiles)}; expected D only, or W only")
    for row, column in zip(*np.nonzero(_NO_DOOR & (room != WALL)), strict=True):
        found.append(f"row {row} column {column} of the wall is {TILES[room[row, column]]}; expected W")
    for row, column in zip(*np.nonzero(~_WALL & ((room == WALL) | (room == DOOR))), strict=True):
        found.append(f"row {row} column {column} is {TILES[room[row, column]]}, within the wall")
    groups = connected(room, strict=strict)
    if strict:
        groups = [group for group in (group - {"stairs"} for group in groups) if group]
    if len(groups) > 1:
        found.append(f"{' and '.join(','.join(sorted(group)) for group in groups)} do not reach one another")
    return found


def connected(room: Room, *, strict: bool = False) -> list[frozenset[str]]:
    """The sides with doors, and "stairs" for those that are there, in groups that reach one another.

    Stairs which reach nothing make a group ("stairs",) of their own. Each group can be reached with the ladder and by
    pushing one block away, or without both if `strict`. With several blocks, the push that joins most groups counts.
    """
    areas = _areas(np.isin(room, WALKABLE if strict else WITH_LADDER))
    wanted: dict[int, set[str]] = {}
    for side in SIDES:
        for place in DOOR_SLOTS[side]:
            if room[place] == DOOR:
                wanted.setdefault(int(areas[place]), set()).add(side)
    for row, column in zip(*np.nonzero(room == STAIR), strict=True):
        wanted.setdefault(int(areas[row, column]), set()).add("stairs")
    if len(wanted) > 1 and not strict:
        joined = max(_pushes(room, areas), key=lambda areas: len(areas & set(wanted)), default=set())
        together = joined & set(wanted)
        if len(together) > 1:
            merged = set().union(*(wanted.pop(area) for area in together))
            wanted[min(together)] = merged
    return [frozenset(group) for group in wanted.values()]


def _pushes(room: Room, areas: NDArray[np.int64]) -> Iterable[set[int]]:
    """The areas that pushing each of the blocks joins."""
    for row, column in zip(*np.nonzero(room == BLOCK), strict=True):
        beside = []
        for down, right in ((0, 1), (1, 0)):
            ends = [
                int(areas[row + step * down, column + step * right])
                for step in (-1, 1)
                if 0 <= row + step * down < HEIGHT and 0 <= column + step * right < WIDTH
            ]
            beside.append([area for area in ends if area])
        if any(len(ends) == 2 for ends in beside):
            yield {area for ends in beside for area in ends}


def _areas(open_tiles: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(16, 11): a number from 1 for each area of tiles that are next to one another by a side, and 0 elsewhere."""
    areas = np.zeros(open_tiles.shape, np.int64)
    left = set(zip(*(index.tolist() for index in np.nonzero(open_tiles)), strict=True))
    number = 0
    while left:
        number += 1
        stack = [left.pop()]
        while stack:
            row, column = stack.pop()
            areas[row, column] = number
            for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if place in left:
                    left.remove(place)
                    stack.append(place)
    return areas


def _letters(tiles: set[int]) -> str:
    return " and ".join(sorted(TILES[tile] for tile in tiles))
