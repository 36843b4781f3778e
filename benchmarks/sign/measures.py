"""What a trained network reaches: accuracy, and what a hidden hand and padding change."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from outlast_recipes.common.complexity import macs, parameters
from outlast_recipes.sign.augment import Strength
from outlast_recipes.sign.batch import LEFT, RIGHT, Batch, Clips, KeypointBatch
from outlast_recipes.sign.evaluation import accuracies, metrics, outputs_of
from outlast_recipes.sign.layers import inside
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.parts import ClipSubset, Views

CPU = torch.device("cpu")
OFF = Strength(**{field.name: () if field.name == "handed" else 0 for field in dataclasses.fields(Strength)})
CAMERA = dataclasses.replace(OFF, rotate=20, squeeze=0.3, perspective=0.2, arms=12, warp=0.5, crop=0.2, noise=0.01)
JUDGED = {
    "camera": CAMERA,
    "shoulders": dataclasses.replace(OFF, shoulders=0.3),
    "reach": dataclasses.replace(OFF, reach=0.4),
    "fingers": dataclasses.replace(OFF, fingers=30),
    "timing": dataclasses.replace(OFF, timing=1),
    "another": dataclasses.replace(
        CAMERA,
        warp=0.3,
        crop=0.1,
        limbs=0.25,
        trunk=0.25,
        timing=1,
        fingers=30,
        reach=0.35,
        shoulders=0.25,
    ),
}
"""Views that are stronger than those that are trained on: one change each, and all as of another signer."""
ROUNDS = 3  # views of each clip
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


class Changed:
    """Views of clips, the same each time.

    Args:
        clips: the clips.
        strength: how far they are from their clips.
        number: another one gives other views.
    """

    def __init__(self, clips: ClipSubset, strength: Strength, number: int) -> None:
        self.clips, self.number = clips, number
        self.views = Views(clips, strength, seed=20)

    def __len__(self) -> int:
        return len(self.clips)

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield self.views(self.clips.raw(self.clips.numbers[start : start + size]), self.number, CPU)


def judged(network: SignNetwork, validation: ClipSubset) -> dict[str, dict[str, float]]:
    """Loss and accuracy of validation clips as they are, with a hand hidden, and in each kind of `JUDGED`."""
    sets: dict[str, list[Clips]] = {
        "plain": [validation],
        "hand hidden": [HiddenHand(validation, LEFT), HiddenHand(validation, RIGHT)],
        **{
            name: [Changed(validation, strength, number) for number in range(ROUNDS)]
            for name, strength in JUDGED.items()
        },
    }
    found = {}
    for name, clips in sets.items():
        each = [metrics(outputs_of(network, some, CPU)) for some in clips]
        found[name] = {key: statistics.fmean(one[key] for one in each) for key in ("loss", "gloss_top1")}
    return found


def reached(network: SignNetwork, test: Clips) -> dict[str, Any]:
    """Figures of a network on the test clips.

    Args:
        network: in evaluation mode.
        test: the clips.
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
