"""Training with the recipe against the original's: the same network and optimizer, from the same weights.

The original opens a .npz file for each sample, in a random order, pads to the longest clip of the batch, and has
torch's layers (`original`). The recipe reads a clip store in batches of similar length, with its own layers, in
pieces: in float32, with clips resampled to 0.3 of the frames of a mean one (--data.frames), and in bfloat16 as with
--amp on a CPU that computes in it. Each in a process of its own, one after the other, in --pairs rounds of --epochs
epochs: all train the original's Transformer on coordinates of the picture. Every fifth clip is not trained on; accuracy
is that of these, after the last epoch, with as many frames as were trained on. Clips a second of the processor, as the
machine may be shared; peak memory is that of the whole process, with the libraries. One thread.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.sign import original
from benchmarks.sign.original import BATCH, CATEGORIES, RATE, Clip, OriginalTransformer

from outlast_recipes.common.buckets import LengthBuckets
from outlast_recipes.common.clip_store import ClipStore
from outlast_recipes.common.training import has_bfloat16, keep_freed_memory
from outlast_recipes.sign import clips
from outlast_recipes.sign.build import build, optimizer_of
from outlast_recipes.sign.clips import Store
from outlast_recipes.sign.config import Network, SignConfig
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.parts import ClipSubset

ORIGINAL = Network(name="transformer", seen=False, category="independent")
ORIGINALS, RECIPE, FEWER, HALF = WAYS = ("original", "recipe", "recipe, fewer frames", "recipe --amp")

SHARE = 0.3
"""Of the frames of a mean clip. The accuracy of whole trainings with 6 of 20 frames is in docs/log.md."""


def built(glosses: int) -> SignNetwork:
    return build(ORIGINAL, [number % CATEGORIES for number in range(glosses)], CATEGORIES)


def of_store(part: ClipSubset, seed: int, frames_at_once: float) -> Iterator[list[original.Part]]:
    """An epoch as the recipe makes it."""
    order = list(LengthBuckets(part.lengths, BATCH, seed))
    for start in range(0, len(order), BATCH):
        (batch,) = part.__getitems__(order[start : start + BATCH])
        yield [(piece.inputs, piece.gloss) for piece in batch.pieces(frames_at_once)]


def parts_of(job: dict[str, Any]) -> dict[str, ClipSubset]:
    """The clips that are trained on, and the others."""
    store: ClipStore[clips.Entry] = ClipStore(Path(job["store"]), clips.FORM)
    return {
        split: ClipSubset(
            store,
            [number for number, entry in enumerate(store.entries) if entry.split == split],
            frames=job["frames"],
            normalise=False,
        )
        for split in ("train", "val")
    }


def one(job: dict[str, Any]) -> None:
    """The recipe's part of a round, in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    keep_freed_memory()  # as the recipe does
    network = built(job["glosses"])
    network.load_state_dict(torch.load(job["weights"], weights_only=True, mmap=True))
    optimizer = optimizer_of(SignConfig(optimizer="adam", weight_decay=0, learning_rate=RATE), network)
    parts = parts_of(job)
    held = [[(batch.inputs, batch.gloss)] for batch in parts["val"].batches(BATCH)]
    at_once, half = SignConfig().frames_at_once, job["half"]
    found = original.trained(
        network,
        optimizer,
        lambda epoch: of_store(parts["train"], epoch, at_once),
        held,
        job["epochs"],
        half=half,
    )
    print(json.dumps(found))


def run(way: str, job: dict[str, Any]) -> dict[str, float]:
    module = "original" if way == ORIGINALS else "speed"
    command = [sys.executable, "-m", f"benchmarks.sign.{module}"]
    frames = job["fewer frames"] if way == FEWER else job["frames"]
    given = json.dumps(job | {"half": way == HALF, "frames": frames})
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@torch.no_grad()
def difference(job: dict[str, Any]) -> float:
    """The largest difference of a logit between the original's network and the recipe's with the same weights."""
    state = torch.load(job["weights"], weights_only=True, mmap=True)
    ours, theirs = built(job["glosses"]), OriginalTransformer(job["glosses"], CATEGORIES)
    ours.load_state_dict(state)
    theirs.load_recipe(state)
    points, seen, lengths = next(parts_of(job)["val"].batches(BATCH)).inputs
    pairs = zip(ours.eval()(points, seen, lengths), theirs.eval()(points, lengths), strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs)


def compared(name: str, given: list[Clip], folder: Path, pairs: int, epochs: int) -> list[dict[str, Any]]:
    """A row for each way: medians over the rounds."""
    # Imported here, so that the processes that are measured hold what they need.
    from outlast_recipes.common.preparing import prepare
    from outlast_recipes.sign.labels import Label

    held, kept = given[::5], [clip for number, clip in enumerate(given) if number % 5]
    labels = {
        split: {Path(path): Label(Path(path).stem, gloss, 0, False, "", 1) for path, gloss in some}
        for split, some in (("train", kept), ("val", held))
    }
    store: Store = prepare(clips.raw_files(labels, "X", features=False), folder, clips.FORM, workers=1)
    lengths = [entry.length for entry in store.entries]
    glosses = 1 + max(gloss for _, gloss in given)
    job = {
        "epochs": epochs,
        "clips": kept,
        "held": held,
        "glosses": glosses,
        "store": str(folder),
        "frames": max(lengths),
        "fewer frames": round(SHARE * statistics.fmean(lengths)),
        "weights": str(folder / "weights.pt"),
    }
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS if way != HALF or has_bfloat16(_CPU)}
    for seed in range(pairs):
        torch.manual_seed(seed)
        torch.save(built(glosses).state_dict(), job["weights"])
        for way, found in rounds.items():
            found.append(run(way, job | {"seed": seed}))
            print(name, seed, way, found[-1], flush=True)
    rows = []
    for way, found in rounds.items():
        times = [each["rate"] / first["rate"] for each, first in zip(found, rounds[ORIGINALS], strict=True)]
        shares = [each["MB"] / first["MB"] for each, first in zip(found, rounds[ORIGINALS], strict=True)]
        rows.append(
            {
                "clips": name,
                "way": way,
                "clips/CPU s": statistics.median(each["rate"] for each in found),
                "times": statistics.median(times),
                "least": min(times),
                "most": max(times),
                "MB": statistics.median(each["MB"] for each in found),
                "share": statistics.median(shares),
                "MB before training": statistics.median(each["MB before"] for each in found),
                "accuracy": statistics.fmean(each["accuracy"] for each in found),
                "rounds": pairs,
                "difference": difference(job),
            }
        )
    return rows


_CPU = torch.device("cpu")


def main(data: Path, results: Path, pairs: int, epochs: int) -> None:
    from benchmarks.sign.reading import GLOSSES, generated
    from rich.console import Console
    from rich.table import Table

    from outlast_recipes.common.problems import Problems
    from outlast_recipes.sign.labels import read_labels

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "npz").mkdir()
        table = read_labels(data / "train_labels.csv", Problems())
        real = [(str(data / "keypoints_train" / f"{row.file}.npz"), row.gloss) for row in table.rows]
        made = [(str(path), number % GLOSSES) for number, path in enumerate(generated(folder / "npz"))]
        sets = {"asl_traduttore, 20 frames": real, "generated, 60 to 180 frames": made}
        rows = [
            row
            for at, (name, given) in enumerate(sets.items())
            for row in compared(name, given, folder / f"store{at}", pairs, epochs)
        ]
    shown = Table(*rows[0])
    for row in rows:
        shown.add_row(*(value if isinstance(value, str) else f"{value:,.3g}" for value in row.values()))
    Console(width=160).print(shown)
    results.mkdir(exist_ok=True)
    (results / "sign-speed.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    one(json.load(sys.stdin))
