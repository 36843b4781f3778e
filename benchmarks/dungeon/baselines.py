"""Generators of rooms that are counted and not trained: what a network has to surpass.

Each has `sample(conditions, seed) -> (N, 16, 11)`, as `sampling.RoomSampler` has it. Those that cannot be asked for
anything draw a room for each condition and do not look at it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.dungeon.conditions import UNKNOWN, RoomCondition, frames
from outlast_recipes.dungeon.corpus import room_digest
from outlast_recipes.dungeon.tiles import HEIGHT, TILES, WIDTH, Room, doors_of, has_stairs
from outlast_recipes.dungeon.validity import is_valid

Rooms = NDArray[np.uint8]
KINDS = len(TILES)
OUTSIDE = KINDS
"""Beyond the edge of a room, for the tiles before the first one."""


class Independent:
    """Each tile is drawn by its share: of all tiles, or of those that training rooms have at its place."""

    def __init__(self, train: Rooms, *, by_place: bool) -> None:
        shares = (train[..., None] == np.arange(KINDS)).mean(0)
        self._cumulative = np.cumsum(shares if by_place else np.broadcast_to(shares.mean((0, 1)), shares.shape), -1)

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> Rooms:
        drawn = np.random.default_rng(seed).random((len(conditions), HEIGHT, WIDTH, 1))
        return _chosen(self._cumulative, drawn)


class MarkovChain:
    """Multi-dimensional Markov chain: a tile depends on those at its left, above it, and left of the latter.

    After Snodgrass and Ontañón, "Experiments in Map Generation using Markov Chains" (FDG 2014). With `by_place`, it
    also depends on its row and column. Where training has no such tiles, less is looked at: left and above, then above,
    then none.
    """

    def __init__(self, train: Rooms, *, by_place: bool) -> None:
        counts = np.zeros((HEIGHT, WIDTH, KINDS + 1, KINDS + 1, KINDS + 1, KINDS), np.float32)
        left, above, corner = _before(train)
        rows, columns = np.indices((HEIGHT, WIDTH))
        for number in range(len(train)):
            counts[rows, columns, left[number], above[number], corner[number], train[number]] += 1
        if not by_place:
            counts = counts.sum((0, 1), keepdims=True)
        for looked_at in (counts, counts.sum(4, keepdims=True), counts.sum((2, 4), keepdims=True)):
            counts = np.where(counts.sum(-1, keepdims=True) > 0, counts, looked_at)
        counts = np.where(counts.sum(-1, keepdims=True) > 0, counts, counts.sum((2, 3, 4), keepdims=True))
        cumulative = np.cumsum(counts / counts.sum(-1, keepdims=True), -1)
        self._cumulative = np.broadcast_to(cumulative, (HEIGHT, WIDTH, *cumulative.shape[2:]))

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> Rooms:
        return self.draw(len(conditions), np.random.default_rng(seed))

    def draw(self, number: int, random: np.random.Generator, pinned: Rooms | None = None) -> Rooms:
        """(number, 16, 11). `pinned`: tiles that are not drawn, and `UNKNOWN` where one is."""
        padded = np.full((number, HEIGHT + 1, WIDTH + 1), OUTSIDE, np.uint8)
        drawn = random.random((HEIGHT, WIDTH, number, 1))
        for row in range(HEIGHT):
            for column in range(WIDTH):
                before = padded[:, row + 1, column], padded[:, row, column + 1], padded[:, row, column]
                chosen = _chosen(self._cumulative[row, column][before], drawn[row, column])
                if pinned is not None:
                    chosen = np.where(pinned[:, row, column] == UNKNOWN, chosen, pinned[:, row, column])
                padded[:, row + 1, column + 1] = chosen
        return padded[:, 1:, 1:]


class Rejection:
    """A Markov chain by place of which a room is kept if it is valid and has what an open condition asks for.

    Args:
        train: rooms that the chain learns from.
        known: `room_digest` of rooms that are not kept.

    Attributes:
        drawn: rooms that were drawn so far.
    """

    AT_ONCE, MOST = 512, 1_000_000

    def __init__(self, train: Rooms, known: Collection[str] = ()) -> None:
        self._chain = MarkovChain(train, by_place=True)
        self._known = frozenset(known)
        self.drawn = 0

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> Rooms:
        random = np.random.default_rng(seed)
        found = np.zeros((len(conditions), HEIGHT, WIDTH), np.uint8)
        waiting: dict[tuple[frozenset[str], bool], list[int]] = {}
        for number, condition in enumerate(conditions):
            waiting.setdefault((condition.doors, condition.stairs), []).append(number)
        before = self.drawn
        while waiting:
            self._go_on(before, next(iter(waiting)))
            for room in self._chain.draw(self.AT_ONCE, random):
                kind = doors_of(room), has_stairs(room)
                if kind in waiting and self._kept(room):
                    found[waiting[kind].pop()] = room
                    if not waiting[kind]:
                        del waiting[kind]
            self.drawn += self.AT_ONCE
        return found

    def _go_on(self, before: int, asked: object) -> None:
        if self.drawn - before >= self.MOST:
            raise RuntimeError(f"{self.MOST} rooms were drawn, and none fulfils {asked}.")

    def _kept(self, room: Room) -> bool:
        return is_valid(room) and not (self._known and room_digest(room) in self._known)


class PinnedRejection(Rejection):
    """The same with the wall and the asked doors pinned, as trained models have them: every room has these doors."""

    AT_ONCE = 64

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> Rooms:
        random = np.random.default_rng(seed)
        found = frames(conditions)
        waiting = list(range(len(found)))
        before = self.drawn
        while waiting:
            self._go_on(before, conditions[waiting[0]])
            numbers = waiting * -(-self.AT_ONCE // len(waiting))
            kept: set[int] = set()
            for number, room in zip(numbers, self._chain.draw(len(numbers), random, found[numbers]), strict=True):
                if number not in kept and has_stairs(room) == conditions[number].stairs and self._kept(room):
                    found[number] = room
                    kept.add(number)
            waiting = [number for number in waiting if number not in kept]
            self.drawn += len(numbers)
        return found


def _before(rooms: Rooms) -> tuple[Rooms, Rooms, Rooms]:
    """(N, 16, 11) each: the tiles at the left, above, and left of those above."""
    padded = np.pad(rooms, ((0, 0), (1, 0), (1, 0)), constant_values=OUTSIDE)
    return padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]


def _chosen(cumulative: NDArray[np.floating], drawn: NDArray[np.float64]) -> Rooms:
    """The tiles at which the cumulative shares pass what was drawn. The last share may end below 1 by rounding."""
    reached = (drawn >= cumulative).sum(-1)
    possible = (cumulative < cumulative[..., -1:]).sum(-1)
    return np.minimum(reached, possible).astype(np.uint8)
