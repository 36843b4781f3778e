"""The cost of a network: parameters, multiply-accumulates, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Multiply-accumulates of one forward pass, by torch's own counter, which counts two operations for each.

    Gradients are on, so that a network that computes inference in another way is counted by its modules.
    """
    from torch.utils.flop_counter import FlopCounterMode

    training = model.training
    model.eval()
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    model.train(training)
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def latency(model: nn.Module, inputs: Sequence[Tensor], rounds: int = 15) -> float:
    """Seconds of one forward pass: the median of several, after two that do not count."""
    times = []
    for _ in range(rounds + 2):
        begin = time.perf_counter()
        model(*inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])
