"""`outlast data get dungeon` and `outlast data check dungeon`."""

from __future__ import annotations

import hashlib
from argparse import ArgumentParser
from pathlib import Path

import pytest

import outlast
from outlast_recipes.common.downloading import File
from outlast_recipes.dungeon import command_get, public, synthetic
from outlast_recipes.dungeon.data_commands import COMMANDS
from tests import messages
from tests.conftest import REPOSITORY

DATA = REPOSITORY.parent / "shared/data/vglc"
real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/vglc is not beside this checkout")


def run(
    verb: str, *words: object, told: list[tuple[int, int]] | None = None, heard: list[str] | None = None
) -> list[str]:
    """The lines of a verb, and its progress in `told`. `heard` has the lines before an error."""
    command = next(command for command in COMMANDS if command.name == verb)
    parser = ArgumentParser()
    command.arguments(parser)
    progress = told if told is not None else []
    lines = heard if heard is not None else []
    for line in command.run(parser.parse_args([*map(str, words)]), lambda *each: progress.append(each)):
        lines.append(line)
    return lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synthetic.write(tmp_path)
    return tmp_path


def row(lines: list[str], name: str) -> list[str]:
    return next(line.split() for line in lines if line.startswith(name))


def test_a_corpus_is_counted(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    lines = run("data check", folder, told=told)
    assert row(lines, "synthetic1_1") == ["synthetic1_1", "16", "16", "16", "16"]
    assert row(lines, "all") == ["all", "144", "138", "144", "144"]
    for letter, name in (("W", "wall"), ("F", "floor"), ("S", "stair")):
        count = sum((folder / f"synthetic{number}_1.txt").read_text().count(letter) for number in range(1, 10))
        assert row(lines, f"  {letter} {name}")[-1] == f"{count:,}"
    assert told[-1] == (18, 18)
    messages.said(lines, "dungeon/checked", warnings=0)
    messages.said(lines, "dungeon/parts", train=77, validation=32, test=29)
    messages.said(lines, "dungeon/shared-rooms", rooms=32, shared=2)


def test_other_dungeons_can_be_named(folder: Path) -> None:
    lines = run("data check", folder, "--test", "1", "--validation", "2, 3")
    messages.said(lines, "dungeon/parts-of-others", train=93, validation=30, test=15)
    with messages.raises(outlast.DataError, "dungeon/check-no-dungeon", dungeon="'77'"):
        run("data check", folder, "--test", "77")


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    level, graph = folder / "synthetic1_1.txt", folder / "synthetic2_1.dot"
    level.write_text(level.read_text().replace("F", "x", 1))
    graph.write_text(graph.read_text().replace('"s"', '"z"'))
    lost = folder / "synthetic3_1.dot"
    lost.write_text(lost.read_text().replace('[label="k"]', '[label=""]').replace('[label="l"]', '[label="s"]'))
    lines: list[str] = []
    with messages.raises(outlast.DataError, "dungeon/check-errors", errors=2, warnings=1):
        run("data check", folder, heard=lines)
    messages.said(lines, "dungeon/check-letter", file="synthetic1_1.txt", letter="'x'")
    messages.said(lines, "dungeon/check-label", file="synthetic2_1.dot", label="'z'")
    messages.said(lines, "dungeon/check-unfinished", graph="synthetic3_1")


def test_a_room_that_is_not_valid_is_a_warning(folder: Path) -> None:
    path = folder / "synthetic1_1.txt"
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if "D" in line)
    lines[at] = lines[at].replace("D", "W", 1)
    path.write_text("\n".join(lines))
    messages.said(run("data check", folder), "dungeon/check-room", room="1 4", side="S")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "dungeon/check-no-folder", name="lost"):
        run("data check", tmp_path / "lost")


def test_the_files_are_fetched_from_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself is tested in tests/recipes/common/test_downloading.py."""
    given = []
    monkeypatch.setattr(command_get, "download", lambda *words: given.append(words) or 5)
    lines = run("data get", tmp_path / "zelda", "--from", "https://example.org/mirror")
    assert [words[:3] for words in given] == [("https://example.org/mirror", public.FILES, tmp_path / "zelda")]
    messages.said(lines, "dungeon/fetched", fetched=5, there=13)
    messages.said(lines, "dungeon/check-it")
    run("data get", tmp_path / "zelda")
    assert given[1][0] == public.ADDRESS


def test_the_list_of_files_is_complete() -> None:
    assert len(public.FILES) == len({file.path for file in public.FILES}) == len({file.sha256 for file in public.FILES})
    assert {file.path.partition("/")[0] for file in public.FILES} == {"Processed", "Graph Processed"}
    assert len(public.FILES) == 18


@real
def test_hashes_are_those_of_the_public_corpus() -> None:
    assert all(isinstance(file, File) for file in public.FILES)
    contents = [(DATA / file.path).read_bytes() for file in public.FILES]
    assert [(len(each), hashlib.sha256(each).hexdigest()) for each in contents] == [
        (file.size, file.sha256) for file in public.FILES
    ]


@real
def test_the_dirt_of_the_public_corpus_is_told() -> None:
    lines = run("data check", DATA)
    assert lines[-1] == f"{DATA}: no errors, 17 warnings."
    messages.said(lines, "dungeon/parts", train=97, validation=20, test=19)
    messages.said(lines, "dungeon/shared-rooms", rooms=45, shared=26)
