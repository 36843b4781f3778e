"""Generated dungeons: as asked for, the same for the same seed, and finished by a search that shares no code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import outlast
from outlast_recipes.dungeon import grammar
from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.dungeon import Dungeon, Thing, conditions, graph_text, level_text
from outlast_recipes.dungeon.dungeon_file import read_dungeon, to_json
from outlast_recipes.dungeon.embedding import Layout, embed
from outlast_recipes.dungeon.generate import generate
from outlast_recipes.dungeon.grammar import grow, most_keys
from outlast_recipes.dungeon.map_picture import map_image
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.solver import can_get_stuck, keys_that_matter, locks_that_matter, solve
from outlast_recipes.dungeon.tiles import TILES, doors_of
from tests import messages
from tests.recipes.dungeon import brute


def share(seeds: range, tension: float, labels: str) -> float:
    graphs = [grow(20, 3, tension, seed) for seed in seeds]
    return float(np.mean([any(label in labels for label in has) for graph in graphs for has in graph.nodes.values()]))


@pytest.mark.parametrize(("rooms", "keys"), [(4, 0), (5, 1), (12, 4), (20, 3), (30, 8)])
def test_missions_are_as_asked_for_and_nobody_gets_stuck(rooms, keys) -> None:
    matter = locks = 0
    for seed in range(50):
        graph = grow(rooms, keys, 0.6, seed)
        assert len(graph.nodes) == rooms
        assert len(graph.having("k")) == sum("k" in labels for labels in graph.pairs.values()) == keys
        assert solve(graph) is not None
        assert not can_get_stuck(graph)
        assert keys_that_matter(graph) == (keys, keys)
        found = locks_that_matter(graph)
        matter, locks = matter + found[0], locks + found[1]
    assert matter >= 0.6 * locks


def test_keys_on_the_way_make_missions_shorter(monkeypatch) -> None:
    steps = {}
    for share in (0.0, grammar.ON_THE_WAY, 1.0):
        monkeypatch.setattr(grammar, "ON_THE_WAY", share)
        steps[share] = np.mean([len(solve(grow(25, 5, 0.6, seed)) or ()) for seed in range(20)])
    none, usual, all_ = steps.values()
    assert all_ < none - 2
    assert usual < none


def test_tension_is_the_share_of_monsters() -> None:
    calm, usual, tense = (share(range(12), tension, "em") for tension in (0, 0.6, 1))
    assert calm < usual - 0.1 < tense - 0.2
    assert share(range(12), 0, "m") == 0 < share(range(12), 1, "m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((3, 0, 0.5, 0), messages.says("dungeon/number-of-rooms", rooms=3)),
        ((61, 0, 0.5, 0), messages.says("dungeon/number-of-rooms", rooms=61)),
        ((10, 4, 0.5, 0), messages.says("dungeon/number-of-keys", keys=4, most=most_keys(10), rooms=10)),
        ((10, -1, 0.5, 0), messages.says("dungeon/number-of-keys", keys=-1, most=most_keys(10), rooms=10)),
        ((10, 1, 1.5, 0), messages.says("dungeon/tension", tension=1.5)),
    ],
)
def test_numbers_out_of_range_are_refused(values, message) -> None:
    with messages.raises(outlast.ConfigError, message):
        grow(*values)


def test_rooms_with_a_passage_are_beside_each_other_or_have_stairs() -> None:
    stairs = 0
    for seed in range(40):
        graph = grow(16, 2, 0.6, seed)
        layout = embed(graph, seed)
        if layout is None:
            continue
        assert len(set(layout.cells.values())) == 16
        for one, other in map(sorted, graph.pairs):
            (row, column), (there, across) = layout.cells[one], layout.cells[other]
            beside = abs(row - there) + abs(column - across) == 1
            assert beside or frozenset((one, other)) in layout.stairs
        stairs += len(layout.stairs)
    assert stairs > 0


def test_dungeons_are_finished_by_walking_and_not_without_one_of_their_keys() -> None:
    for seed in range(12):
        made = json.loads(to_json(generate(PatternSampler(), 14, 3, seed)))
        assert brute.tiles_can_be_finished(made)
        key = next(thing for thing in made["things"] if thing["label"] == "k")
        made["things"].remove(key)
        assert not brute.tiles_can_be_finished(made)


class Noise:
    """The worst sampler: any tiles."""

    def sample(self, asked: list[RoomCondition], seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, len(TILES), (len(asked), 16, 11)).astype(np.uint8)


def test_rooms_of_any_sampler_are_repaired_and_the_repairs_are_counted() -> None:
    made = generate(Noise(), 10, 2, 3)
    drawn = Noise().sample(list(made.rooms), 3)
    assert made.about["repaired_tiles"] == sum(
        int((room != before).sum()) for room, before in zip(made.rooms.values(), drawn, strict=True)
    )
    assert brute.tiles_can_be_finished(json.loads(to_json(made)))
    for name, asked in conditions(made.graph, made.layout).items():
        assert doors_of(made.rooms[name]) == asked.doors


def test_patterns_need_no_repair_and_differ() -> None:
    asked = [RoomCondition(frozenset("NS")), RoomCondition(stairs=True), *[RoomCondition(frozenset("E"))] * 30]
    rooms = PatternSampler().sample(asked, 0)
    assert len({room.tobytes() for room in rooms[2:]}) > 10
    assert generate(PatternSampler(), 20, 3, 1).about["repaired_tiles"] == 0


def test_the_same_seed_is_the_same_dungeon_in_every_process(tmp_path) -> None:
    program = (
        "from outlast_recipes.dungeon.generate import generate; from outlast_recipes.dungeon.patterns import *; "
        "from outlast_recipes.dungeon.dungeon_file import to_json; print(to_json(generate(PatternSampler(), 20, 3, 7)))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert texts[0] != to_json(generate(PatternSampler(), 20, 3, 8)) + "\n"


def test_tiles_and_graph_are_written_as_the_corpus_writes_them() -> None:
    made = generate(PatternSampler(), 8, 1, 0)
    lines = level_text(made).splitlines()
    rows, columns = made.layout.size
    assert (len(lines), {len(line) for line in lines}) == (16 * rows, {11 * columns})
    row, column = made.layout.cells["0"]
    assert lines[16 * row][11 * column : 11 * column + 11] == "W" * 11
    text = graph_text(made.graph)
    assert text.startswith('digraph {\n0 [label="s"]\n1 [label="b"]\n2 [label="t"]\n')
    assert text.count("->") == len(made.graph.edges)


def test_the_map_shows_every_room() -> None:
    made = generate(PatternSampler(), 12, 2, 5)
    picture = np.asarray(map_image(made))
    for row, column in made.layout.cells.values():
        room = picture[44 + row * 256 : 44 + row * 256 + 256, 24 + column * 176 : 24 + column * 176 + 176]
        assert len(np.unique(room.reshape(-1, 3), axis=0)) > 5
    empty = {(row, column) for row in range(made.layout.size[0]) for column in range(made.layout.size[1])}
    for row, column in empty - set(made.layout.cells.values()):
        inside = picture[44 + row * 256 + 20 : 44 + row * 256 + 236, 24 + column * 176 + 20 : 24 + column * 176 + 156]
        assert (inside == picture[0, 0]).all()


def changed(tmp_path: Path, change) -> Path:
    record = json.loads(to_json(generate(PatternSampler(), 8, 1, 4)))
    change(record)
    path = tmp_path / "dungeon.json"
    path.write_text(json.dumps(record))
    return path


def test_a_file_comes_back_as_it_was(tmp_path) -> None:
    made = generate(PatternSampler(), 8, 1, 4)
    read = read_dungeon(changed(tmp_path, lambda record: None))
    assert to_json(read) == to_json(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("certificate"), messages.says("dungeon/file-lacks", field="certificate")),
        (lambda record: record.update(format=2), messages.says("dungeon/file-format")),
        (lambda record: record.update(certificate=[]), messages.says("dungeon/file-unfinished")),
        (lambda record: record["rooms"]["0"].update(cell=[0, 99999]), messages.says("dungeon/file-cell")),
        (lambda record: record["rooms"]["0"]["tiles"].pop(), messages.says("dungeon/file-short-room")),
        (
            lambda record: record["rooms"]["0"].update(tiles=["W" * 11] * 16),
            messages.says("dungeon/file-without-doors", doors="N"),
        ),
        (
            lambda record: [record["things"].remove(each) for each in record["things"] if each["label"] == "t"],
            messages.says("dungeon/file-without-a-thing", room=2),
        ),
        (
            lambda record: record["things"][0].update(row=0, column=0),
            messages.says("dungeon/file-thing-in-the-wall"),
        ),
        (
            lambda record: record["rooms"]["1"].update(cell=record["rooms"]["0"]["cell"]),
            messages.says("dungeon/file-two-in-one-place"),
        ),
        (
            lambda record: record["rooms"]["1"].update(cell=[150, 150]),
            messages.says("dungeon/file-apart", one=1, other=2),
        ),
        (
            lambda record: [each.update(stairs=True) for each in record["passages"]],
            messages.says("dungeon/file-stairs-and-door", doors="N"),
        ),
    ],
)
def test_a_file_that_lies_is_refused(tmp_path, change, message) -> None:
    with messages.raises(outlast.DataError, message):
        read_dungeon(changed(tmp_path, change))


def test_files_that_are_no_dungeons_are_refused(tmp_path) -> None:
    path = tmp_path / "dungeon.json"
    with messages.raises(outlast.DataError, "dungeon/file-is-missing"):
        read_dungeon(path)
    path.write_bytes(b" " * 2_000_001)
    with messages.raises(outlast.DataError, "dungeon/file-too-long"):
        read_dungeon(path)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(outlast.DataError, match=r"dungeon\.json is no dungeon: the text: Invalid JSON"):
        read_dungeon(path)


def test_rooms_of_another_mission_are_refused() -> None:
    made = generate(PatternSampler(), 8, 1, 4)
    with messages.raises(outlast.DataError, "dungeon/other-rooms"):
        Dungeon(made.graph, made.layout, {"0": made.rooms["0"]}, made.things, made.certificate)
    with messages.raises(outlast.DataError, "dungeon/other-rooms"):
        Dungeon(made.graph, Layout({}, frozenset()), made.rooms, made.things, made.certificate)
    with messages.raises(outlast.DataError, "dungeon/thing-of-no-label", room=0):
        Dungeon(made.graph, made.layout, made.rooms, (*made.things, Thing("0", "k", 8, 5)), made.certificate)


def test_the_picture_is_a_png(tmp_path) -> None:
    from outlast_recipes.dungeon.map_picture import draw_map

    draw_map(generate(PatternSampler(), 4, 0, 0), tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 980
