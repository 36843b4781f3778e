"""A training whose memory or numbers give out ends with a sentence, and its checkpoints are whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import outlast
from outlast_recipes.yolo.detector import Place
from outlast_recipes.yolo.saved import About
from outlast_recipes.yolo.tiny import TinyTraining
from tests.durability.digits import final, train
from tests.recipes import pictures

STEP = TinyTraining.step


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    data = pictures.folder(tmp_path_factory.mktemp("data") / "pictures")
    return {**pictures.TINY, "data_root": str(data), "save_every": "1 steps", "epochs": "2"}


def gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def cpu() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def python() -> None:
    raise MemoryError


@pytest.mark.parametrize("need", [gpu, cpu, python])
def test_too_little_memory_names_a_smaller_batch_and_the_run_goes_on(
    tmp_path: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch, need: Any
) -> None:
    def greedy(self: TinyTraining, batch: Any, place: Place) -> Any:
        return need() if place.step == 3 else STEP(self, batch, place)

    monkeypatch.setattr(TinyTraining, "step", greedy)
    with pytest.raises(outlast.OutlastError, match=r"batches of 4 images of 64 pixels, at step 3\. .*--batch-size 2"):
        train(tmp_path, recipe="yolo", small=small)
    assert outlast.open_saved("yolo", root=tmp_path).step == 2
    if need is gpu:
        monkeypatch.setattr(TinyTraining, "step", STEP)
        assert train(tmp_path, recipe="yolo", small=small) == "finished"
        assert train(tmp_path / "twin", recipe="yolo", small=small) == "finished"
        assert final(tmp_path, "yolo") == final(tmp_path / "twin", "yolo")


def test_a_full_disk_for_the_results_loses_nothing(
    tmp_path: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(outlast.OutlastError, match=r"architecture.json: No space left on device, at step 8\."):
            train(tmp_path, recipe="yolo", small=small)
    assert outlast.open_saved("yolo", root=tmp_path).step == 8
    assert train(tmp_path, recipe="yolo", small=small) == "finished"
    assert (tmp_path / "yolo/artifacts/test/metrics.json").is_file()


def test_another_failure_of_torch_is_not_taken_for_it(
    tmp_path: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyTraining, "step", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train(tmp_path, recipe="yolo", small=small)


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruined(self: TinyTraining, batch: Any, place: Place) -> Any:
        losses = STEP(self, batch, place)
        if place.step == 3:
            with torch.no_grad():
                next(self.parts()["model"].parameters()).view(-1)[0] = torch.inf
        return losses

    monkeypatch.setattr(TinyTraining, "step", ruined)
    with pytest.raises(outlast.OutlastError, match="step 3 .*weight.* --lr"):
        train(tmp_path, recipe="yolo", small=small)
    saved = outlast.open_saved("yolo", root=tmp_path)
    assert saved.step == 2
    assert all(each.isfinite().all() for each in saved.part("model").values() if each.is_floating_point())


def test_a_rate_that_is_far_too_high_ends_the_attempt_with_checkpoints_that_are_whole(
    tmp_path: Path, small: dict[str, str]
) -> None:
    with pytest.raises(outlast.OutlastError, match="--lr"):
        train(tmp_path, recipe="yolo", small={**small, "training.optimizer": "sgd", "learning_rate": "1e30"})
    saved = outlast.open_saved("yolo", root=tmp_path)
    assert all(each.isfinite().all() for each in saved.part("model").values() if each.is_floating_point())


@pytest.mark.parametrize(
    ("architecture", "data", "what"),
    [("tiny", "1", "the data .* 0, and now it is 1"), ("yolo11n", "0", "the architecture .*tiny")],
)
def test_a_run_continues_with_its_own_data_and_architecture(architecture: str, data: str, what: str) -> None:
    begun = About({"detector": "tiny"}, "0")
    begun.load_state_dict(begun.state_dict())
    with pytest.raises(ValueError, match=what):
        About({"detector": architecture}, data).load_state_dict(begun.state_dict())
