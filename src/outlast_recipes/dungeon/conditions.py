"""What is asked of a room: its doors, a stair, and the rooms beside it.

`frames` makes what is clamped of it, and `encode` the vector that a generator reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.dungeon.tiles import (
    DOOR,
    DOOR_SLOTS,
    HEIGHT,
    RING,
    SIDES,
    TILES,
    WALL,
    WIDTH,
    Room,
    doors_of,
    has_stairs,
)

INSIDE = (slice(RING, HEIGHT - RING), slice(RING, WIDTH - RING))
"""The rows and columns within the wall: 12 and 7."""
INSIDE_SHAPE = (HEIGHT - 2 * RING, WIDTH - 2 * RING)
UNKNOWN = len(TILES)
"""Number of a tile that is not decided yet."""
_BESIDE = 1 + len(TILES)
ENCODED = 2 + len(SIDES) * (1 + _BESIDE)
"""Length of an encoded condition: whether there is one, stairs, doors, and for each side whether a neighbour is known
and the shares of its tiles."""
OWN = 2 + len(SIDES)
"""How many of these are of the room itself: those before its neighbours."""
_DOORS = 2


@dataclass(frozen=True)
class RoomCondition:
    """What is asked of one room.

    Attributes:
        doors: sides that have a door; the other sides are walls.
        stairs: whether the room has a stair.
        neighbours: rooms (16, 11) beside it that are known, by side.

    Raises:
        outlast.DataError: a side is none of N, E, S, W, or a neighbour has another shape.
    """

    doors: frozenset[str] = frozenset()
    stairs: bool = False
    neighbours: Mapping[str, Room] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sides and shapes that no room has."""
        if wrong := sorted({*self.doors, *self.neighbours} - set(SIDES)):
            raise outlast.DataError(f"A condition of a room has the side {wrong[0]!r}; expected {', '.join(SIDES)}.")
        for side, room in self.neighbours.items():
            if room.shape != (HEIGHT, WIDTH) or room.max() >= len(TILES):
                raise outlast.DataError(
                    f"The neighbour {side} of a room has the shape {room.shape} and tiles up to {room.max()}; expected "
                    f"{(HEIGHT, WIDTH)} and tiles below {len(TILES)}."
                )

    @classmethod
    def of(cls, room: Room, neighbours: Mapping[str, Room] | None = None) -> RoomCondition:
        """The condition that a room fulfils."""
        return cls(doors_of(room), has_stairs(room), neighbours or {})


def frames(conditions: Sequence[RoomCondition]) -> NDArray[np.uint8]:
    """The tiles that are known before sampling: (N, 16, 11), walls and doors, and `UNKNOWN` within the wall."""
    rooms: NDArray[np.uint8] = np.full((len(conditions), HEIGHT, WIDTH), WALL, np.uint8)
    rooms[:, *INSIDE] = UNKNOWN
    for room, condition in zip(rooms, conditions, strict=True):
        for side, slot in DOOR_SLOTS.items():
            for place in slot if side in condition.doors else ():
                room[place] = DOOR
    return rooms


def encode(conditions: Sequence[RoomCondition]) -> NDArray[np.float32]:
    """The vectors of N conditions, (N, `ENCODED`). A row of zeros means that nothing is asked."""
    rows: NDArray[np.float32] = np.zeros((len(conditions), ENCODED), np.float32)
    for row, condition in zip(rows, conditions, strict=True):
        row[:_DOORS] = 1, condition.stairs
        for number, side in enumerate(SIDES):
            row[_DOORS + number] = side in condition.doors
            if side in condition.neighbours:
                start = OWN + number * _BESIDE
                row[start] = 1
                row[start + 1 : start + _BESIDE] = tile_shares(condition.neighbours[side])
    return rows


def tile_shares(room: Room) -> NDArray[np.float32]:
    """The share of each tile within the wall of a room: (10,)."""
    inside = room[INSIDE]
    return np.bincount(inside.ravel(), minlength=len(TILES)).astype(np.float32) / inside.size


def without_neighbours(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Encoded conditions (N, `ENCODED`) that know no neighbour."""
    rows = rows.copy()
    rows[:, OWN:] = 0
    return rows
