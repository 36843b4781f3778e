"""kill -9 from outside, at random moments of a real training."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.folder.layout import RunFolder
from tests import processes
from tests.durability.digits import final

TRAIN = [
    sys.executable,
    "-m",
    "outlast.cli",
    "train",
    "digits",
    "--epochs",
    "30",
    "--model.width",
    "8",
    "--save_every",
    "7 steps",
    "--num_workers",
    "1",
]


def killed(folder: Path, delay: float, *more: str) -> int:
    """Start training, let its first step come, and kill it a moment later."""
    process = processes.start([*TRAIN, *more, "--checkpoint-dir", str(folder)])
    process.stderr.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.stderr.close()
    return process.wait()


def kills(tmp_path: Path, count: int, *more: str) -> None:
    assert processes.run([*TRAIN, "--checkpoint-dir", str(tmp_path / "twin")]).returncode == 0
    chance = random.Random(12)
    place = RunFolder(tmp_path / "cut/digits")
    for number in range(count):
        if killed(tmp_path / "cut", chance.uniform(0.0, 1.2), *more) == 0:
            assert number > 5, "it finished before it was killed often"
            break
        opened, damaged = CheckpointStore(place).open_newest()
        assert not damaged, number
        assert opened is None or opened.checkpoint.step > 0
    done = processes.run([*TRAIN, *more, "--checkpoint-dir", str(tmp_path / "cut")])
    assert done.returncode == 0, done.stderr
    assert final(tmp_path / "cut") == final(tmp_path / "twin")


@pytest.mark.long
def test_three_kills(tmp_path: Path) -> None:
    kills(tmp_path, 3)


@pytest.mark.long
def test_three_kills_where_every_step_is_kept(tmp_path: Path) -> None:
    kills(tmp_path, 3, "--save_every", "every step")


@pytest.mark.slow
def test_fifty_kills_where_every_step_is_kept(tmp_path: Path) -> None:
    kills(tmp_path, 50, "--save_every", "every step")


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path) -> None:
    kills(tmp_path, 50)
