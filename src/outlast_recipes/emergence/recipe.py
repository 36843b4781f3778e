"""A population that forages, reproduces, evolves and learns. One step of a run is a chunk: a rollout of all worlds, then PPO.

Everything is a function of the values and of the state: interrupted and resumed equals uninterrupted, to the last bit on a CPU with the same number of
threads.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import outlast
from outlast import Run
from outlast_recipes.emergence import commands, learn, observe, pictures, policy
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.learn import Colony
from outlast_recipes.emergence.trackers import FINDINGS, Book
from outlast_recipes.emergence.world import niches

PATIENCE = 3  # chunks without anybody to learn from, after which going on is of no use


def devices_of(config: Config) -> list[Any]:
    """The devices that share the worlds.

    Raises:
        outlast.ConfigError: there is no such device, or the worlds cannot be shared equally.
    """
    kind, _, number = config.device.partition(":")
    kind = {"cuda": "gpu", "auto": ""}.get(kind, kind)
    try:
        found = jax.devices(kind) if kind else jax.devices()
    except RuntimeError:
        found = []
    if number:
        found = found[int(number) : int(number) + 1] if number.isdigit() else []
    if not found:
        there = ", ".join(str(device) for device in jax.devices())
        raise outlast.ConfigError(
            f"--device is {config.device!r}, and JAX has {there}: give cpu, cuda, cuda:0 or auto."
        )
    if config.train.num_envs % len(found):
        raise outlast.ConfigError(
            f"--train.num-envs is {config.train.num_envs}, which {len(found)} devices cannot share equally: give a multiple of {len(found)}, or "
            "one device, such as --device cuda:0."
        )
    return found


def placement(colony: Colony, devices: list[Any]) -> Colony:
    """Where each array of the state lies: each device has as many worlds, and all else is on all of them."""
    mesh = Mesh(np.array(devices), ("worlds",))
    shared, everywhere = NamedSharding(mesh, PartitionSpec("worlds")), NamedSharding(mesh, PartitionSpec())
    spread = jax.tree.map(lambda _: everywhere, colony)
    return spread._replace(worlds=jax.tree.map(lambda _: shared, colony.worlds))


def compiled(config: Config, spread: Colony) -> Any:
    """The chunk, compiled once."""
    # The state comes out where it went in; else the second chunk would be compiled anew.
    return jax.jit(partial(learn.chunk, config=config), donate_argnums=0, out_shardings=(spread, None, None, None))


def train(run: Run, config: Config) -> None:
    devices = devices_of(config)
    warn(run, config)
    book = Book(config)
    run.track(book=book)
    learn.keep_compilations()
    fresh = learn.begin(config)
    spread = placement(fresh, devices)
    colony: Colony = run.restore(jax.device_put(fresh, spread))
    if not book.curves:
        book.begin(colony)
    step = compiled(config, spread)
    for number in run.steps(config.chunks):
        phase = learn.phase_of(number - 1, config)
        colony, lives, told, moves = step(colony, phase)
        logged = book.record(
            colony, np.asarray(lives.rows), np.asarray(lives.count), told, np.asarray(moves), float(phase.mutation)
        )
        run.offer(colony)
        if number % (1 if config.debug else config.log_every) == 0 or number in (1, config.chunks):
            shown: dict[str, Any] = logged | {"slot_steps": number * config.slot_steps}
            run.log(**shown)
        if int(colony.deserted) >= PATIENCE:
            raise outlast.OutlastError(
                f"Nobody lived in any of the {config.train.num_envs} worlds for {PATIENCE} chunks, so there is nothing to learn from: feed them "
                "more (--env.num-food, --env.food-energy, --env.regrow) or let immigrants in (--env.min-agents)."
            )
    with run.artifact("curves.png") as path:
        pictures.curves(book, path)
    with run.artifact("phylogeny.png") as path:
        pictures.phylogeny(book, colony.worlds, path)
    for line in summary(book):
        run.tell(line)


def summary(book: Book) -> list[str]:
    """What was found, at the last look."""
    if not book.looks:
        return []
    found = []
    for name in FINDINGS:
        value, null, p, count = book.findings[name][-1]
        if count:
            found.append(f"{NAMES[name]}: {commands.finding(value, null, p, count)}")
    if book.config.env.food_kinds == 2:
        found.append(
            f"species: {'yes' if book.species[-1] else 'no'} (groups of diets that children inherit, in three looks in a row)"
        )
    return found


NAMES = {
    "specialists": "traits at the ends",
    "labour": "division of labour",
    "diets": "groups of diets",
    "heredity": "children eat as their parents",
    "imitation": "moves follow others' moves",
    "field_food": "the field tells of food",
    "signals_food": "signals tell of food",
}


def warn(run: Run, config: Config) -> None:
    """Say what an economy will come to, before hours are spent on it."""
    env = config.env
    for line in economy(config)[1]:
        run.tell(line)
    if env.populations > 1 and config.evolution.genome == "none":
        run.tell("--evolution.genome none: agents of a population are all alike, only populations differ.")


def economy(config: Config) -> tuple[float, list[str]]:
    """How many agents the food of a world feeds, about; and what is odd about that.

    Every place that is empty grows a piece with a chance of `regrow`; hardly a third of the energy is found in time.
    """
    env, field = config.env, config.field
    cost = env.energy_per_step + env.move_cost
    feeds = env.num_food * env.regrow * env.food_energy / cost if cost else float("inf")
    odd = []
    if feeds > 0.8 * env.slots:
        odd.append(
            f"the food of a world feeds about {min(feeds, 9999):.0f} agents and it has {env.slots} slots: it fills up, births wait for deaths, and little is "
            "selected. configs/train/emergence_lean.yaml is an economy in which food decides."
        )
    steady = field.presence * env.slots / env.grid_size**2 * 5 / field.decay if field.decay else float("inf")
    if steady > field.cap:
        odd.append(
            f"the field fills up: at --field.presence {field.presence:g} and --field.decay {field.decay:g} a cell comes to about {steady:.1f}, over its cap of "
            f"{field.cap:g}, and then it tells nothing."
        )
    return feeds, odd


def check(config: Any) -> str:
    devices = devices_of(config)
    feeds, odd = economy(config)
    sizes = (
        f"{config.train.num_envs} worlds of {config.env.grid_size} x {config.env.grid_size} with {config.env.slots} slots on {len(devices)} {devices[0].platform}; "
        f"{observe.size(config)} numbers seen, {niches(config)} niches, genomes of {policy.genome_size(config)}; {config.chunks} chunks of "
        f"{config.slot_steps:,} slot-steps; food for about {min(feeds, 9999):.0f} agents a world"
    )
    return "simulated, no data: " + "; ".join([sizes, *odd])


recipe = outlast.Recipe(
    name="emergence",
    summary="a population that forages, reproduces, evolves and learns by PPO (JAX)",
    Config=Config,
    train=train,
    part="state",
    check=check,
    commands=commands.ALL,
)
