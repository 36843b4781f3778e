"""What emergence costs, whether it learns, whether evolution does anything, and how often its metrics are wrong.

    python -m benchmarks.emergence speed        [--rounds N] [--growth]
    python -m benchmarks.emergence learning     [--seeds N]      # PPO against the scripted forager, in emergence_lean
    python -m benchmarks.emergence evolution    [--seeds N]      # evolution alone against no selection and against no mutation, in emergence_soft
    python -m benchmarks.emergence specialists  [--seeds N]      # emergence_two_resource above and below a = 1, and without selection
    python -m benchmarks.emergence calibration  [--series N]     # false positives on noise, detections of what was planted

Run `speed` on an idle machine. Everything is a function of seeds but the times. Writes benchmarks/results/emergence-TASK.json; a task that takes long goes on
after the seeds that it has.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.emergence import peers
from rich.console import Console
from rich.table import Table

from outlast.config import resolve
from outlast_recipes.emergence import assay, learn, metrics, observe, world
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.trackers import Book

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
REFERENCE = {"field.signals": "1"}
"""32 worlds of 20 x 20 with 32 slots, 2 cells of sight (158 numbers seen), 64 hidden units, 128 ticks, 4 passes of 8 minibatches."""


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
    step, see = jax.vmap(partial(world.tick, config=config)), jax.vmap(partial(observe.observe, config=config))
    rows, start = config.evolution.births_per_chunk, learn.begin(config).worlds
    noise = jnp.zeros((count, rows, start.genes.shape[-1])), jnp.zeros((count, rows))

    @jax.jit
    def play(worlds: world.World, key: jax.Array) -> Any:
        def body(carry: Any, key: jax.Array) -> Any:
            worlds, total = carry
            u = jax.random.uniform(key, (count, world.chances(config) + slots))
            moves = (u[:, :slots] * 5).astype(jnp.int32)
            action = world.Action(moves, jnp.zeros_like(moves), jnp.ones_like(moves, bool))
            worlds, events = step(worlds, action, u[:, slots:], noise, jnp.zeros(count, jnp.int32))
            return (worlds, total + events.meals.sum() + (see(worlds).sum() if seeing else 0.0)), None

        return jax.lax.scan(body, (worlds, jnp.float32(0)), jax.random.split(key, config.train.num_steps))[0]

    return lambda: play(start, jax.random.key(0))


def policy_play(config: Config) -> Callable[[], Any]:
    colony = learn.begin(config)

    @jax.jit
    def play(worlds: world.World, key: jax.Array) -> Any:
        return learn.rollout(worlds, learn.acts(colony.shared, config), key, jnp.float32(1), config)

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
    if growth:
        found["growth"] = grown(rounds)
    return found


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
    """Meals per agent-step of PPO in `lean`, chunk by chunk, against the scripted forager in the same economy."""

    def one(seed: int) -> dict[str, Any]:
        config, intake = values("lean", seed=seed, train__total_steps=3_000_000), []
        lived(config, lambda _, number, told: intake.append(float(told["meals"] / told["agents"])) if number else None)
        colony, meals, agents = learn.begin(config), 0.0, 0.0
        for number in range(20):
            colony, sums = assay.live_on(colony, jax.random.key(1000 + number), config, scripted=True)
            if number >= 8:
                meals, agents = meals + float(sums["meals"]), agents + float(sums["agents"])
        scripted = meals / agents
        smooth = np.convolve(intake, np.ones(3) / 3, "valid")  # three chunks, so that one lucky one does not count
        reached = next((at + 3 for at, value in enumerate(smooth) if value >= scripted), None)
        steps = reached * config.slot_steps if reached else None
        return {"intake": intake, "scripted": scripted, "reached after slot-steps": steps}

    table = Table("seed", "scripted", "PPO at the end", "reached after")
    each = [kept("learning", "lean", seed, partial(one, seed)) for seed in range(seeds)]
    for seed, row in enumerate(each):
        after = row["reached after slot-steps"]
        table.add_row(
            str(seed),
            f"{row['scripted']:.4f}",
            f"{np.mean(row['intake'][-3:]):.4f}",
            f"{after / 1e6:.2f} M" if after else "never",
        )
    Console().print(table)
    after = sorted(row["reached after slot-steps"] or np.inf for row in each)
    print(f"median: {statistics.median(after) / 1e6:.2f} million slot-steps (goal: 2)")


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
    "no mutation": {"evolution__enabled": False},
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
        apart = metrics.divergence(genes, generation, config.evolution.mutation_std)
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
        columns = [metrics.over_seeds([row[key] for row in rows]) for key in ("spread", "diversity", "generation")]
        table.add_row(name, str(metrics.over_seeds(gains[name])), *map(str, columns))
    Console().print(table)
    for name in list(CONTROLS)[1:]:
        print(
            f"evolution against {name}: d = {metrics.effect_size(gains['evolution'], gains[name]):.2f}, {seeds} paired seeds"
        )


def specialists(seeds: int) -> None:
    """Whether traits go to the ends (a = 2), stay away from them (a = 0.5), or drift (no selection), and what the trackers say."""
    cases: dict[str, dict[str, Any]] = {
        "a = 2": {"env__tradeoff": 2.0}, "a = 0.5": {"env__tradeoff": 0.5},
        "a = 2, no selection": {"env__tradeoff": 2.0, "evolution__inherit": "random"},
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
            shares.append(f"{sum(entry[2] <= metrics.LEVEL for entry in looks)} of {len(looks)}")
        species = f"{sum(row['species'][-1] for row in rows)} of {seeds}"
        table.add_row(
            case, str(seeds), str(metrics.over_seeds([row["extremeness"][-1] for row in rows])), *shares, species
        )
    Console().print(table)


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


def suites() -> Iterable[tuple[str, str, bool, Callable[[np.random.Generator], metrics.Finding]]]:
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
        lambda rng: metrics.heredity(rng.integers(0, 2, 60), rng.integers(0, 2, 60), 99, rng),
    )

    def children(rng: np.random.Generator) -> metrics.Finding:
        parents = rng.integers(0, 2, 60)
        return metrics.heredity(np.where(rng.random(60) < 0.8, parents, 1 - parents), parents, 99, rng)

    yield "heredity", "80 % as the parent", True, children
    for kind in ("noise", "AR(1), 0.9", "random walk"):
        yield (
            "imitation",
            kind,
            False,
            lambda rng, kind=kind: metrics.imitation(
                np.stack([symbols(rng, kind), symbols(rng, kind)], 1), [(0, 1)], 50, rng
            ),
        )

    def follower(rng: np.random.Generator) -> metrics.Finding:
        leader = rng.integers(0, 5, 512)
        return metrics.imitation(
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
        lambda rng: metrics.field_tells(fields(rng), fields(rng) > 0.55, 50, rng),
    )

    def told(rng: np.random.Generator) -> metrics.Finding:
        field = fields(rng)
        return metrics.field_tells(field, rng.random(field.shape) < 0.1 + 0.2 * (field > np.median(field)), 50, rng)

    yield "field tells", "food where the field is high", True, told
    for kind in ("noise", "AR(1), 0.9", "random walk", "drift", "planted"):
        for length in (76, 300):
            yield (
                "change of course",
                f"{kind}, {length} chunks",
                kind == "planted",
                lambda rng, kind=kind, length=length: metrics.change_point(series(rng, kind, length), rng)[1],
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
    for name in ("learning", "evolution", "specialists"):
        tasks.add_parser(name).add_argument("--seeds", type=int, default=5)
    tasks.add_parser("calibration").add_argument("--series", type=int, default=400)
    given = parser.parse_args()
    learn.keep_compilations()
    if given.task == "speed":
        found = speed(given.rounds, growth=given.growth)
        (RESULTS / "emergence-speed.json").write_text(json.dumps(found, indent=1) + "\n")
    elif given.task == "calibration":
        calibration(given.series)
    else:
        {"learning": learning, "evolution": evolution, "specialists": specialists}[given.task](given.seeds)


if __name__ == "__main__":
    main()
