"""Ultralytics: identical to its twin with the callback, not without it; in a process of its own, which it changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests import messages
from tests.conftest import REPOSITORY
from tests.integrations import twins

import outlast
from outlast.errors import UsageError
from outlast.integrations import ultralytics_data
from outlast.integrations.ultralytics import OutlastCallback

twins.need("torch", "torchvision", "cv2", "ultralytics")


def train(folder: Path, stops: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.with_ultralytics", str(folder), stops],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.rpartition("without: ")[2]) > 1e-3  # other images in other mosaics


@pytest.mark.long
def test_identical_with_it_and_not_without_it(tmp_path: Path) -> None:
    train(tmp_path, "2,5,8")  # between two updates, at the end of an epoch, after an update


@pytest.mark.slow
def test_identical_with_it_after_every_batch(tmp_path: Path) -> None:
    train(tmp_path, ",".join(map(str, range(1, 15))))


def test_several_devices_are_refused(tmp_path: Path) -> None:
    with outlast.open_run("r", root=tmp_path, progress="none") as run:
        with messages.raises(UsageError, "integrations/ultralytics-devices"):
            OutlastCallback(run).train(SimpleNamespace(overrides={"device": [0, 1]}), epochs=3)
        with pytest.raises(UsageError, match="several devices"):
            OutlastCallback(run).train(SimpleNamespace(overrides={}), device="0,1")


@pytest.mark.parametrize("given", [{"time": 2.0}, {"resume": True}, {"world_size": 2}])
def test_what_is_not_exact_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with outlast.open_run("r", root=tmp_path, progress="none") as run:
        asked = {"time": None, "resume": False, "world_size": 0, **given}
        trainer = SimpleNamespace(args=SimpleNamespace(time=asked.pop("time")), **asked)
        with messages.raises(UsageError, "integrations/ultralytics-options"):
            OutlastCallback(run)._prepare(trainer)


class Samples:
    transforms = None
    kept = np.zeros((2, 2, 3), np.uint8)

    def load_image(self, _: int) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        return self.kept, (2, 2), (2, 2)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        return index


def batches_of(trainer: SimpleNamespace) -> ultralytics_data.Batches:
    """Three batches of two samples, in their order."""
    from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

    loader = DataLoader(Samples(), batch_sampler=BatchSampler(SequentialSampler(range(6)), 2, drop_last=False))
    object.__setattr__(loader, "batch_sampler", SimpleNamespace(sampler=loader.batch_sampler))
    vars(trainer).update(train_loader=loader, args=SimpleNamespace(seed=0), accumulate=3)
    vars(trainer).update(preprocess_batch=lambda batch: batch, optimizer_step=lambda: None)
    return ultralytics_data.Batches(trainer, lambda: None)


def test_batches_that_were_done_pass_by() -> None:
    schedule = SimpleNamespace(last_epoch=1, _step_count=2)
    network = object()
    trainer = SimpleNamespace(epoch=1, model=network, device="cpu", tloss=None, scheduler=schedule)
    batches = batches_of(trainer)
    batches.source.load_state_dict({**batches.source.state_dict(), "epoch": 1, "batch": 2})
    batches.last, batches.means = 3, {"box": 0.5}
    batches.stand(5)
    assert (schedule.last_epoch, schedule._step_count) == (0, 1)
    seen = []
    for batch in batches:
        seen.append(trainer.preprocess_batch(batch))
        if len(seen) < 3:
            loss, means = trainer.model(batch)
            assert (float(loss.detach()), means) == (0, {"box": 0.5})
            assert trainer.accumulate > 2**30  # no update
    assert trainer.model is network
    assert trainer.tloss is batches.means
    assert (seen[-1].tolist(), batches.at) == ([4, 5], 5)
    assert trainer.accumulate == 3 + 4  # the loop counts from -1, and the last update was after batch 3
    trainer.optimizer_step()
    assert (batches.last, batches._behind) == (5, 0)


def test_a_loop_that_goes_back_or_takes_smaller_batches_is_refused() -> None:
    trainer = SimpleNamespace(epoch=0)
    batches = batches_of(trainer)
    batches.stand(0)
    image, *sizes = batches.dataset.load_image(0)
    assert not np.shares_memory(image, Samples.kept)  # transforms write into it
    assert sizes == [(2, 2), (2, 2)]
    assert [each.tolist() for each in batches] == [[0, 1], [2, 3], [4, 5]]
    with messages.raises(UsageError, "integrations/ultralytics-back"):
        next(iter(batches))
    with messages.raises(UsageError, "integrations/ultralytics-memory"):
        trainer._build_train_pipeline()
