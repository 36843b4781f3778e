"""What a trained network reaches: accuracy, and what a hidden hand and padding change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from outlast_recipes.common.complexity import macs, parameters
from outlast_recipes.sign.batch import LEFT, RIGHT, Batch, Clips, KeypointBatch
from outlast_recipes.sign.evaluation import accuracies, outputs_of
from outlast_recipes.sign.layers import inside
from outlast_recipes.sign.network import SignNetwork

CPU = torch.device("cpu")
COMPARED = 64  # clips that are compared alone and padded


class HiddenHand:
    """Clips in which one hand is hidden for half of the frames, in one piece. Where it begins depends on the clip.

    Args:
        clips: the clips.
        hand: the keypoints that are hidden.
    """

    def __init__(self, clips: Clips, hand: slice) -> None:
        self.clips, self.hand = clips, hand

    def __len__(self) -> int:
        return len(self.clips)

    def batches(self, size: int) -> Iterator[Batch]:
        for batch in self.clips.batches(size):
            assert isinstance(batch, KeypointBatch)
            half = (batch.lengths + 1) // 2
            begin = (batch.numbers * 7919) % (batch.lengths - half + 1)
            at = torch.arange(batch.points.shape[1])[None, :]
            hidden = (at >= begin[:, None]) & (at < (begin + half)[:, None])
            seen = batch.seen.clone()
            seen[:, :, self.hand] &= ~hidden[..., None]
            yield dataclasses.replace(batch, seen=seen, points=batch.points * seen[..., None])


def reached(network: SignNetwork, test: Clips, *, in_the_picture: bool) -> dict[str, Any]:
    """Figures of a network on the test clips.

    Args:
        network: in evaluation mode.
        test: the clips.
        in_the_picture: whether points are coordinates of the picture; otherwise of the body.
    """
    outputs = outputs_of(network, test, CPU)
    hands = {
        name: outputs_of(network, HiddenHand(test, hand), CPU) for name, hand in (("left", LEFT), ("right", RIGHT))
    }
    chosen = outputs.gloss_logits.argmax(1)
    category_of = network.head.members.float().argmax(0)
    return {
        **accuracies(outputs),
        "category of the gloss": float((category_of[chosen] == outputs.category).float().mean()),
        **{f"hidden {name}": accuracies(found)["gloss_top1"] for name, found in hands.items()},
        "padding": padding(network, test),
        "parameters": parameters(network),
        "MMAC": macs(network, next(iter(test.batches(1))).inputs) / 1e6,
        "clips": len(outputs),
        "coordinates": "picture" if in_the_picture else "body",
    }


@torch.no_grad()
def padding(network: SignNetwork, clips: Clips) -> float:
    """The largest difference of a logit between a clip alone and the same clip padded in a batch."""
    batch = next(iter(clips.batches(COMPARED)))
    *values, lengths = batch.inputs
    longer = [pad(value, (0, 0) * (value.dim() - 2) + (0, 37)) for value in values]
    lengths = lengths.clone()
    lengths[::2] = (lengths[::2] + 1) // 2  # so that clips of one length, as these are, need padding, too
    shown = inside(lengths, longer[0].shape[1])
    longer = [value * shown.view(*shown.shape, *[1] * (value.dim() - 2)).to(value.dtype) for value in longer]
    together = torch.cat(network(*longer, lengths), 1)
    worst = 0.0
    for row in range(len(lengths)):
        alone: list[Tensor] = [value[row : row + 1, : lengths[row]] for value in longer]
        found = torch.cat(network(*alone, lengths[row : row + 1]), 1)[0]
        worst = max(worst, float((found - together[row]).abs().max()))
    return worst
