"""make bench: what outlast adds to a step, a save and a start, each beside the bare thing, in interleaved rounds.

Prints a table of medians and ratios and writes benchmarks/results/overhead.json. Run it on an idle machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

import outlast
from outlast.environment import Environment, Limits
from outlast.run.session import Session

ROUNDS = 7
STEPS = 3000
HERE = Environment("local", Limits(1e9, 2**34, 2))


def model_and_optimizer(width: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Sequential(torch.nn.Linear(32, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))
    return model, torch.optim.AdamW(model.parameters())


def train_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> float:
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def loops(folder: Path) -> dict[str, float]:
    """Microseconds per step of a tiny model: bare, and inside run.steps() with run.log() at every step."""
    x = torch.ones(8, 32)
    model, optimizer = model_and_optimizer(16)

    def bare() -> None:
        for _ in range(STEPS):
            train_step(model, optimizer, x)

    def ours() -> None:
        with outlast.open_run(
            "bench", total_steps=STEPS, root=folder, save="never", progress="none", environment=HERE
        ) as run:
            run.track(model=model, optimizer=optimizer)
            begun = time.perf_counter()
            for _ in run.steps():
                run.log(loss=train_step(model, optimizer, x))
            ours.seconds = time.perf_counter() - begun

    took = seconds(bare)
    ours()
    return {"bare step, us": took / STEPS * 1e6, "outlast step, us": ours.seconds / STEPS * 1e6}


def saves(folder: Path) -> dict[str, float]:
    """Milliseconds until a state of about 40 MB is durable: raw write and fsync, torch.save, safetensors, outlast."""
    model, optimizer = model_and_optimizer(100_000)
    x = torch.ones(8, 32)
    train_step(model, optimizer, x)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    flat = {f"o{i}.{k}": v for i, s in state["optimizer"]["state"].items() for k, v in s.items()} | state["model"]
    raw = b"\1" * sum(tensor.nbytes for tensor in flat.values())

    def fsynced(path: Path) -> None:
        with path.open("rb+") as file:
            import os

            os.fsync(file.fileno())

    def write_raw() -> None:
        (folder / "raw").write_bytes(raw)
        fsynced(folder / "raw")

    def torch_save() -> None:
        torch.save(state, folder / "torch.pt")
        fsynced(folder / "torch.pt")

    def safetensors() -> None:
        save_file(flat, folder / "st.safetensors")
        fsynced(folder / "st.safetensors")

    with outlast.open_run("saves", total_steps=2, root=folder, save="never", progress="none", environment=HERE) as run:
        run.track(model=model, optimizer=optimizer)
        run.begin()
        ours = seconds(lambda: run.save(step=1))
    return {
        "state, MB": len(raw) / 1e6,
        "raw write + fsync, ms": seconds(write_raw) * 1e3,
        "torch.save + fsync, ms": seconds(torch_save) * 1e3,
        "safetensors + fsync, ms": seconds(safetensors) * 1e3,
        "outlast commit (hashed, atomic, fsynced), ms": ours * 1e3,
    }


def starts() -> dict[str, float]:
    """Milliseconds of a whole process."""
    script = str(Path(sys.executable).with_name("outlast"))
    commands = {
        "python -c 'import argparse', ms": [sys.executable, "-c", "import argparse"],
        "outlast --help, ms": [script, "--help"],
    }
    return {
        name: seconds(lambda command=command: subprocess.run(command, capture_output=True, check=True)) * 1e3
        for name, command in commands.items()
    }


def asks() -> dict[str, float]:
    session = Session(HERE, budget=1e9)
    return {"should_stop(), ns": timeit.timeit(session.should_stop, number=200_000) / 200_000 * 1e9}


RATIOS = {
    "outlast step, us": "bare step, us",
    "torch.save + fsync, ms": "raw write + fsync, ms",
    "safetensors + fsync, ms": "raw write + fsync, ms",
    "outlast commit (hashed, atomic, fsynced), ms": "raw write + fsync, ms",
    "outlast --help, ms": "python -c 'import argparse', ms",
}


def main() -> None:
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            rounds.append({**loops(Path(name)), **saves(Path(name)), **starts(), **asks()})
    medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    ratios = {key: statistics.median(one[key] / one[base] for one in rounds) for key, base in RATIOS.items()}
    table = Table("what", "median", "ratio", "to", box=None, header_style="bold", pad_edge=False)
    for key, value in medians.items():
        table.add_row(key, f"{value:.1f}", f"{ratios[key]:.2f}" if key in ratios else "", RATIOS.get(key, ""))
    Console(width=120, highlight=False).print(table)
    added = medians["outlast step, us"] - medians["bare step, us"]
    print(f"\noutlast adds {added:.1f} us to a step with run.log(), median of {ROUNDS} rounds of {STEPS} steps")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "outlast": outlast.__version__}
    text = json.dumps({"versions": versions, "rounds": ROUNDS, "medians": medians, "ratios": ratios}, indent=1)
    (results / "overhead.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
