"""Whole runs: learning, evolution, specialists, and what the pressures change."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.emergence.values import RESULTS, values
from rich.console import Console
from rich.table import Table

from outlast_recipes.emergence import assay, estimates, learn, metrics, nulls, tick, world
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.trackers import Book


def lived(
    config: Config, look: Callable[[learn.Colony, int, dict[str, Any]], None], book: Book | None = None
) -> learn.Colony:
    """A run without its folder; `look` sees the state before the first chunk and after each."""
    colony = learn.begin(config)
    step = jax.jit(partial(learn.chunk, config=config.model_copy(update={"seed": 0})))
    if book:
        book.begin(colony)
    look(colony, 0, {})
    for number in range(config.chunks):
        phase = learn.phase_of(number, config)
        colony, lives, told, moves = step(colony, phase)
        if book:
            book.record(
                colony, np.asarray(lives.rows), np.asarray(lives.count), told, np.asarray(moves), float(phase.mutation)
            )
        look(colony, number + 1, told)
    return colony


def kept(task: str, name: str, seed: int, make: Callable[[], Any]) -> Any:
    """The result of a seed, from the file when it is there."""
    place = RESULTS / f"emergence-{task}.json"
    stored = json.loads(place.read_text()) if place.is_file() else {}
    if str(seed) not in stored.setdefault(name, {}):
        result = make()
        stored = json.loads(place.read_text()) if place.is_file() else {}
        stored.setdefault(name, {})[str(seed)] = result
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(stored, indent=1) + "\n")
    return stored[name][str(seed)]


def learning(seeds: int) -> None:
    """PPO in `lean` against the scripted forager: meals in an agent-step of life, how many live of the same food, and
    meals in the common garden.

    In a life of its own any population that keeps itself alive eats what living costs, 0.05 here; so reaching that says
    that food is found, and no more. How many live of it, and the garden, say how well.
    """

    def one(seed: int) -> dict[str, Any]:
        config = values("lean", seed=seed, train__total_steps=3_000_000)
        intake, living, gardens = [], [], []

        def look(colony: learn.Colony, number: int, told: dict[str, Any]) -> None:
            if number:
                intake.append(float(told["meals"] / told["agents"]))
                living.append(float(told["agents"]) / config.train.num_envs / config.train.num_steps)
            gardens.append(garden(colony, config))

        lived(config, look)
        colony, sums = learn.begin(config), []
        for number in range(20):
            colony, each = assay.live_on(colony, jax.random.key(1000 + number), config, scripted=True)
            if number >= 8:
                sums.append((float(each["meals"]), float(each["agents"])))
        meals, agents = map(sum, zip(*sums, strict=True))
        shown = config.model_copy(update={"seed": 0})
        greedy = np.mean([np.asarray(assay.garden_of_greedy(jax.random.key(at), shown)).mean() for at in range(4)])
        return {
            "slot-steps of a chunk": config.slot_steps,
            "PPO": {"intake": intake, "living": living, "garden": gardens[1:]},
            "begins with": gardens[0],
            "scripted": {
                "intake": meals / agents,
                "living": agents / len(sums) / config.train.num_envs / config.train.num_steps,
                "garden": float(greedy),
            },
        }

    each = [kept("learning", "lean", seed, partial(one, seed)) for seed in range(seeds)]
    table = Table("seed", "", "scripted", "PPO", "reached after")
    reached: dict[str, list[float]] = {}
    for seed, row in enumerate(each):
        for what, goal in row["scripted"].items():
            # Three chunks, so that one lucky one does not count.
            smooth = np.convolve(row["PPO"][what], np.ones(3) / 3, "valid")
            first = next((at + 3 for at, value in enumerate(smooth) if value >= goal), np.inf)
            after = first * row["slot-steps of a chunk"]
            reached.setdefault(what, []).append(after)
            shown = f"{after / 1e6:.2f} M" if after < np.inf else "never"
            table.add_row(str(seed), what, f"{goal:.4g}", f"{smooth[-1]:.4g}", shown)
    Console().print(table)
    for what, after in reached.items():
        print(f"{what}: median {statistics.median(after) / 1e6:.2f} million slot-steps (goal: 2)")


def garden(colony: learn.Colony, config: Config) -> float:
    """Mean over four gardens with fixed chances."""
    shown = config.model_copy(update={"seed": 0})
    return float(
        np.mean(
            [float(np.nanmean(np.asarray(assay.common_garden(colony, jax.random.key(at), shown)))) for at in range(4)]
        )
    )


CONTROLS = {
    "evolution": {},
    "no selection (genomes drawn by lot)": {"evolution__inherit": "random"},
    "no mutation: the genomes of the founders alone": {"evolution__enabled": False},
}


def evolution(seeds: int) -> None:
    """Common-garden intake and divergence after 6,400 ticks, with selection, without, and without mutation."""

    def one(seed: int, given: dict[str, Any]) -> dict[str, Any]:
        config, fitness = values("soft", seed=seed, **given), []

        def look(colony: learn.Colony, number: int, _: dict[str, Any]) -> None:
            if number % 10 == 0:
                fitness.append(garden(colony, config))

        colony = lived(config, look)
        alive = np.asarray(colony.worlds.alive)
        genes, generation = np.asarray(colony.worlds.genes, float)[alive], np.asarray(colony.worlds.generation)[alive]
        diversity = metrics.behavioural_diversity(assay.choices(colony, config, 24, 64))
        apart = metrics.divergence(
            genes, generation, learn.mutates(config) * config.evolution.mutation_std, config.evolution.founders_std
        )
        spread = float(np.sqrt(genes.var(0).sum()))
        return {
            "fitness": fitness,
            "generation": float(generation.mean()),
            "divergence": apart,
            "spread": spread,
            "diversity": diversity,
        }

    table = Table("", "gain in the garden, %", "spread of genomes", "behavioural diversity", "generations")
    gains: dict[str, list[float]] = {}
    for name, given in CONTROLS.items():
        rows = [kept("evolution", name, seed, partial(one, seed, given)) for seed in range(seeds)]
        gains[name] = [100 * (row["fitness"][-1] / row["fitness"][0] - 1) for row in rows]
        columns = [estimates.over_seeds([row[key] for row in rows]) for key in ("spread", "diversity", "generation")]
        table.add_row(name, str(estimates.over_seeds(gains[name])), *map(str, columns))
    Console().print(table)
    for name in list(CONTROLS)[1:]:
        print(
            f"evolution against {name}: d = {estimates.effect_size(gains['evolution'], gains[name]):.2f}, {seeds} "
            "paired seeds"
        )


def specialists(seeds: int) -> None:
    """Whether traits go to the ends (a = 2), stay away from them (a = 0.5), or drift (a = 0: a neutral run, whose
    p-values are even), and what the trackers say."""
    cases: dict[str, dict[str, Any]] = {
        "a = 2": {"env__tradeoff": 2.0}, "a = 0.5": {"env__tradeoff": 0.5},
        "a = 0, where the trait does nothing": {"env__tradeoff": 0.0},
    }  # fmt: skip

    def one(seed: int, given: dict[str, Any]) -> dict[str, Any]:
        config = values("two_resource", seed=seed, **given)
        book = Book(config)
        lived(config, lambda *_: None, book)
        return {
            "extremeness": book.curves["extremeness"],
            "looks": book.looks,
            "findings": book.findings,
            "species": book.species,
        }

    names = ("specialists", "labour", "diets", "imitation", "field_food")
    table = Table("", "seeds", "extremeness at the end", *(f"{name}: looks that found it" for name in names), "species")
    for case, given in cases.items():
        rows = [kept("specialists", case, seed, partial(one, seed, given)) for seed in range(seeds)]
        shares = []
        for name in names:
            looks = [entry for row in rows for entry in row["findings"][name] if entry[3]]
            shares.append(f"{sum(entry[2] <= nulls.LEVEL for entry in looks)} of {len(looks)}")
        species = f"{sum(row['species'][-1] for row in rows)} of {seeds}"
        table.add_row(
            case, str(seeds), str(estimates.over_seeds([row["extremeness"][-1] for row in rows])), *shares, species
        )
    Console().print(table)


def pressures(seeds: int) -> None:
    """What `diversity_bonus` and `niche_pressure` move in two_resource, with PPO: bits that a meal tells of who ate it,
    and how alike neighbours eat."""
    cases: dict[str, dict[str, Any]] = {
        "neither": {}, "diversity_bonus 1": {"train__diversity_bonus": 1.0},
        "niche_pressure 1": {"train__niche_pressure": 1.0},
    }  # fmt: skip

    def one(seed: int, given: dict[str, Any]) -> dict[str, Any]:
        config = values("two_resource", seed=seed, train__mode="gradient", train__total_steps=2_000_000, **given)
        bits, overlaps, crowds, living = [], [], [], []

        def look(colony: learn.Colony, number: int, told: dict[str, Any]) -> None:
            if number > config.chunks // 2:
                pressed = jax.vmap(partial(tick.pressure, config=config))
                equal = dataclasses.replace(
                    colony.worlds, niche=jnp.full_like(colony.worlds.niche, 1 / world.niches(config))
                )
                alive = np.asarray(colony.worlds.alive)
                like, near = (np.asarray(pressed(each))[alive].sum() for each in (colony.worlds, equal))
                bits.append(float(told["bits"] / told["meals"]))
                overlaps.append(float(like / near))
                crowds.append(float(near / alive.sum()))
                living.append(float(alive.sum(1).mean()))

        lived(config, look)
        return {name: np.mean(each) for name, each in zip(columns, (bits, overlaps, crowds, living), strict=True)}

    columns = ("bits", "overlap", "near", "living")
    table = Table("", "bits a meal", "overlap with a neighbour", "neighbours", "living")
    found: dict[str, dict[str, list[float]]] = {}
    for case, given in cases.items():
        rows = [kept("pressures", case, seed, partial(one, seed, given)) for seed in range(seeds)]
        found[case] = {name: [row[name] for row in rows] for name in columns}
        table.add_row(case, *(str(estimates.over_seeds(column)) for column in found[case].values()))
    Console().print(table)
    for case, name in (("diversity_bonus 1", "bits"), ("niche_pressure 1", "overlap"), ("niche_pressure 1", "near")):
        moved = [
            100 * (after / before - 1) for after, before in zip(found[case][name], found["neither"][name], strict=True)
        ]
        print(f"{case} moves {name} by {estimates.over_seeds(moved)} %, {seeds} paired seeds")
