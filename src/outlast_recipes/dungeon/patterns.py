"""Rooms by rules: a few symmetric patterns of our own, for dungeons without a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.dungeon.conditions import INSIDE, RoomCondition, frames
from outlast_recipes.dungeon.repair import repair
from outlast_recipes.dungeon.tiles import BLOCK, ELEMENT, ELEMENT_FLOOR, FLOOR, MONSTER, STAIR

Inside: TypeAlias = NDArray[np.uint8]
"""(12, 7): the tiles within the wall."""


class PatternSampler:
    """Draws rooms as `sampling.RoomSampler` does, without a network."""

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> NDArray[np.uint8]:
        """A room for each condition: (N, 16, 11). Exactly the asked sides have doors."""
        rng = np.random.default_rng(seed)
        rooms = frames(conditions)
        for room, condition in zip(rooms, conditions, strict=True):
            inside = room[INSIDE]
            inside[:] = FLOOR
            _PATTERNS[int(rng.integers(len(_PATTERNS)))](inside, rng)
            if condition.stairs:
                inside[5:8, 2:5] = FLOOR
                inside[6, 3] = STAIR
            room[:] = repair(room, condition).room
        return rooms


def _put(inside: Inside, row: int, column: int, tile: int) -> None:
    """A tile and its mirror images."""
    for each in (row, 11 - row):
        inside[each, [column, 6 - column]] = tile


def _pillars(inside: Inside, rng: np.random.Generator) -> None:
    for row in range(1, 6, int(rng.integers(2, 4))):
        for column in (1, 3) if rng.random() < 0.4 else (1,):
            _put(inside, row, column, BLOCK)


def _diamond(inside: Inside, rng: np.random.Generator) -> None:
    for step in range(3):
        _put(inside, 3 + step, 2 - step if rng.random() < 0.9 else 1, BLOCK)


def _statues(inside: Inside, rng: np.random.Generator) -> None:
    for column in (0, 2) if rng.random() < 0.5 else (0,):
        _put(inside, 0, column, MONSTER)
    if rng.random() < 0.5:
        _put(inside, 4, 1, MONSTER)


def _pool(inside: Inside, rng: np.random.Generator) -> None:
    high, wide = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    inside[6 - high : 6 + high, 3 - wide : 4 + wide] = ELEMENT


def _moat(inside: Inside, rng: np.random.Generator) -> None:
    inside[2:10, 1:6] = ELEMENT
    inside[3:9, 2:5] = FLOOR
    (inside[5:7, :] if rng.random() < 0.5 else inside[:, 3:4])[:] = FLOOR
    if rng.random() < 0.5:
        _put(inside, 5, 3, BLOCK)


def _river(inside: Inside, rng: np.random.Generator) -> None:
    row = int(rng.integers(2, 5))
    for each in {row, 11 - row} if rng.random() < 0.5 else {row}:
        inside[each] = ELEMENT
        inside[each, int(rng.integers(7))] = FLOOR


def _sand(inside: Inside, rng: np.random.Generator) -> None:
    high = int(rng.integers(2, 5))
    inside[6 - high : 6 + high, 1:6] = ELEMENT_FLOOR


def _rows(inside: Inside, rng: np.random.Generator) -> None:
    for column in (1, 5) if rng.random() < 0.5 else (1, 3, 5):
        inside[2:5, column] = inside[7:10, column] = BLOCK


def _sprinkled(inside: Inside, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 6))):
        _put(inside, int(rng.integers(1, 6)), int(rng.integers(0, 4)), BLOCK)


def _plain(_inside: Inside, _rng: np.random.Generator) -> None:
    """Nothing but floor."""


_PATTERNS: tuple[Callable[[Inside, np.random.Generator], None], ...] = (
    _pillars, _diamond, _statues, _pool, _moat, _river, _sand, _rows, _sprinkled, _plain,
)  # fmt: skip
