"""Boxes as tensors: (N, 4), left, top, right, bottom."""

from __future__ import annotations

import torch
from torch import Tensor


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    both = area(first)[:, None] + area(second)[None] - shared
    return shared / both.clamp(min=1e-9)


def area(boxes: Tensor) -> Tensor:
    """(N,) width times height."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes: (N, 4).
        scores: (N,).
        threshold: IoU above which the box with the lower score is left out.

    Returns:
        (M,) int64: indices of the boxes that stay, by falling score.
    """
    order = scores.argsort(descending=True, stable=True)
    left, top, right, bottom = boxes.float()[order].unbind(1)
    size = (right - left) * (bottom - top)
    stays = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    kept = []
    while stays.any():
        first = int(stays.int().argmax())
        kept.append(first)
        width = (right.minimum(right[first]) - left.maximum(left[first])).clamp(min=0)
        height = (bottom.minimum(bottom[first]) - top.maximum(top[first])).clamp(min=0)
        shared = width * height
        stays &= shared <= threshold * (size + size[first] - shared)
        stays[: first + 1] = False
    return order[torch.tensor(kept, dtype=torch.int64, device=boxes.device)]
