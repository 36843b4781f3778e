"""The corpus, real and synthetic: rooms that are equal, and the parts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import outlast
from outlast_recipes.dungeon import synthetic
from outlast_recipes.dungeon.corpus import (
    HELD_OUT,
    VALIDATION,
    Corpus,
    canonical,
    distinct,
    dungeon_of,
    load_corpus,
    room_digest,
    split,
    stack,
)
from outlast_recipes.dungeon.reading import Level, LevelRoom
from outlast_recipes.dungeon.solver import solve
from outlast_recipes.dungeon.tiles import OPPOSITE, doors_of, mirror
from outlast_recipes.dungeon.validity import is_valid
from tests import messages
from tests.conftest import REPOSITORY
from tests.recipes.dungeon.brute import everything

DATA = REPOSITORY.parent / "shared/data/vglc"
real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/vglc is not beside this checkout")


@pytest.fixture(scope="module")
def own() -> Corpus:
    return load_corpus(None)


def corpus_of(*dungeons: list[np.ndarray]) -> Corpus:
    """Levels d1_1, d2_1 ... with these rooms."""
    levels = {}
    for number, rooms in enumerate(dungeons, 1):
        name = f"d{number}_1"
        levels[name] = Level(name, tuple(LevelRoom(name, 0, at, tiles) for at, tiles in enumerate(rooms)))
    return Corpus("test", levels, {})


def some_rooms(number: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(1, 4, (number, 16, 11), np.uint8))


def test_a_room_and_its_mirror_images_have_one_key() -> None:
    one, other = some_rooms(2)
    images = [one, mirror(one, 0), mirror(one, 1), mirror(mirror(one, 0), 1)]
    assert len({canonical(image) for image in images}) == 1
    assert canonical(one) != canonical(other)
    assert len({room_digest(image) for image in images}) == 1
    assert room_digest(one) != room_digest(other)
    assert re.fullmatch("[0-9a-f]{16}", room_digest(one))
    turned = one.copy()
    turned[:11] = one[:11].T
    assert canonical(turned) != canonical(one), "a rotation is another room"


def test_no_part_has_a_room_of_another_or_its_mirror_image() -> None:
    a, b, c, d, e = some_rooms(5)
    corpus = corpus_of([a, b, mirror(a, 0)], [mirror(b, 1), c, d], [mirror(mirror(c, 0), 1), a, e, e])
    parts = split(corpus, held_out=["3"], validation=["2"])
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [room.place for room in parts.train] == ["d1_1, room 0 0", "d1_1, room 0 1"]
    assert [room.place for room in parts.validation] == ["d2_1, room 0 1", "d2_1, room 0 2"]
    assert [room.place for room in parts.test] == ["d3_1, room 0 2"]
    assert len(corpus.of(["3"])) == 4, "what a dungeon has, it keeps"


def test_quests_of_a_number_are_one_dungeon() -> None:
    assert [dungeon_of(name) for name in ("tloz4_1", "tloz4_2", "tloz12_1", "cave")] == ["4", "4", "12", "cave"]


@pytest.mark.parametrize(
    ("held_out", "validation", "message"),
    [
        (["3"], ["9"], messages.says("dungeon/no-such-dungeon", dungeon="'9'", dungeons="1, 2, 3")),
        (["3"], ["3"], messages.says("dungeon/dungeon-named-twice", dungeon="'3'", dungeons="1, 2, 3")),
        (["2"], ["3"], messages.says("dungeon/part-without-rooms", part="test", dungeons="2")),
        (["2"], ["1", "3"], messages.says("dungeon/part-without-training", dungeons="(none)")),
    ],
)
def test_parts_that_cannot_be_made_are_refused(
    held_out: list[str], validation: list[str], message: messages.Message
) -> None:
    a, b = some_rooms(2)
    corpus = corpus_of([a], [mirror(a, 0)], [b]) if len(validation) == 1 else corpus_of([a], [b], [a])
    with messages.raises(outlast.DataError, message):
        split(corpus, held_out, validation)


def test_a_folder_without_levels_is_refused(tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "dungeon/no-files", ending=".txt"):
        load_corpus(tmp_path)
    (tmp_path / "README.txt").write_text("no level")
    with messages.raises(outlast.DataError, "dungeon/no-files", ending=".txt"):
        load_corpus(tmp_path)


def test_folders_as_the_public_corpus_has_them(tmp_path: Path) -> None:
    synthetic.write(tmp_path)
    flat = load_corpus(tmp_path)
    for inner, ending in (("Processed", "txt"), ("Graph Processed", "dot")):
        (tmp_path / inner).mkdir()
        for path in tmp_path.glob(f"*.{ending}"):
            path.rename(tmp_path / inner / path.name)
    assert (stack(load_corpus(tmp_path).rooms) == stack(flat.rooms)).all()
    assert not flat.synthetic


def test_the_synthetic_corpus_is_named_so_and_always_the_same(own: Corpus) -> None:
    assert (own.name, own.synthetic, own.notes) == ("synthetic", True, ())
    assert len(own.rooms) == synthetic.DUNGEONS * synthetic.ROOMS
    assert (stack(load_corpus(None).rooms) == stack(own.rooms)).all()
    assert own.graphs == load_corpus(None).graphs


def test_synthetic_rooms_are_valid_and_mostly_different(own: Corpus) -> None:
    assert all(is_valid(room.tiles) and is_valid(room.tiles, strict=True) for room in own.rooms)
    assert len(distinct(own.rooms)) > 0.9 * len(own.rooms)
    assert {len(doors_of(room.tiles)) for room in own.rooms} == {1, 2, 3, 4}
    assert set(np.unique(stack(own.rooms))) == set(range(10)), "every tile occurs"


def test_synthetic_doors_lead_to_doors(own: Corpus) -> None:
    for level in own.levels.values():
        for room in level.rooms:
            beside = level.neighbours(room)
            for side in doors_of(room.tiles):
                assert OPPOSITE[side] in doors_of(beside[side])


def test_synthetic_missions_can_be_finished(own: Corpus) -> None:
    for graph in own.graphs.values():
        assert len(graph.nodes) == synthetic.ROOMS
        assert solve(graph) is not None
        keys = sum("k" in labels for labels in graph.nodes.values())
        assert keys == sum("k" in labels for labels in graph.pairs.values()) == 3


def test_a_synthetic_lock_needs_a_key(own: Corpus) -> None:
    """Without any key, the goal of at least one mission is out of reach; found by trying everything."""
    closed = 0
    for graph in own.graphs.values():
        nodes = {room: labels - {"k"} for room, labels in graph.nodes.items()}
        closed += not everything(type(graph)(nodes, graph.edges))[0]
    assert closed > 0


def test_every_part_of_the_synthetic_corpus_has_rooms(own: Corpus) -> None:
    parts = split(own)
    assert min(map(len, parts)) > 20
    keys = [canonical(room.tiles) for part in parts for room in part]
    assert len(keys) == len(set(keys))


@real
def test_the_public_corpus() -> None:
    corpus = load_corpus(DATA)
    assert (len(corpus.levels), len(corpus.graphs), corpus.synthetic) == (9, 9, False)
    assert len(corpus.rooms) == 236
    assert len({room.tiles.tobytes() for room in corpus.rooms}) == 165
    assert len(distinct(corpus.rooms)) == 136
    parts = split(corpus)
    assert {dungeon_of(room.level) for room in parts.test} == set(HELD_OUT)
    assert {dungeon_of(room.level) for room in parts.validation} == set(VALIDATION)
    assert [len(part) for part in parts] == [97, 20, 19]


@real
def test_the_public_graphs_with_their_dirt() -> None:
    corpus = load_corpus(DATA)
    assert corpus.graphs["LoZ_5"].nodes["17"] == {"e", "k"}, "its label runs over the line"
    assert corpus.graphs["LoZ_3"].nodes["17"] == {"e", "i"}, "its label lacks a comma"
    assert corpus.graphs["LoZ_3"].goals == ("11", "16")
    assert [len(graph.nodes) for graph in corpus.graphs.values()] == [19, 19, 20, 27, 25, 27, 35, 28, 62]
    assert len(corpus.notes) == 17
    assert all(solve(graph) is not None for graph in corpus.graphs.values())
