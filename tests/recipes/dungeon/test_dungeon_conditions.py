"""What may be asked of a room, and the vector that a generator reads."""

from __future__ import annotations

import numpy as np

import outlast
from outlast_recipes.dungeon.conditions import ENCODED, UNKNOWN, RoomCondition, encode, frames, without_neighbours
from outlast_recipes.dungeon.tiles import DOOR_SLOTS, SIDES, TILES
from outlast_recipes.dungeon.tiles import encode as read
from tests import messages
from tests.recipes.dungeon.test_dungeon_tiles import ROOM


def test_frames_are_the_walls_and_doors_of_real_rooms() -> None:
    room, frame = read(ROOM), frames([RoomCondition.of(read(ROOM))])[0]
    known = frame != UNKNOWN
    assert known.sum() == 16 * 11 - 12 * 7
    assert (frame[known] == room[known]).all()


def test_each_condition_has_a_vector_of_its_own() -> None:
    sides = [frozenset(side for bit, side in enumerate(SIDES) if number >> bit & 1) for number in range(16)]
    conditions = [RoomCondition(doors, stairs) for doors in sides for stairs in (False, True)]
    room = read(ROOM)
    conditions += [RoomCondition(neighbours={side: room}) for side in SIDES]
    rows = encode(conditions)
    assert rows.shape == (36, ENCODED)
    assert len(np.unique(rows, axis=0)) == 36
    assert rows.any(1).all(), "a row of zeros is for the generator without a condition"
    assert len(np.unique(without_neighbours(rows), axis=0)) == 32


def test_a_neighbour_is_the_shares_of_its_tiles() -> None:
    shares = encode([RoomCondition(neighbours={"S": read(ROOM)})])[0, -22:-11]
    assert shares[0] == 1
    assert dict(zip(TILES, np.rint(84 * shares[1:]).astype(int).tolist(), strict=True)) == {
        "-": 0, "F": 71, "W": 0, "B": 1, "M": 1, "P": 7, "O": 2, "I": 1, "S": 1, "D": 0,
    }  # fmt: skip


def test_what_no_room_has_is_refused() -> None:
    with messages.raises(outlast.DataError, "dungeon/no-side", side=repr("X")):
        RoomCondition(frozenset("NX"))
    with messages.raises(outlast.DataError, "dungeon/neighbour-shape", side="N", shape=(11, 16)):
        RoomCondition(neighbours={"N": read(ROOM).T})


def test_slots_are_in_the_wall() -> None:
    frame = frames([RoomCondition()])[0]
    assert all(frame[place] == TILES.index("W") for slot in DOOR_SLOTS.values() for place in slot)
