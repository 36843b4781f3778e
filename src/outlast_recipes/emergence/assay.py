"""Measurements of a population outside its run: the common garden, and the scripted forager."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from outlast_recipes.emergence import learn, observe, policy, refill, rollout
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.learn import Colony
from outlast_recipes.emergence.observe import AGE
from outlast_recipes.emergence.world import MOVES, World, founders, population_of, use_of

GARDEN, TICKS = 16, 200
DENSITY = 0.02  # pieces of food per cell of a garden, so few that random walkers eat little

Lens = Callable[[World], World]


def garden_of(config: Config) -> Config:
    """The common garden: the same world without births, deaths and hunger, with little food that regrows at once.

    The intake in it shows how well agents forage. In its own world, a population of constant size eats what living
    costs, however well it forages.
    """
    env = config.env
    count = min(GARDEN, env.slots) // env.populations * env.populations
    env = env.model_copy(
        update={
            "num_food": max(env.food_kinds, round(DENSITY * env.grid_size**2)), "slots": count,
            "founders": count // env.populations,
            "regrow": 1.0, "energy_per_step": 0.0, "move_cost": 0.0,
            "reproduce_threshold": 1e9, "max_age": 0, "max_steps": 0, "min_agents": 0, "max_energy": 1e9,
        }
    )  # fmt: skip
    train = config.train.model_copy(update={"num_steps": TICKS, "niche_pressure": 0.0})
    return config.model_copy(update={"env": env, "train": train})


def _felt(config: Config, garden: Config) -> Lens:
    """A lens for agents in the garden, where energy and age do not change: a founder's energy, and their own age."""
    env = config.env

    def lens(world: World) -> World:
        age = (world.t[:, None] - world.birth) * (AGE / (env.max_age or AGE))
        energy = jnp.full_like(world.energy, env.starting_energy / env.max_energy * garden.env.max_energy)
        return dataclasses.replace(world, energy=energy, birth=world.t[:, None] - age.astype(jnp.int32))

    return lens


def _harvest(worlds: World, act: rollout.Act, key: Array, config: Config, garden: Config) -> Array:
    """The intake per agent-step, in pieces weighted by their value for the eater: f32[W]."""
    after, *_ = rollout.rollout(
        worlds, act, key, jnp.float32(0), garden, look=lambda *_: (), lens=_felt(config, garden)
    )
    eaten = after.meals[..., : config.env.food_kinds]  # counts whole lives; in the garden no agent is born or dies
    return (eaten * use_of(after.trait, config)).sum((1, 2)) / (TICKS * garden.env.slots)


@partial(jax.jit, static_argnames="config")
def common_garden(colony: Colony, key: Array, config: Config) -> Array:
    """Pieces eaten per agent-step in the garden, f32[W], by agents with the genomes of the living agents of each world.

    `config` is that of the run. Worlds without living agents give NaN.
    """
    garden = garden_of(config)
    per = garden.env.slots // config.env.populations
    pick, new, play = jax.random.split(key, 3)

    def plant(world: World, one: Array, two: Array) -> World:
        living = world.alive.reshape(config.env.populations, -1)
        draw = jax.random.uniform(one, (config.env.populations, per))
        below = living.cumsum(1)
        at = jax.vmap(lambda counts, u: jnp.searchsorted(counts, u * counts[-1], side="right"))(below, draw)
        at = jnp.minimum(at, living.shape[1] - 1) + jnp.arange(config.env.populations)[:, None] * living.shape[1]
        return founders(two, world.genes[at.ravel()], world.trait[at.ravel()], garden)

    count = config.train.num_envs
    worlds = jax.vmap(plant)(colony.worlds, jax.random.split(pick, count), jax.random.split(new, count))
    harvest = _harvest(worlds, rollout.acts(colony.shared, garden), play, config, garden)
    return jnp.where(colony.worlds.alive.any(1), harvest, jnp.nan)


@partial(jax.jit, static_argnames=("config", "scripted"))
def live_on(
    colony: Colony, key: Array, config: Config, shown: Array | int = 0, *, scripted: bool = False
) -> tuple[Colony, dict[str, Array]]:
    """Simulate a chunk without learning; returns the colony, and its meals, agent-steps and births.

    Args:
        colony: the population.
        key: the PRNG key.
        config: the config.
        shown: the field that agents observe: the place of its name in FIELDS. No constant of the program, because a
            chunk compiles for longer than it is simulated.
        scripted: whether all agents act as `greedy`.
    """

    def lens(worlds: World) -> World:
        return dataclasses.replace(worlds, field=jax.lax.switch(shown, list(FIELDS.values()), worlds.field))

    act = greedy(config) if scripted else rollout.acts(colony.shared, config)
    worlds, _, _, _, sums = rollout.rollout(
        colony.worlds, act, key, jnp.float32(learn.mutates(config)), config, look=lambda *_: (), lens=lens
    )
    worlds, _, _ = refill.refill(worlds, colony.archive, jax.random.fold_in(key, 1), config)
    return colony._replace(worlds=worlds), sums


@partial(jax.jit, static_argnames="config")
def garden_of_greedy(key: Array, config: Config) -> Array:
    """As `common_garden`, for scripted foragers with a trait of 0.5: f32[W]."""
    garden = garden_of(config)
    return _harvest(learn.begin(garden).worlds, greedy(garden), key, config, garden)


def greedy(config: Config) -> rollout.Act:
    """The scripted forager: it goes to the nearest visible food (ties at random), and wanders if it sees none."""
    side, sight = 2 * config.env.sight + 1, config.env.sight
    rows, columns = np.mgrid[-sight : sight + 1, -sight : sight + 1].reshape(2, -1)
    far = np.abs([rows, columns]).max(0)
    # Towards a cell, along the longer axis; stay within eating distance (1).
    way = np.where(np.abs(rows) >= np.abs(columns), np.where(rows < 0, 1, 2), np.where(columns < 0, 3, 4))
    way = np.where(far <= 1, 0, way)
    kinds = config.env.food_kinds
    count = len(policy.heads(config))

    def act(obs: Array, _: Array, u: Array) -> tuple[Array, Array, Array]:
        square = obs[..., : side * side * observe.layers(config)].reshape(*obs.shape[:-1], side * side, -1)
        food = square[..., :kinds].sum(-1) > 0
        lot = (u[..., :1] * 7919 + jnp.arange(side * side) * 0.618) % 1
        nearest = jnp.argmin(jnp.where(food, jnp.asarray(far) + 0.5 * lot, jnp.inf), -1)
        wander = (u[..., 0] * len(MOVES)).astype(jnp.int32)
        move = jnp.where(food.any(-1), jnp.asarray(way)[nearest], jnp.minimum(wander, len(MOVES) - 1))
        others = [jnp.zeros_like(move)] * (count - 1)
        if config.env.reproduction == "choice":
            others[-1] = jnp.ones_like(move)
        chosen = jnp.stack([move, *others], -1)
        return chosen, jnp.zeros(move.shape), jnp.zeros(move.shape)

    return act


# ablations --------------------------------------------------------------------------------------------------------


def field_of_another(field: Array) -> Array:
    """Agents see the field of another world. It has the same statistics, and no information about their own world."""
    return jnp.roll(field, 1, 0)


def mean_field(field: Array) -> Array:
    """Every cell shows the mean of the world's field."""
    return jnp.broadcast_to(field.mean((1, 2), keepdims=True), field.shape)


def shuffled_field(field: Array) -> Array:
    """Agents see the field of distant cells: it is shifted by half the world in both directions."""
    half = field.shape[1] // 2
    return jnp.roll(field, (half, half), (1, 2))


FIELDS: dict[str, Callable[[Array], Array]] = {
    "as it is": lambda field: field,
    "field not seen": jnp.zeros_like,
    "field of another world": field_of_another,
    "field from far away": shuffled_field,
    "mean of the field": mean_field,
}
"""What agents may be shown in place of the fields of their worlds, f32[W, side, side, signals]."""


def no_food_seen(config: Config) -> Config:
    """Food is hidden."""
    return config.model_copy(update={"env": config.env.model_copy(update={"hide": (*config.env.hide, "food")})})


def with_genes(colony: Colony, change: str, key: Array, config: Config) -> Colony:
    """A population with changed genomes.

    They are the "mean" of the world and population, "permuted" among the living agents, or "none" (all zero). The
    genomes of immigrants are changed as well, except with "permuted", because they belong to no living agent.
    """
    genes, alive = colony.worlds.genes, colony.worlds.alive
    count, size = config.env.populations, genes.shape[-1]
    worlds, slots = alive.shape
    grouped = genes.reshape(worlds, count, slots // count, size)
    living = alive.reshape(worlds, count, slots // count, 1)
    if change == "mean":
        mean = (grouped * living).sum(2, keepdims=True) / jnp.maximum(living.sum(2, keepdims=True), 1)
        genes = jnp.broadcast_to(mean, grouped.shape).reshape(genes.shape)
    elif change == "permuted":
        chance = jnp.where(living[..., 0], jax.random.uniform(key, living.shape[:-1]), 2.0)
        # The living agents get the genomes of the living agents in another order.
        to = jnp.argsort(jnp.where(living[..., 0], 0, 1), axis=2, stable=True)
        of = jnp.argsort(chance, axis=2)
        source = jnp.take_along_axis(of, jnp.argsort(to, axis=2), 2)
        genes = jnp.take_along_axis(grouped, source[..., None], 2).reshape(genes.shape)
    elif change == "none":
        genes = jnp.zeros_like(genes)
    archive = colony.archive
    if change == "none":
        archive = archive._replace(genes=jnp.zeros_like(archive.genes))
    elif change == "mean":
        everybody = (grouped * living).sum((0, 2)) / jnp.maximum(living.sum((0, 2)), 1)
        archive = archive._replace(genes=jnp.broadcast_to(everybody[:, None], archive.genes.shape))
    return colony._replace(worlds=dataclasses.replace(colony.worlds, genes=genes), archive=archive)


def choices(colony: Colony, config: Config, agents: int, probes: int) -> NDArray[np.float64]:
    """Probabilities of each move of some agents for the same observations: f64[agents, probes, moves].

    Agents and observations are sampled from the living agents.
    """
    obs = jax.vmap(partial(observe.observe, config=config))(colony.worlds)
    alive = np.asarray(colony.worlds.alive)
    who = np.argwhere(alive)
    rng = np.random.default_rng(0)
    shown = rng.permutation(who)[:probes]
    chosen = rng.permutation(who)[:agents]
    seen = np.asarray(obs)[shown[:, 0], shown[:, 1]]
    genes = np.asarray(colony.worlds.genes)[chosen[:, 0], chosen[:, 1]]
    population = np.asarray(population_of(config))
    found: list[Any] = []
    for (_, slot), own in zip(chosen, genes, strict=True):
        shared = {name: layer[population[slot]] for name, layer in colony.shared.items()}
        logits, _ = policy.forward(shared, jnp.broadcast_to(own, (len(seen), len(own))), jnp.asarray(seen), config)
        found.append(np.exp(np.asarray(policy.split(logits, config)[0], float)))
    return np.array(found)
