"""What emergence costs, whether it learns, whether evolution does anything, and how often its metrics are wrong.

    python -m benchmarks.emergence all                           # everything below, one after the other: an hour or two (reckoned)
    python -m benchmarks.emergence speed        [--rounds N] [--growth]
    python -m benchmarks.emergence whole        [--devices N]    # `outlast train emergence` as it is: 10 million slot-steps, start and saves included
    python -m benchmarks.emergence learning     [--seeds N]      # PPO against the scripted forager, in emergence_lean
    python -m benchmarks.emergence evolution    [--seeds N]      # evolution alone against no selection and without mutation, in emergence_soft
    python -m benchmarks.emergence specialists  [--seeds N]      # emergence_two_resource above and below a = 1, and where the trait does nothing
    python -m benchmarks.emergence pressures    [--seeds N]      # what diversity_bonus and niche_pressure move, in emergence_two_resource
    python -m benchmarks.emergence calibration  [--series N]     # false positives on noise, detections of what was planted

Run `speed` and `whole` on an idle machine. Everything is a function of seeds but the times. Writes benchmarks/results/emergence-TASK.json; a task that takes long goes on
after the seeds that it has.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.emergence import peers
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console
from rich.table import Table

from outlast.config import resolve
from outlast_recipes.emergence import assay, estimates, influence, learn, metrics, nulls, observe, rollout, tick, world
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.devices import keep_compilations
from outlast_recipes.emergence.trackers import Book

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
REFERENCE = {"field.signals": "1"}
"""32 worlds of 20 x 20 with 32 slots, 2 cells of sight (159 numbers seen), 64 hidden units, 128 ticks, 4 passes of 8 minibatches."""


def values(preset: str | None = None, **given: Any) -> Config:
    file = ROOT / f"configs/train/emergence_{preset}.yaml" if preset else None
    flags = {name.replace("__", "."): value if isinstance(value, bool) else str(value) for name, value in given.items()}
    return resolve(Config, train_file=file, flags=flags).config


# speed --------------------------------------------------------------------------------------------------------------


def timed(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median seconds of wall and of CPU."""
    jax.block_until_ready(call())
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def random_play(config: Config, *, seeing: bool) -> Callable[[], Any]:
    """A chunk of random moves; observations are made (and summed) or not."""
    count, slots = config.train.num_envs, config.env.slots
    step, see = jax.vmap(partial(tick.tick, config=config)), jax.vmap(partial(observe.observe, config=config))
    rows, start = config.evolution.births_per_chunk, learn.begin(config).worlds
    noise = jnp.zeros((count, rows, start.genes.shape[-1])), jnp.zeros((count, rows))

    @jax.jit
    def play(worlds: world.World, key: jax.Array) -> Any:
        def body(carry: Any, key: jax.Array) -> Any:
            worlds, total = carry
            u = jax.random.uniform(key, (count, tick.chances(config) + slots))
            moves = (u[:, :slots] * 5).astype(jnp.int32)
            action = tick.Action(moves, jnp.zeros_like(moves), jnp.ones_like(moves, bool))
            worlds, events = step(worlds, action, u[:, slots:], noise, jnp.zeros(count, jnp.int32))
            return (worlds, total + events.meals.sum() + (see(worlds).sum() if seeing else 0.0)), None

        return jax.lax.scan(body, (worlds, jnp.float32(0)), jax.random.split(key, config.train.num_steps))[0]

    return lambda: play(start, jax.random.key(0))


def policy_play(config: Config) -> Callable[[], Any]:
    colony = learn.begin(config)

    @jax.jit
    def play(worlds: world.World, key: jax.Array) -> Any:
        return rollout.rollout(worlds, rollout.acts(colony.shared, config), key, jnp.float32(1), config)

    return lambda: play(colony.worlds, jax.random.key(0))


def whole(config: Config) -> Callable[[], Any]:
    """Chunks with PPO, one after the other."""
    step, state = jax.jit(partial(learn.chunk, config=config)), [learn.begin(config), 0]

    def call() -> Any:
        state[0], *_ = step(state[0], learn.phase_of(state[1], config))
        state[1] += 1
        return state[0]

    for _ in range(3):  # worlds fill up first
        call()
    return call


def speed(rounds: int, *, growth: bool) -> dict[str, Any]:
    none, head = values(**{**under(REFERENCE), "evolution__genome": "none"}), values(**under(REFERENCE))
    stages: list[tuple[str, Config, Callable[[], Any], float | None]] = [
        ("environment", none, random_play(none, seeing=False), None),
        ("+ observations", none, random_play(none, seeing=True), 350e3),
        ("+ shared policy", none, policy_play(none), None),
        ("+ head genomes", head, policy_play(head), 230e3),
        ("PPO, shared policy", none, whole(none), 70e3),
        ("PPO, head genomes", head, whole(head), 50e3),
        ("PPO, PureJaxRL's way", none, peers.purejax(none), None),
    ]
    table = Table("slot-steps a second", "wall", "CPU", "goal (CPU)", "env-steps (wall)")
    found: dict[str, Any] = {"numbers seen": observe.size(head)}
    for name, config, call, goal in stages:
        wall, cpu = timed(call, rounds)
        found[name] = {"wall": config.slot_steps / wall, "cpu": config.slot_steps / cpu, "goal": goal}
        table.add_row(
            name, f"{config.slot_steps / wall:,.0f}", f"{config.slot_steps / cpu:,.0f}", f"{goal:,.0f}" if goal else "",
            f"{config.slot_steps / config.env.slots / wall:,.0f}",
        )  # fmt: skip
    for name, agents, steps, call in peers.environments():
        wall, cpu = timed(call, rounds)
        found[name] = {"agent-steps, wall": agents * steps / wall, "agent-steps, cpu": agents * steps / cpu}
        table.add_row(name, f"{agents * steps / wall:,.0f}", f"{agents * steps / cpu:,.0f}", "", "")
    Console().print(table)
    found["compile seconds"] = dict(zip(("cold", "cached"), compiling(head), strict=True))
    print(
        "seconds to compile a chunk of PPO with head genomes: {cold:.1f}, from the cache {cached:.1f}".format_map(
            found["compile seconds"]
        )
    )
    if growth:
        found["growth"] = grown(rounds)
    return found


def compiling(config: Config) -> list[float]:
    """Seconds from Python to a program: with nothing known of it, and with the cache that a session before left on the disk."""
    colony, seconds = learn.begin(config), []
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
        for _ in range(2):
            jax.clear_caches()
            start = time.perf_counter()
            jax.jit(partial(learn.chunk, config=config)).lower(colony, learn.phase_of(0, config)).compile()
            seconds.append(time.perf_counter() - start)
        compilation_cache.reset_cache()
        keep_compilations()
    return seconds


def whole_run(devices: int) -> dict[str, Any]:
    """The command that a user types, as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "outlast.cli",
            "train",
            "emergence",
            "--checkpoint-dir",
            folder,
            "--experiment-name",
            "whole",
        ]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)})
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        checkpoints = sorted(Path(folder, "whole/checkpoints").glob("step-*"))
        size = sum(file.stat().st_size for file in checkpoints[-1].iterdir())
        run = sum(file.stat().st_size for file in Path(folder, "whole").rglob("*") if file.is_file())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{devices} device(s): 10 million slot-steps in {wall:.0f} s of wall, {cpu:.0f} s of CPU; the last checkpoint {size / 1e6:.1f} MB, the run folder {run / 1e6:.1f} MB"
    )
    return {"devices": devices, "wall": wall, "cpu": cpu, "checkpoint bytes": size, "run bytes": run}


def grown(rounds: int) -> list[dict[str, Any]]:
    rows, table = [], Table("worlds x slots, grid", "environment", "rollout", "PPO", title="slot-steps a CPU second")
    for worlds, slots, grid in ((1, 32, 20), (8, 32, 20), (32, 32, 20), (128, 32, 20), (32, 8, 20), (8, 128, 40)):
        config = values(**under(REFERENCE), train__num_envs=worlds, env__slots=slots, env__grid_size=grid)
        size = config.slot_steps
        each = [
            size / timed(call, rounds)[1]
            for call in (random_play(config, seeing=False), policy_play(config), whole(config))
        ]
        rows.append(
            {"worlds": worlds, "slots": slots, "grid": grid, "environment": each[0], "rollout": each[1], "ppo": each[2]}
        )
        table.add_row(f"{worlds} x {slots}, {grid}", *(f"{value:,.0f}" for value in each))
    Console().print(table)
    return rows


def under(flags: dict[str, str]) -> dict[str, str]:
    return {name.replace(".", "__"): value for name, value in flags.items()}


# whole runs ---------------------------------------------------------------------------------------------------------


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
    """PPO in `lean` against the scripted forager: meals in an agent-step of life, how many live of the same food, and meals in the common garden.

    In a life of its own any population that keeps itself alive eats what living costs, 0.05 here; so reaching that says that food is found, and no more. How many
    live of it, and the garden, say how well.
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
            f"evolution against {name}: d = {estimates.effect_size(gains['evolution'], gains[name]):.2f}, {seeds} paired seeds"
        )


def specialists(seeds: int) -> None:
    """Whether traits go to the ends (a = 2), stay away from them (a = 0.5), or drift (a = 0: a neutral run, whose p-values are even), and what the trackers say."""
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
    """What `diversity_bonus` and `niche_pressure` move in two_resource, with PPO: bits that a meal tells of who ate it, and how alike neighbours eat."""
    cases: dict[str, dict[str, Any]] = {
        "neither": {}, "diversity_bonus 1": {"train__diversity_bonus": 1.0}, "niche_pressure 1": {"train__niche_pressure": 1.0},
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


# calibration --------------------------------------------------------------------------------------------------------


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
        lambda rng: influence.field_tells(fields(rng), fields(rng) > 0.55, 50, rng),
    )

    def told(rng: np.random.Generator) -> nulls.Finding:
        field = fields(rng)
        return influence.field_tells(field, rng.random(field.shape) < 0.1 + 0.2 * (field > np.median(field)), 50, rng)

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


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.emergence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    one = tasks.add_parser("speed")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--growth", action="store_true")
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
