"""What is made from a saved run is an artifact: whole, with a manifest, or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import messages

import outlast
from outlast.errors import UsageError
from outlast.folder.artifact import manifest_of, verify_artifact
from outlast.folder.layout import RunFolder
from outlast.recipe.lookup import step_of


@pytest.fixture
def saved(tmp_path: Path) -> outlast.SavedCheckpoint:
    with outlast.open_run("r", total_steps=2, root=tmp_path / "runs", progress="none") as run:
        state = run.restore({"w": np.zeros(2)})
        for _ in run.steps():
            run.offer(state)
    return outlast.open_saved("r", root=tmp_path / "runs")


def test_of_the_run(saved: outlast.SavedCheckpoint) -> None:
    for text in ("first", "second"):
        with saved.artifact("table") as folder:
            (folder / f"{text}.md").write_text(text)
            assert not (saved.folder / "artifacts/table" / f"{text}.md").exists()
    artifact = saved.folder / "artifacts/table"
    assert [each.name for each in artifact.iterdir()] == ["second.md"]
    record = verify_artifact(manifest_of(artifact))
    assert (record["run_id"], record["step"], record["part"]) == ("r", 2, "state")
    assert record["checkpoint"] == saved.digest
    assert list(record["files"]) == ["table/second.md"]


def test_an_error_leaves_the_earlier_one(saved: outlast.SavedCheckpoint) -> None:
    with saved.artifact("table") as folder:
        (folder / "a").write_text("good")
    with pytest.raises(ZeroDivisionError), saved.artifact("table") as folder:
        (folder / "a").write_text("half")
        1 / 0  # noqa: B018
    artifact = saved.folder / "artifacts/table"
    assert verify_artifact(manifest_of(artifact))["files"]["table/a"]["size"] == 4
    assert (artifact / "a").read_text() == "good"
    assert sorted(each.name for each in artifact.parent.iterdir()) == ["table", "table.manifest.json"]


def test_in_a_folder_of_the_user(saved: outlast.SavedCheckpoint, tmp_path: Path) -> None:
    mine = tmp_path / "mine/deeper"
    mine.mkdir(parents=True)
    (mine / "notes").write_text("mine")
    (mine / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), saved.artifact("table", to=mine) as folder:
        (folder / "a").write_text("half")
        1 / 0  # noqa: B018
    assert (mine / "a").read_text() == "old"
    refused = messages.raises(
        UsageError, "recipe/not-outlasts-own", file=mine / "a", manifest="a.manifest.json", count=2
    )
    with refused, saved.artifact("table", to=mine) as folder:
        (folder / "_first").write_text("new")
        (folder / "a").write_text("new")
    assert {each.name: each.read_text() for each in mine.iterdir()} == {"a": "old", "notes": "mine"}
    (mine / "a").unlink()
    for text in ("older", "new"):  # its own are replaced
        with saved.artifact("table", to=mine) as folder:
            (folder / "a").write_text(text)
    assert verify_artifact(mine / "a.manifest.json")["files"]["a"]["size"] == 3
    assert {each.name: each.read_text() for each in mine.iterdir() if each.name != "a.manifest.json"} == {
        "a": "new",
        "notes": "mine",
    }


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_name_that_leaves_the_folder_is_refused(saved: outlast.SavedCheckpoint, name: str) -> None:
    with messages.raises(UsageError, "recipe/cannot-name-an-artifact", name=repr(name)), saved.artifact(name):
        pass


def test_the_best_is_chosen_as_the_run_was_told_and_not_as_its_recipe_says_today(tmp_path: Path) -> None:
    keep = outlast.Retention(last=1, best=1, metric="loss", mode="min")
    with outlast.open_run("best", total_steps=3, root=tmp_path, save="1 step", keep=keep, progress="none") as run:
        state = run.restore({"w": np.zeros(2)})
        for step in run.steps():
            run.offer(state, loss=[3.0, 1.0, 2.0][step - 1], accuracy=step / 10)
    recipe = outlast.Recipe(
        name="x", summary="x", Config=outlast.Config, train=lambda run, config: None, metric="accuracy", mode="max"
    )
    assert step_of(RunFolder(tmp_path / "best"), "best", recipe) == 2
