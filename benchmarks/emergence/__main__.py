"""Benchmarks of emergence: cost, learning, the effect of evolution, and the error rates of its metrics.

    python -m benchmarks.emergence all                           # everything below, one after the other: an hour or two (estimated)
    python -m benchmarks.emergence speed        [--rounds N] [--growth]
    python -m benchmarks.emergence pairs        [--rounds N] [--before CHECKOUT]  # PPO beside another build and a loop as PureJaxRL's, in turns
    python -m benchmarks.emergence whole        [--devices N]    # `outlast train emergence` as it is: 10 million slot-steps, start and saves included
    python -m benchmarks.emergence learning     [--seeds N]      # PPO against the scripted forager, in emergence_lean
    python -m benchmarks.emergence evolution    [--seeds N]      # evolution alone against no selection and without mutation, in emergence_soft
    python -m benchmarks.emergence specialists  [--seeds N]      # emergence_two_resource above and below a = 1, and where the trait does nothing
    python -m benchmarks.emergence pressures    [--seeds N]      # what diversity_bonus and niche_pressure move, in emergence_two_resource
    python -m benchmarks.emergence calibration  [--series N]     # false positives on noise, detections of what was planted

Run `speed` and `whole` on an idle machine. Everything is a function of seeds but the times. Writes
benchmarks/results/emergence-TASK.json; a task that takes long continues after the seeds that it has.
"""  # noqa: E501 - the table of --help

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.emergence.calibration import calibration
from benchmarks.emergence.pairs import pairs
from benchmarks.emergence.runs import evolution, learning, pressures, specialists
from benchmarks.emergence.speed import speed, whole_run
from benchmarks.emergence.values import RESULTS
from rich.console import Console
from rich.table import Table

from outlast_recipes.emergence.devices import keep_compilations


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.emergence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    one = tasks.add_parser("speed")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--growth", action="store_true")
    turns = tasks.add_parser("pairs")
    turns.add_argument("--rounds", type=int, default=7)
    turns.add_argument("--before", type=Path, help="a checkout of another revision")
    tasks.add_parser("whole").add_argument("--devices", type=int, default=1)
    for name in ("learning", "evolution", "specialists", "pressures"):
        tasks.add_parser(name).add_argument("--seeds", type=int, default=5)
    tasks.add_parser("calibration").add_argument("--series", type=int, default=400)
    tasks.add_parser("all")
    given = parser.parse_args()
    keep_compilations()
    if given.task == "all":
        for words in (["speed", "--growth"], *([each] for each in tasks.choices if each not in ("all", "speed"))):
            do(parser.parse_args(words))
    else:
        do(given)


def do(given: argparse.Namespace) -> None:
    """One task."""
    if given.task == "speed":
        found = speed(given.rounds, growth=given.growth)
        (RESULTS / "emergence-speed.json").write_text(json.dumps(found, indent=1) + "\n")
    elif given.task == "pairs":
        rows = pairs(given.rounds, given.before)
        (RESULTS / "emergence-pairs.json").write_text(json.dumps(rows, indent=1) + "\n")
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*(value if isinstance(value, str) else f"{value:.2f}" for value in row.values()))
        Console().print(table)
    elif given.task == "whole":
        place = RESULTS / "emergence-whole.json"
        known = json.loads(place.read_text()) if place.is_file() else []
        place.write_text(json.dumps([*known, whole_run(given.devices)], indent=1) + "\n")
    elif given.task == "calibration":
        calibration(given.series)
    else:
        asked = {"learning": learning, "evolution": evolution, "specialists": specialists, "pressures": pressures}
        asked[given.task](given.seeds)


if __name__ == "__main__":
    main()
