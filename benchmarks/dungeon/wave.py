"""Wave function collapse with pinned walls and doors: overlapping patterns, of which neighbours must agree.

After Gumin's WaveFunctionCollapse (2016), overlapping model, without rotations. The wall and the asked doors are
decided before the first choice; without that, none of its rooms has a whole wall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from benchmarks.dungeon.baselines import Rooms

from outlast_recipes.dungeon.conditions import UNKNOWN, RoomCondition, frames
from outlast_recipes.dungeon.tiles import HEIGHT, WIDTH

Place = tuple[int, int]
_WAYS = ((0, 1), (1, 0), (0, -1), (-1, 0))


class Contradiction(Exception):
    """A place has no pattern left."""


class WaveFunctionCollapse:
    """Patterns of `size` x `size` tiles of the training rooms.

    Attributes:
        failed: rooms that met a contradiction in each of `TRIES` tries. Their undecided tiles are void.
    """

    TRIES, KNOWN = 20, 200_000

    def __init__(self, train: Rooms, size: int = 2) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(train, (size, size), (1, 2)).reshape(-1, size, size)
        self._patterns, counts = np.unique(windows, axis=0, return_counts=True)
        self._weights = counts.tolist()
        self._size, self.failed = size, 0
        self._allowed = [self._agreeing(way) for way in _WAYS]
        self._unions: list[dict[int, int]] = [{} for _ in _WAYS]
        self._begun: dict[bytes, dict[Place, int]] = {}

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> Rooms:
        random = np.random.default_rng(seed)
        return np.stack([self._room(frame, random) for frame in frames(conditions)])

    def _room(self, frame: Rooms, random: np.random.Generator) -> Rooms:
        for _ in range(self.TRIES):
            try:
                return self._tried(frame, random)
            except Contradiction:
                continue
        self.failed += 1
        return np.where(frame == UNKNOWN, 0, frame)

    def _beginning(self, frame: Rooms) -> dict[Place, int]:
        """The patterns of each place that the wall and the doors allow."""
        key = frame.tobytes()
        if key not in self._begun:
            wave = {
                (row, column): self._fitting(frame[row : row + self._size, column : column + self._size])
                for row in range(HEIGHT - self._size + 1)
                for column in range(WIDTH - self._size + 1)
            }
            self._propagate(wave, dict.fromkeys(wave))
            self._begun[key] = wave
        return dict(self._begun[key])

    def _tried(self, frame: Rooms, random: np.random.Generator) -> Rooms:
        wave = self._beginning(frame)
        while True:
            open_places = [(options.bit_count(), place) for place, options in wave.items() if options.bit_count() > 1]
            if not open_places:
                break
            least = min(open_places)[0]
            nearest = [place for count, place in open_places if count == least]
            place = nearest[int(random.integers(len(nearest)))]
            options = list(_bits(wave[place]))
            weights = np.array([self._weights[option] for option in options], float)
            wave[place] = 1 << int(random.choice(options, p=weights / weights.sum()))
            self._propagate(wave, {place: None})
        room = np.zeros_like(frame)
        for (row, column), options in wave.items():
            room[row : row + self._size, column : column + self._size] = self._patterns[options.bit_length() - 1]
        return room

    def _propagate(self, wave: dict[Place, int], changed: dict[Place, None]) -> None:
        """Remove patterns that have no neighbour. `changed`: places whose neighbours are to be looked at, in order."""
        while changed:
            row, column = place = next(iter(changed))
            del changed[place]
            for number, (down, right) in enumerate(_WAYS):
                near = row + down, column + right
                if near in wave:
                    left = wave[near] & self._union(number, wave[place])
                    if not left:
                        raise Contradiction
                    if left != wave[near]:
                        wave[near] = left
                        changed[near] = None

    def _union(self, way: int, options: int) -> int:
        """The patterns that may be beside any of some."""
        known = self._unions[way]
        if options not in known:
            if len(known) >= self.KNOWN:
                known.clear()
            known[options] = 0
            for option in _bits(options):
                known[options] |= self._allowed[way][option]
        return known[options]

    def _fitting(self, window: Rooms) -> int:
        """The patterns that have the decided tiles of a window."""
        fits = ((window == UNKNOWN) | (self._patterns == window)).all((1, 2))
        options = _mask(fits)
        if not options:
            raise Contradiction
        return options

    def _agreeing(self, way: Place) -> list[int]:
        """For each pattern, those that may be one step away from it: where they overlap, they are equal."""
        down, right = way
        size = self._size
        here = self._patterns[:, max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)]
        there = self._patterns[:, max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)]
        return [_mask((one == there).all((1, 2))) for one in here]


def _mask(chosen: np.ndarray) -> int:
    return sum(1 << int(number) for number in np.flatnonzero(chosen))


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
