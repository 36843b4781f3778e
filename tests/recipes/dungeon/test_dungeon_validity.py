"""What makes a room valid, and that all rooms of the public corpus are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from outlast_recipes.dungeon.corpus import load_corpus
from outlast_recipes.dungeon.tiles import (
    BLOCK,
    DOOR,
    DOOR_SLOTS,
    ELEMENT,
    ELEMENT_BLOCK,
    FLOOR,
    SIDES,
    STAIR,
    VOID,
    WALL,
    Room,
    mirror,
)
from outlast_recipes.dungeon.validity import connected, is_valid, problems
from tests import messages
from tests.conftest import REPOSITORY

DATA = REPOSITORY.parent / "shared/data/vglc"
real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/vglc is not beside this checkout")


def a_room(doors: str = "NS", **rows: int) -> Room:
    """Floor within a wall; `r5=BLOCK` fills row 5 with blocks."""
    room = np.full((16, 11), WALL, np.uint8)
    room[2:14, 2:9] = FLOOR
    for side in doors:
        for place in DOOR_SLOTS[side]:  # type: ignore[index]
            room[place] = DOOR
    for name, tile in rows.items():
        room[int(name[1:]), 2:9] = tile
    return room


@pytest.mark.parametrize("doors", ["", "N", "EW", "NESW"])
def test_floor_joins_all_doors(doors: str) -> None:
    assert problems(a_room(doors)) == problems(a_room(doors), strict=True) == []
    assert connected(a_room(doors)) == ([frozenset(doors)] if doors else [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda room: room.__setitem__((1, 4), WALL), messages.says("dungeon/half-a-door", side="N")),
        (lambda room: room.__setitem__((0, 3), FLOOR), messages.says("dungeon/hole-in-the-wall", row=0, column=3)),
        (lambda room: room.__setitem__((6, 5), WALL), messages.says("dungeon/wall-within", row=6, column=5)),
        (
            lambda room: room.__setitem__((5, slice(2, 9)), ELEMENT_BLOCK),
            messages.says("dungeon/doors-apart", a="N", b="S"),
        ),
    ],
)
def test_each_problem_is_told(change: Callable[[Room], None], message: messages.Message) -> None:
    room = a_room()
    change(room)
    assert len(problems(room)) == 1
    messages.said(problems(room), message)
    for axis in (0, 1):
        assert not is_valid(mirror(room, axis))  # type: ignore[arg-type]


@pytest.mark.parametrize(("tile", "what"), [(ELEMENT, "the ladder"), (VOID, "dark floor"), (BLOCK, "a push")])
def test_what_the_calibrated_rule_lets_pass(tile: int, what: str) -> None:
    room = a_room(r5=tile)
    assert is_valid(room), what
    assert not is_valid(room, strict=True)


def test_one_block_is_pushed_and_no_second_one() -> None:
    assert connected(a_room(r5=BLOCK)) == [{"N", "S"}]
    assert connected(a_room(r5=BLOCK, r8=BLOCK)) == [{"N"}, {"S"}]
    three = a_room("NESW", r5=BLOCK, r10=BLOCK)
    assert sorted(map(sorted, connected(three))) in ([["E", "N", "W"], ["S"]], [["E", "S", "W"], ["N"]])


def test_a_block_needs_room_on_both_ends_of_its_way() -> None:
    assert not is_valid(a_room(r5=BLOCK, r6=BLOCK)), "behind each block is another one"


def test_stairs_are_a_place_to_reach() -> None:
    room = a_room("N", r5=ELEMENT_BLOCK)
    room[9, 5] = STAIR
    assert sorted(map(sorted, connected(room))) == [["N"], ["stairs"]]
    assert not is_valid(room)
    assert is_valid(room, strict=True), "the strict rule asks for doors only"
    assert is_valid(a_room("N", r9=STAIR))


def test_groups_are_as_a_search_finds_them() -> None:
    """Compared with repeated joining of neighbours, on random rooms."""
    random = np.random.default_rng(3)
    for _ in range(200):
        room = a_room("NESW")
        room[2:14, 2:9] = random.choice([FLOOR, ELEMENT_BLOCK], (12, 7))
        label = {place: number for number, place in enumerate(zip(*np.nonzero(room != WALL), strict=True))}
        label = {place: number for place, number in label.items() if room[place] != ELEMENT_BLOCK}
        for _ in range(len(label)):
            for row, column in label:
                for other in ((row + 1, column), (row, column + 1)):
                    if other in label:
                        label[row, column] = label[other] = min(label[row, column], label[other])
        groups: dict[int, set[str]] = {}
        for side in SIDES:
            groups.setdefault(label[DOOR_SLOTS[side][0]], set()).add(side)
        assert {frozenset(group) for group in connected(room, strict=True)} == set(map(frozenset, groups.values()))


@real
def test_every_room_of_the_public_corpus_is_valid() -> None:
    rooms = load_corpus(DATA).rooms
    assert {room.place: problems(room.tiles) for room in rooms if problems(room.tiles)} == {}
    assert sum(is_valid(room.tiles, strict=True) for room in rooms) == 211
