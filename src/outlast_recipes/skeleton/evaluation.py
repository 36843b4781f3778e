"""Logits and accuracy of a network on a subset of the data."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from outlast_recipes.common.classification import topk_accuracy
from outlast_recipes.common.ranks import several_ranks
from outlast_recipes.skeleton.augment import centre
from outlast_recipes.skeleton.layouts import Layout
from outlast_recipes.skeleton.views import ClipSubset

BATCH = 128


@torch.no_grad()
def logits_of(model: nn.Module, part: ClipSubset, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) of a part, on the centred views."""
    logits, labels = [], []
    for batch in part.batches(BATCH):
        logits.append(model(*centre(batch, frames, device)).float().cpu())
        labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)


def accuracies(model: nn.Module, part: ClipSubset, frames: int, device: torch.device) -> tuple[float, float]:
    """Top-1 and top-5 accuracy. Several ranks share the work; all of them call it."""
    rank, count = (distributed.get_rank(), distributed.get_world_size()) if several_ranks() else (0, 1)
    own = ClipSubset(part.store, part.numbers[rank::count])
    outputs = logits_of(model, own, frames, device) if len(own) else None
    top1, top5 = topk_accuracy(outputs, len(part), device)
    return top1, top5


def example(
    layout: Layout, frames: int, batch: int = 1, device: torch.device | str = "cpu", bodies: int = 2
) -> tuple[Tensor, Tensor]:
    """Random positions (batch, frames, 2, V, 3) and a mask for a number of bodies, for measuring and tracing."""
    mask = torch.zeros(batch, frames, 2, dtype=torch.bool, device=device)
    mask[:, :, :bodies] = True
    return torch.randn(batch, frames, 2, layout.joints, 3, device=device) * mask[..., None, None], mask
