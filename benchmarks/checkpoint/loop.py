"""The overhead of each library per step, without saves: `python -m benchmarks.checkpoint.loop [--rounds N]`.

In every process blocks of bare steps stand before and after those of the way, so that the ratio is taken within
seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

STEPS = 2000
TINY = (12 * 16 * 16, 1)  # one layer of 16: a step of some hundred microseconds


def bare(_: Path) -> float:
    from benchmarks.checkpoint.network import network, train

    model, optimizer = network(*TINY)
    return timed(lambda: [train(model, optimizer) for _ in range(STEPS)])


def ours(folder: Path, every_step: Callable[[], float] | None = None) -> float:
    from benchmarks.checkpoint.network import network, train

    import outlast

    model, optimizer = network(*TINY)
    step_of = every_step or (lambda: train(model, optimizer))
    with outlast.open_run("r", total_steps=STEPS + 50, root=folder, save="never", progress="none") as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            if step == 50:
                begun = time.perf_counter()
            run.log(loss=step_of())
        return (time.perf_counter() - begun) / STEPS


def ours_empty(folder: Path) -> float:
    return ours(folder, lambda: 0.5)


def fabric(_: Path) -> float:
    from benchmarks.checkpoint.network import network
    from lightning.fabric import Fabric

    lightning = Fabric(accelerator="cpu", devices=1)
    model, optimizer = network(*TINY)
    module, optimizer = lightning.setup(model, optimizer)
    import torch

    def step() -> float:
        loss = module(torch.ones(64, model[0].in_features)).square().mean()
        optimizer.zero_grad()
        lightning.backward(loss)
        optimizer.step()
        return loss.item()

    return timed(lambda: [step() for _ in range(STEPS)])


def lightning_trainer(folder: Path, *, logged: bool = False) -> float:
    stamps: list[float] = []

    def after(step: int) -> None:
        if step in (50, STEPS + 50):
            stamps.append(time.perf_counter())

    trainer, module, data = trainer_and_module(TINY, STEPS + 50, after, folder if logged else None)
    trainer.fit(module, data)
    return (stamps[1] - stamps[0]) / STEPS


def lightning_trainer_logged(folder: Path) -> float:
    return lightning_trainer(folder, logged=True)


def trainer_and_module(size: tuple[int, ...], steps: int, after: Callable[[int], None], log: Path | None = None) -> Any:
    """A Lightning Trainer with all switched off that can be, or with a CSV logger that is given the loss of every
    step."""
    import logging
    import warnings

    import lightning
    import torch
    from benchmarks.checkpoint.network import network
    from lightning.pytorch.loggers import CSVLogger

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.optimizer = network(*size)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.network(batch).square().mean()
            if log:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return self.optimizer

        def on_train_batch_end(self, *_: Any) -> None:
            after(self.global_step)

    class Ones(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            while True:
                yield torch.ones(64, module.network[0].in_features)

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        logger=CSVLogger(log) if log else False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return trainer, module, torch.utils.data.DataLoader(Ones(), batch_size=None)


WAYS: dict[str, Callable[[Path], float]] = {
    "outlast, every step logged": ours,
    "outlast around an empty step": ours_empty,
    "Lightning Fabric": fabric,
    "Lightning Trainer": lightning_trainer,
    "Lightning Trainer, every step logged": lightning_trainer_logged,
}


def timed(action: Callable[[], Any]) -> float:
    """Seconds per step, the second time."""
    action()
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) / STEPS


def child(name: str) -> None:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        before, way, after = bare(Path(folder)), WAYS[name](Path(folder)), bare(Path(folder))
    print(json.dumps({"way": way, "bare": (before + after) / 2}))


def measure(rounds: int) -> dict[str, list[dict[str, float]]]:
    """Seconds per step of each way and of the bare steps beside it."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name in WAYS:
            command = [sys.executable, "-m", "benchmarks.checkpoint.loop", "--child", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} failed: {done.stderr.strip().splitlines()[-1]:.150}", file=sys.stderr)
                continue
            found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    return found


def show(found: dict[str, list[dict[str, float]]]) -> None:
    table = Table("loop", "us a step", "bare, us", "x bare", "added, us", box=None, header_style="bold", pad_edge=False)
    for name, rounds in found.items():
        empty = name.endswith("empty step")
        way, beside = (statistics.median(one[key] for one in rounds) * 1e6 for key in ("way", "bare"))
        ratio = statistics.median(one["way"] / one["bare"] for one in rounds)
        added = way if empty else statistics.median(one["way"] - one["bare"] for one in rounds) * 1e6
        table.add_row(
            name, f"{way:.1f}", "0" if empty else f"{beside:.1f}", "" if empty else f"{ratio:.2f}", f"{added:.1f}"
        )
    Console(width=110, highlight=False).print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child")
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    show(measure(options.rounds))


if __name__ == "__main__":
    main()
