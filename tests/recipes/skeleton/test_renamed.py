"""A run that an earlier version began, whose journal, checkpoints and state have former names, goes on and is read as
one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import outlast
from outlast.cli import main
from outlast.recipe import registry
from outlast.recipe.prepare import Request, prepare, start
from outlast_recipes.common.selection import BestByValidation
from outlast_recipes.skeleton import recipe as skeleton
from tests.recipes import skeletons

SMALL = {**skeletons.TINY, "save_every": "1 epoch", "keep_last": "1", "keep_best": "1"}


def train(root: Path, store: Path, epochs: int, recipe: outlast.Recipe | None = None) -> None:
    flags = {**SMALL, "data_root": str(store), "checkpoint_dir": str(root), "epochs": str(epochs)}
    start(prepare(recipe or registry.find("skeleton"), Request(flags=flags)), progress="none")


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch):
    """Train as version 0.4 did: with its names in the journal, the manifests and the state of the choice."""
    former = {new: old for old, new in skeleton.RENAMED.items()}
    log, begin = outlast.Run.log, BestByValidation.__init__

    def log_former(run, metrics=None, /, **named) -> None:
        log(run, {former.get(name, name): value for name, value in {**(metrics or {}), **named}.items()})

    def begin_former(best, *words) -> None:
        begin(best, *words)
        best.load_state_dict({"epoch": 0, "accuracy": -1.0})

    def run(root: Path, store: Path, epochs: int) -> None:
        recipe = replace(registry.find("skeleton"), metric="val_accuracy", renamed={})
        with monkeypatch.context() as patch:
            patch.setattr(outlast.Run, "log", log_former)
            patch.setattr(BestByValidation, "__init__", begin_former)
            train(root, store, epochs, recipe)

    return run


def test_it_continues_exactly_and_its_best_is_found(
    tmp_path: Path, earlier, capsys: pytest.CaptureFixture[str]
) -> None:
    store = skeletons.store(tmp_path / "store").folder
    earlier(tmp_path, store, 2)
    lines = [json.loads(line) for line in (tmp_path / "skeleton/journal.jsonl").read_text().splitlines()]
    reached = {line["step"]: line["val_accuracy"] for line in lines if "val_accuracy" in line}
    assert outlast.open_saved("skeleton", root=tmp_path).part("choice").keys() == {"epoch", "accuracy"}
    assert main(["status", "skeleton", "--checkpoint-dir", str(tmp_path)]) == 0
    assert "val_accuracy" in capsys.readouterr().out

    train(tmp_path, store, 3)
    attempt = json.loads((tmp_path / "skeleton/attempts/0002.json").read_text())
    assert (attempt["resume"]["grade"], attempt["resume"]["differences"]) == ("exact", [])
    lines = [json.loads(line) for line in (tmp_path / "skeleton/journal.jsonl").read_text().splitlines()]
    reached |= {line["step"]: line["val_top1"] for line in lines if "val_top1" in line}
    assert sorted(reached) == [4, 8, 12]
    best = max(reached.values())
    found = outlast.open_saved("skeleton", root=tmp_path, step="best").step
    assert reached[found] == best
    choice = outlast.open_saved("skeleton", root=tmp_path).part("choice")
    assert (reached[4 * choice["epoch"]], choice["accuracy"]) == (best, best)
    assert main(["status", "skeleton", "--checkpoint-dir", str(tmp_path), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["val_top1"] == reached[12]
    assert "val_accuracy" not in metrics
