"""make bench-remote: what it costs that checkpoints follow a run, beside the bare thing, in interleaved rounds.

    python -m benchmarks.remote [ADDRESS] [--size MB] [--rounds N]

Throughput: a checkpoint pushed (hashes known, blobs, revision) beside a plain upload of the same files with the same
client. Training: the same steps and saves with and without a remote, by turns; what training was held for saves, CPU
time of the training thread, and wall time, which other work on the machine changes.
ADDRESS: of a remote that may be written to; a folder in a temporary one by default. Prints a table of medians and
writes benchmarks/results/remote.json. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import outlast
from outlast.checkpoint import Retention
from outlast.environment import Environment, Limits
from outlast.folder.layout import RunFolder
from outlast.remote.address import open_remote
from outlast.remote.base import Remote
from outlast.remote.identity import identify
from outlast.remote.place import Place
from outlast.remote.push import Pusher
from outlast.remote.revision import PushedRun

HERE = Environment("local", Limits(seconds=None, ram=2**34, cores=2))


class Weights:
    """Arrays of so many bytes in four parts."""

    def __init__(self, size: int) -> None:
        chance = np.random.default_rng(size)
        self.arrays = {f"layer{number}": chance.random(size // 32) for number in range(4)}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.arrays)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.arrays = dict(state)


def train(root: Path, size: int, steps: int, every: int, *, remote: str | None) -> tuple[float, float, float]:
    """Seconds that training was held for saves, in all up to the last step, and of a core in the training thread."""
    weights, matrix = Weights(size), np.random.default_rng(0).random((384, 384))
    with outlast.open_run(
        "r", root=root, total_steps=steps, save=f"{every} steps", progress="none", environment=HERE, remote=remote
    ) as run:
        run.track(weights=weights)
        begun, used = time.perf_counter(), time.thread_time()
        for step in run.steps():
            for _ in range(4):
                matrix = np.tanh(matrix @ matrix)
            weights.arrays["layer0"][:8] += step
            run.log(value=float(matrix[0, 0]))
        took, used = time.perf_counter() - begun, time.thread_time() - used
        return run._loop.attempt.watch.held, took, used


def plain(remote: Remote, folder: RunFolder, step: int) -> float:
    """Seconds of a plain loop over the files of a checkpoint."""
    begun, above = time.perf_counter(), f"plain-{uuid.uuid4().hex}"
    for path in sorted(folder.checkpoint(step).iterdir()):
        remote.put_if_absent(f"{above}/{path.name}", path)
    return time.perf_counter() - begun


def followed(remote: Remote, folder: RunFolder, step: int) -> float:
    """Seconds of a push of the same checkpoint to where nothing of it is."""
    name = f"push-{uuid.uuid4().hex}"
    pusher = Pusher(
        folder,
        PushedRun(remote, name),
        identity=identify(Place.at(folder.path)),
        attempt="ab",
        removable=Retention().removable,
        continued=-1,
    )
    begun = time.perf_counter()
    pusher.push(step)
    took = time.perf_counter() - begun
    pusher.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?")
    parser.add_argument("--size", type=float, default=256.0, help="MB of a checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    values = parser.parse_args()
    size = int(values.size * 1e6)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = values.address or str(root / "remote")
        remote = open_remote(address)
        train(root / "home", size, 2, 2, remote=None)
        folder = RunFolder(root / "home/r")
        kinds = ("plain", "push", "alone", "with", "held", "held alone", "core", "core alone")
        rounds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(values.rounds):
            for key, upload in (("plain", plain), ("push", followed))[:: 1 if number % 2 else -1]:
                rounds[key].append(upload(remote, folder, 2))
            if values.address is None:
                shutil.rmtree(root / "remote")
            os.sync()
        for number in range(values.rounds):
            pair = (("alone", None), ("with", f"{address}/t{number}"))
            for key, where in pair[:: 1 if number % 2 else -1]:
                held, took, core = train(
                    root / f"t{number}-{key}", size // 16, values.steps, values.steps // 10, remote=where
                )
                rounds[key].append(took)
                rounds["held alone" if where is None else "held"].append(held)
                rounds["core alone" if where is None else "core"].append(core)
                shutil.rmtree(root / f"t{number}-{key}")
    middle = {key: statistics.median(found) for key, found in rounds.items()}
    rate = {key: size / 1e6 / middle[key] for key in ("plain", "push")}

    def in_pairs(what: Callable[..., float], *names: str) -> float:
        return statistics.median(what(*each) for each in zip(*(rounds[name] for name in names), strict=True))

    results = {
        "checkpoint_mb": values.size,
        "plain_mb_per_s": rate["plain"],
        "push_mb_per_s": rate["push"],
        "throughput_ratio": in_pairs(lambda plain, push: plain / push, "plain", "push"),
        "held_more": in_pairs(lambda held, alone, took: (held - alone) / took, "held", "held alone", "alone"),
        "core_more": in_pairs(lambda core, alone: core / alone - 1, "core", "core alone"),
        "wall_ratio": in_pairs(lambda took, alone: took / alone, "with", "alone"),
        "rounds": rounds,
    }
    print(f"plain upload  {rate['plain']:8.1f} MB/s")
    print(f"push          {rate['push']:8.1f} MB/s   {results['throughput_ratio']:.2f} of it; at least 0.9 is wanted")
    print(f"training held {results['held_more']:+8.2%}        longer for saves; at most 1 % is wanted")
    print(f"training core {results['core_more']:+8.2%}        CPU time of the training thread; at most 1 % is wanted")
    print(f"training wall {results['wall_ratio']:8.3f}        of that without a remote, on {os.cpu_count()} cores")
    place = Path("benchmarks/results")
    place.mkdir(parents=True, exist_ok=True)
    (place / "remote.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
