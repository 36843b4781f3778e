"""Processor time of a save by thread and part, in copies of the state: `python -m benchmarks.checkpoint.threads`.

It is worth reading also on a busy machine, where the clock is not. Run two builds in turn (PYTHONPATH) to compare them.
`--each-step` is for the state that `save="every step"` leaves in a slot. The kernel's part of `open` and `mkdir`
differs by a factor of six from one moment to the next.
"""

from __future__ import annotations

import argparse
import collections
import functools
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.checkpoint import SIZES
from benchmarks.checkpoint.network import network, train

import outlast
from outlast.checkpoint import Retention, flight, prune, slots, staging, store, writer
from outlast.environment import Environment, Limits
from outlast.folder import durable
from outlast.run import saver
from outlast.tracking import SaveFacts, Sink

PARTS: list[tuple[Any, tuple[str, ...]]] = [
    (saver.Saver, ("save", "keep", "check", "_hold")),
    (writer.Writer, ("_commit",)),
    (slots.Slots, ("write",)),
    (flight.Flight, ("hold", "copy")),
    (staging.Copy, ("make",)),
    (staging, ("_sample",)),
    (store.CheckpointStore, ("commit", "_begin", "_write_data", "_seal")),
    (prune.Pruner, ("prune",)),
    (durable, ("as_json", "hash_pieces", "write_files", "overwrite_file", "remove_folder")),
    (os, ("fsync", "open", "write", "unlink", "mkdir", "replace")),
]

spent: collections.Counter[str] = collections.Counter()
around: dict[int, list[float]] = collections.defaultdict(list)  # by thread


def watch(owner: Any, name: str) -> None:
    """Count the processor's time of a function without that of the watched ones that it calls."""
    real = getattr(owner, name, None)
    if real is None:  # an older build
        return

    @functools.wraps(real)
    def timed(*words: Any, **more: Any) -> Any:
        begun, above = time.thread_time(), around[threading.get_ident()]
        above.append(0.0)
        try:
            return real(*words, **more)
        finally:
            took = time.thread_time() - begun
            spent[f"{getattr(owner, '__name__', owner)}.{name}"] += took - above.pop()
            if above:
                above[-1] += took

    setattr(owner, name, timed)


def watch_all() -> None:
    for owner, names in PARTS:
        for name in names:
            watch(owner, name)


def left(run: Any) -> bool:
    """Whether a state has been left in a slot during the step that ends."""
    flight = run._loop.saver._flight
    return flight is not None and flight.done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--saves", type=int, default=30)
    parser.add_argument("--each-step", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, optimizer = network(SIZES[options.size])
    for _ in range(2):
        train(model, optimizer)
    source = np.ones(3 * sum(parameter.nbytes for parameter in model.parameters()), np.uint8)
    target, copies, heard, asked = source.copy(), [], [0], 0

    class Listener(Sink):
        def saved(self, save: SaveFacts) -> None:  # noqa: ARG002
            heard[0] += 1

    with (
        tempfile.TemporaryDirectory() as folder,
        outlast.open_run(
            "r",
            total_steps=10**6,
            root=Path(folder),
            save="10h, every step" if options.each_step else "never",
            keep=Retention(last=2),
            progress="none",
            environment=Environment("local", Limits(None, 2**40, 2)),
            sinks=[Listener()],
        ) as run,
    ):
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps():
            train(model, optimizer)
            heard[0] += options.each_step and left(run)
            if heard[0] < asked:
                continue
            if asked == 2:  # the first ones make memory and layouts
                watch_all()
            if asked == options.saves + 2:
                break
            begun = time.thread_time()
            np.copyto(target, source)
            copies.append(time.thread_time() - begun)
            asked += 1
            if not options.each_step:
                run.save()
        unit = statistics.median(copies) * options.saves
        parts = dict(spent)
    print(
        f"a copy of {len(source) / 1e6:.0f} MB: {statistics.median(copies) * 1e3:.2f} ms; load {os.getloadavg()[0]:.1f}"
    )
    for name, seconds in sorted(parts.items(), key=lambda pair: -pair[1]):
        print(f"{name:30} {seconds / unit:6.2f}")
    print(f"{'all':30} {sum(parts.values()) / unit:6.2f}")


if __name__ == "__main__":
    main()
