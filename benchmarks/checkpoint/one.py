"""One way to save, one size, one process: `python -m benchmarks.checkpoint.one NAME BYTES FOLDER` prints a JSON
object."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.checkpoint.network import network, train
from benchmarks.checkpoint.peers import PEERS, sync, timed
from benchmarks.checkpoint.slowdown import differences

import outlast
from outlast.checkpoint import CheckpointStore, Retention
from outlast.environment import Environment, Limits
from outlast.folder.layout import RunFolder
from outlast.run.parts import Parts
from outlast.tracking import SaveFacts, Sink

PAIRS = 5
"""Pairs of blocks of steps with and without a save."""


def memory(field: str) -> int:
    return next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(field)
    )


def peak_of_training(model: Any, optimizer: Any) -> int:
    """The peak memory of a step alone: an optimizer's temporary arrays do not count as memory of a save."""
    Path("/proc/self/clear_refs").write_text("5")
    train(model, optimizer)
    return memory("VmHWM")


def limits(nbytes: int, folder: Path) -> dict[str, float]:
    """The speed of the machine for the same bytes: copy in memory, write and fsync, read from the page cache."""
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    copied = min(timed(lambda: np.copyto(target, source)) for _ in range(3))
    path = folder / "raw"

    def write() -> None:
        path.write_bytes(memoryview(source))
        sync(path)

    written = timed(write)
    read = timed(path.read_bytes)
    path.unlink()
    return {"memcpy": copied, "write": written, "read": read}


def ours(model: Any, optimizer: Any, folder: Path) -> dict[str, float]:
    here = Environment("local", Limits(None, 2**40, 2))
    found: dict[str, float] = {"saved": 0}
    base = peak_of_training(model, optimizer)  # before the buffer is there

    class Listener(Sink):
        def saved(self, save: SaveFacts) -> None:
            if found["saved"] <= 1:  # the save at the end is waited for
                found["durable"], found["stall"] = save.seconds, save.held
                found["saved"] = save.step

    with outlast.open_run(
        "r",
        total_steps=10**6,
        root=folder,
        save="never",
        keep=Retention(last=1),
        progress="none",
        environment=here,
        sinks=[Listener()],
    ) as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            train(model, optimizer)
            if step == 1:
                run.save()
            elif step > 3 and found["saved"] == 1:
                found["saved"] = 0
                run.save()
            elif found["saved"] > 1:
                found["extra bytes"] = memory("VmHWM") - base
                break
    place = max((folder / "r/checkpoints").glob("step-*"))
    for path in place.iterdir():
        path.read_bytes()  # into the page cache, as for the others

    def load() -> None:
        opened, _ = CheckpointStore(RunFolder(folder / "r")).open_newest()
        parts = Parts(opened)
        parts.track({"model": model, "optimizer": optimizer})

    return {key: found[key] for key in ("durable", "stall", "extra bytes")} | {"load": timed(load)}


def theirs(name: str, model: Any, optimizer: Any, folder: Path) -> dict[str, float]:
    peer = PEERS[name](model, optimizer, folder)
    base = 0
    for number in (1, 2):
        place = folder / f"save{number}"
        if hasattr(peer, "prepare"):
            peer.prepare()
        base = base or peak_of_training(model, optimizer)
        peer.waited = 0.0
        begun = time.perf_counter()
        other = peer.save(place) or 0.0
        stall = time.perf_counter() - begun - other
        if peer.background:
            train(model, optimizer)
            train(model, optimizer)
            stall += peer.waited
            peer.finish()
        sync(place)
        durable = time.perf_counter() - begun - other
        extra = max(0, memory("VmHWM") - base)
        if number == 1:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    return {
        "stall": stall,
        "durable": durable,
        "extra bytes": extra,
        "load": timed(lambda: peer.load(place)),
    }


def main() -> None:
    name, nbytes, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.manual_seed(0)
    model, optimizer = network(nbytes)
    for _ in range(2):
        train(model, optimizer)
    step_seconds = float(np.median([timed(lambda: train(model, optimizer)) for _ in range(5)]))
    size = 3 * sum(parameter.nbytes for parameter in model.parameters())
    found = limits(size, folder)
    with contextlib.redirect_stdout(sys.stderr):
        found |= ours(model, optimizer, folder) if name == "outlast" else theirs(name, model, optimizer, folder)
        # A save and the steps until it is durable against as many steps without one, in pairs in one loop.
        steps = max(3, int(found["durable"] / step_seconds) + 2)
        place = folder / "pairs"
        place.mkdir()
        found["slowdown"] = float(
            np.median([pair[0] for pair in differences(name, model, optimizer, place, steps, PAIRS)])
        )
    print(json.dumps({"name": name, "bytes": size, "step": step_seconds, **found}))


if __name__ == "__main__":
    main()
