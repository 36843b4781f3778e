"""A training of RF-DETR's networks with its own matching and losses, in steps of the run. Its trainer is not used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.plain import PlainTraining
from outlast_recipes.yolo.rfdetr_adapter import library
from outlast_recipes.yolo.rfdetr_adapter.network import RfdetrDetector, normal, untrained, values

LEAST = 2.0  # pixels of a side; what is left of an object at the border and is smaller is no label
_KINDS = {
    "loss_ce": "cls_loss",
    "loss_bbox": "box_loss",
    "loss_giou": "box_loss",
    "loss_keypoints_l1": "pose_loss",
    "loss_keypoints_nll": "pose_loss",
    "loss_keypoints_findable": "visibility_loss",
    "loss_keypoints_visible": "visibility_loss",
}
"""RF-DETR's losses -> names of this recipe."""
_LAYER = re.compile(r"_(\d+|enc)$")  # the last layer's losses have no such end


class RfdetrTraining(PlainTraining):
    """A training of one of RF-DETR's networks.

    Args:
        config: values of the run.
        dataset: the data.
        device: of this rank.
    """

    most_gradient, unused = 0.1, True  # as its own trainer; a token for masked patches is never used

    def __init__(self, config: YoloConfig, dataset: Dataset, device: torch.device) -> None:
        super().__init__(config, dataset, device)
        kind = library.KeypointTrainConfig if self.keypoints else library.TrainConfig
        of_training = kind(dataset_dir=".", output_dir=".")  # neither is read
        built: tuple[Any, Any] = library.build_criterion_from_config(values(*self._form()), of_training)
        self._criterion, training = built[0].to(device), config.training
        self._weights = {
            "cls_loss": training.class_loss / 0.5,
            "box_loss": training.box_loss / 7.5,
            "pose_loss": training.pose_loss / 12,
            "visibility_loss": training.visibility_loss,
        }

    def _form(self) -> tuple[str, int, int, int]:
        model = self.config.model
        return model.architecture, len(self.dataset.names), self.keypoints, model.image_size

    def untrained(self) -> nn.Module:
        return untrained(*self._form())

    def losses(
        self, network: Callable[[Tensor], Any], images: Tensor, labels: Sequence[tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        size = images.shape[-1]
        targets = [_target([part.to(self.device) for part in each], size) for each in labels]
        found = self._criterion(_in_full(network(normal(images))), targets)
        total: dict[str, Tensor] = {}
        for name, weight in self._criterion.weight_dict.items():
            kind = _KINDS[_LAYER.sub("", name)]
            total[kind] = total.get(kind, 0) + weight * self._weights[kind] * found[name]
        return total

    def detector_of(self, network: nn.Module) -> RfdetrDetector:
        architecture, _, keypoints, size = self._form()
        return RfdetrDetector(network, architecture, self.dataset.names, keypoints, size)


def _target(labels: Sequence[Tensor], size: int) -> dict[str, Tensor]:
    """Labels of an image as shares of its side: boxes as middle and size, keypoints as x, y and 2, or 0 where one is
    not labelled or outside."""
    boxes, classes, points = labels
    inside = boxes.clamp(0, size)
    sides = inside[:, 2:] - inside[:, :2]
    large = (sides >= LEAST).all(1)
    middle = (inside[:, :2] + inside[:, 2:]) / 2
    target = {"boxes": torch.cat([middle, sides], 1)[large] / size, "labels": classes[large]}
    if points.shape[1]:
        seen = ((points >= 0) & (points <= size)).all(2, keepdim=True)  # false for NaN
        target["keypoints"] = torch.cat([torch.where(seen, points / size, 0), 2 * seen], 2)[large]
    return target


def _in_full(outputs: Any) -> Any:
    """The same outputs in float32."""
    if isinstance(outputs, dict):
        return {name: _in_full(each) for name, each in outputs.items()}
    return [_in_full(each) for each in outputs] if isinstance(outputs, list) else outputs.float()
