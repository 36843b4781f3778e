"""Error rates of metrics: false positives on noise, detections of planted truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from benchmarks.emergence.values import RESULTS
from rich.console import Console
from rich.table import Table

from outlast_recipes.emergence import estimates, influence, metrics, nulls


def symbols(rng: np.random.Generator, kind: str, length: int = 512) -> Any:
    if kind == "noise":
        return rng.integers(0, 5, length)
    steps = rng.normal(size=length)
    series = np.cumsum(steps) if kind == "random walk" else np.convolve(steps, 0.9 ** np.arange(60))[:length]
    return np.digitize(series, np.quantile(series, [0.2, 0.4, 0.6, 0.8]))


def fields(rng: np.random.Generator) -> Any:
    field = rng.random((4, 16, 16))
    for _ in range(4):
        field = (field + sum(np.roll(field, by, axis) for by in (1, -1) for axis in (1, 2))) / 5
    return field


def series(rng: np.random.Generator, kind: str, length: int) -> Any:
    steps = rng.normal(size=length)
    made = {
        "noise": steps,
        "AR(1), 0.9": np.convolve(steps, 0.9 ** np.arange(60))[:length],
        "random walk": steps.cumsum(),
        "drift": (steps + 0.3).cumsum(),
    }
    if kind == "planted":
        steps[length // 2 :] += 2
        return steps.cumsum()
    return made[kind]


def suites() -> Iterable[tuple[str, str, bool, Callable[[np.random.Generator], nulls.Finding]]]:
    """Metric, what it is shown, whether something is there, and how it is asked."""

    def meals(rng: np.random.Generator, shares: Any) -> Any:
        first = rng.binomial(30, shares)
        return np.stack([first, 30 - first], 1)

    yield (
        "division of labour",
        "equal tastes",
        False,
        lambda rng: metrics.division_of_labour(meals(rng, np.full(20, 0.7)), 99, rng),
    )
    yield (
        "division of labour",
        "tastes 0.2 to 1",
        True,
        lambda rng: metrics.division_of_labour(meals(rng, np.linspace(0.2, 1, 20)), 99, rng),
    )
    yield (
        "groups",
        "one Gaussian cloud",
        False,
        lambda rng: metrics.clusters(rng.normal(size=(24, 1)), 39, rng, most=2)[1],
    )
    yield (
        "groups",
        "two, five deviations apart",
        True,
        lambda rng: metrics.clusters(
            np.concatenate([rng.normal(0, 0.2, (12, 1)), rng.normal(1, 0.2, (12, 1))]), 39, rng, most=2
        )[1],
    )
    yield (
        "heredity",
        "strangers",
        False,
        lambda rng: metrics.heredity(rng.integers(0, 2, 60), rng.integers(0, 2, 60), np.arange(60) % 4, 99, rng),
    )

    def children(rng: np.random.Generator) -> nulls.Finding:
        parents = rng.integers(0, 2, 60)
        return metrics.heredity(
            np.where(rng.random(60) < 0.8, parents, 1 - parents), parents, np.arange(60) % 4, 99, rng
        )

    yield "heredity", "80 % as the parent", True, children
    for kind in ("noise", "AR(1), 0.9", "random walk"):
        yield (
            "imitation",
            kind,
            False,
            lambda rng, kind=kind: influence.imitation(
                np.stack([symbols(rng, kind), symbols(rng, kind)], 1), [(0, 1)], 50, rng
            ),
        )

    def follower(rng: np.random.Generator) -> nulls.Finding:
        leader = rng.integers(0, 5, 512)
        return influence.imitation(
            np.stack([leader, np.where(rng.random(512) < 0.3, np.roll(leader, 1), rng.integers(0, 5, 512))], 1),
            [(0, 1)],
            50,
            rng,
        )

    yield "imitation", "30 % of moves copied", True, follower
    yield (
        "field tells",
        "strangers, as smooth",
        False,
        lambda rng: influence.field_effect(fields(rng), fields(rng) > 0.55, 50, rng),
    )

    def told(rng: np.random.Generator) -> nulls.Finding:
        field = fields(rng)
        return influence.field_effect(field, rng.random(field.shape) < 0.1 + 0.2 * (field > np.median(field)), 50, rng)

    yield "field tells", "food where the field is high", True, told
    for kind in ("noise", "AR(1), 0.9", "random walk", "drift", "planted"):
        for length in (76, 300):
            yield (
                "change of course",
                f"{kind}, {length} chunks",
                kind == "planted",
                lambda rng, kind=kind, length=length: estimates.change_point(series(rng, kind, length), rng)[1],
            )


def calibration(count: int) -> None:
    table = Table("metric", "shown", "found", "should be")
    rows = []
    for metric, shown, there, ask in suites():
        share = sum(ask(np.random.default_rng((seed, 7))).detected for seed in range(count)) / count
        rows.append({"metric": metric, "shown": shown, "there": there, "found": share, "series": count})
        table.add_row(metric, shown, f"{100 * share:.1f} %", "found" if there else "at most 5 %")
    Console().print(table)
    (RESULTS / "emergence-calibration.json").write_text(json.dumps(rows, indent=1) + "\n")
