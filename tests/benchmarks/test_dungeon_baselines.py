"""The generators that a trained one is compared with, and the table."""

from __future__ import annotations

import io

import numpy as np
import pytest
from benchmarks.dungeon.__main__ import table
from benchmarks.dungeon.baselines import Independent, MarkovChain, PinnedRejection, Rejection
from benchmarks.dungeon.comparison import BASELINES, Data, compare, prepare, times
from benchmarks.dungeon.wave import Contradiction, WaveFunctionCollapse
from rich.console import Console

from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.corpus import canonical, load_corpus, room_digest
from outlast_recipes.dungeon.tiles import FLOOR, WALL, doors_of, has_stairs
from outlast_recipes.dungeon.validity import is_valid

ASKED = [RoomCondition(frozenset(doors)) for doors in ("N", "SW", "NESW", "E")]
ANY = [RoomCondition()] * 400


@pytest.fixture(scope="module")
def data() -> Data:
    return prepare(load_corpus(None), ["4", "8"], ["2", "6"], repeats=False, number=60, seed=1)[0]


@pytest.mark.parametrize("name", ["i.i.d. tiles", "per-cell", "MdMC", "MdMC + position", "WFC 2x2, pinned"])
def test_a_seed_is_enough(data: Data, name: str) -> None:
    first, again, other = (BASELINES[name](data.train[:60]).sample(ASKED, seed) for seed in (1, 1, 2))
    assert first.shape == (4, 16, 11)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()


def test_shares_of_all_tiles_and_by_place(data: Data) -> None:
    shares = np.bincount(data.train.ravel(), minlength=10) / data.train.size
    drawn = Independent(data.train, by_place=False).sample(ANY, 0)
    assert np.bincount(drawn.ravel(), minlength=10) / drawn.size == pytest.approx(shares, abs=0.01)
    by_place = Independent(data.train, by_place=True).sample(ANY, 0)
    assert (by_place[:, 0] == WALL).all(), "the first row of every room is wall"
    floor = (data.train == FLOOR).mean(0)
    assert (by_place == FLOOR).mean(0) == pytest.approx(floor, abs=0.12)


@pytest.mark.parametrize("by_place", [False, True])
def test_a_chain_draws_only_what_it_has_seen(data: Data, by_place: bool) -> None:
    """Where the three tiles before are known from training, so is the tile that follows them."""

    def contexts(rooms: np.ndarray) -> set[tuple[int, ...]]:
        places = ((row, column) for row in range(1, 16) for column in range(1, 11))
        return {
            (*((row, column) if by_place else ()), *room[row - 1 : row + 1, column - 1 : column + 1].ravel().tolist())
            for row, column in places
            for room in rooms
        }

    known = contexts(data.train)
    before = {context[:-1] for context in known}
    drawn = contexts(MarkovChain(data.train, by_place=by_place).sample(ANY[:50], 3))
    assert {context for context in drawn if context[:-1] in before} <= known


def test_a_chain_by_place_repeats_a_single_room(data: Data) -> None:
    one = data.train[7:8]
    assert (MarkovChain(one, by_place=True).sample(ANY[:5], 0) == one).all()


def test_rejection_gives_what_is_asked(data: Data) -> None:
    generator = Rejection(data.train)
    rooms = generator.sample(ASKED, 5)
    assert [doors_of(room) for room in rooms] == [asked.doors for asked in ASKED]
    assert all(is_valid(room) and not has_stairs(room) for room in rooms)
    assert generator.drawn % Rejection.AT_ONCE == 0


def test_rejection_with_pinned_doors_gives_what_is_asked(data: Data) -> None:
    asked = [*ASKED, RoomCondition(frozenset("NS"), stairs=True)]
    generator = PinnedRejection(data.train)
    rooms = generator.sample(asked, 5)
    assert [doors_of(room) for room in rooms] == [one.doors for one in asked]
    assert [has_stairs(room) for room in rooms] == [one.stairs for one in asked]
    assert all(map(is_valid, rooms))
    again = PinnedRejection(data.train)
    assert (again.sample(asked, 5) == rooms).all()
    assert again.drawn == generator.drawn < Rejection(data.train).MOST


@pytest.mark.parametrize("kind", [Rejection, PinnedRejection])
def test_rejection_keeps_no_known_room(data: Data, kind: type[Rejection]) -> None:
    asked = [RoomCondition.of(data.known[0])] * 8
    rooms = kind(data.train).sample(asked, 5)
    known = [room_digest(room) for room in rooms[:4]]
    others = kind(data.train, known).sample(asked, 5)
    assert not {room_digest(room) for room in others} & set(known)
    assert [doors_of(room) for room in others] == [one.doors for one in asked]


def test_times_are_of_rooms_that_are_as_asked_and_new(data: Data) -> None:
    rows = times({"rejection": PinnedRejection(data.train, data.digests)}, data, 0)
    assert [row["together"] for row in rows] == [len(data.conditions), 20, 1]
    assert all(row["milliseconds_each"] > 0 and row["fulfilled"] == 1 for row in rows)
    (row, *_) = times({"chain": BASELINES["per-cell"](data.train)}, data, 0)
    assert row["fulfilled"] < 0.5


def test_rooms_are_asked_for_as_training_or_held_out_rooms_have_them(data: Data) -> None:
    of_test = prepare(load_corpus(None), ["4", "8"], ["2", "6"], repeats=False, number=60, seed=1, as_held_out=True)[0]
    for one, rooms in ((data, data.known), (of_test, data.dungeons)):
        possible = {(asked.doors, asked.stairs) for asked in map(RoomCondition.of, rooms)}
        assert {(asked.doors, asked.stairs) for asked in one.conditions} <= possible
    assert (of_test.train == data.train).all()
    assert data.digests == {room_digest(room) for room in data.known}


def test_rejection_ends(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rejection, "MOST", Rejection.AT_ONCE)
    no_doors = np.where(data.train == 9, WALL, data.train)
    with pytest.raises(RuntimeError, match="none fulfils"):
        Rejection(no_doors).sample(ASKED, 0)


def test_collapse_has_the_asked_doors_and_patterns_of_training(data: Data) -> None:
    generator = WaveFunctionCollapse(data.train[:60], 2)
    rooms = generator.sample(ASKED, 4)
    assert generator.failed == 0
    assert [doors_of(room) for room in rooms] == [asked.doors for asked in ASKED]

    def patterns(some: np.ndarray) -> set[bytes]:
        return {
            room[row : row + 2, column : column + 2].tobytes()
            for room in some
            for row in range(15)
            for column in range(10)
        }

    assert patterns(rooms) <= patterns(data.train[:60])


def test_collapse_counts_contradictions(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def contradicts(*_: object) -> None:
        raise Contradiction

    generator = WaveFunctionCollapse(data.train[:60], 2)
    monkeypatch.setattr(generator, "_propagate", contradicts)
    rooms = generator.sample(ASKED[:2], 4)
    assert generator.failed == 2
    assert (rooms[:, 2:14, 2:9] == 0).all()


def test_the_parts_of_a_comparison(data: Data) -> None:
    assert len(data.train) == 4 * len(data.known)
    known = {canonical(room) for room in data.known}
    assert not known & {canonical(room) for room in data.unseen}
    everything, parts = prepare(load_corpus(None), ["4", "8"], ["2", "6"], repeats=True, number=5, seed=1)
    assert len(everything.train) == len(everything.known) == 7 * 16
    assert len(everything.dungeons) == 2 * 16
    assert len(data.known) == len(parts.train)
    assert len(everything.conditions) == 5


def test_a_table_has_a_row_for_each_generator(data: Data) -> None:
    chosen = {name: BASELINES[name](data.train) for name in ("per-cell", "MdMC")}
    rows = compare(chosen, data, 0)
    assert [row["generator"] for row in rows][2:] == list(chosen)
    assert [row["raw"]["novel"] for row in rows[:1]] == [0]
    assert rows[1]["raw"]["divergence"] == {2: 0, 3: 0, 4: 0}
    for row in rows[2:]:
        assert row["repaired"]["valid"] == row["repaired"]["strict"] == row["repaired"]["doors_as_asked"] == 1
        assert row["raw"]["valid"] < 1
        assert row["tiles_changed"] > 0
    shown = io.StringIO()
    Console(width=250, file=shown).print(table("raw", "raw", rows), table("after repair", "repaired", rows))
    text = shown.getvalue()
    assert text.count("per-cell") == 2
    assert text.count("real training rooms") == 1
    assert f"{100 * rows[3]['raw']['valid']:.1f}" in text
