"""What one save costs training, in pairs of blocks of steps in one loop: `python -m benchmarks.checkpoint.slowdown`.

A block begins with a save or without one, and both have the same number of steps, enough for a save to become durable.
Blocks of a pair take turns in being first. The cost is the median of the differences inside pairs, in copies of the
state: of the clock (slowdown), of the processor's time of all threads (cpu), and of that of the training thread alone
(own). The clock means something on idle cores only; the processor's time also on a machine that others use.

    python -m benchmarks.checkpoint.slowdown [--size small] [--pairs 20] [--threads N] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.checkpoint import SIZES
from benchmarks.checkpoint.network import network, train
from benchmarks.checkpoint.peers import PEERS, sync

import outlast
from outlast.checkpoint import Retention
from outlast.environment import Environment, Limits
from outlast.tracking import SaveFacts, Sink

OURS = {"outlast": True, "outlast, waiting": False}
"""Our ways to save, and whether in the background."""
DEFAULT = (*OURS, "torch.save")
COLUMNS = ("slowdown", "cpu", "own")


class Clock:
    """Seconds since it was made: of the clock, of the process, of this thread."""

    def __init__(self) -> None:
        self.begun = self.now()

    @staticmethod
    def now() -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), time.thread_time()

    def seconds(self) -> list[float]:
        return [now - begun for now, begun in zip(self.now(), self.begun, strict=True)]


class Blocks:
    """A loop of steps in blocks, with and without a save.

    Args:
        step: makes a step.
        save: begins a save; may return seconds that it spent on other things.
        tidy: what the next save needs and training need not pay for; between blocks.
    """

    def __init__(self, step: Callable[[], None], save: Callable[[], float | None], tidy: Callable[[], None]) -> None:
        self.step, self.save, self.tidy = step, save, tidy

    def run(self, steps: int, *, saves: bool) -> list[float]:
        clock = Clock()
        other = (self.save() or 0.0) if saves else 0.0
        for _ in range(steps):
            self.step()
        seconds, *found = clock.seconds()
        self.tidy()
        return [seconds - other, *found]


def pairs(blocks: Blocks, steps: int, count: int) -> Iterator[list[float]]:
    """Differences inside pairs."""
    for number in range(count):
        first = blocks.run(steps, saves=number % 2 == 0)
        second = blocks.run(steps, saves=number % 2 == 1)
        with_save, without = (first, second) if number % 2 == 0 else (second, first)
        yield [one - other for one, other in zip(with_save, without, strict=True)]


def copies(nbytes: int) -> float:
    """Seconds of processor's time that a copy of the state takes."""
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    found = []
    for _ in range(9):
        begun = time.thread_time()
        np.copyto(target, source)
        found.append(time.thread_time() - begun)
    return statistics.median(found)


@contextlib.contextmanager
def ours(name: str, model: Any, optimizer: Any, folder: Path) -> Iterator[Blocks]:
    durable = [0]

    class Listener(Sink):
        def saved(self, save: SaveFacts) -> None:
            durable[0] = save.step

    with outlast.open_run(
        "r",
        total_steps=10**6,
        root=folder,
        save="never",
        keep=Retention(last=2),
        progress="none",
        environment=Environment("local", Limits(None, 2**40, 2)),
        sinks=[Listener()],
        background=OURS[name],
    ) as run:
        run.track(model=model, optimizer=optimizer)
        steps = run.steps()
        at = [next(steps)]
        asked = [0]

        def step() -> None:
            train(model, optimizer)
            at[0] = next(steps)

        def save() -> None:  # it begins at the end of this step, as with a policy
            run.save()
            asked[0] = at[0]

        def tidy() -> None:
            while durable[0] < asked[0]:
                step()

        yield Blocks(step, save, tidy)


@contextlib.contextmanager
def theirs(name: str, model: Any, optimizer: Any, folder: Path) -> Iterator[Blocks]:
    peer = PEERS[name](model, optimizer, folder)
    number = [0]

    def save() -> float | None:
        number[0] += 1
        return peer.save(folder / f"save{number[0]}")

    def tidy() -> None:
        place = folder / f"save{number[0]}"
        if place.exists() or peer.background:
            peer.finish()
            if place.exists():
                sync(place)
                shutil.rmtree(place) if place.is_dir() else place.unlink()

    if hasattr(peer, "prepare"):
        peer.prepare()
    yield Blocks(lambda: train(model, optimizer), save, tidy)


def differences(name: str, model: Any, optimizer: Any, folder: Path, steps: int, count: int) -> list[list[float]]:
    """The differences of so many pairs of blocks of so many steps, after blocks that are not counted."""
    with (ours if name in OURS else theirs)(name, model, optimizer, folder) as blocks:
        for saves in (True, False, True):  # memory, layouts, imports
            blocks.run(steps, saves=saves)
        return list(pairs(blocks, steps, count))


def measure(name: str, nbytes: int, count: int, threads: int, folder: Path, steps: int) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model, optimizer = network(nbytes)
    for _ in range(2):
        train(model, optimizer)
    size = 3 * sum(parameter.nbytes for parameter in model.parameters())
    found = differences(name, model, optimizer, folder, steps, count)
    unit = copies(size)
    return {
        "name": name,
        "memcpy": unit,
        **{column: [pair[index] / unit for pair in found] for index, column in enumerate(COLUMNS)},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way, in turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=6, help="of a block")
    parser.add_argument("--only", nargs="*", default=list(DEFAULT))
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            found = measure(
                options.in_process, SIZES[options.size], options.pairs, options.threads, Path(folder), options.steps
            )
        print(json.dumps(found))
        return
    words = [f"--{name}={getattr(options, name)}" for name in ("size", "pairs", "threads", "steps")]
    rows: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for name in options.only:
            command = [sys.executable, "-m", "benchmarks.checkpoint.slowdown", *words, f"--in-process={name}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
            if done.returncode:
                print(f"{name} failed: {(done.stderr.strip().splitlines() or [''])[-1]:.200}", flush=True)
                continue
            rows.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(line(name, rows[name]), flush=True)


def line(name: str, rounds: list[dict[str, Any]]) -> str:
    """Median and quartiles of the pairs of all rounds so far."""
    cells = []
    for column in COLUMNS:
        low, middle, high = statistics.quantiles([each for row in rounds for each in row[column]], n=4)
        cells.append(f"{column} {middle:6.2f} ({low:6.2f} to {high:6.2f})")
    unit = statistics.median(row["memcpy"] for row in rounds)
    return f"{name:24} {'   '.join(cells)}   a copy {unit * 1e3:.2f} ms; load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
