"""Torn, lost and flipped bytes: the checkpoint before is used and it is said; with none left, a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.errors import NoGoodCheckpoint
from outlast.folder.layout import RunFolder
from tests import messages
from tests.durability.digits import final, train


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


WAYS: dict[str, Callable[[Path], None]] = {
    "truncate": truncate,
    "flip": flip,
    "zero": zero,
    "empty": empty,
    "delete": Path.unlink,
}
FILES = [
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "rng.safetensors",
    "state.json",
    "MANIFEST.json",
]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("twin")
    train(root)
    return final(root)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints at steps 4 and 6."""
    root = tmp_path_factory.mktemp("stopped")
    train(root, stop_after=4)
    train(root, stop_after=6)
    return root


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", WAYS)
def test_the_one_before_is_used(tmp_path: Path, stopped: Path, way: str, name: str) -> None:
    import shutil

    shutil.copytree(stopped, tmp_path / "runs")
    place = RunFolder(tmp_path / "runs/digits")
    WAYS[way](place.checkpoint(6) / name)
    opened, damaged = CheckpointStore(place).open_newest()
    assert opened is not None
    assert opened.checkpoint.step == 4
    if not (name == "MANIFEST.json" and way == "delete"):  # without a manifest it never was a checkpoint
        assert len(damaged) == 1
        assert name in str(damaged[0])
        assert [path.name for path in place.set_aside.iterdir()] == ["step-00000006-1"]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_it_is_said_and_the_end_is_the_same(tmp_path: Path, stopped: Path, twin: dict[str, str], name: str) -> None:
    import shutil

    shutil.copytree(stopped, tmp_path / "runs")
    flip(RunFolder(tmp_path / "runs/digits").checkpoint(6) / name)
    assert train(tmp_path / "runs") == "finished"
    attempt = json.loads((tmp_path / "runs/digits/attempts/0003.json").read_text())
    messages.said(attempt["told"], "remote/damaged-and-set-aside", file=name, step=4)
    assert final(tmp_path / "runs") == twin


def test_refusal_when_none_verifies(tmp_path: Path) -> None:
    train(tmp_path, stop_after=4)
    path = RunFolder(tmp_path / "digits").checkpoint(4) / "model.safetensors"
    flip(path)
    with pytest.raises(NoGoodCheckpoint, match=r"model\.safetensors"):
        train(tmp_path)
    assert path.exists(), "nothing is moved or deleted by a refusal"
    flip(path)
    assert train(tmp_path) == "finished"


def test_a_damaged_journal_costs_lines_and_not_the_run(tmp_path: Path, twin: dict[str, str]) -> None:
    train(tmp_path, stop_after=6)
    journal = RunFolder(tmp_path / "digits").journal
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b'{"step": 4, "los', *lines[5:]]))
    assert train(tmp_path) == "finished"
    told = json.loads((tmp_path / "digits/attempts/0002.json").read_text())["told"]
    messages.said(told, "tracking/journal-with-gaps")
    assert {**final(tmp_path), "journal.jsonl": "", "state.json": ""} == {**twin, "journal.jsonl": "", "state.json": ""}
