"""What a network gives for some clips, and how good that is: gloss, category, and clips with and without occlusion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from outlast_recipes.common.classification import correct
from outlast_recipes.sign.batch import Clips
from outlast_recipes.sign.network import SignNetwork

BATCH = 64


@dataclass(frozen=True)
class Outputs:
    """The logits and the labels of N clips.

    Attributes:
        gloss_logits: (N, G).
        category_logits: (N, K).
        gloss, category: (N,) int64.
        occluded: (N,) bool.
        numbers: (N,) int64, of the clips in their data set.
    """

    gloss_logits: Tensor
    category_logits: Tensor
    gloss: Tensor
    category: Tensor
    occluded: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.gloss)

    def __getitem__(self, chosen: Tensor) -> Outputs:
        """Some of the clips, by a mask (N,) or by their places."""
        return Outputs(*(value[chosen] for value in vars(self).values()))


@torch.no_grad()
def outputs_of(network: SignNetwork, clips: Clips, device: torch.device) -> Outputs:
    """The logits of some clips, on the CPU. The network is in evaluation mode."""
    rows = []
    for batch in clips.batches(BATCH):
        gloss, category = (logits.cpu() for logits in network(*batch.to(device).inputs))
        rows.append((gloss, category, batch.gloss, batch.category, batch.occluded, batch.numbers))
    return Outputs(*(torch.cat(column) for column in zip(*rows, strict=True)))


def metrics(outputs: Outputs, prefix: str = "") -> dict[str, float]:
    """The metrics of N > 0 clips, each name with a prefix: gloss_top1, gloss_top5, category and loss; and gloss_top1 of
    clips with and without occlusion, when there are both."""
    found = accuracies(outputs)
    found["loss"] = float(F.cross_entropy(outputs.gloss_logits, outputs.gloss))
    if outputs.occluded.any() and not outputs.occluded.all():
        for name, chosen in (("occluded", outputs.occluded), ("not_occluded", ~outputs.occluded)):
            found[f"gloss_top1_{name}"] = accuracies(outputs[chosen])["gloss_top1"]
    return {prefix + name: value for name, value in found.items()}


def accuracies(outputs: Outputs) -> dict[str, float]:
    """The accuracies of N > 0 clips."""
    count = len(outputs)
    return {
        "gloss_top1": correct(outputs.gloss_logits, outputs.gloss, 1) / count,
        "gloss_top5": correct(outputs.gloss_logits, outputs.gloss, 5) / count,
        "category": correct(outputs.category_logits, outputs.category, 1) / count,
    }
