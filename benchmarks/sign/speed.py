"""Training with the recipe's data path against the original's: the same network and optimizer, one process each.

The original opens a .npz file for each sample, in a random order, and pads to the longest clip of the batch. The recipe
reads a clip store in batches of similar length. Both train the original's Transformer on coordinates of the picture.
Peak memory is that of the whole process, with the libraries.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.sign.reading import generated
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from outlast_recipes.common.buckets import LengthBuckets
from outlast_recipes.common.clip_store import ClipStore
from outlast_recipes.common.preparing import prepare
from outlast_recipes.common.training import keep_freed_memory
from outlast_recipes.sign import clips
from outlast_recipes.sign.build import build
from outlast_recipes.sign.config import Network
from outlast_recipes.sign.labels import Label

BATCH, EPOCHS, GLOSSES = 32, 3, 14
ORIGINAL = Network(name="transformer", seen=False, category="independent")
Inputs = tuple[Tensor, Tensor, Tensor]


def from_files(paths: list[Path]) -> Iterator[Inputs]:
    """An epoch as the original makes it: files in a random order, padded to the longest of the batch."""
    order = np.random.default_rng(0).permutation(len(paths)).tolist()
    for start in range(0, len(order) - BATCH + 1, BATCH):
        found = []
        for number in order[start : start + BATCH]:
            with np.load(paths[number], allow_pickle=False) as arrays:
                found.append(torch.from_numpy(np.array(arrays["X"], np.float32)).view(-1, 78, 2))
        points = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        yield points, torch.ones(points.shape[:3]).bool(), torch.tensor([len(each) for each in found])


def from_store(folder: Path) -> Iterator[Inputs]:
    """An epoch as the recipe makes it."""
    store: ClipStore[clips.Entry] = ClipStore(folder, clips.FORM)
    lengths = [entry.length for entry in store.entries]
    order = list(LengthBuckets(lengths, BATCH, 0))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        numbers = order[start : start + BATCH]
        points, seen = (torch.from_numpy(array) for array in store.padded(numbers))
        yield points, seen, torch.tensor([lengths[number] for number in numbers])


def trained(source: Callable[[Any], Iterator[Inputs]], place: Any) -> tuple[float, float]:
    """Clips per second, and the peak memory of this process in MB."""
    torch.manual_seed(0)
    if source is from_store:
        keep_freed_memory()  # as the recipe does
    network = build(ORIGINAL, [number % 4 for number in range(GLOSSES)], 4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    rates = []
    for _ in range(EPOCHS):
        begin, count = time.perf_counter(), 0
        for inputs in source(place):
            labels = torch.arange(len(inputs[0])) % GLOSSES
            gloss, category = network(*inputs)
            loss = cross_entropy(gloss, labels) + cross_entropy(category, labels % 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(labels)
        rates.append(count / (time.perf_counter() - begin))
    return statistics.median(rates), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(source: Callable[[Any], Iterator[Inputs]], place: Any) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(trained, source, place).result()


def compared(name: str, paths: list[Path], folder: Path) -> dict[str, Any]:
    labels = {"train": {path: Label(path.stem, 0, 0, False, "", 1) for path in paths}}
    prepare(clips.raw_files(labels, "X", features=False), folder, clips.FORM, workers=1)
    before, now = alone(from_files, paths), alone(from_store, folder)
    return {
        "clips": name,
        "original, clips/s": before[0],
        "recipe, clips/s": now[0],
        "times": now[0] / before[0],
        "original, MB": before[1],
        "recipe, MB": now[1],
        "share": now[1] / before[1],
    }


def main(data: Path, results: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "npz").mkdir()
        real = sorted((data / "keypoints_train").glob("*.npz"))
        sets = {"asl_traduttore, 20 frames": real, "generated, 60 to 180 frames": generated(folder / "npz")}
        rows = [compared(name, paths, folder / f"store{at}") for at, (name, paths) in enumerate(sets.items())]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,.3g}" for value in row.values()))
    Console(width=140).print(table)
    results.mkdir(exist_ok=True)
    (results / "sign-speed.json").write_text(json.dumps(rows, indent=1) + "\n")
