"""The cost of LAST and the baselines: clips per second, memory, MACs, and how cost grows with frames, joints and batch.

Every figure is taken in its own process, so that peak memory is that figure's and not an earlier one's. A row is
shown as soon as it stands.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from benchmarks.skeleton.networks import NETWORKS
from torch import Tensor, nn

from outlast_recipes.common.complexity import macs, parameters
from outlast_recipes.common.training import keep_freed_memory
from outlast_recipes.skeleton.evaluation import example
from outlast_recipes.skeleton.layouts import KINECT_2, Layout
from outlast_recipes.skeleton.model import SIZES, Last

CLASSES, FRAMES = 120, 64
COMPARED = ("last tiny", "last base", "last large", *NETWORKS)
GROWING = ("last base", "st_gcn", "ctr_gcn", "last_seed")
GROWTH = ((32, 1, 16), (64, 1, 16), (128, 1, 16), (64, 2, 16), (64, 1, 1), (64, 1, 4), (64, 1, 64))
"""Frames, skeletons of 25 joints that hang on one root, and clips in a batch."""


def network(name: str, layout: Layout, frames: int) -> nn.Module:
    torch.manual_seed(0)
    if name in NETWORKS:
        return NETWORKS[name](CLASSES, layout, "fused")
    return Last(SIZES[name.removeprefix("last ")], CLASSES, layout, frames=frames)


def compared() -> Iterator[dict[str, Any]]:
    """Rows of training and inference at 64 frames, 25 joints and two bodies, at batch 1 and 64."""
    for name in COMPARED:
        made = network(name, KINECT_2, FRAMES)
        row: dict[str, Any] = {
            "network": name,
            "parameters": parameters(made),
            "GMAC": macs(made, example(KINECT_2, FRAMES)) / 1e9,
        }
        for training in (False, True):
            for batch in (1, 64):
                what = f"{'train' if training else 'infer'} {batch}"
                seconds, megabytes = _alone(name, FRAMES, 1, batch, training=training)
                row[f"{what}, clips/s"] = batch / seconds
                row[f"{what}, MB"] = megabytes
        yield row


def growing() -> Iterator[dict[str, Any]]:
    """Rows of milliseconds a clip of inference as frames, joints and batch grow."""
    for name in GROWING:
        row: dict[str, Any] = {"network": name}
        for frames, skeletons, batch in GROWTH:
            seconds, _ = _alone(name, frames, skeletons, batch, training=False)
            row[f"T {frames} V {25 * skeletons} N {batch}"] = 1e3 * seconds / batch
        yield row


SECONDS_OF_A_PAIR = 70  # eight of them in a quarter of an hour, with what begins a process


def paired() -> Iterator[dict[str, Any]]:
    """Rows of LAST base beside ST-GCN, in one process and in turns: on a loaded machine both are slowed alike.

    With one thread the clock is the processor's time of the process, else the wall's. Medians of as many rounds as the
    time of a pair holds, two at the least; the ratio is the median of the rounds' ratios.
    """
    for threads in (1, 2):
        for batch in (16, 64):
            for training in (True, False):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    yield pool.submit(_pair, threads, batch, training=training).result()


def _pair(threads: int, batch: int, *, training: bool) -> dict[str, Any]:
    keep_freed_memory()
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    given, labels = example(KINECT_2, FRAMES, batch), torch.arange(batch) % CLASSES
    both = [network(name, KINECT_2, FRAMES).train(training) for name in ("last base", "st_gcn")]
    optimizers = [torch.optim.AdamW(each.parameters()) for each in both]
    times: list[list[float]] = []
    begun = time.monotonic()
    while len(times) < 3 or (len(times) < 8 and time.monotonic() - begun < SECONDS_OF_A_PAIR):
        times.append([])
        for made, optimizer in zip(both, optimizers, strict=True):
            begin = clock()
            _pass(made, given, labels, optimizer if training else None)
            times[-1].append(clock() - begin)
    last, st_gcn = zip(*times[1:], strict=True)  # the first finds its memory
    return {
        "threads": threads,
        "what": f"{'train' if training else 'infer'}, batch {batch}",
        "LAST base, ms a clip": 1e3 * statistics.median(last) / batch,
        "ST-GCN, ms a clip": 1e3 * statistics.median(st_gcn) / batch,
        "LAST's clips to ST-GCN's": statistics.median(own / other for own, other in zip(st_gcn, last, strict=True)),
        "rounds": len(last),
        "load": os.getloadavg()[0],
    }


def _pass(
    made: nn.Module, given: tuple[Tensor, Tensor], labels: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    """A pass of inference, or a step of training where there is an optimizer."""
    if optimizer is None:
        with torch.no_grad():
            made(*given)
        return
    nn.functional.cross_entropy(made(*given), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def _alone(*what: Any, **more: Any) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, *what, **more).result()


def measured(name: str, frames: int, skeletons: int, batch: int, *, training: bool) -> tuple[float, float]:
    """The median seconds of a pass (or of a whole step of training), and by how many MB the process grew over what it
    held before it."""
    keep_freed_memory()  # as a training on the CPU does
    layout = KINECT_2 if skeletons == 1 else repeated(KINECT_2, skeletons)
    made = network(name, layout, frames).train(training)
    joints, mask = example(layout, frames, batch)
    labels = torch.arange(batch) % CLASSES
    optimizer = torch.optim.AdamW(made.parameters())
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: importing has its own
    before = _kilobytes("VmRSS")
    times: list[float] = []
    # The first one does not count: memory is found in it. Two at the least, then as many as three seconds hold.
    while len(times) < 3 or (sum(times) < 3 and len(times) < 30):
        begin = time.perf_counter()
        _pass(made, (joints, mask), labels, optimizer if training else None)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:]), (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(field: str) -> int:
    """Memory of this process: VmRSS, at present, or VmHWM, at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def repeated(layout: Layout, times: int) -> Layout:
    """A made-up layout of so many times as many joints: more skeletons that hang on the first one's root."""
    count = layout.joints
    root = next(joint for joint, parent in enumerate(layout.parents) if joint == parent)
    parents, mirror = list(layout.parents), list(layout.mirror)
    for skeleton in range(1, times):
        parents += [
            root if joint == parent else parent + skeleton * count for joint, parent in enumerate(layout.parents)
        ]
        mirror += [joint + skeleton * count for joint in layout.mirror]
    return Layout("repeated", tuple(parents), tuple(mirror), layout.spine, layout.names * times)
