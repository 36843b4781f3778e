"""A world: its arrays, the founders, and derived values. `tick` changes a world.

Shapes: N slots, F places of food, H cells per side, C field channels, G numbers of a genome, M niches, Q kinds of food.
A slot is a place for an agent; the slots of population p are the p-th block of N / populations.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence.config import Config

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # stay, north, south, west, east
STARVED, AGED, ENDED = 1, 2, 3  # why a life ended; ENDED: its world was restarted
GRAVE = (
    "uid", "parent", "root", "generation", "birth", "death", "cause", "offspring", "moved", "meals_a", "meals_b",
    "population",
)  # fmt: skip
"""Columns of the record of a life that ended."""
UID, PARENT, ROOT, GENERATION, BIRTH, DEATH, CAUSE, OFFSPRING, MOVED, MEALS_A, MEALS_B, POPULATION = range(len(GRAVE))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class World:
    """The state of a world.

    Attributes:
        pos: i32[N, 2], rows and columns.
        energy: f32[N].
        alive: bool[N].
        uid: i32[N], unique in a world; -1 in a slot that was always empty.
        parent: i32[N], uid of the parent, -1 for founders and immigrants.
        root: i32[N], uid of the founder.
        generation: i32[N], births since the founder.
        birth: i32[N], tick of birth.
        trait: f32[N] in 0..1: how well an agent uses the first kind of food.
        genes: f32[N, G].
        niche: f32[N, M], shares of recent meals by kind and place; sums to 1.
        move: i32[N], the last move.
        offspring: i32[N], number of children.
        moved: i32[N], moves so far.
        meals: i32[N, 2], meals so far, by kind.
        food_pos: i32[F, 2].
        food_on: bool[F], whether the place has a piece.
        field: f32[H, H, C].
        t: i32, ticks so far, including those before restarts.
        next_uid: i32, the next unused uid.
        since: i32, the tick of the last restart.
    """

    pos: Array
    energy: Array
    alive: Array
    uid: Array
    parent: Array
    root: Array
    generation: Array
    birth: Array
    trait: Array
    genes: Array
    niche: Array
    move: Array
    offspring: Array
    moved: Array
    meals: Array
    food_pos: Array
    food_on: Array
    field: Array
    t: Array
    next_uid: Array
    since: Array


AGENT = (
    "pos", "energy", "alive", "uid", "parent", "root", "generation", "birth", "trait", "genes", "niche", "move",
    "offspring", "moved", "meals",
)  # fmt: skip
"""Names of the arrays with an entry per slot; the others belong to the world."""


def niches(config: Config) -> int:
    """M: number of niches, which are kinds of food in quarters of the world."""
    return 4 * config.env.food_kinds


def population_of(config: Config) -> Array:
    """i32[N]: the population of each slot."""
    return jnp.repeat(jnp.arange(config.env.populations), config.env.slots // config.env.populations)


def founders(key: Array, genes: Array, trait: Array, config: Config) -> World:
    """A new world, in which the first slots of each population are alive.

    Args:
        key: a PRNG key.
        genes: f32[N, G] for all slots.
        trait: f32[N].
        config: all values.
    """
    env, field = config.env, config.field
    slots, size = env.slots, env.grid_size
    where, food = jax.random.split(key)
    alive = jnp.arange(slots) % (slots // env.populations) < env.founders
    uid = jnp.where(alive, jnp.cumsum(alive) - 1, -1).astype(jnp.int32)
    zero = jnp.zeros(slots, jnp.int32)
    count = niches(config)
    return World(
        pos=jax.random.randint(where, (slots, 2), 0, size),
        energy=jnp.where(alive, env.starting_energy, 0.0).astype(jnp.float32),
        alive=alive,
        uid=uid,
        parent=zero - 1,
        root=uid,
        generation=zero,
        birth=zero,
        trait=trait,
        genes=genes,
        niche=jnp.full((slots, count), 1 / count, jnp.float32),
        move=zero,
        offspring=zero,
        moved=zero,
        meals=jnp.zeros((slots, 2), jnp.int32),
        food_pos=jax.random.randint(food, (env.num_food, 2), 0, size),
        food_on=jnp.ones(env.num_food, bool),
        field=jnp.zeros((size, size, field.channels), jnp.float32),
        t=jnp.int32(0),
        next_uid=alive.sum().astype(jnp.int32),
        since=jnp.int32(0),
    )


def use_of(trait: Array, config: Config) -> Array:
    """Share of a piece's energy that an agent gets, by kind: f32[N, Q]."""
    if config.env.food_kinds == 1:
        return jnp.ones((*trait.shape, 1))
    return jnp.stack([trait, 1 - trait], -1) ** config.env.tradeoff


def quarter_of(pos: Array, config: Config) -> Array:
    """The quarter of the world (0 to 3) of cells i32[A, 2]: i32[A]."""
    middle = config.env.grid_size // 2
    return 2 * (pos[:, 0] >= middle) + (pos[:, 1] >= middle)


def niche_bits(world: World, config: Config) -> Array:
    """Information in bits of a meal in each niche about its eater, within its population: f32[N, M].

    It is negative if other agents eat more in that niche. This is the count-based form of a discriminator of
    individuals (DIAYN, Eysenbach et al. 2019): log p(niche | individual) / p(niche).
    """
    same = population_of(config)[:, None] == population_of(config)[None]
    among = (same & world.alive[None]).astype(jnp.float32)
    usual = among @ world.niche / jnp.maximum(among.sum(1, keepdims=True), 1)
    return jnp.log2((world.niche + 1e-3) / (usual + 1e-3))
