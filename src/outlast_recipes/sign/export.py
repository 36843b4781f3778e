"""The formats that `outlast export --format` writes besides safetensors. Batch and frames are free in both."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

import outlast
from outlast_recipes.common import exporting
from outlast_recipes.sign.batch import FEATURES, POINTS
from outlast_recipes.sign.iv3_gru import InceptionV3GRU
from outlast_recipes.sign.layers import inside
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.saved import restored

TRACED = (24, 17)  # frames of the clips of the traced batch
COMPARED = ((1,), (9, 40), (150, 3, 77))  # of other batches, on which the export must give the same
OUTPUTS = ("gloss", "category")


def to_onnx(saved: outlast.SavedCheckpoint, part: str, target: Path) -> Iterable[str]:
    network, _ = restored(saved, part)
    inputs, *others = (example(network, lengths) for lengths in (TRACED, *COMPARED))
    names = ("features", "lengths") if isinstance(network, InceptionV3GRU) else ("points", "seen", "lengths")
    yield from exporting.to_onnx(network, inputs, names, OUTPUTS, target, free=free(inputs), others=others)


def to_torch_export(saved: outlast.SavedCheckpoint, part: str, target: Path) -> Iterable[str]:
    network, _ = restored(saved, part)
    inputs, *others = (example(network, lengths) for lengths in (TRACED, *COMPARED))
    yield from exporting.to_torch_export(network, inputs, target, free=free(inputs), others=others)


def free(inputs: tuple[Tensor, ...]) -> list[dict[int, str]]:
    """Batch and frames of all inputs but the last, which is the lengths."""
    return [{0: "batch", 1: "frames"}] * (len(inputs) - 1) + [{0: "batch"}]


def example(network: SignNetwork, lengths: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Random inputs of a network: a clip of each length. They are drawn from a generator of their own."""
    chance = torch.Generator().manual_seed(0)
    count, frames, given = len(lengths), max(lengths), torch.tensor(lengths)
    within = inside(given, frames)
    if isinstance(network, InceptionV3GRU):
        return torch.randn(count, frames, FEATURES, generator=chance) * within[..., None], given
    seen = (torch.rand(count, frames, POINTS, generator=chance) < 0.8) & within[..., None]
    return torch.randn(count, frames, POINTS, 2, generator=chance) * seen[..., None], seen, given


EXPORTS = {"onnx": to_onnx, "pt2": to_torch_export}
