"""The dungeon's verbs as they are typed: files of another dungeon stay, seeds are numbers, a chain has one corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outlast.cli import main

SHORT = ("--debug", "--epochs", "1", "--samples", "2", "--device", "cpu")
FILES = ("level.txt", "graph.dot", "certificate.txt", "map.png", "dungeon.json")


def generated(*more: str) -> int:
    return main(["generate", "dungeon", "--rooms", "6", "--keys", "1", *more])


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_files_of_another_dungeon_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert generated("--seed", "7") == 0
    before = everything(Path("dungeon-7"))
    assert set(before) == set(FILES)
    assert generated("--seed", "7") == 0, "the same dungeon again"
    assert generated("--seed", "8", "-o", "dungeon-7") == 1
    assert "is there, and not of this dungeon. Nothing was written." in capsys.readouterr().err
    assert everything(Path("dungeon-7")) == before
    assert generated("--seed", "8", "-o", "dungeon-7", "--replace") == 0
    assert generated("--seed", "8", "-o", "other") == 0
    assert everything(Path("dungeon-7")) == everything(Path("other"))


def test_an_impossible_ask_is_an_error_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for ask in (("--rooms", "3"), ("--keys", "9"), ("--tension", "1.5")):
        assert generated(*ask) == 2
        assert f"{ask[0][2:]} is {ask[1]}; expected" in capsys.readouterr().err
    assert not Path("dungeon-0").exists()


def test_numbers_have_their_nouns(capsys: pytest.CaptureFixture[str]) -> None:
    assert generated("--seed", "7") == 0
    said = capsys.readouterr().out
    assert "6 rooms, 1 small key, 2 locks (1 of which cannot be avoided), in " in said
    assert " steps, 1 key spent (certificate.txt)." in said


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_user_is_not_overwritten(name: str) -> None:
    Path("mine").mkdir()
    Path("mine", name).write_text("mine")
    assert generated("-o", "mine") == 1
    assert everything(Path("mine")) == {name: b"mine"}


@pytest.mark.parametrize("name", FILES)
def test_all_files_or_none_where_one_cannot_be_written(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert generated("--seed", "5", "-o", "q") == 0
    Path("q", name).unlink()
    Path("q", name).mkdir()
    before = everything(Path("q"))
    assert generated("--seed", "6", "-o", "q", "--replace") == 1
    assert "is a folder. Nothing was written." in capsys.readouterr().err
    assert everything(Path("q")) == before


@pytest.mark.parametrize("verb", ["generate", "evaluate"])
@pytest.mark.parametrize("seed", ["-5", "x", str(2**63), "9" * 30])
def test_a_seed_that_is_none_is_a_usage_error(verb: str, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["nobody"] if verb == "evaluate" else []
    assert main([verb, "dungeon", *own, f"--seed={seed}"]) == 2
    assert f"--seed: is {seed!r}; expected a whole number from 0 to 2**63 - 1" in capsys.readouterr().err


def test_the_help_shows_dungeons_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "dungeon", "--help"])
    assert "(default: 4,8)" in " ".join(capsys.readouterr().out.split())


def test_a_chain_has_one_corpus_and_one_split(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "dungeon", "--stage", "vqvae", "--held-out", "1,3", *SHORT]) == 0
    assert main(["train", "dungeon", "--stage", "diffusion", "--held-out", "4,8", *SHORT]) == 1
    assert "dungeon.vqvae was trained on other rooms" in capsys.readouterr().err
    assert main(["train", "dungeon", "--stage", "joint"]) == 2
    assert "Finish it first: outlast train dungeon --stage diffusion" in capsys.readouterr().err


def test_a_stage_that_was_not_begun_has_the_corpus_of_the_chain() -> None:
    assert main(["train", "dungeon", "--stage", "vqvae", "--held-out", "1,3", "--seed", "5", *SHORT]) == 0
    assert main(["train", "dungeon", "--stage", "diffusion"]) == 0
    values = json.loads(Path("runs/dungeon.diffusion/config.json").read_text())["values"]
    assert (values["held_out"], values["seed"], values["debug"], values["epochs"]) == (["1", "3"], 5, True, 1)
