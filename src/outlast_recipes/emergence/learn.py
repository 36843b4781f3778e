"""A step of a run is a chunk: a rollout of all worlds, PPO updates on it, and the work between two rollouts."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence import observe, policy
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.ppo import Phase, adam, update
from outlast_recipes.emergence.refill import ARCHIVE, Archive, refill, remember
from outlast_recipes.emergence.rollout import Lives, acts, keep_lives, rollout
from outlast_recipes.emergence.tick import graves_of
from outlast_recipes.emergence.world import ENDED, World, founders

WATCHED = 4  # number of worlds whose moves the trackers record


class Colony(NamedTuple):
    """The complete state of a run: everything on which the next chunk depends.

    Attributes:
        worlds: W worlds.
        shared: the layers that the agents of a population share; the first axis is the population.
        optimizer: Adam's moments.
        archive: genomes for immigrants.
        key: the PRNG key.
        chunk: i32, chunks done.
        deserted: i32, number of consecutive chunks without living agents.
    """

    worlds: World
    shared: dict[str, Array]
    optimizer: Any
    archive: Archive
    key: Array
    chunk: Array
    deserted: Array


def key_of(seed: int) -> Array:
    """The key of a run. `jax.random.key` drops the upper half of a seed beyond 32 bits; here it counts."""
    key = jax.random.key(seed % 2**32)
    return jax.random.fold_in(key, seed >> 32) if seed >> 32 else key


@partial(jax.jit, static_argnames="config")
def begin(config: Config) -> Colony:
    """The first state of a run. It depends only on the config."""
    key, where, layers = jax.random.split(key_of(config.seed), 3)
    env, count, size = config.env, config.train.num_envs, policy.genome_size(config)
    genes, trait = jnp.zeros((count, env.slots, size)), jnp.full(env.slots, 0.5, jnp.float32)
    if config.evolution.founders_std:
        genes = config.evolution.founders_std * jax.random.normal(jax.random.fold_in(key, 1), genes.shape)
    worlds = jax.vmap(lambda each, own: founders(each, own, trait, config))(jax.random.split(where, count), genes)
    shared = policy.init(layers, config)
    archive = Archive(
        jnp.zeros((env.populations, ARCHIVE, size)),
        jnp.full((env.populations, ARCHIVE), 0.5, jnp.float32),
        jnp.full((env.populations, ARCHIVE), -1, jnp.int32),
        jnp.full((env.populations, ARCHIVE, 2), -1, jnp.int32),
    )
    return Colony(worlds, shared, adam(config).init(shared), archive, key, jnp.int32(0), jnp.int32(0))


def mutates(config: Config) -> float:
    """The factor of mutations outside freeze-evolve phases: 0 if evolution is off."""
    return float(config.evolution.enabled and config.train.mode != "frozen")


def phase_of(chunk: int, config: Config) -> Phase:
    """The training phase of a chunk. It depends only on the number and the config, so that a resume uses new values."""
    train = config.train
    learns, factor = train.mode in ("gradient", "freeze-evolve"), mutates(config)
    if train.mode == "freeze-evolve":
        turn = (chunk * config.slot_steps) % (train.gradient_steps + train.evolve_steps)
        learns = turn < train.gradient_steps
        factor *= 0.0 if learns else train.evolve_boost
    rate = config.learning_rate
    if train.lr_schedule == "linear":
        rate *= max(0.0, 1 - chunk / max(1, config.chunks))
    return Phase(jnp.float32(rate), jnp.int32(config.epochs if learns else 0), jnp.float32(factor))


def chunk(colony: Colony, phase: Phase, config: Config) -> tuple[Colony, Lives, dict[str, Array], Array]:
    """One step of a run: rollout, PPO, immigrants. Jit it with a static `config`.

    Returns:
        The next state; the lives that ended; the logged values; moves i8[T, WATCHED, N] for the trackers (-1: dead).
    """
    key, chance, order, boundary = jax.random.split(colony.key, 4)
    worlds, trajectory, bank, lives, sums = rollout(
        colony.worlds, acts(colony.shared, config), chance, phase.mutation, config
    )
    obs = jax.vmap(partial(observe.observe, config=config))(worlds)
    _, last = policy.of_populations(colony.shared, worlds.genes, obs, config)
    shared, optimizer, metrics = update(
        colony.shared, colony.optimizer, trajectory, bank, last * worlds.alive, order, phase, config
    )
    archive = remember(colony.archive, worlds, config)
    ended = worlds
    worlds, arrived, over = refill(worlds, archive, boundary, config)
    if config.env.max_steps:
        cause = jnp.full(config.env.slots, ENDED)
        graves = jax.vmap(lambda world: graves_of(world, cause, config))(ended)
        lives = jax.vmap(keep_lives)(lives, graves, ended.alive & over[:, None])
    deserted = jnp.where(sums["agents"] < 1, colony.deserted + 1, 0).astype(jnp.int32)
    metrics |= sums | {"immigrants": arrived.sum(), "begun": over.sum(), "living": worlds.alive.sum()}
    moves = jnp.where(trajectory.alive, trajectory.chosen[..., 0], -1)[:, :WATCHED].astype(jnp.int8)
    colony = Colony(worlds, shared, optimizer, archive, key, colony.chunk + 1, deserted)
    return colony, lives, metrics, moves
