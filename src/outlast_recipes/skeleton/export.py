"""The formats that `outlast export --format` writes besides safetensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

import outlast
from outlast_recipes.common import exporting
from outlast_recipes.skeleton.evaluation import example
from outlast_recipes.skeleton.layouts import LAYOUTS
from outlast_recipes.skeleton.saved import restored


def to_onnx(saved: outlast.SavedCheckpoint, part: str, target: Path) -> Iterable[str]:
    network, inputs = _traced(saved, part)
    yield from exporting.to_onnx(network, inputs, ("joints", "mask"), ("logits",), target)


def to_torch_export(saved: outlast.SavedCheckpoint, part: str, target: Path) -> Iterable[str]:
    network, inputs = _traced(saved, part)
    yield from exporting.to_torch_export(network, inputs, target)


def _traced(saved: outlast.SavedCheckpoint, part: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    network, labels = restored(saved, part)
    joints, mask = example(LAYOUTS[labels.layout], labels.frames(saved.config), batch=2)
    mask[1, :, 1] = False  # one clip with two bodies, one with one
    return network, (joints, mask)


EXPORTS = {"onnx": to_onnx, "pt2": to_torch_export}
