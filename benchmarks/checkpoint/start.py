"""From the start of a process to the end of its first resumed step: `python -m benchmarks.checkpoint.start [--rounds
N]`.

Bare: import torch, build the model, read as many bytes as the checkpoint has, one step. The others load their own
checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.checkpoint import SIZES
from rich.console import Console
from rich.table import Table


def bare(folder: Path, nbytes: int) -> None:
    from benchmarks.checkpoint.network import network, train

    model, optimizer = network(nbytes)
    place = folder / "raw"
    if place.exists():
        place.read_bytes()
    train(model, optimizer)
    done()
    place.write_bytes(bytes(3 * sum(parameter.nbytes for parameter in model.parameters())))


def torch_save(folder: Path, nbytes: int) -> None:
    import torch
    from benchmarks.checkpoint.network import network, train

    model, optimizer = network(nbytes)
    place = folder / "state.pt"
    if place.exists():
        state = torch.load(place, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer)
    done()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, place)


def ours(folder: Path, nbytes: int) -> None:
    from benchmarks.checkpoint.network import network, train

    import outlast

    model, optimizer = network(nbytes)
    with outlast.open_run("r", total_steps=10 if (folder / "r").exists() else 1, root=folder, progress="none") as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            train(model, optimizer)
            done()
            if step > 1:
                os._exit(0)  # what comes after the first step is not the question


def fabric(folder: Path, nbytes: int) -> None:
    from benchmarks.checkpoint.network import network, train
    from lightning.fabric import Fabric

    lightning = Fabric(accelerator="cpu", devices=1)
    model, optimizer = network(nbytes)
    place = folder / "fabric.ckpt"
    if place.exists():
        lightning.load(place, {"model": model, "optimizer": optimizer})
    train(model, optimizer)
    done()
    lightning.save(place, {"model": model, "optimizer": optimizer})


def lightning_trainer(folder: Path, nbytes: int) -> None:
    from benchmarks.checkpoint.loop import trainer_and_module

    place = folder / "trainer.ckpt"
    trainer, module, data = trainer_and_module((nbytes,), steps=2 if place.exists() else 1, after=lambda _: done())
    trainer.fit(module, data, ckpt_path=str(place) if place.exists() else None)
    if not place.exists():
        trainer.save_checkpoint(place)


WAYS: dict[str, Callable[[Path, int], None]] = {
    "bare torch": bare,
    "outlast": ours,
    "torch.save": torch_save,
    "Lightning Fabric": fabric,
    "Lightning Trainer": lightning_trainer,
}


def done() -> None:
    print(json.dumps({"done": time.time()}), flush=True)


def start(name: str, folder: Path, nbytes: int) -> float | None:
    command = [sys.executable, "-m", "benchmarks.checkpoint.start", "--child", name, str(folder), str(nbytes)]
    begun = time.time()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in finished.stdout.splitlines() if line.startswith('{"done"')]
    if not lines:
        print(f"{name} failed: {(finished.stderr.strip().splitlines() or [''])[-1]:.150}", file=sys.stderr)
        return None
    return float(json.loads(lines[0])["done"]) - begun


def measure(rounds: int, sizes: list[str]) -> dict[str, dict[str, list[float]]]:
    """Seconds per size and way, in interleaved rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folders = {way: Path(name) / str(index) for index, way in enumerate(WAYS)}
            for way, folder in folders.items():
                folder.mkdir()
                start(way, folder, SIZES[size])  # makes the checkpoint, and the file cache warm
            for _ in range(rounds):
                for way, folder in folders.items():
                    if (seconds := start(way, folder, SIZES[size])) is not None:
                        found.setdefault(size, {}).setdefault(way, []).append(seconds)
    return found


def show(found: dict[str, dict[str, list[float]]]) -> None:
    for size, ways in found.items():
        table = Table(f"start, {size}", "seconds", "x bare", box=None, header_style="bold", pad_edge=False)
        for way, seconds in ways.items():
            ratio = statistics.median(one / base for one, base in zip(seconds, ways["bare torch"], strict=False))
            table.add_row(way, f"{statistics.median(seconds):.2f}", f"{ratio:.2f}")
        Console(width=110, highlight=False).print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        name, folder, nbytes = options.child
        WAYS[name](Path(folder), int(nbytes))
        return
    show(measure(options.rounds, options.sizes))


if __name__ == "__main__":
    main()
