"""How near generated rooms are to real ones: the divergence of their patterns, their distance, and their variety.

Rooms are arrays (N, 16, 11) of tile numbers; two sets may have different N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.dungeon.conditions import INSIDE
from outlast_recipes.dungeon.tiles import TILES
from outlast_recipes.dungeon.validity import is_valid

EPSILON = 1e-6
"""What is added to the count of each pattern, so that one which a set lacks has a probability."""
SIZES = (2, 3, 4)
"""Edge of the square patterns, in tiles."""

_AT_ONCE = 64


@dataclass(frozen=True)
class Measured:
    """What a set of rooms is like. Shares are of the rooms, from 0 to 1.

    Attributes:
        rooms: how many there are.
        valid: share that the calibrated rule of `validity` accepts.
        strict: share that its strict rule accepts.
        novel: share that is neither a training room nor a mirror image of one.
        novel_valid: share that is novel and valid.
        new_inside: share whose tiles within the wall no training room has, nor a mirror image of one. A novel room may
            be a training room with other doors; these are not.
        distance: mean of the share of tiles in which a room differs from the training room nearest to it.
        diversity: the same for two rooms of the set, mean of all pairs.
        divergence: size of the patterns -> tile-pattern KL divergence from the reference, in nats.
    """

    rooms: int
    valid: float
    strict: float
    novel: float
    novel_valid: float
    new_inside: float
    distance: float
    diversity: float
    divergence: dict[int, float]

    @property
    def copies(self) -> float:
        """Share of rooms that the training rooms have as well, themselves or mirrored."""
        return 1 - self.novel


def measure(rooms: NDArray[np.uint8], train: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Measured:
    """Measure rooms against those of training, and the patterns against a reference.

    Raises:
        outlast.DataError: a set has no rooms, or `rooms` only one.
    """
    known = with_mirror_images(train)
    distances = nearest(rooms, known)
    novel = distances > 0
    valid = np.array([is_valid(room) for room in rooms])
    return Measured(
        rooms=len(rooms),
        valid=float(valid.mean()),
        strict=float(np.mean([is_valid(room, strict=True) for room in rooms])),
        novel=float(novel.mean()),
        novel_valid=float((novel & valid).mean()),
        new_inside=float((nearest(rooms[:, *INSIDE], known[:, *INSIDE]) > 0).mean()),
        distance=float(distances.mean()),
        diversity=diversity(rooms),
        divergence={size: pattern_divergence(rooms, reference, size) for size in SIZES},
    )


def pattern_divergence(
    rooms: NDArray[np.uint8], reference: NDArray[np.uint8], size: int, *, weight: float = 0.5
) -> float:
    """Tile-pattern KL divergence in nats: weight * KL(rooms, reference) + (1 - weight) * KL(reference, rooms).

    A pattern that occurs C times among N has the probability (C + e) / ((N + e) (1 + e)) with e = `EPSILON`. Patterns
    are the squares of `size` x `size` tiles at every place. After Lucas and Volz, "Tile Pattern KL-Divergence for
    Analysing and Evolving Game Levels" (GECCO 2019), whose weight is 0.5.

    Raises:
        outlast.DataError: a set has no rooms.
    """
    found, expected = _patterns(rooms, size), _patterns(reference, size)
    return weight * _divergence(found, expected) + (1 - weight) * _divergence(expected, found)


def nearest(rooms: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,): the share of tiles in which each room differs from the one of `others` that is nearest to it.

    Raises:
        outlast.DataError: a set has no rooms.
    """
    _check(rooms, others)
    flat = others.reshape(len(others), -1)
    found = []
    for start in range(0, len(rooms), _AT_ONCE):
        part = rooms[start : start + _AT_ONCE].reshape(-1, 1, flat.shape[1])
        found.append((part != flat).mean(2).min(1))
    return np.concatenate(found)


def diversity(rooms: NDArray[np.uint8]) -> float:
    """The share of tiles in which two rooms differ, mean of all pairs.

    Raises:
        outlast.DataError: there are fewer than two rooms.
    """
    if len(rooms) < 2:
        raise outlast.DataError(f"The variety of rooms is that of pairs; found {len(rooms)} rooms, expected 2 or more.")
    counts = np.stack([(rooms == tile).sum(0) for tile in range(len(TILES))])
    return float(1 - (counts * (counts - 1)).sum(0).mean() / (len(rooms) * (len(rooms) - 1)))


def with_mirror_images(rooms: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4 N, 16, 11): the rooms, and the images that both mirrors make of them."""
    return np.concatenate([rooms, rooms[:, ::-1], rooms[:, :, ::-1], rooms[:, ::-1, ::-1]])


def _patterns(rooms: NDArray[np.uint8], size: int) -> dict[int, int]:
    """A number for each pattern, whose digits are its tiles -> how often it occurs."""
    _check(rooms)
    windows = np.lib.stride_tricks.sliding_window_view(rooms, (size, size), (1, 2))
    digits: NDArray[np.int64] = len(TILES) ** np.arange(size * size, dtype=np.int64).reshape(size, size)
    numbers, counts = np.unique((windows * digits).sum((-1, -2)), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _divergence(p: dict[int, int], q: dict[int, int]) -> float:
    """KL(p, q) over the patterns of p."""
    keys = list(p)
    one, other = (
        (np.array([counts.get(key, 0) for key in keys]) + EPSILON) / ((sum(counts.values()) + EPSILON) * (1 + EPSILON))
        for counts in (p, q)
    )
    return float((one * np.log(one / other)).sum())


def _check(*sets: NDArray[np.uint8]) -> None:
    for rooms in sets:
        if not len(rooms):
            raise outlast.DataError("Rooms are compared with others; found a set without rooms.")
