"""A small corpus of our own, made by a grammar, in the form of the Video Game Level Corpus.

It is for tests and first steps without a download. Its rooms are none of a game's, and what is trained on it says
"synthetic". Dungeons are grown room by room; a locked door comes after the key that opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.dungeon.graphs import dot_lines
from outlast_recipes.dungeon.mission import Edge, MissionGraph
from outlast_recipes.dungeon.reading import Level, LevelRoom, level_lines
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
    Side,
)
from outlast_recipes.dungeon.validity import is_valid

DUNGEONS, ROOMS = 9, 16
"""Number of dungeons, and of rooms in each."""
GRID = 6
"""Rows and columns of the grid on which a dungeon grows."""

Inside: TypeAlias = NDArray[np.uint8]
Place = tuple[int, int]

_DOWN, _ACROSS = HEIGHT - 2 * RING, WIDTH - 2 * RING
_STEPS: dict[Side, Place] = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}
_SEED = 2026


class _Layout(NamedTuple):
    places: list[Place]
    passages: dict[tuple[int, int], str]
    """(earlier room, later room) -> its label, or "" if it is open."""


def write(folder: Path, seed: int = _SEED) -> None:
    """Write the corpus into a folder: `synthetic1_1.txt` to `synthetic9_1.txt`, and a graph `.dot` beside each."""
    for number in range(1, DUNGEONS + 1):
        level, graph = dungeon(f"synthetic{number}_1", np.random.default_rng([seed, number]))
        for ending, lines in ((".txt", level_lines(level)), (".dot", dot_lines(graph))):
            (folder / f"{level.name}{ending}").write_text("\n".join(lines) + "\n", encoding="ascii")


def dungeon(name: str, random: np.random.Generator) -> tuple[Level, MissionGraph]:
    """The rooms of one dungeon, and its mission graph, whose rooms have the same order."""
    layout = _layout(random)
    doors: list[set[Side]] = [set() for _ in layout.places]
    for a, b in layout.passages:
        for one, other in ((a, b), (b, a)):
            step = (layout.places[other][0] - layout.places[one][0], layout.places[other][1] - layout.places[one][1])
            doors[one].add(next(side for side, way in _STEPS.items() if way == step))
    stairs = int(random.integers(2, ROOMS - 2))
    rooms = tuple(
        LevelRoom(name, *place, _room(random, doors[number], stairs=number == stairs))
        for number, place in enumerate(layout.places)
    )
    edges = [
        Edge(str(one), str(other), frozenset({label} - {""}))
        for (a, b), label in layout.passages.items()
        for one, other in ((a, b), (b, a))
    ]
    return Level(name, rooms), MissionGraph(_contents(random, layout), tuple(edges))


def _layout(random: np.random.Generator) -> _Layout:
    """Rooms on the grid in the order in which they are reached; the last one is behind the last but one only."""
    while True:
        places: list[Place] = [(GRID - 1, GRID // 2)]
        passages: dict[tuple[int, int], str] = {}
        while len(places) < ROOMS:
            last = len(places) == ROOMS - 1
            before = len(places) - 1 if last else int(random.integers(len(places)))
            row, column = places[before]
            down, right = list(_STEPS.values())[int(random.integers(4))]
            place = row + down, column + right
            if place not in places and min(place) >= 0 and max(place) < GRID:
                passages[before, len(places)] = ""
                places.append(place)
            elif last:
                break
        if len(places) == ROOMS:
            break
    for number in random.choice(np.arange(4, ROOMS - 1), 3, replace=False):  # each lock is before a later room
        before = next(a for a, b in passages if b == number)
        passages[before, int(number)] = "k"
    passages[ROOMS - 2, ROOMS - 1] = "l"
    for a in range(ROOMS - 1):
        for b in range(a + 1, ROOMS - 1):
            apart = abs(places[a][0] - places[b][0]) + abs(places[a][1] - places[b][1])
            if apart == 1 and (a, b) not in passages and random.random() < 0.3:
                passages[a, b] = "b"
    return _Layout(places, passages)


def _contents(random: np.random.Generator, layout: _Layout) -> dict[str, frozenset[str]]:
    """Room -> labels. As many keys as locks come before each lock."""
    labels: list[set[str]] = [set() for _ in layout.places]
    for number in range(1, ROOMS - 2):
        labels[number] |= set(random.choice(["e", "e", "i", "p", ""], 1)) - {""}
    for number in sorted(later for (_, later), label in layout.passages.items() if label == "k"):
        free = [room for room in range(1, number) if "k" not in labels[room]]
        labels[int(random.choice(free))].add("k")
    labels[0], labels[ROOMS - 2], labels[ROOMS - 1] = {"s"}, {"b"}, {"t"}
    return {str(number): frozenset(found) for number, found in enumerate(labels)}


def _room(random: np.random.Generator, doors: set[Side], *, stairs: bool) -> Room:
    """A room with these doors, which reach one another without ladder and pushes."""
    while True:
        room: Room = np.full((HEIGHT, WIDTH), WALL, np.uint8)
        for side in doors:
            for place in DOOR_SLOTS[side]:
                room[place] = DOOR
        inside = room[RING:-RING, RING:-RING]
        inside[:] = _PATTERNS[int(random.integers(len(_PATTERNS)))](random)
        for _ in range(int(random.integers(0, 4))):
            row, column = int(random.integers(_DOWN)), int(random.integers(_ACROSS))
            if inside[row, column] == FLOOR:
                inside[row, column] = MONSTER
        if stairs:
            inside[0, 0 if random.random() < 0.5 else -1] = STAIR
        if is_valid(room, strict=True) and is_valid(room):
            return room


# Patterns of the inside, (12, 7) --------------------------------------------------------------------------------------


def _floor(_random: np.random.Generator) -> Inside:
    return np.full((_DOWN, _ACROSS), FLOOR, np.uint8)


def _mirrored(random: np.random.Generator) -> Inside:
    """Blocks, equal left and right and at top and bottom."""
    quarter = np.where(random.random((_DOWN // 2, _ACROSS // 2 + 1)) < 0.25, BLOCK, FLOOR).astype(np.uint8)
    half = np.concatenate([quarter, quarter[:, -2::-1]], 1)
    return np.concatenate([half, half[::-1]])


def _pillars(random: np.random.Generator) -> Inside:
    inside = _floor(random)
    inside[1 :: int(random.integers(2, 5)), 1 :: int(random.integers(2, 4))] = BLOCK
    return inside


def _pond(random: np.random.Generator) -> Inside:
    """Water with an island, which a dam may lead to."""
    inside = _floor(random)
    top, left = int(random.integers(1, 4)), int(random.integers(1, 3))
    inside[top:-top, left:-left] = ELEMENT
    inside[5:7, 3] = (ELEMENT_BLOCK, ELEMENT_FLOOR)[int(random.integers(2))]
    if random.random() < 0.5:
        inside[top:6, 3] = ELEMENT_FLOOR
    return inside


def _bars(random: np.random.Generator) -> Inside:
    """Rows of blocks with a gap."""
    inside = _floor(random)
    for row in (2, 5, 9):
        if random.random() < 0.7:
            inside[row] = BLOCK
            inside[row, int(random.integers(_ACROSS))] = FLOOR
    return inside


def _dark(random: np.random.Generator) -> Inside:
    """Void with a path."""
    inside = _floor(random)
    inside[1:-1, 1:3] = VOID
    inside[1:-1, -3:-1] = VOID
    return inside if random.random() < 0.5 else inside[:, ::-1]


_PATTERNS: tuple[Callable[[np.random.Generator], Inside], ...] = (
    _floor, _mirrored, _mirrored, _mirrored, _pillars, _pond, _bars, _dark,
)  # fmt: skip
