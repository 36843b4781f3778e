"""The cost of comparing loaded state: `python -m benchmarks.checkpoint.compare [--rounds N] [--sizes ...]`.

In one process and for each size: reading the checkpoint with its hashes (open), loading and trying the way back
(track), and comparing every array with the checkpoint before the first step (compare). Beside it, copying the state in
memory once, and reading it once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch
from benchmarks.checkpoint import SIZES
from benchmarks.checkpoint.network import network, train
from rich.console import Console
from rich.table import Table

import outlast

KINDS = ("open", "track", "compare", "memcpy", "read")


def state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[np.ndarray]:
    tensors = [*model.state_dict().values()]
    tensors += [value for each in optimizer.state.values() for value in each.values() if torch.is_tensor(value)]
    return [tensor.detach().contiguous().view(-1).view(torch.uint8).numpy() for tensor in tensors if tensor.numel() > 1]


def measure(nbytes: int, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            model, optimizer = network(nbytes)
            clock = [time.perf_counter()]
            run = outlast.open_run("r", total_steps=rounds + 2, root=folder, progress="none", save="never")
            clock.append(time.perf_counter())
            run.track(model=model, optimizer=optimizer)
            clock.append(time.perf_counter())
            run._loop.parts.verify()
            clock.append(time.perf_counter())
            for _ in run.steps(number + 1):
                train(model, optimizer)
            run.close()
            if not number:
                continue
            for kind, begun, ended in zip(KINDS, clock, clock[1:], strict=False):
                found[kind].append(ended - begun)
            arrays = state(model, optimizer)
            targets = [np.ones_like(each) for each in arrays]
            begun = time.perf_counter()
            for target, source in zip(targets, arrays, strict=True):
                np.copyto(target, source)
            found["memcpy"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for each in arrays:
                np.bitwise_or.reduce(each[: len(each) // 8 * 8].view(np.uint64))
            found["read"].append(time.perf_counter() - begun)
            print(f"{number}: " + ", ".join(f"{kind} {found[kind][-1]:.3f} s" for kind in KINDS), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    options = parser.parse_args()
    table = Table(
        "state", *(f"{kind}, s" for kind in KINDS), "compare : memcpy", "compare : read", box=None, pad_edge=False
    )
    for size in options.sizes:
        found = measure(SIZES[size], options.rounds)
        ratios = [
            statistics.median(one / other for one, other in zip(found["compare"], found[kind], strict=True))
            for kind in ("memcpy", "read")
        ]
        medians = (statistics.median(found[kind]) for kind in KINDS)
        table.add_row(size, *(f"{value:.3f}" for value in medians), *(f"{ratio:.2f}" for ratio in ratios))
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
