"""A mission graph on the grid of screens: rooms with a passage between them are beside each other, or have stairs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.rules import Pair
from outlast_recipes.dungeon.tiles import SIDES, Side

Cell = tuple[int, int]
STEP: Mapping[Side, Cell] = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}
MOST_MOVES = 300
"""Rooms placed in one try; a layout that works is mostly found without going back."""
TRIES = 10


@dataclass(frozen=True)
class Layout:
    """Where rooms are.

    Attributes:
        cells: room -> row and column of its screen; the smallest row and column are 0.
        stairs: the passages, as pairs of rooms, that are stairs; the rooms of all others are beside each other.
    """

    cells: Mapping[str, Cell]
    stairs: frozenset[Pair]

    @property
    def size(self) -> Cell:
        """Rows and columns of the map."""
        rows, columns = zip(*self.cells.values(), strict=True)
        return max(rows) + 1, max(columns) + 1

    def side(self, room: str, other: str) -> Side | None:
        """The side of a room on which another one is, if that is beside it."""
        (row, column), (there, across) = self.cells[room], self.cells[other]
        return next((side for side in SIDES if STEP[side] == (there - row, across - column)), None)


def embed(graph: MissionGraph, seed: int) -> Layout | None:
    """A layout without crossings, or None if none was found. The way to a room with a key item, and to no other, is
    a stair.

    Args:
        graph: no room has more than four passages that are not stairs.
        seed: the same graph and seed give the same layout.
    """
    rng = random.Random(seed)  # noqa: S311 - a game, not a secret
    stairs = frozenset(
        rooms
        for rooms, labels in graph.pairs.items()
        if not labels and any("I" in graph.nodes[room] and len(graph.leaving[room]) == 1 for room in rooms)
    )
    for _ in range(TRIES):
        cells = _Search(graph, stairs, rng).run()
        if cells is not None:
            top, left = (min(cell[axis] for cell in cells.values()) for axis in (0, 1))
            return Layout({room: (row - top, column - left) for room, (row, column) in cells.items()}, stairs)
    return None


class _Search:
    """Places rooms one by one, and goes back where one has no place."""

    def __init__(self, graph: MissionGraph, stairs: frozenset[Pair], rng: random.Random) -> None:
        self.rng = rng
        self.beside = {
            room: [edge.target for edge in graph.leaving[room] if frozenset(edge[:2]) not in stairs]
            for room in graph.nodes
        }
        self.order = self._order(graph.start)
        self.below = {room for pair in stairs for room in pair if not self.beside[room]}
        self.cells: dict[str, Cell] = {}
        self.taken: set[Cell] = set()
        self.moves = 0

    def _order(self, start: str) -> list[str]:
        """All rooms that have doors: each one beside an earlier one, those on rings as early as possible."""
        order, waiting = [start], sorted(set(self.beside) - {start})
        while True:
            near = [room for room in waiting if any(other in order for other in self.beside[room])]
            if not near:
                return order
            self.rng.shuffle(near)
            near.sort(key=lambda room: (-sum(other in order for other in self.beside[room]), -len(self.beside[room])))
            order.append(near[0] if self.rng.random() < 0.7 else near[-1])
            waiting.remove(order[-1])

    def run(self) -> dict[str, Cell] | None:
        self._put(self.order[0], (0, 0))
        if not self._rest(1):
            return None
        for room in sorted(self.below):  # reached by stairs: anywhere, but near
            middle = [sum(cell[axis] for cell in self.taken) / len(self.taken) for axis in (0, 1)]
            free = {near for cell in self.taken for near in _around(cell)} - self.taken
            self._put(room, min(free, key=lambda cell: (math.dist(cell, middle), cell)))
        return self.cells

    def _rest(self, number: int) -> bool:
        if number == len(self.order):
            return True
        room = self.order[number]
        for cell in self._places(room):
            self.moves += 1
            if self.moves > MOST_MOVES:
                return False
            self._put(room, cell)
            if self._roomy(room, cell) and self._rest(number + 1):
                return True
            self.taken.discard(self.cells.pop(room))
        return False

    def _places(self, room: str) -> list[Cell]:
        """Free cells beside all placed neighbours, those that keep the map small and square first."""
        options = [set(_around(self.cells[other])) for other in self.beside[room] if other in self.cells]
        found = sorted(set.intersection(*options) - self.taken)
        self.rng.shuffle(found)
        return sorted(found, key=lambda cell: self._spread(cell) + self.rng.random() * 4)

    def _spread(self, cell: Cell) -> float:
        rows, columns = zip(*self.taken, cell, strict=True)
        return max(max(rows) - min(rows), max(columns) - min(columns)) * 2

    def _roomy(self, room: str, cell: Cell) -> bool:
        """Whether the room, and the rooms beside it, still have a free cell for each neighbour to come."""
        near = [other for other, place in self.cells.items() if place in set(_around(cell))]
        return all(
            sum(next_to not in self.cells for next_to in self.beside[one])
            <= sum(free not in self.taken for free in _around(self.cells[one]))
            for one in (room, *near)
        )

    def _put(self, room: str, cell: Cell) -> None:
        self.cells[room] = cell
        self.taken.add(cell)


def _around(cell: Cell) -> Iterator[Cell]:
    return ((cell[0] + down, cell[1] + right) for down, right in STEP.values())
