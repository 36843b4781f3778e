"""Each value of a training changes what it names: images, losses, optimizer, sizes of batches, images in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import outlast
from outlast.config import resolve
from outlast_recipes.yolo import backends
from outlast_recipes.yolo.config import Augmentation, Training, YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import Place
from outlast_recipes.yolo.ultralytics_adapter.trainer import BoxTrainer, arguments
from tests.recipes import pictures

STILL = {f"augmentation.{name}": "0" for name in Augmentation.model_fields}
LARGEST = {"perspective": "0.001", "degrees": "90", "shear": "60", "scale": "0.9"}
ELSEWHERE = {
    "lr_scheduler", "restart_epochs", "warmup_epochs", "warmup_momentum", "warmup_bias_lr",  # test_schedule.py
    "oks_sigma", "loss_sigma",  # test_yolo_training.py
}  # fmt: skip
OTHER = {"optimizer": "sgd"}


def config(**values: str) -> YoloConfig:
    flags = {"model.architecture": "yolo11n", "model.image_size": "64", "epochs": "4", "batch_size": "2", **values}
    made: YoloConfig = resolve(YoloConfig, flags=flags).config
    return made


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return pictures.dataset(tmp_path_factory.mktemp("boxes") / "pictures", counts=(6, 2, 2))


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return pictures.dataset(tmp_path_factory.mktemp("corners") / "pictures", keypoints=True, counts=(4, 2, 2))


def images(dataset: Dataset, **values: str) -> torch.Tensor:
    """The training images of an epoch, without a network."""
    from ultralytics.cfg import get_cfg

    maker: Any = object.__new__(BoxTrainer)
    maker.config, maker.dataset, maker.stride = config(**values), dataset, 32
    maker.args = get_cfg(overrides=arguments(maker.config, dataset) | {"task": "detect"})
    maker.data = {"names": {0: "green", 1: "red"}, "nc": 2, "channels": 3}
    samples = maker.samples("train", 2, training=True)
    outlast.seed_everything(3)
    return torch.stack([samples[number]["img"] for number in range(len(samples))])


@pytest.fixture(scope="module")
def still(boxes: Dataset) -> torch.Tensor:
    return images(boxes, **STILL)


@pytest.mark.parametrize("name", Augmentation.model_fields)
def test_each_augmentation_changes_images(name: str, boxes: Dataset, still: torch.Tensor) -> None:
    assert torch.equal(images(boxes, **STILL), still)
    changed = images(boxes, **{**STILL, f"augmentation.{name}": LARGEST.get(name, "1"), "training.close_mosaic": "0"})
    assert changed.shape == still.shape
    assert not torch.equal(changed, still)


@pytest.mark.parametrize("name", sorted(Training.model_fields.keys() - ELSEWHERE))
def test_each_value_of_a_training_reaches_ultralytics(name: str, boxes: Dataset) -> None:
    before = getattr(Training(), name)
    value = OTHER.get(name) or str(before / 2 if isinstance(before, float) and before else 7 if before != 0 else 0.5)
    usual, other = (arguments(config(**more), boxes) for more in ({}, {f"training.{name}": value}))
    assert sum(usual[key] != other[key] for key in usual) == 1


def test_a_loss_of_weight_0_is_none(corners: Dataset) -> None:
    losses = ("box_loss", "class_loss", "dfl_loss", "pose_loss", "visibility_loss")
    none = {f"training.{name}": "0" for name in losses}
    training = backends.training_of(
        config(**{"model.architecture": "yolo11n-pose", **none}), corners, torch.device("cpu")
    )
    found = training.step(next(iter(training.batches)), Place(1, 1, 4, 2))
    training.close()
    assert {name: float(value) for name, value in found.items() if name != "lr"} == dict.fromkeys(
        ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss"), 0.0
    )


@pytest.mark.parametrize("architecture", ["tiny", "yolo11n"])
@pytest.mark.parametrize(("optimizer", "kind", "key"), [("sgd", "SGD", "momentum"), ("adam", "Adam", "betas")])
def test_the_optimizer_and_its_momentum(architecture: str, optimizer: str, kind: str, key: str, boxes: Dataset) -> None:
    values = {"model.architecture": architecture, "training.optimizer": optimizer, "training.momentum": "0.7"}
    training = backends.training_of(config(**values), boxes, torch.device("cpu"))
    made = training.parts()["optimizer"]
    training.close()
    assert type(made).__name__ == kind
    assert {group[key] if key == "momentum" else group[key][0] for group in made.param_groups} == {0.7}


def test_sizes_of_batches_and_images_in_memory(boxes: Dataset) -> None:
    values = {"training.multi_scale": "0.9", "data.cache": "ram"}
    training: Any = backends.training_of(config(**values), boxes, torch.device("cpu"))
    assert all(image is not None for image in training.batches.dataset.ims)
    assert all(image is None for image in training.trainer.samples("val", 2).ims), "a validation reads each image once"
    batch = next(iter(training.batches))
    sizes = {tuple(training.trainer.preprocess_batch(dict(batch))["img"].shape[2:]) for _ in range(12)}
    training.close()
    assert len(sizes) > 1
    assert max(max(size) for size in sizes) <= 1.9 * 64 + 32
