"""part_conv against the original's networks and one of SPOTER's class, on real clips of a signer that nobody was
trained on.

    python -m benchmarks.sign accuracy [--networks NAME ...] [--seeds N] [--set KEY=VALUE ...] [--work FOLDER]
    python -m benchmarks.sign speed [--data FOLDER]

Data: ../shared/data/asl_traduttore with its split. The learning rate of each network is chosen by validation, with the
same tries for all (seed 0); then each is trained with five seeds. Reported are the weights that were best on
validation. The test is read after all choices. Every training is an outlast run below --work, so the same command
continues after any end. Writes benchmarks/results/sign-*.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.sign.measures import reached
from benchmarks.sign.tasks import CONTENDERS, RATES
from rich.console import Console
from rich.table import Table

import outlast
from outlast.recipe.prepare import Request, start
from outlast.recipe.prepare import prepare as prepared
from outlast_recipes.sign import recipe as installed
from outlast_recipes.sign import training as sign
from outlast_recipes.sign.data import load_data

DATA = Path(__file__).resolve().parents[3] / "shared/data/asl_traduttore"
RESULTS = Path(__file__).resolve().parents[1] / "results"


def trained(name: str, rate: str, seed: int, flags: dict[str, Any], work: Path) -> dict[str, Any]:
    """Train a network, or continue with it; returns its run, the best validation, and the CPU seconds."""
    contender = CONTENDERS[name]
    given = {"learning_rate": rate, "keep_best": "0", "keep_last": "1", **contender.flags, **flags}
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
    choice = outlast.open_saved(run_id, root=work / "runs").part("choice")
    facts = {
        "run": run_id,
        "network": name,
        "rate": rate,
        "seed": seed,
        "validation": choice["value"],
        "epoch": choice["epoch"],
        "CPU seconds": time.process_time() - begin if attempts == 1 else None,
        "flags": {key: str(value) for key, value in given.items()},
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(facts))
    return facts


def tested(facts: dict[str, Any], work: Path) -> dict[str, Any]:
    """The figures of a trained network on the test clips."""
    saved = outlast.open_saved(facts["run"], root=work / "runs")
    data = load_data(saved.config)
    network = CONTENDERS[facts["network"]].build(saved.config, data)
    network.load_state_dict(saved.part("best"))
    return facts | reached(network.eval(), data.parts["test"], in_the_picture=not saved.config.data.normalise)


def accuracy(names: list[str], seeds: int, rates: list[str], flags: dict[str, Any], work: Path) -> None:
    rows: list[dict[str, Any]] = []
    chosen = {}
    for name in names:
        tries = [trained(name, rate, 0, flags, work) for rate in rates]
        chosen[name] = max(tries, key=lambda facts: facts["validation"])["rate"]
        print(f"{name}: {chosen[name]} of " + ", ".join(f"{each['rate']} {each['validation']:.1%}" for each in tries))
    for seed in range(seeds):
        for name in names:
            rows.append(tested(trained(name, chosen[name], seed, flags, work), work))
            show(rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sign-accuracy.json").write_text(json.dumps(rows, indent=1) + "\n")


COLUMNS = ("validation", "gloss_top1", "gloss_top5", "category", "hidden left", "hidden right")


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
    parser.add_argument("what", choices=("accuracy", "speed"))
    parser.add_argument("--networks", nargs="+", choices=tuple(CONTENDERS), default=[*CONTENDERS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", nargs="+", default=[*RATES], help="learning rates that are tried")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the clips")
    parser.add_argument("--work", type=Path, default=Path("bench-runs"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other values of the recipe, for all networks"
    )
    values = parser.parse_args()
    values.work.mkdir(parents=True, exist_ok=True)
    if values.what == "speed":
        from benchmarks.sign import speed

        speed.main(values.data, RESULTS)
    else:
        flags = {"data_root": str(values.data)} | dict(word.split("=", 1) for word in values.set)
        accuracy(values.networks, values.seeds, values.rates, flags, values.work)


if __name__ == "__main__":
    main()
