"""Every key of the seed's files acts, or is refused by name."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from outlast.config import resolve
from outlast.errors import ConfigError
from outlast_recipes.yolo.checks import check_config, load_data
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset, Sample
from tests import messages

SEED = """\
model:
  architecture: yolo11s
  resume_from: null
training:
  epochs: 150
  batch_size: 32
  learning_rate: 0.002
  patience: 20
hardware:
  multi_gpu: true
  num_workers: 0
  mixed_precision: true
augmentation:
  degrees: 10.0
  translate: 0.2
  scale: 0.4
  fliplr: 0.25
"""


def read(path: Path, text: str) -> YoloConfig:
    path.write_text(text)
    return resolve(YoloConfig, train_file=path).config


def test_the_keys_of_the_seed(tmp_path: Path) -> None:
    config = read(tmp_path / "experiment.yaml", SEED)
    assert (config.epochs, config.batch_size, config.learning_rate) == (150, 32, 0.002)
    assert (config.num_workers, config.mixed_precision, config.hardware.multi_gpu) == (0, True, True)
    assert (config.model.architecture, config.model.resume_from, config.training.patience) == ("yolo11s", None, 20)
    views = config.augmentation
    assert (views.degrees, views.translate, views.scale, views.fliplr) == (10.0, 0.2, 0.4, 0.25)


@pytest.mark.parametrize(
    "text",
    [
        "hardware: {gpu_ids: [0, 1]}", "augmentation: {erasing: 0.4}", "training: {label_smoothing: 0.1}",
        "model: {pretrained: true}", "training: {lr_scheduler: cosine_with_restart}",
    ],
)  # fmt: skip
def test_other_keys_are_refused_by_name(tmp_path: Path, text: str) -> None:
    section, _, rest = text.partition(": {")
    with pytest.raises(ConfigError, match=rf"{section}\.{rest.partition(':')[0]}"):
        read(tmp_path / "experiment.yaml", text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lr_scheduler: cosine_with_restarts", "--training.restart-epochs"),
        ("restart_epochs: 3", "training.lr_scheduler is cosine"),
    ],
)
def test_values_that_contradict_each_other_are_named(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        read(tmp_path / "experiment.yaml", f"training: {{{text}}}")
    assert str(caught.value).startswith("training.")


def data(keypoints: int, flip_index: tuple[int, ...] | None = None) -> Dataset:
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    points = np.zeros((1, keypoints, 2), np.float32) if keypoints else None
    sample = Sample(Path("a.png"), 64, 64, boxes, np.zeros(1, np.int64), points)
    return Dataset(Path("data"), ("plate",), {"train": (sample,), "val": (sample,)}, keypoints, flip_index)


def checked(dataset: Dataset, *, ranks: bool = False, **values: str) -> None:
    flags = {name.replace("__", "."): value for name, value in values.items()}
    check_config(resolve(YoloConfig, flags=flags).config, dataset, ranks=ranks)


@pytest.mark.parametrize("architecture", ["tiny", "yolo11n-pose"])
def test_mirrors_and_steep_rotations_of_corners_are_refused(architecture: str) -> None:
    for name, value in (("fliplr", "0.5"), ("flipud", "0.1")):
        with pytest.raises(ConfigError, match=f"augmentation.{name}"):
            checked(data(4), model__architecture=architecture, **{f"augmentation__{name}": value})
    with pytest.raises(ConfigError, match="flip_idx"):
        checked(data(4, (1, 0, 3, 2)), model__architecture=architecture)
    checked(data(4), model__architecture=architecture)


def test_large_rotations_of_corners_are_refused() -> None:
    with pytest.raises(ConfigError, match="augmentation.degrees"):
        checked(data(4), model__architecture="yolo11n-pose", augmentation__degrees="46")
    checked(data(4), model__architecture="yolo11n-pose", augmentation__degrees="45")
    checked(data(4), model__architecture="yolo11n", augmentation__degrees="90", augmentation__fliplr="0.5")


def test_keypoints_are_mirrored_where_the_data_say_how() -> None:
    checked(data(2, (1, 0)), model__architecture="yolo11n-pose", augmentation__fliplr="0.5")
    with messages.raises(ConfigError, "yolo/tiny-does-not-mirror", flag="augmentation.fliplr"):
        checked(data(2, (1, 0)), model__architecture="tiny", augmentation__fliplr="0.5")
    with pytest.raises(ConfigError, match="flip_idx"):
        checked(data(2), model__architecture="yolo11n-pose", augmentation__fliplr="0.5")


@pytest.mark.parametrize("name", ["yolo12s", "yolo11q", "../yolo11s", "yolo11s-seg", "yolo11s.pt", "rfdetr-base"])
def test_architectures_that_do_not_exist(name: str) -> None:
    with pytest.raises(ConfigError, match="model.architecture"):
        checked(data(0), model__architecture=name)


def test_an_architecture_and_data_that_do_not_belong_together() -> None:
    with pytest.raises(ConfigError, match="yolo11s-pose"):
        checked(data(0), model__architecture="yolo11s-pose")


def test_what_tiny_does_not_have_is_refused_by_name() -> None:
    for name, value in (("augmentation__mosaic", "0.5"), ("training__close_mosaic", "3"), ("data__cache", "ram")):
        with pytest.raises(ConfigError, match=name.replace("__", ".")):
            checked(data(0), model__architecture="tiny", **{name: value})
        checked(data(0), model__architecture="tiny", **({} if name == "data__cache" else {name: "0"}))  # it is off
    with pytest.raises(ConfigError, match="musgd"):
        checked(data(0), model__architecture="tiny", training__optimizer="musgd")


@pytest.mark.parametrize(
    ("name", "value"),
    [("augmentation.mosaic", "0.5"), ("training.dfl_loss", "1"), ("data.cache", "ram"), ("model.image_size", "100")],
)
def test_what_rfdetr_does_not_have_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        checked(data(4), model__architecture="rfdetr-nano-pose", **{name.replace(".", "__"): value})


def test_another_version_of_rfdetr_and_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.9.0")
    with pytest.raises(ConfigError, match="1.9.0"):
        checked(data(0), model__architecture="rfdetr-small")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="outlast.rfdetr"):
        checked(data(0), model__architecture="rfdetr-small")


def test_several_ranks_are_refused_without_multi_gpu() -> None:
    with pytest.raises(ConfigError, match="multi_gpu"):
        checked(data(0), model__architecture="tiny", hardware__multi_gpu="false", ranks=True)
    checked(data(0), model__architecture="tiny", ranks=True)


def test_data_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="--data"):
        load_data(resolve(YoloConfig, flags={}).config)
