"""The implementations of a detector, by architecture. Each is imported on use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import outlast
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import Detector, DetectorTraining
from outlast_recipes.yolo.packages import ULTRALYTICS
from outlast_recipes.yolo.rfdetr_adapter import settings as rfdetr
from outlast_recipes.yolo.ultralytics_adapter import settings as ultralytics


def check_architecture(config: YoloConfig, dataset: Dataset) -> None:
    """Raises outlast.ConfigError when there is no such architecture, it is not installed, or it needs other data."""
    name = config.model.architecture
    if not (name == "tiny" or ULTRALYTICS.fullmatch(name) or rfdetr.ARCHITECTURE.fullmatch(name)):
        raise outlast.ConfigError(
            f"model.architecture is {name!r:.60}; expected yolo11n, s, m, l or x, yolo26n to yolo26x, rfdetr-nano, "
            "small, medium or large, each also with -pose, or tiny."
        )
    if name.endswith("-pose") and not dataset.keypoints:
        raise outlast.ConfigError(
            f"model.architecture is {name}, and {dataset.root} has boxes only; choose {name.removesuffix('-pose')}, or "
            "data with keypoints (kpt_shape in data.yaml)."
        )
    if ULTRALYTICS.fullmatch(name):
        ultralytics.check_installed()
        return
    from outlast_recipes.yolo import plain

    if unknown := plain.unknown_values(config, visibility=name != "tiny"):
        raise outlast.ConfigError(
            f"model.architecture is {name}, which has no {', '.join(unknown)}. Leave it out, set it to 0 if it is a "
            "number, or choose another architecture."
        )
    if name == "tiny":
        return
    if rest := config.model.image_size % rfdetr.BLOCK:
        raise outlast.ConfigError(
            f"model.image_size is {config.model.image_size}; expected a multiple of {rfdetr.BLOCK} for {name}, such as "
            f"{config.model.image_size + rfdetr.BLOCK - rest}."
        )
    rfdetr.check_installed()


def licence(architecture: str) -> str:
    """A sentence on the licence of the library that an architecture needs; empty where there is nothing to say."""
    return ultralytics.LICENCE if ULTRALYTICS.fullmatch(architecture) else ""


def training_of(config: YoloConfig, dataset: Dataset, device: torch.device) -> DetectorTraining:
    """The training of a config's architecture."""
    check_architecture(config, dataset)
    if config.model.architecture == "tiny":
        from outlast_recipes.yolo.tiny import TinyTraining

        return TinyTraining(config, dataset, device)
    if rfdetr.ARCHITECTURE.fullmatch(config.model.architecture):
        from outlast_recipes.yolo.rfdetr_adapter.training import RfdetrTraining

        return RfdetrTraining(config, dataset, device)
    from outlast_recipes.yolo.ultralytics_adapter.training import UltralyticsTraining

    return UltralyticsTraining(config, dataset, device)


def load(architecture: Mapping[str, Any], weights: Mapping[str, Any]) -> Detector:
    """The detector of what its `architecture()` and `weights()` gave.

    Raises:
        outlast.DataError: they name no detector, or do not belong together.
    """
    if architecture.get("detector") == "tiny":
        from outlast_recipes.yolo import tiny_network

        return tiny_network.load(architecture, weights)
    if architecture.get("detector") == "ultralytics":
        from outlast_recipes.yolo.ultralytics_adapter import network

        return network.load(architecture, weights)
    if architecture.get("detector") == "rfdetr":
        rfdetr.check_installed()
        from outlast_recipes.yolo.rfdetr_adapter import network as of_rfdetr

        return of_rfdetr.load(architecture, weights)
    raise outlast.DataError(
        f"The architecture names the detector {architecture.get('detector')!r:.60}; expected tiny, ultralytics or "
        "rfdetr."
    )
