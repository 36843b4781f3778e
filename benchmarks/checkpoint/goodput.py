"""A model, not a measurement: how much of 100 hours of training gets done on sessions that end. `python -m
benchmarks.checkpoint.goodput`

A run of 100 hours of steps on 12-hour sessions. Machines are taken back at random (exponential times), in half of the
cases with a notice of 30 s. Each strategy pays what its saves cost, loses what it had not saved, and starts again; the
costs are those that `make bench-checkpoint` measured (results/checkpoint.json), or the ones that are given. Outlast's
interval is chosen by its own SavePolicy, which believes a failure rate and is not told the true one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from outlast.checkpoint import SavePolicy

HOUR = 3600.0
WORK, SESSION, NOTICE, ANNOUNCED = 100 * HOUR, 12 * HOUR, 30.0, 0.5
BELIEVED = 24 * HOUR
"""What environment/kaggle.py believes of the time between unannounced ends."""
RESTART = 60.0
"""Seconds of every start that no strategy can avoid: the machine, imports, compilation."""


@dataclass(frozen=True)
class Strategy:
    """A save strategy.

    Attributes:
        held: seconds that a save costs training.
        durable: seconds from its beginning until it counts.
        load: seconds to read it.
        interval: seconds of training between two saves; None: as outlast computes.
        ends_well: whether it saves before its session ends and at a notice.
        torn: chance that a kill during a save destroys the only copy (overwriting in place).
    """

    held: float
    durable: float
    load: float
    interval: float | None = None
    ends_well: bool = False
    torn: float = 0.0


def hours_until_done(strategy: Strategy, mean_life: float, seed: int) -> float:
    """Hours of machine time until the work is done; at most ten times the work."""
    chance = random.Random(seed)
    interval = strategy.interval or SavePolicy(auto=True).interval(strategy.held, BELIEVED) or 0.0
    clock, saved = 0.0, 0.0
    while saved < WORK and clock < 10 * WORK:
        life = chance.expovariate(1 / mean_life)
        announced = chance.random() < ANNOUNCED
        end = min(life, SESSION)
        known = end == SESSION or (announced and strategy.ends_well)
        spent, done, begun_save = RESTART + strategy.load, saved, None
        while True:
            # Train for an interval, or until the end, or until the work is done.
            last = strategy.ends_well and known
            room = end - spent - (strategy.durable if last else 0.0)
            stretch = min(interval, WORK - done, room)
            if stretch <= 0:
                break
            spent, done = spent + stretch, done + stretch
            if done >= WORK or stretch >= interval or last:
                begun_save = spent
                spent += strategy.held
                if begun_save + strategy.durable <= end:
                    saved = done
                elif chance.random() < strategy.torn:
                    saved = 0.0
            if done >= WORK or (last and stretch >= room):
                break
        clock += min(end, max(spent, RESTART)) if saved >= WORK else end
    return clock / HOUR


def strategies(size: str) -> dict[str, Strategy]:
    """From the measured ratios and the machine's limits beside which they were measured."""
    place = Path(__file__).parents[1] / "results/checkpoint.json"
    rows = json.loads(place.read_text())["costs"][size]

    def cost(name: str, key: str) -> float:
        return statistics.median(one[key] for one in rows[name])

    def way(name: str, held: str, **more: object) -> Strategy:
        return Strategy(cost(name, held), cost(name, "durable, s"), cost(name, "load, s"), **more)  # type: ignore[arg-type]

    found = {"outlast": way("outlast", "slowdown, s", ends_well=True)}
    for minutes in (5, 30, 60):
        found[f"torch.save every {minutes} min"] = way("torch.save", "slowdown, s", interval=minutes * 60.0, torn=1.0)
    found["torch.save every 30 min, and at known ends"] = way(
        "torch.save", "slowdown, s", interval=1800.0, ends_well=True
    )
    found["Lightning Fabric every 30 min"] = way("Lightning Fabric", "slowdown, s", interval=1800.0)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--size", default="large")
    options = parser.parse_args(arguments)
    lives = {"2 h": 2 * HOUR, "8 h": 8 * HOUR, "48 h": 48 * HOUR}
    heads = (f"machines live {name}" for name in lives)
    table = Table("goodput (a model)", *heads, box=None, header_style="bold", pad_edge=False)
    results: dict[str, dict[str, list[float]]] = {}
    for name, strategy in strategies(options.size).items():
        cells = []
        for life_name, life in lives.items():
            hours = [hours_until_done(strategy, life, seed) for seed in range(options.runs)]
            shares = sorted(100 * WORK / HOUR / each for each in hours)
            low, middle, high = (shares[int(part * (len(shares) - 1))] for part in (0.05, 0.5, 0.95))
            cells.append(f"{middle:.1f} % ({low:.1f} to {high:.1f})")
            results.setdefault(name, {})[life_name] = [low, middle, high]
        table.add_row(name, *cells)
    Console(width=140, highlight=False).print(table)
    print(
        f"\nA model of {WORK / HOUR:.0f} hours of training on {SESSION / HOUR:.0f}-hour sessions: training time / "
        "machine time, median and 5 to 95 % of "
        f"{options.runs} simulated runs. Costs of saves and loads as measured for {options.size} states; every start "
        f"costs {RESTART:.0f} s besides; {ANNOUNCED:.0%} of "
        "the early ends come with a notice of 30 s."
    )
    place = Path(__file__).parents[1] / "results/goodput.json"
    place.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
