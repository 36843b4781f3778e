"""part_conv against the original's networks and one of SPOTER's class, on real clips of a signer that nobody was
trained on.

    python -m benchmarks.sign accuracy [--networks NAME ...] [--seeds N] [--set KEY=VALUE ...] [--work FOLDER]
    python -m benchmarks.sign judge [--candidates NAME ...] [--set KEY=VALUE ...] [--work FOLDER]
    python -m benchmarks.sign speed [--pairs N] [--epochs N] [--data FOLDER]

Data: ../shared/data/asl_traduttore with its split. The learning rate of each network is chosen by validation, with the
same tries for all (seed 0); then each is trained with --seeds seeds. Rate and epoch are chosen by the validation loss:
validation accuracy is soon the same for all. The test is read when everything has been trained. `judge` does not read
it: it compares values of part_conv by the loss on validation clips that are changed as by another signer. Every
training is an outlast run below --work, so the same command continues after any end. Writes
benchmarks/results/sign-*.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.sign.measures import CPU, judged, reached
from benchmarks.sign.tasks import CANDIDATES, CONTENDERS, RATES
from rich.console import Console
from rich.table import Table

import outlast
from outlast.recipe.prepare import Request, start
from outlast.recipe.prepare import prepare as prepared
from outlast_recipes.sign import recipe as installed
from outlast_recipes.sign import training as sign
from outlast_recipes.sign.batch import SignData
from outlast_recipes.sign.config import Monitor
from outlast_recipes.sign.data import load_data
from outlast_recipes.sign.evaluation import metrics, outputs_of
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.training import MODES

DATA = Path(__file__).resolve().parents[3] / "shared/data/asl_traduttore"
MONITOR: Monitor = "val_loss"
PARTS = ("best", "ema")
RESULTS = Path(__file__).resolve().parents[1] / "results"


def trained(name: str, rate: str, seed: int, flags: dict[str, Any], work: Path) -> dict[str, Any]:
    """Train a network, or continue with it; returns its run, the best validation, and the CPU seconds."""
    contender = CONTENDERS[name]
    given = {"learning_rate": rate, "monitor": MONITOR, "keep_best": "0", "keep_last": "1", **contender.flags, **flags}
    identity = hashlib.blake2b(json.dumps(given, sort_keys=True).encode(), digest_size=4).hexdigest()
    run_id = f"{name}-{rate}-{seed}-{identity}"
    result = work / "results" / f"{run_id}.json"
    if result.exists():
        return json.loads(result.read_text())
    own = {"seed": str(seed), "experiment_name": run_id, "checkpoint_dir": str(work / "runs")}
    recipe = dataclasses.replace(
        installed.recipe, code=None, train=functools.partial(sign.train, build=contender.build), source="sign"
    )
    begin = time.process_time()
    start(prepared(recipe, Request(flags={**given, **own})))
    attempts = len(list((work / "runs" / run_id / "attempts").glob("[0-9]*[0-9].json")))
    saved = outlast.open_saved(run_id, root=work / "runs")
    choice = saved.part("choice")
    facts = {
        "run": run_id,
        "network": name,
        "rate": rate,
        "seed": seed,
        "monitored": choice["value"],
        "epoch": choice["epoch"],
        "epochs": saved.config.epochs,
        "CPU seconds": time.process_time() - begin if attempts == 1 else None,
        "flags": {key: str(value) for key, value in given.items()},
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(facts))
    print(f"{run_id}: {MONITOR} {facts['monitored']:.4f}, epoch {facts['epoch']} of {facts['epochs']}", flush=True)
    return facts


def weights_of(facts: dict[str, Any], work: Path, part: str) -> tuple[SignNetwork, SignData]:
    """A trained network with the weights that were best on validation (best) or those of the last epoch, averaged
    (ema), and its data."""
    saved = outlast.open_saved(facts["run"], root=work / "runs")
    data = load_data(saved.config)
    network = CONTENDERS[facts["network"]].build(saved.config, data)
    network.load_state_dict(saved.part(part))
    return network.eval(), data


def tested(facts: dict[str, Any], work: Path, part: str) -> dict[str, Any]:
    """The figures of a trained network on the test clips."""
    network, data = weights_of(facts, work, part)
    validation = metrics(outputs_of(network, data.parts["val"], CPU), "val_")
    test = reached(network, data.parts["test"])
    return facts | {"weights": part} | {name: validation[name] for name in ("val_gloss_top1", "val_loss")} | test


def accuracy(
    names: list[str], seeds: int, rates: list[str], flags: dict[str, Any], work: Path, part: str = "best"
) -> None:
    """Train everything, one seed of all networks after the other, then read the test."""
    chosen = {}
    for name in names:
        tries = [trained(name, rate, 0, flags, work) for rate in rates]
        better = {"max": max, "min": min}[MODES[MONITOR]]
        chosen[name] = better(tries, key=lambda facts: facts["monitored"])["rate"]
        print(
            f"{name}: {chosen[name]} by {MONITOR}, of",
            *(f"{each['rate']}: {each['monitored']:.4f}" for each in tries),
            flush=True,
        )
    facts = [trained(name, chosen[name], seed, flags, work) for seed in range(seeds) for name in names]
    rows: list[dict[str, Any]] = []
    RESULTS.mkdir(exist_ok=True)
    for each in facts:
        rows.append(tested(each, work, part))
        (RESULTS / "sign-accuracy.json").write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


def judge(names: list[str], rates: list[str], flags: dict[str, Any], work: Path) -> None:
    """What part_conv loses on changed validation clips, with each of `tasks.CANDIDATES`. The test is not read."""
    rows = []
    RESULTS.mkdir(exist_ok=True)
    for name, rate in itertools.product(names, rates):
        facts = trained("part_conv", rate, 0, flags | CANDIDATES[name], work)
        for part in PARTS:
            network, data = weights_of(facts, work, part)
            found = judged(network, data.parts["val"])
            rows.append({"candidate": name, "rate": rate, "weights": part, "sets": found})
            table = Table("candidate", "rate", "weights", *found)
            for row in rows:
                shown = (f"{each['loss']:.3f} {each['gloss_top1']:.1%}" for each in row["sets"].values())
                table.add_row(row["candidate"], row["rate"], row["weights"], *shown)
            (RESULTS / "sign-judge.json").write_text(json.dumps(rows, indent=1) + "\n")
        Console(width=180).print(table)


COLUMNS = ("val_gloss_top1", "gloss_top1", "gloss_top5", "category", "hidden left", "hidden right")


def show(rows: list[dict[str, Any]]) -> None:
    """A row for each network: mean and standard deviation over seeds."""
    table = Table("network", "rate", "seeds", "parameters", *COLUMNS, "category < gloss", "padding", "CPU s")
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        columns = []
        for column in COLUMNS:
            found = [row[column] for row in own]
            spread = f" ± {statistics.stdev(found):.1%}" if len(found) > 1 else ""
            columns.append(f"{statistics.fmean(found):.1%}{spread}")
        below = sum(row["category"] < row["gloss_top1"] for row in own)
        seconds = [row["CPU seconds"] for row in own if row["CPU seconds"]]
        table.add_row(
            name,
            own[0]["rate"],
            str(len(own)),
            f"{own[0]['parameters']:,}",
            *columns,
            f"{below} of {len(own)}",
            f"{max(row['padding'] for row in own):.0e}",
            f"{statistics.fmean(seconds):.0f}" if seconds else "-",
        )
    Console(width=180).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "judge", "speed"))
    parser.add_argument("--networks", nargs="+", choices=tuple(CONTENDERS), default=[*CONTENDERS])
    parser.add_argument("--candidates", nargs="+", choices=tuple(CANDIDATES), default=[*CANDIDATES], help="of judge")
    parser.add_argument(
        "--weights", choices=PARTS, default="best", help="of the epoch with the best validation, or of the last one"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", nargs="+", default=[*RATES], help="learning rates that are tried")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the clips")
    parser.add_argument("--pairs", type=int, default=3, help="rounds of speed")
    parser.add_argument("--epochs", type=int, default=4, help="of each training of speed")
    parser.add_argument("--work", type=Path, default=Path("bench-runs"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other values of the recipe, for all networks"
    )
    values = parser.parse_args()
    if not (values.data / "train_labels.csv").is_file():
        parser.error(f"{values.data} has no train_labels.csv; expected the folder of the clips. Give --data FOLDER.")
    values.work.mkdir(parents=True, exist_ok=True)
    if values.what == "speed":
        from benchmarks.sign import speed

        speed.main(values.data, RESULTS, values.pairs, values.epochs)
        return
    flags = {"data_root": str(values.data)} | dict(word.split("=", 1) for word in values.set)
    if values.what == "judge":
        judge(values.candidates, values.rates, flags, values.work)
    else:
        accuracy(values.networks, values.seeds, values.rates, flags, values.work, values.weights)


if __name__ == "__main__":
    main()
