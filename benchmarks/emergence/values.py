"""The folder of results, and the values of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outlast.config import resolve
from outlast_recipes.emergence.config import Config

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
REFERENCE = {"field.signals": "1"}
"""32 worlds of 20 x 20 with 32 slots, 2 cells of sight (159 numbers seen), 64 hidden units, 128 ticks, 4 passes of 8
minibatches."""


def values(preset: str | None = None, **given: Any) -> Config:
    file = ROOT / f"configs/train/emergence_{preset}.yaml" if preset else None
    flags = {name.replace("__", "."): value if isinstance(value, bool) else str(value) for name, value in given.items()}
    return resolve(Config, train_file=file, flags=flags).config
