"""Tiles of a room and the text of them."""

from __future__ import annotations

import numpy as np
import pytest

import outlast
from outlast_recipes.dungeon.tiles import STAIR, decode, doors_of, encode, has_stairs, mirror
from tests import messages

ROOM = [
    "WWWWWWWWWWW", "WWWWDDDWWWW", "WWFFFFFFFWW", "WWFBFFFFFWW", "WWFFFFFFFWW", "WWFFFMFFFWW", "WWFFFFFFFWW",
    "WDFFFFFFFWW", "WDFFFFFFFWW", "WWFFFFFFFWW", "WWFPPPPPFWW", "WWFPOIOPFWW", "WWFFFFFFFWW", "WWFFFFFFSWW",
    "WWWWWWWWWWW", "WWWWWWWWWWW",
]  # fmt: skip


def test_a_room_of_text_and_back() -> None:
    room = encode(ROOM)
    assert room.shape == (16, 11)
    assert room.dtype == np.uint8
    assert decode(room) == ROOM
    assert doors_of(room) == {"N", "W"}
    assert has_stairs(room)
    assert not has_stairs(np.where(room == STAIR, 1, room))


@pytest.mark.parametrize(("axis", "doors"), [(0, {"S", "W"}), (1, {"N", "E"})])
def test_a_mirrored_room_has_its_doors_in_the_slots(axis: int, doors: set[str]) -> None:
    room = mirror(encode(ROOM), axis)
    assert doors_of(room) == doors
    assert (mirror(room, axis) == encode(ROOM)).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line[1:] for line in ROOM[1:]], messages.says("dungeon/room-size", lines=15, letters=10)),
        ([*ROOM[:-1], "WWWWWWWWWW?"], messages.says("dungeon/no-tile", row=16, column=11, letter=repr("?"))),
    ],
)
def test_text_that_is_no_room_is_refused(lines: list[str], message: messages.Message) -> None:
    with messages.raises(outlast.DataError, message):
        encode(lines)
