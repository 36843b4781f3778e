"""The recipe beside ultralytics alone: what a resume costs in bits, and what the recipe costs in quality, time and
memory.

    python -m benchmarks.yolo resume    [--set KEY=VALUE ...]
    python -m benchmarks.yolo compare   [--rounds N] [--set KEY=VALUE ...]
    python -m benchmarks.yolo seeds     [--rounds N] [--set KEY=VALUE ...]

Ultralytics alone needs all that it asks for: `pip install "outlast[yolo]"` in an environment of its own. Every
training is a process of its own. `resume` trains on made-up pictures, once without and once with an end in between.
`compare` trains on bccd_yolo (../shared/data): pairs of the recipe and ultralytics alone, which take turns in being the
first, and once ultralytics' loop with the recipe's batches. It prints mAP, wall time and memory beside the goals, an
equal mAP and 1.05. Its times need idle cores. `seeds` trains the recipe and ultralytics alone with seeds 0 to N - 1:
they draw different batches, so that only means of several trainings can be compared. Writes
benchmarks/results/yolo-*.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
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
OURS, FED, ALONE = "outlast", "ultralytics, our batches", "ultralytics"
MEASURED = {"seconds": ".1f", "core_seconds": ".1f", "peak_mib": ".0f"}
GOAL = 1.05  # of ultralytics alone, in wall time and in memory
_OF_ALONE = ("polars", "matplotlib", "scipy")  # what its own loop imports besides

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
    parser.add_argument("what", choices=("resume", "compare", "seeds", "one"))
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
    elif given.what == "seeds":
        seeds(CELLS | values, given.rounds, given.data)
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
    if who == OURS:
        weights, metrics = _ours(values, root, place, kill_after)
    else:
        from benchmarks.yolo import alone

        kind = {ALONE: alone.Alone, FED: alone.Fed}[who]
        dataset = read_dataset(root)
        alone.Fed.feed = (config, dataset)
        weights = alone.train(kind, config, dataset, place / "training", kill_after=kill_after)
        rows = (place / "training/results.csv").read_text().splitlines()
        last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
        metrics = {"map": float(last["metrics/mAP50-95(B)"]), "map50": float(last["metrics/mAP50(B)"])}
    wall, core = clock.seconds()
    torch.save(weights, keep)
    return {"seconds": wall, "core_seconds": core, "peak_mib": clock.peak_mib(), **metrics}


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
        for who, when in ((OURS, "in the middle of epoch 3"), (ALONE, "after epoch 2")):
            whole = run(who, values, data, root / who / "whole")
            run(who, values, data, root / who / "killed", kill_after=2)
            again = run(who, values, data, root / who / "killed")
            far = difference(whole["weights"], again["weights"])
            results[who] = {"difference": far, "map": [whole["map"], again["map"]]}
            table.add_row(who, when, f"{far:.3g}", f"{whole['map']:.5f}  {again['map']:.5f}")
    write("resume", {"values": values, "results": results})
    Console(width=110).print(table)


def compare(values: dict[str, str], rounds: int, data: Path) -> None:
    """Pairs of the recipe and ultralytics alone, in turn first; the first round also has ultralytics' loop with the
    recipe's batches. Prints quality, medians of time and memory, and whether the goals are reached."""
    _ready(data)
    found: dict[str, list[dict[str, Any]]] = {OURS: [], FED: [], ALONE: []}
    weights: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="yolo-compare-") as folder:
        root = Path(folder)
        shutil.copytree(data, root / "data")  # ultralytics writes label caches into it
        for number in range(rounds):
            pair = (OURS, ALONE) if number % 2 == 0 else (ALONE, OURS)
            for name in (*pair, *((FED,) if number == 0 else ())):
                result = run(name, values, root / "data", root / f"{number}-{name[:14]}-{len(name)}")
                weights.setdefault(name, result.pop("weights"))
                found[name].append(result)
                print(name, {key: round(value, 4) for key, value in result.items()}, flush=True)
    rows = {
        name: _row(results, found[ALONE], difference(weights[OURS], weights[name])) for name, results in found.items()
    }
    write("compare", {"values": values, "results": rows, "rounds": found})
    Console(width=140).print(_table(rows))
    for line in verdicts(found):
        print(line)


def seeds(values: dict[str, str], count: int, data: Path) -> None:
    """The recipe and ultralytics alone, each with its own batches, with seeds 0 to count - 1: mAP50-95 and mAP50 on the
    validation split after the last epoch, and the mean difference with its standard error."""
    _ready(data)
    found: dict[str, list[dict[str, float]]] = {OURS: [], ALONE: []}
    with tempfile.TemporaryDirectory(prefix="yolo-seeds-") as folder:
        root = Path(folder)
        shutil.copytree(data, root / "data")
        for seed in range(count):
            for name in (OURS, ALONE):
                result = run(name, values | {"seed": str(seed)}, root / "data", root / f"{seed}-{name}")
                found[name].append({key: result[key] for key in ("map", "map50")})
                print(seed, name, found[name][-1], flush=True)
                shutil.rmtree(root / f"{seed}-{name}")
    write("seeds", {"values": values, "found": found})
    for key in ("map", "map50"):
        ours, alone = ([each[key] for each in found[name]] for name in (OURS, ALONE))
        apart = [mine - other for mine, other in zip(ours, alone, strict=True)]
        error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
        print(
            f"{key}: outlast {statistics.mean(ours):.4f}, ultralytics {statistics.mean(alone):.4f}, difference "
            f"{statistics.mean(apart):+.4f}, standard error {error:.4f}, {len(apart)} seeds"
        )


def _ready(data: Path) -> None:
    """What ultralytics alone needs is installed, and the data are there.

    Raises:
        SystemExit: otherwise.
    """
    if missing := [name for name in (*_OF_ALONE, "ultralytics") if importlib.util.find_spec(name) is None]:
        sys.exit(f"ultralytics alone needs {', '.join(missing)}: pip install 'outlast[yolo]' in another environment.")
    if not data.is_dir():
        sys.exit(f"{data} is no folder. Give that of bccd_yolo: --data DIR")


def _row(own: list[dict[str, Any]], alone: list[dict[str, Any]], far: float) -> dict[str, Any]:
    """Medians of one of the three, the shares of ultralytics alone by rounds, and the metrics of the first round."""
    middle = {key: statistics.median(each[key] for each in own) for key in MEASURED}
    shares = {f"{key}_share": statistics.median(_shares(own, alone, key)) for key in MEASURED}
    return {**own[0], **middle, **shares, "difference": far}


def _shares(own: list[dict[str, Any]], alone: list[dict[str, Any]], key: str) -> list[float]:
    return [mine[key] / other[key] for mine, other in zip(own, alone, strict=False)]


def _table(rows: dict[str, dict[str, Any]]) -> Table:
    heads = [word for name in ("wall s", "core s", "MiB") for word in (name, "of alone")]
    table = Table("", "val mAP50-95", "val mAP50", "weights: difference", *heads)
    shown = {"map": ".5f", "map50": ".5f", "difference": ".3g"}
    for key, form in MEASURED.items():
        shown |= {key: form, f"{key}_share": ".3f"}
    for name, row in rows.items():
        table.add_row(name, *(format(row[key], form) for key, form in shown.items()))
    return table


def verdicts(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Whether the goals are reached: an equal mAP with equal batches, and at most GOAL of ultralytics alone.

    Args:
        found: name -> results of its rounds.
    """
    ours, fed = found[OURS][0], found[FED][0]
    equal = all(ours[key] == fed[key] for key in ("map", "map50"))
    lines = [f"mAP with equal batches: {'equal' if equal else 'DIFFERENT'} ({ours['map']:.5f} and {fed['map']:.5f})"]
    for key, name in (("seconds", "wall time"), ("peak_mib", "memory")):
        shares = _shares(found[OURS], found[ALONE], key)
        middle = statistics.median(shares)
        lines.append(
            f"{name}: {middle:.3f} of ultralytics alone, median of {len(shares)} pairs ({min(shares):.3f} to "
            f"{max(shares):.3f}); the goal is {GOAL}: {'reached' if middle <= GOAL else 'NOT REACHED'}"
        )
    return lines


def write(name: str, results: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"yolo-{name}.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
