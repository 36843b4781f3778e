"""Dropout that costs little on a CPU.

torch's own draws a number of a Bernoulli distribution for each value, one after the other: about 5 ns each, which is a
fifth of a step of the transformer of `sign`. Here four values share a random word of 64 bits. The rate is a multiple of
1/65536, so 0.1 is 0.100006. Numbers come from torch's generator, so they are part of its state. Other devices use
torch's dropout. Without `training` all of this changes nothing, and exports see nothing of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16  # that a quarter of a word tells apart


class Dropout(nn.Dropout):
    """As `nn.Dropout`; see the module."""

    def forward(self, x: Tensor) -> Tensor:
        return dropped_out(x, self.p) if self.training else x


class ReluDropout(nn.Dropout):
    """ReLU and then dropout. For the gradient, a CPU keeps their result alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or not 0 < self.p < 1:
            return F.dropout(F.relu(x), self.p, self.training)
        result: Tensor = _ReluDropout.apply(x, self.p)
        return result


def dropped_out(x: Tensor, rate: float) -> Tensor:
    """`x` with a share of its values set to 0, and the others scaled up so that the mean stays."""
    if not rate:
        return x
    if x.device.type != "cpu" or rate == 1:
        return F.dropout(x, rate)
    return x * _factors(x, rate)


def _levels(rate: float) -> int:
    return min(_LEVELS - 1, round(rate * _LEVELS))


@torch.no_grad()
def _factors(x: Tensor, rate: float) -> Tensor:
    """Of the shape and type of `x`: 0 for a share of the values, else 1 / (1 - share)."""
    count, dropped = x.numel(), _levels(rate)
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[:count]
    kept = torch.empty(count, dtype=x.dtype)
    torch.ge(numbers, dropped - _LEVELS // 2, out=kept)  # several times as fast as to bool, and from bool
    return kept.mul_(_LEVELS / (_LEVELS - dropped)).view(x.shape)


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        result = F.relu(x).mul_(_factors(x, rate))
        ctx.save_for_backward(result)
        ctx.scale = _LEVELS / (_LEVELS - _levels(rate))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.threshold_backward(gradient, result, 0)
        return passed.mul_(ctx.scale), None
