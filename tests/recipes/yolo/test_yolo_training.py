"""A training of the recipe as a user starts it: learning, patience, the licence, ranks, what ultralytics may touch."""

from __future__ import annotations

import csv
import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import outlast
from outlast.cli import main
from outlast.config import resolve
from outlast.recipe import registry
from outlast_recipes.yolo import saved
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.detector import Place
from outlast_recipes.yolo.reading import read_dataset
from outlast_recipes.yolo.tiny import TinyTraining
from outlast_recipes.yolo.training import tell_about
from outlast_recipes.yolo.ultralytics_adapter import settings
from outlast_recipes.yolo.ultralytics_adapter.training import UltralyticsTraining
from tests import messages, processes
from tests.durability.digits import final, train
from tests.recipes import pictures


def journal(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "yolo/journal.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.folder(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.folder(tmp_path_factory.mktemp("corners") / "pictures", keypoints=True)


def test_the_small_detector_learns_boxes_and_corners(tmp_path: Path, corners: Path) -> None:
    small = {
        **pictures.TINY, "data_root": str(corners), "epochs": "25", "learning_rate": "0.01", "log_every": "100",
        "augmentation.scale": "0.1",
    }  # fmt: skip
    assert train(tmp_path, recipe="yolo", small=small) == "finished"
    last = journal(tmp_path)[-1]
    assert last["test_box_map50"] > 0.5
    assert last["best_epoch"] > 10
    table = list(csv.DictReader((tmp_path / "yolo/artifacts/train/results.csv").read_text().splitlines()))
    assert len(table) == 25
    assert all(float(row["box_loss"]) > 0 for row in table), "epochs that are shorter than log_every"


def test_a_detector_of_boxes_is_measured_on_labels_with_corners(
    tmp_path: Path, corners: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {**pictures.NANO, "data_root": str(corners), "epochs": "1"}
    assert train(tmp_path, recipe="yolo", small=small) == "finished"
    assert main(["evaluate", "yolo", str(tmp_path / "yolo")]) == 0
    assert "mAP50" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "yolo/artifacts/test/metrics.json").read_text())
    assert "keypoint_map" not in metrics
    assert metrics["images"] == 4


@pytest.mark.parametrize(
    ("given", "loss", "measure"),
    [
        ({}, 0.1, 0.025),
        ({"training.oks_sigma": "0.05"}, 0.1, 0.05),
        ({"training.loss_sigma": "0.2"}, 0.2, 0.025),
    ],
)
def test_the_loss_has_another_sigma_than_the_measure(
    given: dict[str, str], loss: float, measure: float, corners: Path
) -> None:
    config = resolve(YoloConfig, flags={**pictures.NANO, "model.architecture": "yolo11n-pose", **given}).config
    training = UltralyticsTraining(config, read_dataset(corners), torch.device("cpu"))
    try:
        sigmas = training.trainer.model_alone.criterion.keypoint_loss.sigmas
        assert sigmas.tolist() == pytest.approx([loss] * 4)
        assert training.trainer.data["kpt_oks_sigmas"] == [measure] * 4
    finally:
        training.close()


def test_patience_ends_the_run_after_the_epoch(tmp_path: Path, data: Path) -> None:
    small = {**pictures.TINY, "data_root": str(data), "epochs": "30", "training.patience": "1", "learning_rate": "0"}
    assert train(tmp_path / "a", recipe="yolo", small=small) == "finished"
    lines = journal(tmp_path / "a")
    assert sum("val_map" in line for line in lines) == len({line["epoch"] for line in lines if "val_map" in line})
    validated = [line for line in lines if "val_map" in line]
    best = lines[-1]["best_epoch"]
    assert [line["epoch"] for line in validated][-1] == best + 1 < 30
    assert lines[-1]["step"] == 4 * (best + 1)
    cut = validated[-1]["step"] - 1
    assert train(tmp_path / "b", recipe="yolo", small=small, stop_after=cut) == "preempted"
    assert train(tmp_path / "b", recipe="yolo", small=small) == "finished"
    assert final(tmp_path / "b", "yolo") == final(tmp_path / "a", "yolo")


def test_a_loss_that_is_not_finite_ends_the_attempt_before_it_is_saved(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TinyTraining.step

    def ruined(self: TinyTraining, batch: Any, place: Place) -> Any:
        return {**step(self, batch, place), **({"box_loss": torch.tensor(torch.nan)} if place.step == 3 else {})}

    monkeypatch.setattr(TinyTraining, "step", ruined)
    small = {**pictures.TINY, "data_root": str(data), "save_every": "1 steps"}
    with messages.raises(outlast.OutlastError, "yolo/loss-not-finite", loss="box_loss", step=3):
        train(tmp_path, recipe="yolo", small=small)
    assert outlast.open_saved("yolo", root=tmp_path).step == 2


def test_the_validation_chooses_and_the_test_is_read_once_at_the_end(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, torch.Tensor]] = []

    def flat(network: torch.nn.Module) -> torch.Tensor:
        return torch.cat([each.detach().flatten() for each in network.parameters()])

    def evaluate(self: TinyTraining, split: str, weights: Any = None, *, read: Any = iter) -> dict[str, float]:
        asked.append((split, flat(self.parts()["ema"] if weights is None else weights)))
        value = {2: 0.5}.get(len(asked), 0.1) if split == "val" else 1.0
        return {"map": value, "map50": 1 - value, "box_map": 1 - value}  # the epoch is chosen by the first

    monkeypatch.setattr(TinyTraining, "evaluate", evaluate)
    train(tmp_path, recipe="yolo", small={**pictures.TINY, "data_root": str(data)})
    assert [split for split, _ in asked] == ["val", "val", "val", "test", "test"]
    assert journal(tmp_path)[-1]["best_epoch"] == 2
    assert torch.equal(asked[3][1], asked[2][1])
    assert torch.equal(asked[4][1], asked[1][1])
    saved = outlast.open_saved("yolo", root=tmp_path)
    best = saved.part("best")
    assert torch.equal(torch.cat([best[name].flatten() for name in _parameters(best)]), asked[1][1])


def _parameters(weights: Any) -> list[str]:
    """Names of what is trained: not the statistics of norms."""
    return [name for name in weights if "running" not in name and "num_batches" not in name]


def test_weights_to_start_from_are_tried_before_a_training(tmp_path: Path, data: Path) -> None:
    found = registry.loaded(registry.find("yolo"))
    assert found.check

    def checked(**more: str) -> str:
        flags = {"model.architecture": "tiny", "model.image_size": "64", "data_root": str(data), **more}
        return found.check(resolve(found.Config, flags=flags).config)  # type: ignore[misc]

    (tmp_path / "bad").mkdir()
    assert "does not exist" in checked(**{"model.resume_from": str(tmp_path / "absent")})
    with pytest.raises(outlast.DataError, match="bad"):
        checked(**{"model.resume_from": str(tmp_path / "bad")})
    assert train(tmp_path, recipe="yolo", small={**pictures.TINY, "epochs": "1", "data_root": str(data)}) == "finished"
    saved.write(saved.restored(outlast.open_saved("yolo", root=tmp_path)), tmp_path / "good")
    assert "all of its weights" in checked(**{"model.resume_from": str(tmp_path / "good")})


def test_the_licence_is_told_before_the_first_use(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"  # matplotlib makes the home folder, which is beside it
    here.mkdir()
    monkeypatch.chdir(here)
    words = ["train", "yolo", "--data", str(data), "--epochs", "1", "--batch_size", "8", "--model.image-size", "64"]
    assert main([*words, "--model.architecture", "yolo11n"]) == 0
    said = capsys.readouterr().err
    assert said.count("AGPL-3.0") == 2  # one sentence
    assert said.index("AGPL") < said.index("begins")
    assert sorted(path.name for path in here.iterdir()) == ["runs"]
    assert main([*words, "--model.architecture", "tiny", "--experiment-name", "b"]) == 0
    assert "AGPL" not in capsys.readouterr().err
    weights = [here / f"runs/{name}/artifacts/train/weights" for name in ("yolo", "b")]
    messages.said((weights[0] / "LICENSE.txt").read_text().splitlines(), "yolo/licence-of-weights", version="8.4.190")
    assert [path.name for path in weights[1].iterdir()] == ["architecture.json"]


def test_ultralytics_leaves_the_process_and_the_data_as_they_were(tmp_path: Path, data: Path) -> None:
    before = sorted(data.rglob("*"))
    environment, threads, printed = dict(os.environ), torch.get_num_threads(), np.get_printoptions()
    saves = torch.save
    train(tmp_path, recipe="yolo", small={**pictures.NANO, "epochs": "1", "data_root": str(data)})
    assert sorted(data.rglob("*")) == before
    assert {name: os.environ.get(name) for name in environment} == environment
    assert torch.get_num_threads() == threads
    assert np.get_printoptions() == printed
    assert torch.save is saves
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("strict", [True, False])
def test_deterministic_kernels_stay_as_strict_as_the_run_asks_for(strict: bool, data: Path) -> None:
    """Ultralytics makes a warning of the error of an operation that has none, and removes variables when it ends."""
    config = resolve(YoloConfig, flags=pictures.NANO).config

    def chosen() -> tuple[Any, ...]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.utils.deterministic.fill_uninitialized_memory,
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        )

    with pytest.MonkeyPatch.context() as patch:
        if strict:
            patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        torch.use_deterministic_algorithms(strict)
        try:
            before = chosen()
            training = UltralyticsTraining(config, read_dataset(data), torch.device("cpu"))
            assert chosen()[:2] == ((True, False) if strict else (True, True))
            training.close()
            assert chosen() == before
        finally:
            torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize(("device", "told"), [("cpu", False), ("cuda", True)])
def test_what_was_tested_on_no_gpu_is_told_on_one(device: str, told: bool) -> None:
    said: list[str] = []
    config = resolve(YoloConfig, flags={**pictures.NANO, "training.nominal_batch": "4"}).config
    batches = type("Batches", (list,), {"dataset": range(400)})(range(100))
    tell_about(Namespace(tell=said.append), config, Namespace(batches=batches), torch.device(device))  # type: ignore[arg-type]
    if told:
        messages.said(said, "yolo/gpu-was-not-tested")
    else:
        assert said == []


def test_ultralytics_is_offline_and_installs_and_sends_nothing() -> None:
    from outlast_recipes.yolo.ultralytics_adapter import library

    assert library.DetectionTrainer
    from ultralytics import utils

    assert (utils.ONLINE, utils.AUTOINSTALL, utils.SAFE_LOAD, utils.RANK) == (False, False, True, -1)
    assert not any(utils.SETTINGS[name] for name in ("sync", "wandb", "mlflow", "clearml", "comet", "dvc", "raytune"))
    folder = utils.USER_CONFIG_DIR.parent
    assert folder.stat().st_mode & 0o077 == 0


def test_another_version_of_ultralytics_and_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    import importlib.util

    monkeypatch.setattr(importlib.metadata, "version", lambda _: "8.3.41")
    with pytest.raises(outlast.ConfigError, match="8.3.41"):
        settings.check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(outlast.ConfigError, match="outlast.yolo"):
        settings.check_installed()


def test_one_opencv_is_installed() -> None:
    import importlib.metadata

    names = {each.metadata["Name"].lower() for each in importlib.metadata.distributions()}
    assert len({name for name in names if name.startswith("opencv")}) == 1


def test_the_recipe_is_listed_without_importing_ultralytics_or_torchvision() -> None:
    program = (
        "import sys, outlast_recipes.yolo.training; print(*{'ultralytics', 'torchvision', 'cv2'} & {*sys.modules})"
    )
    done = processes.run([sys.executable, "-c", program], check=True)
    assert done.stdout.split() == []


@pytest.mark.long
def test_images_in_memory_and_workers_do_not_change_a_training(tmp_path: Path) -> None:
    data = pictures.folder(tmp_path / "data", counts=(8, 2, 1))
    small = {**pictures.NANO, "epochs": "1", "data_root": str(data), "training.close_mosaic": "0"}
    results = []
    for name, more in (("a", {}), ("b", {"data.cache": "ram"}), ("c", {"num_workers": "2"})):
        train(tmp_path / name, recipe="yolo", small={**small, **more})
        results.append(final(tmp_path / name, "yolo"))
    for name in ("model.safetensors", "ema.safetensors", "journal.jsonl"):
        assert results[0][name] == results[1][name] == results[2][name], name


# ranks --------------------------------------------------------------------------------------------------------------


def start(root: Path, data: Path, count: int, **values: str) -> None:
    given = {
        **pictures.TINY, "training.lr_scheduler": "constant", "training.warmup_epochs": "0", "save_every": "1 epoch",
        "data_root": str(data), "checkpoint_dir": str(root),
    }  # fmt: skip
    given |= {key.replace("__", "."): value for key, value in values.items()}
    words = ["-m", "outlast.cli", "train", "yolo"]
    words += [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]
    for process in processes.start_ranks([sys.executable, *words], count):
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said


def test_two_ranks_resume_exactly(tmp_path: Path, data: Path) -> None:
    start(tmp_path / "whole", data, 2, epochs="2")
    start(tmp_path / "parts", data, 2, epochs="1")
    start(tmp_path / "parts", data, 2, epochs="2")
    whole, parts = (outlast.open_saved("yolo", root=tmp_path / name) for name in ("whole", "parts"))
    for part in ("model", "ema"):
        for name, each in whole.part(part).items():
            assert torch.equal(each, parts.part(part)[name]), name


@pytest.mark.long
def test_two_ranks_train_ultralytics_network_as_one_does(tmp_path: Path, data: Path) -> None:
    values = {"model__architecture": "yolo11n", "epochs": "1", "training__close_mosaic": "1"}
    for count in (1, 2):
        start(tmp_path / str(count), data, count, **values)
    one, two = (
        [line for line in journal(tmp_path / str(count)) if "box_loss" in line and "lr" in line] for count in (1, 2)
    )
    assert len(one) == len(two) == 4
    # Augmentation differs by rank, and losses are weighted by a rank's objects: alike, not equal.
    mean = [np.mean([line["box_loss"] + line["cls_loss"] for line in lines]) for lines in (one, two)]
    assert mean[0] == pytest.approx(mean[1], rel=0.5)
