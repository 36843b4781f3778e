"""The network of the small detector, its losses, and what its outputs mean.

Fully convolutional with stride 8. Each cell says the class, the box and the keypoints of the object whose middle is in
it or beside it (FCOS, Tian et al. 2019, with one level and centre sampling; focal loss, Lin et al. 2017).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import outlast
from outlast_recipes.yolo.detector import Detector, Picture, Prediction
from outlast_recipes.yolo.square import fitted, merged

STRIDE, WIDTH, OVERLAP = 8, 32, 0.6


class TinyNetwork(nn.Module):
    """Images (B, 3, H, W), 0 to 1, H and W multiples of 8, to values of cells (B, H/8, W/8, classes + 4 + 2 K): logits
    of the classes, distances from the cell's middle to the sides of the box, and offsets of the keypoints, in
    strides."""

    def __init__(self, classes: int, keypoints: int) -> None:
        super().__init__()

        def block(inward: int, outward: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outward), nn.SiLU())

        widths = (3, WIDTH // 2, WIDTH, 2 * WIDTH)
        self.body = nn.Sequential(
            *(layer for a, b in itertools.pairwise(widths) for layer in (block(a, b, 2), block(b, b, 1))),
            block(2 * WIDTH, 2 * WIDTH, 1),
        )
        self.head = nn.Conv2d(2 * WIDTH, classes + 4 + 2 * keypoints, 1)
        nn.init.constant_(self.head.bias[:classes], -4.0)  # few cells have an object

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images)).permute(0, 2, 3, 1)


def middles(height: int, width: int, device: torch.device) -> Tensor:
    """(height, width, 2): x and y of the middles of the cells, in strides."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([columns, rows], 2) + 0.5


class TinyDetector(Detector):
    """The network with the meaning of its outputs.

    Args:
        network: in evaluation mode.
        names: of the classes.
        keypoints: K.
        image_size: the larger side to which a picture is scaled.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], keypoints: int, image_size: int) -> None:
        self.network, self.names, self.keypoints, self._size = network, tuple(names), keypoints, image_size

    def architecture(self) -> dict[str, Any]:
        return {
            "detector": "tiny",
            "names": list(self.names),
            "keypoints": self.keypoints,
            "image_size": self._size,
        }

    def _predict_one(self, picture: Picture, confidence: float) -> Prediction:
        device = next(self.network.parameters()).device
        image, scale = fitted(picture, self._size, STRIDE)
        cells = self.network(image[None].to(device))[0].float().cpu()
        here = middles(cells.shape[0], cells.shape[1], cells.device)
        scores, classes = cells[..., : len(self.names)].sigmoid().max(2)
        sides = F.softplus(cells[..., len(self.names) : len(self.names) + 4])
        chosen = scores > confidence
        scores, classes, here, sides = scores[chosen], classes[chosen], here[chosen], sides[chosen]
        boxes = torch.cat([here - sides[:, :2], here + sides[:, 2:]], 1) * STRIDE / scale
        points = cells[..., len(self.names) + 4 :][chosen].reshape(len(here), self.keypoints, 2)
        points = (points + here[:, None]) * STRIDE / scale
        return merged(picture, boxes, scores, classes, points if self.keypoints else None, OVERLAP)


def losses(
    cells: Tensor, labels: Sequence[tuple[Tensor, ...]], classes: int, weights: tuple[float, float, float]
) -> dict[str, Tensor]:
    """Losses of a batch: focal for classes, L1 in strides for boxes and keypoints, each by the number of cells that
    have an object.

    Args:
        cells: outputs of the network.
        labels: boxes, classes and keypoints of each image, in pixels; NaN where a keypoint is not labelled.
        classes: number of classes.
        weights: of the losses of classes, boxes and keypoints.
    """
    here = middles(cells.shape[1], cells.shape[2], cells.device)
    wanted = torch.zeros_like(cells[..., :classes])
    box = points = cells.new_zeros(())
    count = 0
    for image, (boxes, numbers, corners) in enumerate(labels):
        # Larger objects first, so that a cell that two of them claim belongs to the smaller one.
        for one in (boxes[:, 2:] - boxes[:, :2]).prod(1).argsort(descending=True).tolist():
            edges = boxes[one].to(cells.device) / STRIDE
            near = ((here - (edges[:2] + edges[2:]) / 2).abs() < 1.0).all(2)
            if not near.any():
                continue
            wanted[image][near] = 0
            wanted[image][near, int(numbers[one])] = 1
            found, at = cells[image][near], here[near]
            sides = torch.cat([at - edges[:2], edges[2:] - at], 1)
            box = box + (F.softplus(found[:, classes : classes + 4]) - sides).abs().mean(1).sum()
            if corners.shape[1]:
                offsets = corners[one].to(cells.device) / STRIDE - at[:, None]
                known = offsets.isfinite()
                gap = (found[:, classes + 4 :].view_as(offsets) - offsets.nan_to_num()).abs() * known
                points = points + (gap.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)).sum()
            count += int(near.sum())
    chance = cells[..., :classes].sigmoid()
    missed = torch.where(wanted > 0, 1 - chance, chance)
    cross = F.binary_cross_entropy_with_logits(cells[..., :classes], wanted, reduction="none")
    focal = (torch.where(wanted > 0, 0.25, 0.75) * missed**2 * cross).sum()
    scale = max(1, count)
    return {
        "cls_loss": weights[0] * focal / scale,
        "box_loss": weights[1] * box / scale,
        "pose_loss": weights[2] * points / scale,
    }


def load(architecture: Mapping[str, Any], weights: Mapping[str, Tensor]) -> TinyDetector:
    """A detector of what `architecture()` and `weights()` gave.

    Raises:
        outlast.DataError: they do not belong together.
    """
    names, keypoints = architecture["names"], int(architecture["keypoints"])
    network = TinyNetwork(len(names), keypoints)
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise outlast.DataError(f"The weights are not those of tiny with {len(names)} classes: {error}") from error
    return TinyDetector(network.eval(), names, keypoints, int(architecture["image_size"]))
