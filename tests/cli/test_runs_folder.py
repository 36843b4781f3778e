"""The folder that holds the run folders: of --checkpoint-dir (or --root), of OUTLAST_ROOT, or runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import messages
from tests.cli.things import Thing

import outlast
from outlast.cli import main
from outlast.errors import UsageError
from outlast.recipe import registry
from outlast.recipe.prepare import Request, prepare


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one run that is not ./runs."""
    root = tmp_path / "scratch"
    with outlast.open_run("mine", root=root, total_steps=2, save="1 steps", progress="none") as run:
        run.track(s=Thing())
        for _ in run.steps():
            run.log(loss=1.0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


READERS = [
    ("runs",), ("status", "mine"), ("checkpoints", "mine"), ("verify", "mine"), ("report", "mine", "--md"),
    ("archive", "mine", "-o", "a.zip"),
]  # fmt: skip


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
def test_a_variable_names_it_for_every_verb(elsewhere: Path, words: tuple[str, ...], monkeypatch, capsys) -> None:
    assert main([*words, "--root", str(elsewhere)]) == 0
    by_flag = capsys.readouterr().out
    monkeypatch.setenv("OUTLAST_ROOT", str(elsewhere))
    Path("a.zip").unlink(missing_ok=True)
    assert main([*words]) == 0
    assert len(by_flag) > 30
    assert capsys.readouterr().out.replace(str(elsewhere) + "/", "") == by_flag.replace(str(elsewhere) + "/", "")


def test_a_flag_wins_over_the_variable(elsewhere: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OUTLAST_ROOT", "nowhere")
    assert main(["runs", "--checkpoint-dir", str(elsewhere)]) == 0
    assert "mine" in capsys.readouterr().out
    assert main(["runs"]) == 0
    messages.said(capsys.readouterr().out, "cli/runs-none", root="nowhere")


def test_recipes_train_there_too(elsewhere: Path, monkeypatch, tmp_path: Path) -> None:
    digits = registry.find("digits")
    monkeypatch.setenv("OUTLAST_ROOT", str(elsewhere))
    found = prepare(digits, Request())
    assert found.folder.path == elsewhere / "digits"
    assert str(found.resolved.origins["checkpoint_dir"]) == "environment OUTLAST_ROOT"
    assert prepare(digits, Request(flags={"checkpoint_dir": "other"})).folder.path == Path("other/digits")
    file = tmp_path / "train.yaml"
    file.write_text("checkpoint_dir: of-the-file\n")
    assert prepare(digits, Request(train_config=file)).folder.path == Path("of-the-file/digits")
    monkeypatch.setenv("OUTLAST_ROOT", "")
    assert prepare(digits, Request()).folder.path == Path("runs/digits")


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_board_needs_a_folder(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "a file":
        root.write_text("x")
    found = "is no folder" if kind == "a file" else "does not exist"
    with messages.raises(UsageError, "cli/board-of-no-folder", root=str(root), found=found):
        from outlast.cli.board import run

        run(["--root", str(root)])


def test_a_port_that_is_no_number() -> None:
    from outlast.cli.board import run

    with messages.raises(UsageError, "cli/board-port"):
        run(["--port", "abc"])
