"""Clips per second out of a clip store, and out of .npz files that are opened for each sample.

    python -m benchmarks.sign.reading

Two sets: the real one (20 frames), and generated clips of 60 to 180 frames, as four-second videos have. A batch is 32
clips, padded to the longest. Files are in the page cache. Best of five rounds; one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from outlast_recipes.common.buckets import LengthBuckets, padding
from outlast_recipes.common.preparing import prepare
from outlast_recipes.sign import clips, npz
from outlast_recipes.sign.clips import Store
from outlast_recipes.sign.labels import Label

DATA = Path(__file__).resolve().parents[3] / "shared/data/asl_traduttore/keypoints_train"
BATCH, ROUNDS, LONG, GLOSSES = 32, 5, 320, 14  # clips of a batch; rounds; generated clips and their glosses


def generated(folder: Path) -> list[Path]:
    """Clips of 60 to 180 frames in which a fifth of the keypoints is not seen; the right hand of clip i is where those
    of all clips i + 14 n are."""
    chance, paths = np.random.default_rng(0), []
    places = chance.random((GLOSSES, 2))
    for number in range(LONG):
        length = int(chance.integers(60, 181))
        seen = chance.random((length, 78)) < 0.8
        points = chance.random((length, 78, 2))
        points[:, 46:67] = 0.9 * places[number % GLOSSES] + 0.1 * points[:, 46:67]
        points = np.float32(points.round(4) * seen[..., None])
        paths.append(folder / f"clip{number}.npz")
        np.savez_compressed(paths[-1], X=points.reshape(length, 156), mask=seen)
    return paths


def best(read: Callable[[Sequence[int]], object], order: Sequence[int]) -> float:
    """Clips per second of the best round."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for start in range(0, len(order), BATCH):
            read(order[start : start + BATCH])
        seconds.append(time.perf_counter() - begin)
    return len(order) / min(seconds)


def original(paths: Sequence[Path], numbers: Sequence[int]) -> object:
    """A batch as the original makes it: open each file, pad to the longest."""
    found = []
    for number in numbers:
        with np.load(paths[number], allow_pickle=False) as arrays:
            found.append(np.array(arrays["X"], np.float32))
    batch = np.zeros((len(found), max(map(len, found)), 156), np.float32)
    for row, points in enumerate(found):
        batch[row, : len(points)] = points
    return batch


def compared(name: str, paths: list[Path], folder: Path) -> list[str]:
    """A row of the table."""
    labels = {"train": {path: Label(path.stem, 0, 0, False, "", 1) for path in paths}}
    store: Store = prepare(clips.raw_files(labels, "X", features=False), folder, clips.FORM, workers=1)
    files = {f"train/{path.stem}": path for path in paths}
    ordered = [files[entry.name] for entry in store.entries]
    order = np.random.default_rng(1).permutation(len(store)).tolist()
    opened = best(lambda numbers: original(ordered, numbers), order)
    checked = best(lambda numbers: [npz.read_keypoints(ordered[number]) for number in numbers], order)
    packed = best(store.padded, order)
    lengths = [entry.length for entry in store.entries]
    buckets = LengthBuckets(lengths, BATCH, 0)
    return [
        name,
        f"{opened:,.0f}",
        f"{checked:,.0f}",
        f"{packed:,.0f}",
        f"{packed / opened:.1f}",
        f"{padding(lengths, order, BATCH):.1%}",
        f"{padding(lengths, buckets, BATCH):.1%}",
    ]


def main() -> None:
    names = ("clips", "npz, clips/s", "npz and mask, checked", "store, clips/s", "times", "padding", "by length")
    table = Table(*names)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if DATA.is_dir():
            table.add_row(*compared("asl_traduttore, 20 frames", sorted(DATA.glob("*.npz")), folder / "real"))
        (folder / "npz").mkdir()
        table.add_row(*compared("generated, 60 to 180 frames", generated(folder / "npz"), folder / "long"))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
