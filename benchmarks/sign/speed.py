"""Training with the recipe's data path against the original's: the same network and optimizer, one process each.

The original opens a .npz file for each sample, in a random order, and pads to the longest clip of the batch. The recipe
reads a clip store in batches of similar length. Both train the original's Transformer on coordinates of the picture.
Every fifth clip is not trained on; accuracy is that of these, after the last epoch. Clips a second of the processor, as
the machine may be shared; peak memory is that of the whole process, with the libraries.
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
from benchmarks.sign.reading import GLOSSES, generated
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from outlast_recipes.common.buckets import LengthBuckets
from outlast_recipes.common.clip_store import ClipStore
from outlast_recipes.common.preparing import prepare
from outlast_recipes.common.problems import Problems
from outlast_recipes.common.training import keep_freed_memory
from outlast_recipes.sign import clips
from outlast_recipes.sign.build import build
from outlast_recipes.sign.config import Network
from outlast_recipes.sign.labels import Label, read_labels

BATCH, EPOCHS = 32, 4
ORIGINAL = Network(name="transformer", seen=False, category="independent")
Inputs = tuple[Tensor, Tensor, Tensor]
Clip = tuple[Path, int]
"""A file and its gloss."""
Batches = Iterator[tuple[Inputs, Tensor]]


def from_files(clips: list[Clip], seed: int) -> Batches:
    """An epoch as the original makes it: files in a random order, padded to the longest of the batch."""
    order = np.random.default_rng(seed).permutation(len(clips)).tolist()
    for start in range(0, len(order), BATCH):
        found, labels = [], []
        for number in order[start : start + BATCH]:
            with np.load(clips[number][0], allow_pickle=False) as arrays:
                found.append(torch.from_numpy(np.array(arrays["X"], np.float32)).view(-1, 78, 2))
            labels.append(clips[number][1])
        points = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
        lengths = torch.tensor([len(each) for each in found])
        yield (points, torch.ones(points.shape[:3]).bool(), lengths), torch.tensor(labels)


def from_store(stored: tuple[Path, dict[str, int]], seed: int) -> Batches:
    """An epoch as the recipe makes it, of the clips that have a gloss."""
    store: ClipStore[clips.Entry] = ClipStore(stored[0], clips.FORM)
    glosses = [stored[1][Path(entry.name).name] for entry in store.entries]
    lengths = [entry.length for entry in store.entries]
    order = list(LengthBuckets(lengths, BATCH, seed))
    for start in range(0, len(order), BATCH):
        numbers = order[start : start + BATCH]
        points, seen = (torch.from_numpy(array) for array in store.padded(numbers))
        inputs = points, seen, torch.tensor([lengths[number] for number in numbers])
        yield inputs, torch.tensor([glosses[number] for number in numbers])


def trained(source: Callable[[Any, int], Batches], place: Any, held: list[Clip]) -> tuple[float, float, float]:
    """Clips a second of the processor, the peak memory of this process in MB, and the accuracy on other clips."""
    torch.manual_seed(0)
    if source is from_store:
        keep_freed_memory()  # as the recipe does
    network = build(ORIGINAL, [number % 4 for number in range(GLOSSES)], 4)
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    rates = []
    for epoch in range(EPOCHS):
        begin, count = time.process_time(), 0
        for inputs, labels in source(place, epoch):
            gloss, category = network(*inputs)
            loss = cross_entropy(gloss, labels) + cross_entropy(category, labels % 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(labels)
        rates.append(count / (time.process_time() - begin))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    network.eval()
    with torch.no_grad():
        right = sum(int((network(*inputs)[0].argmax(1) == labels).sum()) for inputs, labels in from_files(held, 0))
    return statistics.median(rates), peak, right / len(held)


def alone(source: Callable[[Any, int], Batches], place: Any, held: list[Clip]) -> tuple[float, float, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(trained, source, place, held).result()


def compared(name: str, given: list[Clip], folder: Path) -> dict[str, Any]:
    held, kept = given[::5], [clip for number, clip in enumerate(given) if number % 5]
    labels = {"train": {path: Label(path.stem, gloss, 0, False, "", 1) for path, gloss in kept}}
    prepare(clips.raw_files(labels, "X", features=False), folder, clips.FORM, workers=1)
    before = alone(from_files, kept, held)
    now = alone(from_store, (folder, {path.stem: gloss for path, gloss in kept}), held)
    return {
        "clips": name,
        "original, clips/CPU s": before[0],
        "recipe, clips/CPU s": now[0],
        "times": now[0] / before[0],
        "original, MB": before[1],
        "recipe, MB": now[1],
        "share": now[1] / before[1],
        "original, accuracy": before[2],
        "recipe, accuracy": now[2],
    }


def main(data: Path, results: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "npz").mkdir()
        table = read_labels(data / "train_labels.csv", Problems())
        real = [(data / "keypoints_train" / f"{row.file}.npz", row.gloss) for row in table.rows]
        made = [(path, number % GLOSSES) for number, path in enumerate(generated(folder / "npz"))]
        sets = {"asl_traduttore, 20 frames": real, "generated, 60 to 180 frames": made}
        rows = [compared(name, given, folder / f"store{at}") for at, (name, given) in enumerate(sets.items())]
    shown = Table(*rows[0])
    for row in rows:
        shown.add_row(*(value if isinstance(value, str) else f"{value:,.3g}" for value in row.values()))
    Console(width=140).print(shown)
    results.mkdir(exist_ok=True)
    (results / "sign-speed.json").write_text(json.dumps(rows, indent=1) + "\n")
