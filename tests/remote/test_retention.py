"""A pulled run keeps the checkpoints that its own config keeps: no save has deleted any on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests import messages
from tests.folders import place, steps, walk

from outlast.folder.layout import RunFolder
from outlast.remote import carry
from outlast.remote.folder import FolderRemote


@pytest.mark.parametrize(("kept", "left"), [(2, [6, 8]), (None, [2, 4, 6, 8]), ("many", [2, 4, 6, 8])])
def test_a_pull_deletes_what_the_run_does_not_keep(tmp_path: Path, kept: object, left: list[int]) -> None:
    remote = FolderRemote(tmp_path / "remote")
    for stop in (4, 8):
        walk(tmp_path / "away", stop=stop, last=100)
        if kept is not None:
            (tmp_path / "away/r/config.json").write_text(json.dumps({"values": {"keep_last": kept}}))
        list(carry.push(RunFolder(tmp_path / "away/r"), remote))
        told = carry.pull(place(tmp_path / "here"), remote)
    assert steps(tmp_path / "here") == left
    assert steps(tmp_path / "away") == [2, 4, 6, 8]
    if kept == "many":
        messages.said([told[-1]], "remote/keep-last-is-no-number", value="'many'")


@pytest.mark.parametrize(("mode", "left"), [("min", [2, 8]), ("max", [8])])
def test_a_pull_keeps_the_best(tmp_path: Path, mode: str, left: list[int]) -> None:
    walk(tmp_path / "away", stop=8, last=100)
    (tmp_path / "away/r/config.json").write_text(json.dumps({"values": {"keep_last": 1}}))
    attempt = tmp_path / "away/r/attempts/0001.json"
    attempt.write_text(json.dumps({**json.loads(attempt.read_text()), "best_by": {"metric": "count", "mode": mode}}))
    remote = FolderRemote(tmp_path / "remote")
    list(carry.push(RunFolder(tmp_path / "away/r"), remote))
    carry.pull(place(tmp_path / "here"), remote)
    assert steps(tmp_path / "here") == left


def test_a_checkpoint_of_another_run_is_neither_counted_nor_deleted_after_a_pull(tmp_path: Path) -> None:
    remote = FolderRemote(tmp_path / "remote")
    walk(tmp_path / "away", stop=8, last=100)
    (tmp_path / "away/r/config.json").write_text(json.dumps({"values": {"keep_last": 2}}))
    list(carry.push(RunFolder(tmp_path / "away/r"), remote))
    carry.pull(place(tmp_path / "here"), remote)
    walk(tmp_path / "other", stop=10, last=100)
    for step in (4, 10):
        name = f"checkpoints/step-{step:08d}"
        shutil.copytree(tmp_path / "other/r" / name, tmp_path / "here/r" / name)
    carry.pull(place(tmp_path / "here"), remote)
    assert steps(tmp_path / "here") == [4, 6, 8, 10]
