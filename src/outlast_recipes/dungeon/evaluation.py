"""How good a generator of rooms is: on what the rooms of the held-out dungeons ask for, beside these rooms."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.generate import Sampler
from outlast_recipes.dungeon.metrics import SIZES, measure
from outlast_recipes.dungeon.room_data import RoomData
from outlast_recipes.dungeon.tiles import doors_of, has_stairs


def drawn(sampler: Sampler, asked: Sequence[RoomCondition], number: int, seed: int) -> NDArray[np.uint8]:
    """(N, 16, 11): a number of rooms for some conditions, one after the other and then again."""
    return sampler.sample(list(itertools.islice(itertools.cycle(asked), number)), seed)


def described(rooms: NDArray[np.uint8], data: RoomData) -> dict[str, Any]:
    """Figures of rooms as they were drawn, without repair. Shares are from 0 to 1.

    `new_interiors` counts rooms whose tiles within the wall no training room has, nor a mirror image of one. Most
    novel rooms have a known interior with other doors.
    """
    found = measure(rooms, data.known, data.held_out)
    asked = list(itertools.islice(itertools.cycle(data.asked), len(rooms)))
    pairs = list(zip(rooms, asked, strict=True))
    return {
        "rooms": len(rooms),
        "valid": found.valid,
        "valid_strict": found.strict,
        "novel_valid": found.novel_valid,
        "copies": found.copies,
        "new_interiors": found.new_inside,
        "distance": found.distance,
        "diversity": found.diversity,
        **{f"tpkl_{size}": found.divergence[size] for size in SIZES},
        "doors_as_asked": float(np.mean([doors_of(room) == one.doors for room, one in pairs])),
        "stairs_as_asked": float(np.mean([has_stairs(room) == one.stairs for room, one in pairs])),
    }
