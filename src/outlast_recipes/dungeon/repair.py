"""Rooms that do what is asked of them: walls and doors where they belong, and a way between all doors and stairs.

The repair is constraint propagation on the tiles within the wall. Each tile keeps its value, as long as three
constraints allow it: the values of its place, the pairs of neighbours that the originals have, and the ways that must
exist. A value that is not allowed gives way to floor, which may be beside everything.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.tiles import (
    BLOCK,
    DOOR,
    DOOR_SLOTS,
    ELEMENT,
    ELEMENT_BLOCK,
    ELEMENT_FLOOR,
    FLOOR,
    HEIGHT,
    MONSTER,
    RING,
    STAIR,
    VOID,
    WALL,
    WIDTH,
    Room,
)

Place = tuple[int, int]
WALKED = frozenset({FLOOR, ELEMENT_FLOOR, STAIR, DOOR, VOID})
"""Tiles that a player walks on in a dungeon of ours: without a ladder, without pushing, and not through a monster's
tile. Void within the wall is dark floor, as in `validity`."""
_INSIDE = (VOID, FLOOR, BLOCK, MONSTER, ELEMENT, ELEMENT_FLOOR, ELEMENT_BLOCK, STAIR)
_TOGETHER = {
    frozenset(pair)
    for pair in (
        (BLOCK, BLOCK), (BLOCK, MONSTER), (BLOCK, STAIR), (MONSTER, ELEMENT_FLOOR), (ELEMENT, ELEMENT),
        (ELEMENT_FLOOR, ELEMENT_FLOOR), (ELEMENT_BLOCK, ELEMENT_BLOCK), (VOID, VOID), (VOID, MONSTER), (VOID, BLOCK),
    )
}  # fmt: skip
"""Pairs of neighbours without floor that rooms of The Legend of Zelda (first quest) have."""
MIDDLE = (8, 5)
"""Where most stairs of the originals are."""
LEAST_SPACE = 12
"""Tiles, those of doors included, that a player can walk on. Where there are fewer, the middle is joined to them."""


@dataclass(frozen=True)
class Repaired:
    """A room, and how many of its tiles were changed."""

    room: Room
    changed: int


def repair(room: Room, condition: RoomCondition) -> Repaired:
    """The room with as few changes as the rules need.

    Args:
        room: (16, 11) tiles; it is not changed.
        condition: the doors that it must have, and no others; whether it must have a stair, or none.
    """
    made = room.copy()
    _frame(made, condition.doors)
    for place in _inside():
        if made[place] not in _INSIDE or (made[place] == STAIR and not condition.stairs):
            made[place] = FLOOR
    if condition.stairs:
        _one_stair(made)
    ends = targets(condition.doors, made)
    _join(made, ends)
    if len(reached(made, ends[0])) < LEAST_SPACE:
        _join(made, [*ends, MIDDLE])
    _pairs(made)
    return Repaired(made, int((made != room).sum()))


def targets(doors: Collection[str], room: Room) -> list[Place]:
    """The places that a player comes in by: a tile of each door, and the stairs. Without any, the middle."""
    found = [slot[0] for side, slot in DOOR_SLOTS.items() if side in doors]
    found += [(int(row), int(column)) for row, column in np.argwhere(room == STAIR)]
    return found or [MIDDLE]


def reached(room: Room, begin: Place) -> set[Place]:
    """The places that a player can walk to from a place, itself included."""
    found, waiting = {begin}, [begin]
    while waiting:
        for place in _beside(waiting.pop()):
            if place not in found and room[place] in WALKED:
                found.add(place)
                waiting.append(place)
    return found


def _frame(room: Room, doors: Collection[str]) -> None:
    inside = room[RING:-RING, RING:-RING].copy()
    room[:] = WALL
    room[RING:-RING, RING:-RING] = inside
    for side, slot in DOOR_SLOTS.items():
        for place in slot if side in doors else ():
            room[place] = DOOR


def _one_stair(room: Room) -> None:
    """Exactly one stair: that nearest to the place where most of the originals have one, or one there."""
    stairs = [(int(row), int(column)) for row, column in np.argwhere(room == STAIR)]
    kept = min(stairs or [MIDDLE], key=lambda place: _distance(place, MIDDLE))
    room[room == STAIR] = FLOOR
    room[kept] = STAIR


def _join(room: Room, ends: Sequence[Place]) -> None:
    """Ways from the first end to all others, on as few new floor tiles as possible."""
    if room[ends[0]] not in WALKED:
        room[ends[0]] = FLOOR
    for end in sorted(ends[1:], key=lambda place: _distance(place, ends[0])):
        there = reached(room, ends[0])
        if end not in there:
            for place in _cheapest(room, there, end):
                if room[place] not in WALKED:
                    room[place] = FLOOR


def _cheapest(room: Room, begin: set[Place], end: Place) -> list[Place]:
    """The way from any of some places to an end that changes the fewest tiles, and is the shortest of these."""
    best: dict[Place, int] = dict.fromkeys(begin, 0)
    came: dict[Place, Place] = {}
    waiting = [(0, place) for place in sorted(begin)]
    heapq.heapify(waiting)
    while waiting:
        cost, place = heapq.heappop(waiting)
        if place == end:
            break
        for near in _beside(place):
            if room[near] == WALL:
                continue
            after = cost + (1 if room[near] in WALKED else HEIGHT * WIDTH)
            if after < best.get(near, after + 1):
                best[near], came[near] = after, place
                heapq.heappush(waiting, (after, near))
    way = [end]
    while way[-1] in came:
        way.append(came[way[-1]])
    return way


def _pairs(room: Room) -> None:
    """Floor in place of the tile that is in most pairs of neighbours that the originals do not have, until none is."""
    while True:
        wrong = {place: count for place in _inside() if (count := _wrong(room, place))}
        if not wrong:
            return
        # A stair stays, and of two equal ones the first is changed.
        worst = max(wrong, key=lambda place: (room[place] != STAIR, wrong[place]))
        room[worst] = FLOOR


def _wrong(room: Room, place: Place) -> int:
    if room[place] == FLOOR:
        return 0
    return sum(
        room[near] not in (FLOOR, WALL, DOOR) and frozenset((int(room[place]), int(room[near]))) not in _TOGETHER
        for near in _beside(place)
    )


def _inside() -> list[Place]:
    return [(row, column) for row in range(RING, HEIGHT - RING) for column in range(RING, WIDTH - RING)]


def _beside(place: Place) -> list[Place]:
    row, column = place
    near = ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1))
    return [(row, column) for row, column in near if 0 <= row < HEIGHT and 0 <= column < WIDTH]


def _distance(one: Place, other: Place) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
