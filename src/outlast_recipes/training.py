"""What recipes in torch do alike: the learning rate over a run, the averaged weights, and what half precision is here."""

from __future__ import annotations

import math

import torch
from torch import nn


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Share of the peak at a step: up in a line for a share of all steps, then a cosine to zero.

    A function of the step and the config alone, so that a resume with another --lr uses it.
    """
    warm = max(1, round(total * warmup))
    after = (step - warm) / max(1, total - warm)
    return step / warm if step <= warm else 0.5 + 0.5 * math.cos(math.pi * after)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Forgets faster while it is young, so that a short run is not averaged with its random start."""
    share = 1 - min(decay, step / (step + 9))
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        old.copy_(torch.lerp(old, new, share) if old.is_floating_point() else new)


def half_precision(device: torch.device, *, wanted: bool) -> tuple[torch.dtype, torch.amp.GradScaler]:
    """bfloat16 where the device computes in it, else float16 with the loss scaling that it needs."""
    narrow = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    half = torch.float16 if narrow else torch.bfloat16
    return half, torch.amp.GradScaler(device.type, enabled=wanted and half == torch.float16)
