"""The names of RF-DETR that this adapter uses; importing this module prepares the process and imports it."""

from __future__ import annotations

import logging
import warnings

from outlast_recipes.common import torchvision_operators
from outlast_recipes.yolo.rfdetr_adapter import settings

settings.check_installed()
torchvision_operators.provide()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what torch deprecates, and of models that need another package
    from rfdetr.config import (
        KeypointTrainConfig,
        PretrainWeightsCompatibilityWarning,
        RFDETRLargeConfig,
        RFDETRMediumConfig,
        RFDETRNanoConfig,
        RFDETRSmallConfig,
        TrainConfig,
    )
    from rfdetr.models import PostProcess, build_criterion_from_config, build_model_from_config

logging.getLogger("rf-detr").setLevel(logging.ERROR)  # it warns that weights are random, which is what is wanted

__all__ = [
    "KeypointTrainConfig",
    "PostProcess",
    "PretrainWeightsCompatibilityWarning",
    "RFDETRLargeConfig",
    "RFDETRMediumConfig",
    "RFDETRNanoConfig",
    "RFDETRSmallConfig",
    "TrainConfig",
    "build_criterion_from_config",
    "build_model_from_config",
]
