"""What is checked before a training: the data, and values that contradict them or each other."""

from __future__ import annotations

from dataclasses import replace

import outlast
from outlast_recipes.yolo import backends
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.packages import ULTRALYTICS
from outlast_recipes.yolo.reading import read_dataset

CORNERS = 4
STEEP = 45.0  # degrees; a text that is rotated further may be read from another side
FEW = 64  # training images with --debug


def load_data(config: YoloConfig) -> Dataset:
    """The data of a config; with --debug a part of them.

    Raises:
        outlast.ConfigError: no folder is given.
        outlast.DataError: there are no data in it, or none to train and validate on.
    """
    if config.data_root is None:
        raise outlast.ConfigError(
            "data_root is not given. Give the folder of the data, with a data.yaml or COCO JSON: --data DIR"
        )
    dataset = read_dataset(config.data_root)
    for split in ("train", "val"):
        if not dataset.splits.get(split):
            raise outlast.DataError(
                f"{config.data_root} has no images to {'train' if split == 'train' else 'validate'} on. Its data.yaml "
                f"must name a folder of images as {split}."
            )
    if config.debug:
        dataset = replace(dataset, splits={name: samples[:FEW] for name, samples in dataset.splits.items()})
    return dataset


def check_config(config: YoloConfig, dataset: Dataset, *, ranks: bool) -> None:
    """Refuse values that contradict the data or the ranks.

    Args:
        config: values of the run.
        dataset: its data.
        ranks: whether several ranks train.

    Raises:
        outlast.ConfigError: with the value to change.
    """
    backends.check_architecture(config, dataset)
    if ranks and not config.hardware.multi_gpu:
        raise outlast.ConfigError(
            "hardware.multi_gpu is false, and several ranks of torchrun train. Start one process, or set "
            "--hardware.multi-gpu."
        )
    if not config.model.architecture.endswith("-pose") and config.model.architecture != "tiny":
        return
    _check_mirrors(config, dataset)


def _check_mirrors(config: YoloConfig, dataset: Dataset) -> None:
    """Keypoints have an order, which a mirror changes; corners have that of a text, which can only be read upright."""
    views, corners = config.augmentation, dataset.keypoints == CORNERS
    for name, value in (("fliplr", views.fliplr or 0.0), ("flipud", views.flipud)):
        architecture = config.model.architecture
        plain = not ULTRALYTICS.fullmatch(architecture)
        if not value or not dataset.keypoints or (dataset.flip_index and not corners and not plain):
            continue
        why = (
            "a mirrored text is not a text, and its corners have another order"
            if corners
            else f"{architecture} does not mirror keypoints"
            if plain
            else f"{dataset.root} does not say which keypoints a mirror exchanges (flip_idx in data.yaml)"
        )
        raise outlast.ConfigError(f"augmentation.{name} is {value}: {why}. Set --augmentation.{name} 0.")
    if corners and dataset.flip_index:
        raise outlast.ConfigError(
            f"{dataset.root} has four corners and a flip_idx: a mirrored text is not a text. Remove flip_idx from "
            "data.yaml."
        )
    if corners and views.degrees > STEEP:
        raise outlast.ConfigError(
            f"augmentation.degrees is {views.degrees:g}: a text that is rotated by more than {STEEP:g} degrees may be "
            f"read from another side, and its first corner is another one. Give at most {STEEP:g}."
        )
