"""A small detector in plain torch: for machines and licences that cannot have ultralytics, and for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from outlast_recipes.yolo.plain import PlainTraining
from outlast_recipes.yolo.tiny_network import TinyDetector, TinyNetwork, losses


class TinyTraining(PlainTraining):
    """A training of the small network."""

    def untrained(self) -> nn.Module:
        return TinyNetwork(len(self.dataset.names), self.keypoints)

    def losses(
        self, network: Callable[[Tensor], Any], images: Tensor, labels: Sequence[tuple[Tensor, ...]]
    ) -> dict[str, Tensor]:
        training = self.config.training
        weights = (training.class_loss, training.box_loss / 7.5, training.pose_loss / 12)
        return losses(network(images).float(), labels, len(self.dataset.names), weights)

    def detector_of(self, network: nn.Module) -> TinyDetector:
        return TinyDetector(network, self.dataset.names, self.keypoints, self.config.model.image_size)
