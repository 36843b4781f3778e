"""Repaired rooms have the asked doors and ways, and rooms that need nothing stay."""

from __future__ import annotations

import numpy as np
import pytest

from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.corpus import load_corpus
from outlast_recipes.dungeon.repair import repair
from outlast_recipes.dungeon.tiles import DOOR, SIDES, TILES, decode, doors_of, encode
from tests.conftest import REPOSITORY

DATA = REPOSITORY.parent / "shared/data/vglc"
real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/vglc is not beside this checkout")

PLAIN = encode(["WWWWWWWWWWW"] * 2 + ["WWFFFFFFFWW"] * 12 + ["WWWWWWWWWWW"] * 2)
RIVER = encode(
    ["WWWWWWWWWWW", "WWWWDDDWWWW"]
    + ["WWFFFFFFFWW"] * 5
    + ["WWPPPPPPPWW"] * 2
    + ["WWFFFFFFFWW"] * 5
    + ["WWWWDDDWWWW", "WWWWWWWWWWW"]
)


def strolled(room: np.ndarray) -> int:
    """How many doors and stairs can be reached from the first one: a flood of its own."""
    ends = [tuple(place) for place in np.argwhere(np.isin(room, [TILES.index("D"), TILES.index("S")]))]
    seen = {ends[0]}
    waiting = [ends[0]]
    while waiting:
        row, column = waiting.pop()
        for near in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if near not in seen and TILES[room[near]] in "FODS-":
                seen.add(near)
                waiting.append(near)
    return len([end for end in ends if end in seen]), len(ends)


def test_a_room_that_fulfils_its_condition_stays() -> None:
    room = RIVER.copy()
    room[7:9, 5] = TILES.index("F")
    done = repair(room, RoomCondition(frozenset("NS")))
    assert done.changed == 0
    assert (done.room == room).all()


def test_a_way_is_made_of_as_few_tiles_as_needed() -> None:
    done = repair(RIVER, RoomCondition(frozenset("NS")))
    assert done.changed == 2
    assert (RIVER[7:9, 2:9] == TILES.index("P")).all(), "the argument is not changed"
    assert strolled(done.room) == (6, 6)


def test_doors_are_added_and_removed() -> None:
    done = repair(RIVER, RoomCondition(frozenset("EW")))
    assert doors_of(done.room) == {"E", "W"}
    assert (done.room == DOOR).sum() == 4
    assert strolled(done.room) == (4, 4)


@pytest.mark.parametrize("stairs", [True, False])
def test_there_is_a_stair_if_one_is_asked_for(stairs) -> None:
    room = PLAIN.copy()
    room[3, 3] = room[10, 5] = TILES.index("S")
    done = repair(room, RoomCondition(frozenset("N"), stairs=stairs))
    assert np.argwhere(done.room == TILES.index("S")).tolist() == ([[10, 5]] if stairs else [])


def test_neighbours_that_the_originals_do_not_have_are_separated() -> None:
    room = PLAIN.copy()
    room[4, 3:6] = [TILES.index(tile) for tile in "BPB"]
    done = repair(room, RoomCondition())
    assert decode(done.room)[4] == "WWFBFBFFFWW"


def test_dark_floor_stays_and_is_walked_on() -> None:
    room = PLAIN.copy()
    room[2:14, 2:9] = TILES.index("-")
    room[2:4, 2] = [TILES.index(tile) for tile in "MB"]
    room[1, 4:7] = DOOR
    done = repair(room, RoomCondition(frozenset("N")))
    assert done.changed == 0
    assert strolled(done.room) == (3, 3)


@real
def test_rooms_of_the_originals_stay_unless_they_ask_for_the_ladder_or_a_push() -> None:
    """26 of 236 rooms change, by 1 to 13 tiles: water or a block gives way to floor."""
    changed = []
    for room in (each.tiles for each in load_corpus(DATA).rooms):
        done = repair(room, RoomCondition.of(room))
        differ = room != done.room
        assert (done.room[differ] == TILES.index("F")).all()
        assert np.isin(room[differ], [TILES.index("P"), TILES.index("B")]).all()
        changed.append(done.changed)
    assert (len(changed), np.count_nonzero(changed), max(changed)) == (236, 26, 13)


def test_noise_is_repaired() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        room = rng.integers(0, len(TILES), (16, 11)).astype(np.uint8)
        doors = frozenset(side for side in SIDES if rng.random() < 0.5)
        condition = RoomCondition(doors, stairs=not doors or rng.random() < 0.3)
        done = repair(room, condition)
        assert doors_of(done.room) == doors
        assert (done.room == TILES.index("S")).sum() == condition.stairs
        reached, ends = strolled(done.room)
        assert reached == ends
        assert done.changed == (done.room != room).sum()
        assert repair(done.room, condition).changed == 0
