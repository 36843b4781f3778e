"""The game in the terminal follows the rules of the certificate, and the verbs say what they did."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

import outlast
from outlast_recipes.dungeon.commands import COMMANDS
from outlast_recipes.dungeon.dungeon import Dungeon, Thing, conditions
from outlast_recipes.dungeon.dungeon_file import to_json
from outlast_recipes.dungeon.embedding import Layout
from outlast_recipes.dungeon.game import Game
from outlast_recipes.dungeon.generate import generate
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.solver import solve
from outlast_recipes.dungeon.tiles import DOOR_SLOTS, STAIR
from tests import messages
from tests.recipes.dungeon.test_dungeon_mission import graph
from tests.recipes.dungeon.test_dungeon_solver import both

SIDES = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}


def walk(game: Game, row: int, column: int) -> list[str]:
    """Walk to a tile of this room; what was said on the way. The player does not leave the room."""
    tiles = game.dungeon.rooms[game.room]
    came = {(game.row, game.column): ""}
    queue = deque(came)
    while queue:
        place = queue.popleft()
        for side, (down, right) in SIDES.items():
            near = place[0] + down, place[1] + right
            if 0 <= near[0] < 16 and 0 <= near[1] < 11 and near not in came and tiles[near] in (1, 6, 8, 9):
                came[near] = came[place] + side
                queue.append(near)
    return [said for side in came[row, column] if (said := game.move(side))]


def do_everything(game: Game) -> list[str]:
    return [said for thing in list(game.left(game.room)) for said in walk(game, thing.row, thing.column)]


def leave(game: Game, target: str) -> str:
    """Go to another room; what was said there."""
    side = game.dungeon.layout.side(game.room, target)
    if frozenset((game.room, target)) in game.dungeon.layout.stairs:
        row, column = (int(each[0]) for each in (game.dungeon.rooms[game.room] == STAIR).nonzero())
        walk(game, row, column)
        return game.descend()
    walk(game, *DOOR_SLOTS[side][0])
    return game.move(side)


def one(mission: MissionGraph, cells: dict[str, tuple[int, int]], *stairs: str) -> Dungeon:
    """A dungeon of plain rooms; each thing has a tile of its own."""
    layout = Layout(cells, frozenset(frozenset(pair) for pair in stairs))
    rooms = PatternSampler().sample(list(conditions(mission, layout).values()), 0)
    for room in rooms:
        inside = room[2:14, 2:9]
        inside[inside != STAIR] = 1
    things = [
        Thing(name, label, 3 + number, 3)
        for name, labels in mission.nodes.items()
        for number, label in enumerate(sorted(labels))
    ]
    return Dungeon(mission, layout, dict(zip(mission.nodes, rooms, strict=True)), tuple(things), solve(mission))


def test_a_room_has_one_stair_at_most() -> None:
    """Otherwise nobody could say where one of its stairs leads."""
    mission = graph({"0": "s", "1": "t", "2": ""}, *both(("0", "1", ""), ("0", "2", "")))
    cells = {"0": (0, 0), "1": (0, 1), "2": (1, 0)}
    one(mission, cells, "01")
    with messages.raises(outlast.DataError, "dungeon/two-stairs", room=0):
        one(mission, cells, "01", "02")


@pytest.mark.parametrize("seed", range(6))
def test_the_certificate_can_be_played(seed) -> None:
    made = generate(PatternSampler(), 16, 3, seed)
    game = Game(made)
    do_everything(game)
    for step in made.certificate:
        assert game.room == step.source
        keys = game.inventory()
        said = leave(game, step.target)
        assert game.room == step.target, said
        assert messages.is_said(said.split(". ")[0] + ".", "dungeon/a-key-opens") == step.key, (keys, said)
        do_everything(game)
    assert not game.won
    goal = next(thing for thing in made.things if thing.label == "t")
    walk(game, goal.row, goal.column)
    assert game.won
    assert game.steps == len(made.certificate)


@pytest.mark.parametrize(
    ("label", "gives", "message"),
    [
        ("k", "k", "dungeon/locked-by-a-key"),
        ("K", "K", "dungeon/locked-by-the-boss-key"),
        ("I", "I", "dungeon/locked-by-the-item"),
        ("S", "S", "dungeon/locked-by-a-switch"),
        ("b", "i", "dungeon/wall-to-be-bombed"),
    ],
)
def test_a_lock_opens_for_what_it_asks_for(label, gives, message) -> None:
    mission = graph({"0": "s", "1": gives, "2": "t"}, *both(("0", "1", ""), ("0", "2", label)), bombs=False)
    game = Game(one(mission, {"0": (0, 1), "1": (0, 0), "2": (0, 2)}))
    messages.said(leave(game, "2"), message)
    assert game.room == "0"
    leave(game, "1")
    messages.said(leave(game, "0"), "dungeon/in-a-room", room=0)  # the thing is not taken yet
    messages.said(leave(game, "2"), message)
    leave(game, "1")
    do_everything(game)
    leave(game, "0")
    said = leave(game, "2")
    assert game.room == "2"
    if label == "k":
        messages.said(said.split(". ")[0] + ".", "dungeon/a-key-opens")
    assert game.inventory().startswith("0 small keys"), "the key is spent"


def test_a_shutter_opens_when_everything_is_done() -> None:
    mission = graph({"0": "s", "1": "ep", "2": "t"}, *both(("0", "1", "")), ("1", "2", "l"), ("2", "1", ""))
    game = Game(one(mission, {"0": (0, 0), "1": (0, 1), "2": (0, 2)}))
    leave(game, "1")
    messages.said(leave(game, "2"), "dungeon/shutter-closed")
    assert "=" in game.view()[8]
    done = do_everything(game)
    messages.said(done, "dungeon/monster-defeated")
    messages.said(done, "dungeon/puzzle-done")
    assert "=" not in game.view()[8]
    leave(game, "2")
    assert game.room == "2"


def test_a_passage_without_a_way_back_and_stairs() -> None:
    mission = graph({"0": "s", "1": "", "2": "t"}, ("0", "1", ""), *both(("1", "2", "")))
    game = Game(one(mission, {"0": (0, 0), "1": (0, 1), "2": (3, 3)}, "12"))
    messages.said(game.descend(), "dungeon/no-stairs-here")
    leave(game, "1")
    messages.said(leave(game, "0"), "dungeon/no-way-back")
    messages.said(leave(game, "2"), "dungeon/in-a-room", room=2)
    assert game.around()[3].endswith("@")
    assert game.around()[0].startswith("# #")


def test_walls_stop_and_signs_show() -> None:
    made = generate(PatternSampler(), 12, 2, 1)
    game = Game(made)
    assert sum(line.count("@") for line in game.view()) == 1
    for _ in range(20):
        game.move("N")
    assert game.dungeon.rooms[game.room][game.row, game.column] in (1, 6, 8, 9)
    labels = {thing.label for thing in made.things if thing.room == "2"}
    game.room = "2"
    assert labels == {"t"}
    assert any("*" in line for line in game.view())


def verb(name: str, *words: object) -> list[str]:
    command = next(each for each in COMMANDS if each.name == name)
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    nothing: Callable[[int, int], None] = lambda done, total: None  # noqa: E731
    return list(command.run(parser.parse_args([str(word) for word in words]), nothing))


def test_generate_writes_a_dungeon_with_its_proof(tmp_path) -> None:
    folder = tmp_path / "out"
    told = verb("generate", "--rooms", 12, "--keys", 2, "--seed", 7, "-o", folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "certificate.txt", "dungeon.json", "graph.dot", "level.txt", "map.png",
    ]  # fmt: skip
    record = json.loads((folder / "dungeon.json").read_text())
    assert record["about"]["seed"] == 7
    steps = len(record["certificate"])
    messages.said(told, "dungeon/can-be-finished", steps=steps, keys=2, tiles=0)
    assert (folder / "certificate.txt").read_text().count("\n") == steps + 1
    assert verb("play", folder / "dungeon.json", "--solution") == (folder / "certificate.txt").read_text().splitlines()
    again = verb("generate", "--rooms", 12, "--keys", 2, "--seed", 7, "--tension", 0, "-o", folder, "--replace")
    assert again[1] != told[1] or json.loads((folder / "dungeon.json").read_text()) != record


def test_generate_without_a_folder_uses_the_seed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    verb("generate", "--rooms", 5, "--keys", 1, "--seed", 3)
    assert (tmp_path / "dungeon-3" / "dungeon.json").is_file()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path) -> None:
    (tmp_path / "map.png").mkdir()
    with messages.raises(outlast.DataError, "dungeon/a-folder-of-that-name"):
        verb("generate", "--rooms", 5, "--keys", 1, "-o", tmp_path)
    assert not (tmp_path / "dungeon.json").exists(), "not finished"
    assert not list(tmp_path.glob(".*"))


def test_play_reads_letters(tmp_path, monkeypatch) -> None:
    mission = graph({"0": "s", "1": "t"}, *both(("0", "1", "")))
    path = tmp_path / "dungeon.json"
    path.write_text(to_json(one(mission, {"0": (0, 0), "1": (0, 1)})))
    monkeypatch.setattr(sys, "stdin", io.StringIO("s\ns s\nm\n?!?x\nsddddddd\nddwwwww\n"))
    told = verb("play", path)
    assert told.count("@ .") == 1
    messages.said(told, "dungeon/no-stairs-here")
    messages.said(told, "dungeon/letters")
    assert sum("Type letters" in each for each in told) == 2, "at the beginning, and once for the line with ?"
    messages.said(told[-1], "dungeon/finished", steps=1)


def test_play_can_be_left(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "dungeon.json"
    path.write_text(to_json(generate(PatternSampler(), 4, 0, 0)))
    monkeypatch.setattr(sys, "stdin", io.StringIO("q\n"))
    messages.said(verb("play", path)[-1], "dungeon/left")
