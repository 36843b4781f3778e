"""The recipe beside ultralytics alone: what a resume costs in bits, and what the recipe costs in quality, time and
memory.

    python -m benchmarks.yolo resume    [--set KEY=VALUE ...]
    python -m benchmarks.yolo compare   [--rounds N] [--set KEY=VALUE ...]

Ultralytics alone needs all that it asks for: `pip install "outlast[yolo]"` in an environment of its own. Every
training is a process of its own. `resume` trains on made-up pictures, once without and once with an end in between.
`compare` trains on bccd_yolo (../shared/data): the recipe, ultralytics' loop with the recipe's batches, and
ultralytics alone. Writes benchmarks/results/yolo-*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parents[2]
DATA = HERE.parent / "shared/data/bccd_yolo"
RESULTS = HERE / "benchmarks/results"

SMALL = {
    "model.architecture": "yolo11n", "batch_size": "4", "model.image_size": "64", "epochs": "4",
    "training.optimizer": "sgd", "learning_rate": "0.01", "training.close_mosaic": "0", "training.nominal_batch": "4",
    "training.warmup_epochs": "1", "seed": "1", "device": "cpu",
}  # fmt: skip
CELLS = {
    "model.architecture": "yolo11n", "batch_size": "16", "model.image_size": "96", "epochs": "6",
    "training.optimizer": "adamw", "learning_rate": "0.004", "training.close_mosaic": "2", "seed": "0",
    "training.nominal_batch": "16", "training.warmup_epochs": "1", "device": "cpu",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.yolo")
    parser.add_argument("what", choices=("resume", "compare", "one"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA, help="of compare (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    values = dict(word.split("=", 1) for word in given.set)
    if given.what == "one":
        print(json.dumps(one(**json.loads(given.job))))
    elif given.what == "resume":
        resume(SMALL | values)
    else:
        compare(CELLS | values, given.rounds, given.data)


def one(who: str, values: dict[str, str], data: str, work: str, kill_after: int | None, keep: str) -> dict[str, Any]:
    """One training in this process: seconds, peak memory, metrics of the last epoch; weights go to the file `keep`."""
    from benchmarks.yolo import clock

    from outlast.config import resolve
    from outlast_recipes.yolo.config import YoloConfig
    from outlast_recipes.yolo.reading import read_dataset

    root, place = Path(data), Path(work)
    config = resolve(YoloConfig, flags={**values, "data_root": data}).config
    if who == "outlast":
        weights, metrics = _ours(values, root, place, kill_after)
    else:
        from benchmarks.yolo import alone

        kind = {"ultralytics": alone.Alone, "ultralytics, our batches": alone.Fed}[who]
        dataset = read_dataset(root)
        alone.Fed.feed = (config, dataset)
        weights = alone.train(kind, config, dataset, place / "training", kill_after=kill_after)
        rows = (place / "training/results.csv").read_text().splitlines()
        last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
        metrics = {"map": float(last["metrics/mAP50-95(B)"]), "map50": float(last["metrics/mAP50(B)"])}
    wall, core = clock.seconds()
    torch.save(weights, keep)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": wall, "core_seconds": core, "peak_mib": peak, **metrics}


def _ours(values: dict[str, str], root: Path, work: Path, kill_after: int | None) -> tuple[Any, dict[str, float]]:
    """The recipe, stopped in the middle of the epoch after `kill_after`, or to its end."""
    from benchmarks.yolo import clock

    import outlast
    from outlast.errors import SessionEnded
    from outlast.recipe.prepare import Request, prepare, start
    from outlast.recipe.registry import find
    from outlast_recipes.yolo.ultralytics_adapter import training

    flags = {**values, "data_root": str(root), "checkpoint_dir": str(work), "keep_best": "0"}
    step, evaluate = training.UltralyticsTraining.step, training.UltralyticsTraining.evaluate

    def evaluated(self: Any, split: Any, *words: Any, **more: Any) -> Any:
        found = evaluate(self, split, *words, **more)
        if split == "val":
            clock.end()
        return found

    def killed(self: Any, batch: Any, place: Any) -> Any:
        clock.begin()
        found = step(self, batch, place)
        if kill_after and place.epoch == kill_after + 1 and place.step % place.per_epoch == 2:
            self.run.session.request_stop("preempted", "the benchmark asks")
        return found

    opened = outlast.recipe.prepare.open_run  # type: ignore[attr-defined]

    def open_run(*words: Any, **more: Any) -> Any:
        training.UltralyticsTraining.run = run = opened(*words, **more)  # type: ignore[attr-defined]
        return run

    outlast.recipe.prepare.open_run = open_run  # type: ignore[attr-defined]
    training.UltralyticsTraining.step = killed  # type: ignore[method-assign]
    training.UltralyticsTraining.evaluate = evaluated  # type: ignore[method-assign]
    try:
        start(prepare(find("yolo"), Request(flags=flags)), progress="none")
    except SessionEnded:
        return {}, {}
    lines = [json.loads(line) for line in (work / "yolo/journal.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if "val_map" in line)
    weights = outlast.open_saved("yolo", root=work).part("ema")
    return weights, {"map": last["val_map"], "map50": last["val_map50"]}


def run(who: str, values: dict[str, str], data: Path, work: Path, kill_after: int | None = None) -> dict[str, Any]:
    """One training in a process of its own; "weights" of the result are the averaged ones."""
    work.mkdir(parents=True, exist_ok=True)
    job = {"who": who, "values": values, "data": str(data), "work": str(work), "kill_after": kill_after,
           "keep": str(work / "weights.pt")}  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    words = [sys.executable, "-m", "benchmarks.yolo", "one", "--job", json.dumps(job)]
    done = subprocess.run(words, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{who}: {done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "weights": torch.load(work / "weights.pt", weights_only=True)}


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference of two weights of the same name."""
    return max(float((first[name].float() - second[name].float()).abs().max()) for name in first)


def resume(values: dict[str, str]) -> None:
    """Ends each training once and lets it continue; prints how far the weights are from an uninterrupted one."""
    from tests.recipes import pictures

    table = Table("", "killed", "weights: largest difference", "mAP50-95, uninterrupted and resumed")
    results = {}
    with tempfile.TemporaryDirectory(prefix="yolo-resume-") as folder:
        root = Path(folder)
        data = pictures.folder(root / "pictures", counts=(16, 4, 4))
        for who, when in (("outlast", "in the middle of epoch 3"), ("ultralytics", "after epoch 2")):
            whole = run(who, values, data, root / who / "whole")
            run(who, values, data, root / who / "killed", kill_after=2)
            again = run(who, values, data, root / who / "killed")
            far = difference(whole["weights"], again["weights"])
            results[who] = {"difference": far, "map": [whole["map"], again["map"]]}
            table.add_row(who, when, f"{far:.3g}", f"{whole['map']:.5f}  {again['map']:.5f}")
    write("resume", {"values": values, "results": results})
    Console(width=110).print(table)


def compare(values: dict[str, str], rounds: int, data: Path) -> None:
    """The three in turn, several rounds; prints quality, and medians of time and memory as shares of ultralytics."""
    names = ("outlast", "ultralytics, our batches", "ultralytics")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    weights: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="yolo-compare-") as folder:
        root = Path(folder)
        shutil.copytree(data, root / "data")  # ultralytics writes label caches into it
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                result = run(name, values, root / "data", root / f"{number}-{name[:14]}-{len(name)}")
                weights[name] = result.pop("weights")
                found[name].append(result)
                print(name, {key: round(value, 4) for key, value in result.items()}, flush=True)
    table = Table(
        "",
        "val mAP50-95",
        "val mAP50",
        "weights: difference",
        "wall s",
        "of alone",
        "core s",
        "of alone",
        "MiB",
        "of alone",
    )
    middle = {
        name: {
            key: statistics.median(each[key] for each in found[name]) for key in ("seconds", "core_seconds", "peak_mib")
        }
        for name in names
    }
    rows = {}
    for name in names:
        own, base = middle[name], middle["ultralytics"]
        rows[name] = {
            **found[name][-1],
            **own,
            "difference": difference(weights["outlast"], weights[name]),
            "time": own["seconds"] / base["seconds"],
            "core_time": own["core_seconds"] / base["core_seconds"],
            "memory": own["peak_mib"] / base["peak_mib"],
        }
        row = rows[name]
        shown = {
            "map": ".5f", "map50": ".5f", "difference": ".3g", "seconds": ".1f", "time": ".3f", "core_seconds": ".1f",
            "core_time": ".3f", "peak_mib": ".0f", "memory": ".3f",
        }  # fmt: skip
        table.add_row(name, *(format(row[key], form) for key, form in shown.items()))
    write("compare", {"values": values, "results": rows, "rounds": found})
    Console(width=140).print(table)


def write(name: str, results: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"yolo-{name}.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
