"""The names of ultralytics that this adapter uses; importing this module prepares the process and imports it."""

from __future__ import annotations

from outlast_recipes.common import torchvision_operators
from outlast_recipes.yolo.ultralytics_adapter import settings

settings.check_installed()
torchvision_operators.provide()
with settings.prepared():
    import ultralytics
    from ultralytics.data.augment import Albumentations, LetterBox
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
    from ultralytics.models.yolo.pose import PoseTrainer, PoseValidator
    from ultralytics.nn.tasks import DetectionModel, PoseModel, torch_safe_load
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes, scale_coords
    from ultralytics.utils.torch_utils import ModelEMA

__all__ = [
    "Albumentations",
    "DetectionModel",
    "DetectionTrainer",
    "DetectionValidator",
    "LetterBox",
    "ModelEMA",
    "PoseModel",
    "PoseTrainer",
    "PoseValidator",
    "YOLODataset",
    "non_max_suppression",
    "scale_boxes",
    "scale_coords",
    "torch_safe_load",
    "ultralytics",
]
