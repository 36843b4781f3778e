"""Pictures as a network in plain torch takes them: square and augmented for its training, fitted for a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import outlast
from outlast_recipes.common.boxes import suppress
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Picture, Prediction
from outlast_recipes.yolo.images import ImageRefused, decode

MOST = 300
"""Objects that are found in one picture."""


class SquareDataset(torch.utils.data.Dataset[Any]):
    """Augmented square images with their labels in pixels of them.

    Args:
        samples: of a split.
        config: values of the run.
        keypoints: whether the network has keypoints; without them, those of the samples are left out.
    """

    def __init__(self, samples: Sequence[Sample], config: YoloConfig, *, keypoints: bool) -> None:
        self.samples, self.size, self.views = samples, config.model.image_size, config.augmentation
        self.keypoints = keypoints

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image (3, S, S), boxes (N, 4), classes (N,), keypoints (N, K, 2); NaN where one is not labelled."""
        sample = self.samples[number]
        chance, views, size = torch.rand(6).tolist(), self.views, self.size
        scale = size / max(sample.width, sample.height) * (1 + views.scale * (2 * chance[0] - 1))
        shift = [size * views.translate * (2 * each - 1) for each in chance[1:3]]
        picture = Image.fromarray(picture_of(sample))
        affine = (1 / scale, 0, -shift[0] / scale, 0, 1 / scale, -shift[1] / scale)
        moved = picture.transform(
            (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR, fillcolor=(114, 114, 114)
        )
        image = torch.from_numpy(np.array(moved)).permute(2, 0, 1).float() / 255
        image = (image * (1 + views.hsv_v * (2 * chance[3] - 1))).clamp(max=1)
        points = _keypoints(sample, wanted=self.keypoints)
        boxes = torch.from_numpy(sample.boxes) * scale + torch.tensor(shift * 2)
        points = points * scale + torch.tensor(shift)
        if chance[4] < (views.fliplr if views.fliplr is not None else 0.0 if points.shape[1] else 0.5):
            image, boxes = (
                image.flip(2),
                torch.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1),
            )
        if chance[5] < views.flipud:
            image, boxes = (
                image.flip(1),
                torch.stack([boxes[:, 0], size - boxes[:, 3], boxes[:, 2], size - boxes[:, 1]], 1),
            )
        return image, boxes, torch.from_numpy(sample.classes), points


def _keypoints(sample: Sample, *, wanted: bool) -> Tensor:
    """(N, K, 2); NaN where one is not labelled, and K = 0 without keypoints."""
    if not wanted or sample.keypoints is None or sample.visible is None:
        return torch.zeros(len(sample.classes), 0, 2)
    points = torch.from_numpy(sample.keypoints.copy())
    points[torch.from_numpy(sample.visible == 0)] = torch.nan
    return points


def collate(samples: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Images (B, 3, S, S), and for each its boxes, classes and keypoints."""
    return torch.stack([sample[0] for sample in samples]), [sample[1:] for sample in samples]


def picture_of(sample: Sample) -> Picture:
    """The picture of a sample, as it was labelled; raises outlast.DataError when it cannot be read any more."""
    try:
        return np.array(decode(sample.path))
    except ImageRefused as error:  # the header was read before the training, and no more
        raise outlast.DataError(
            f"{sample.path} {error}. `outlast data check yolo` looks at the pixels of all images."
        ) from error


def fitted(picture: Picture, size: int, stride: int) -> tuple[Tensor, float]:
    """A picture scaled so that its larger side has `size` pixels, in grey up to multiples of a stride, and the scale.

    Returns:
        (3, H, W) float, 0 to 1.
    """
    scale = size / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    full = np.full((-(-height // stride) * stride, -(-width // stride) * stride, 3), 114, np.uint8)
    full[:height, :width] = np.asarray(scaled)
    return torch.from_numpy(full).permute(2, 0, 1).float() / 255, scale


def merged(
    picture: Picture, boxes: Tensor, scores: Tensor, classes: Tensor, points: Tensor | None, overlap: float
) -> Prediction:
    """What a network found, cut at the picture's border, without the worse of two boxes of a class that overlap.

    Args:
        picture: in which it was found.
        boxes: (N, 4), in pixels of the picture.
        scores: (N,).
        classes: (N,) integers.
        points: (N, K, 2), in pixels of the picture, or None.
        overlap: IoU above which two boxes overlap.
    """
    height, width = picture.shape[:2]
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
    apart = classes[:, None] * (2.0 * max(width, height))  # boxes of two classes do not overlap
    kept = suppress(boxes + apart, scores, overlap)[:MOST]
    return Prediction(
        boxes[kept].numpy().astype(np.float32),
        scores[kept].numpy().astype(np.float32),
        classes[kept].numpy().astype(np.int64),
        None if points is None else points[kept].numpy().astype(np.float32),
    )
