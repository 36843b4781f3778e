"""A rollout: all worlds for a number of ticks, and the recorded trajectory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence import observe, policy
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.tick import chances, tick
from outlast_recipes.emergence.world import AGED, GRAVE, STARVED, World


class Trajectory(NamedTuple):
    """The trajectory of a rollout, arrays [T, W, N, ...]: obs, chosen, logp, value, reward, alive (before the tick),
    died (in it), row of the genome in the bank."""

    obs: Array
    chosen: Array
    logp: Array
    value: Array
    reward: Array
    alive: Array
    died: Array
    row: Array


class Lives(NamedTuple):
    """Lives that ended in a chunk: i32[W, L, len(GRAVE)], and how many rows of it are filled i32[W]."""

    rows: Array
    count: Array


Act = Callable[[Array, Array, Array], tuple[Array, Array, Array]]
"""Observations f32[W, N, D], genes f32[W, N, G], uniform numbers f32[W, N, heads] -> choices, log-probability,
value."""


def acts(shared: policy.Shared, config: Config) -> Act:
    """The action function of agents: observations to actions."""

    def act(obs: Array, genes: Array, u: Array) -> tuple[Array, Array, Array]:
        logits, value = policy.of_populations(shared, genes, obs, config)
        chosen, logp = policy.sample(logits, u, config)
        return chosen, logp, value

    return act


def rollout(
    worlds: World,
    act: Act,
    key: Array,
    mutation: Array,
    config: Config,
    *,
    look: Callable[[World, Trajectory], Any] = lambda _, trajectory: trajectory,
    lens: Callable[[World], World] = lambda worlds: worlds,
) -> tuple[World, Any, Array, Lives, dict[str, Array]]:
    """T ticks of all worlds.

    Args:
        worlds: W worlds.
        act: the action function of agents.
        key: PRNG key.
        mutation: factor of the mutations of genomes and traits.
        config: the config.
        look: returns what to record of a tick, from the worlds after it and its trajectory; by default the trajectory.
        lens: a function of the worlds; agents observe its result.

        Returns:
            The worlds after it; the records, arrays [T, ...]; the bank of genomes f32[W, N + K, G], which rows of the
            trajectory index; lives that ended; sums.
    """
    train, env, evolution = config.train, config.env, config.evolution
    count, slots, room = train.num_envs, env.slots, evolution.births_per_chunk
    size = policy.genome_size(config)
    chance, mutate = jax.random.split(key)
    draws = jax.random.normal(mutate, (count, room, size + 1)) * mutation
    noise = draws[..., :-1] * evolution.mutation_std, draws[..., -1] * evolution.trait_std
    bank = jnp.concatenate([worlds.genes, jnp.zeros((count, room, size))], 1)
    row = jnp.broadcast_to(jnp.arange(slots), (count, slots))
    lives = Lives(jnp.zeros((count, slots + room, len(GRAVE)), jnp.int32), jnp.zeros(count, jnp.int32))
    each = len(policy.heads(config)) * slots
    step = jax.vmap(partial(tick, config=config))
    see = jax.vmap(partial(observe.observe, config=config))

    def body(carry: Any, key: Array) -> tuple[Any, Any]:
        worlds, bank, row, born, lives = carry
        u = jax.random.uniform(key, (count, chances(config) + each))
        obs = see(lens(worlds))
        chosen, logp, value = act(obs, worlds.genes, u[:, :each].reshape(count, slots, -1))
        action = policy.as_action(chosen, config)
        acting = row
        after, events = step(worlds, action, u[:, each:], noise, born)
        parents = jnp.where(events.births.happen, events.births.parent, slots)
        gave = jax.vmap(lambda at: jnp.zeros(slots).at[at].add(1.0, mode="drop"))(parents)
        died = events.cause > 0
        reward = events.worth + train.diversity_bonus * events.bits
        reward += train.birth_reward * gave - train.death_penalty * died
        bank, row, born = jax.vmap(_keep_births)(bank, row, born, events.births)
        lives = jax.vmap(keep_lives)(lives, events.graves, died)
        trajectory = Trajectory(obs, chosen, logp, value, reward, worlds.alive, died, acting)
        sums = {
            "agents": worlds.alive.sum(), "meals": events.meals.sum(), "births": events.births.happen.sum(),
            "waiting": events.waiting.sum(), "starved": (events.cause == STARVED).sum(),
            "aged": (events.cause == AGED).sum(),
            "gained": events.gained.sum(), "wasted": events.wasted.sum(),
            "spent": events.spent.sum(), "lost": events.lost.sum(),
            "bits": events.bits.sum(), "marks": ((action.signal > 0) & worlds.alive).sum(),
        }  # fmt: skip
        return (after, bank, row, born, lives), (
            look(after, trajectory),
            {name: value.astype(jnp.float32) for name, value in sums.items()},
        )

    start = (worlds, bank, row, jnp.zeros(count, jnp.int32), lives)
    (worlds, bank, _, _, lives), (kept, sums) = jax.lax.scan(body, start, jax.random.split(chance, train.num_steps))
    return worlds, kept, bank, lives, {name: each.sum() for name, each in sums.items()}


def _keep_births(bank: Array, row: Array, born: Array, births: Any) -> tuple[Array, Array, Array]:
    slots = len(row)
    at = jnp.where(births.happen, slots + born + births.happen.cumsum() - 1, len(bank))
    bank = bank.at[at].set(births.genes, mode="drop")
    return bank, row.at[births.slot].set(at, mode="drop"), born + births.happen.sum()


def keep_lives(lives: Lives, graves: Array, died: Array) -> Lives:
    at = jnp.where(died, lives.count + died.cumsum() - 1, len(lives.rows))
    return Lives(lives.rows.at[at].set(graves, mode="drop"), lives.count + died.sum())
