"""A metric that was renamed in the middle of a run: what earlier attempts logged is read as the same metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import messages
from tests.counting import Counter

import outlast
from outlast.checkpoint.policy import CheckpointFacts, Retention
from outlast.report import read_run
from outlast.report.history import history

RENAMED = {"val_accuracy": "val_top1"}
OLD, NEW = (Retention(last=1, best=1, metric=name) for name in ("val_accuracy", "val_top1"))


def attempt(opened, keep: Retention, values: list[float], total: int, **more) -> None:
    with opened(keep=keep, save="1 steps", background=False, **more) as run:
        run.track(counter=Counter())
        for step in run.steps(total):
            run.log(**{keep.metric: values[step - 1]})


def test_the_best_is_chosen_among_both_names(tmp_path: Path, opened) -> None:
    values = [0.5, 0.9, 0.6, 0.7, 0.8]
    attempt(opened, OLD, values, 3)
    attempt(opened, NEW, values, 5, renamed=RENAMED)
    kept = sorted(path.name for path in (tmp_path / "r/checkpoints").glob("step-*"))
    assert kept == ["step-00000002", "step-00000005"], "the best of the old name, and the newest"
    assert outlast.open_saved("r", root=tmp_path, step="best").step == 2
    record = json.loads((tmp_path / "r/attempts/0002.json").read_text())
    assert record["best_by"] == {"metric": "val_top1", "mode": "max", "former": ["val_accuracy"]}
    assert record["renamed"] == RENAMED


def test_status_and_curves_have_one_metric(tmp_path: Path, opened) -> None:
    values = [0.5, 0.9, 0.6, 0.7]
    attempt(opened, OLD, values, 2)
    before = read_run(tmp_path / "r")
    assert before.metrics == {"val_accuracy": 0.9}, "a run of an earlier version is shown as it is"
    attempt(opened, NEW, values, 4, renamed=RENAMED)
    info = read_run(tmp_path / "r")
    assert info.metrics == {"val_top1": 0.7}
    steps, found = history(tmp_path / "r/journal.jsonl", info.latest, info.renamed).series["val_top1"]
    assert (list(steps), list(found)) == ([1, 2, 3, 4], values)
    journal = (tmp_path / "r/journal.jsonl").read_text().splitlines()
    assert [max(json.loads(line)) for line in journal] == ["val_accuracy"] * 2 + ["val_top1"] * 2, "it stays"


def test_a_policy_prefers_the_new_name() -> None:
    keep = Retention(best=1, metric="new", former=("old", "older"))
    checkpoints = [
        CheckpointFacts(1, {"older": 0.4}),
        CheckpointFacts(2, {"old": 0.5, "older": 9.0}),
        CheckpointFacts(3, {"new": 0.45, "old": 9.0}),
    ]
    assert keep.best_step(checkpoints) == 2
    assert not keep.is_new_best(0.5, checkpoints)
    assert keep.is_new_best(0.6, checkpoints)


@pytest.mark.parametrize("renamed", [["a"], {"a": 1}, {"": "b"}])
def test_a_table_that_is_none_is_refused(opened, renamed) -> None:
    with messages.raises(outlast.OutlastError, "run/open-run-renamed", given=f"{renamed!r}"):
        opened(renamed=renamed)
