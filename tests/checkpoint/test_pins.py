"""Checkpoints that later stages were begun with: which they are, and that neither retention nor the allowance takes
them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from outlast.checkpoint import Retention
from outlast.checkpoint.pins import pinned, unpinned
from outlast.checkpoint.prune import SPARE
from outlast.checkpoint.snapshot import Snapshot
from outlast.checkpoint.store import CheckpointStore
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.state.array import Array


def stage(root: Path, name: str, **more: Any) -> None:
    durable.make_folder(root / name)
    about = {"format": 2, "id": name, "recipe": None, "grade": "exact", **more}
    (root / name / "run.json").write_text(json.dumps(about))


def begun_with(run: str, step: int) -> dict[str, Any]:
    return {run.rpartition(".")[2]: {"run": run, "step": step, "digest": "0" * 32}}


def test_inputs_of_later_stages_are_pinned(tmp_path: Path) -> None:
    stage(tmp_path, "a.b.mean")
    stage(tmp_path, "a.b.walk", inputs=begun_with("a.b.mean", 3))
    stage(tmp_path, "a.b.talk", inputs=begun_with("a.b.mean", 5) | begun_with("a.b.walk", 7))
    stage(tmp_path, "a.c.walk", inputs=begun_with("a.c.mean", 9))
    durable.make_folder(tmp_path / "a.b.torn")
    (tmp_path / "a.b.torn/run.json").write_text("{")
    (tmp_path / "a.b.link").symlink_to(tmp_path / "a.b.torn")
    assert pinned(RunFolder(tmp_path / "a.b.mean")) == {3, 5}
    assert pinned(RunFolder(tmp_path / "a.b.walk")) == {7}
    assert unpinned(RunFolder(tmp_path / "a.b.mean"), [1, 3, 4, 5]) == [1, 4]


@pytest.mark.parametrize("allowance", [None, SPARE + 2_300_000])
def test_neither_retention_nor_the_allowance_takes_it(tmp_path: Path, allowance: int | None) -> None:
    stage(tmp_path, "a.mean")
    stage(tmp_path, "a.walk", inputs=begun_with("a.mean", 2))
    store = CheckpointStore(RunFolder(tmp_path / "a.mean"), Retention(last=2 if allowance is None else 9), allowance)
    for step in range(1, 8):
        half_a_megabyte = Array("U8", (490_000,), bytes([step]) * 490_000)
        state = {"loop": [step, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": {}, "rng": None}
        store.commit(Snapshot.of(step, "steps", {"model": {"weight": half_a_megabyte}}, state))
    assert [checkpoint.step for checkpoint in store.committed()] == [2, 6, 7]
