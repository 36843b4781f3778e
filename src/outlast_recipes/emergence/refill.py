"""Between two rollouts: finished worlds start over, and populations that are nearly extinct get immigrants.

Both get genomes from an archive of the longest lives, so that what evolved is not lost.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence import policy
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.world import AGENT, World, founders, population_of

ARCHIVE = 64  # number of genomes for immigrants


class Archive(NamedTuple):
    """Genomes of the longest lives at the ends of chunks, by population, each life once.

    Attributes:
        genes: f32[P, S, G].
        trait: f32[P, S].
        age: i32[P, S], ticks; -1 where there is none.
        who: i32[P, S, 2], world and uid of the agent.
    """

    genes: Array
    trait: Array
    age: Array
    who: Array


def remember(archive: Archive, worlds: World, config: Config) -> Archive:
    """The archive, updated with the oldest living agents."""
    count = config.env.populations

    def by_population(each: Array) -> Array:  # [W, N, ...] -> [P, W * N / P, ...]
        worlds, slots, *rest = each.shape
        parts = each.reshape(worlds, count, slots // count, *rest)
        return jnp.moveaxis(parts, 1, 0).reshape(count, worlds * slots // count, *rest)

    age = jnp.where(worlds.alive, worlds.t[:, None] - worlds.birth, -1)
    number = jnp.broadcast_to(jnp.arange(len(age))[:, None], age.shape)
    living = Archive(worlds.genes, worlds.trait, age, jnp.stack([number, worlds.uid], -1))

    def best(archive: Archive, living: Archive) -> Archive:
        _, at = jax.lax.top_k(living.age, min(ARCHIVE, len(living.age)))
        oldest = jax.tree.map(lambda each: each[at], living)
        again = ((archive.who[:, None] == oldest.who[None]).all(-1) & (oldest.age >= 0)).any(1)
        archive = archive._replace(age=jnp.where(again, -1, archive.age))  # the same life, now older
        both = jax.tree.map(lambda *each: jnp.concatenate(each), archive, oldest)
        _, kept = jax.lax.top_k(both.age, ARCHIVE)
        return jax.tree.map(lambda each: each[kept], both)

    return jax.vmap(best)(archive, jax.tree.map(by_population, living))


def refill(worlds: World, archive: Archive, key: Array, config: Config) -> tuple[World, Array, Array]:
    """Restart finished worlds, and add immigrants to populations that are nearly extinct. Called between rollouts only.

    Both get genomes of the archive, so that what evolved is not lost; zero genomes while it is empty.

    Returns:
        The worlds; the number of immigrants of each, i32[W]; and which worlds were restarted, bool[W].
    """
    env = config.env
    slots, size = env.slots, policy.genome_size(config)
    if not (env.max_steps or env.min_agents):
        count = config.train.num_envs
        return worlds, jnp.zeros(count, jnp.int32), jnp.zeros(count, bool)
    population = population_of(config)
    known = (archive.age >= 0).sum(1)  # [P]

    def one(world: World, key: Array) -> tuple[World, Array, Array]:
        pick, new = jax.random.split(key)
        # Immigrants: genomes of the archive; those of nobody while it is empty.
        at = (jax.random.uniform(pick, (slots,)) * known[population]).astype(jnp.int32)
        genes = archive.genes[population, at] if size else world.genes
        trait = archive.trait[population, at]
        fresh = founders(new, genes, trait, config)
        living = jnp.zeros(env.populations, jnp.int32).at[population].add(world.alive.astype(jnp.int32))
        short = (living < env.min_agents) & (living < env.founders)
        free = ~world.alive & short[population]
        group = population[:, None] == population[None]
        number = (jnp.tril(group) & free[None]).sum(1)  # of a free slot in its population, from 1
        comes = free & (number <= env.founders - living[population])
        uid = (world.next_uid + comes.cumsum() - 1).astype(jnp.int32)
        arrived = dataclasses.replace(
            fresh, alive=comes, energy=jnp.full(slots, env.starting_energy), uid=uid, root=uid,
            birth=jnp.broadcast_to(world.t, slots),
        )  # fmt: skip

        def settled(name: str) -> Array:
            old, new = getattr(world, name), getattr(arrived, name)
            return jnp.where(comes.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        mixed = dataclasses.replace(
            world, **{name: settled(name) for name in AGENT}, next_uid=world.next_uid + comes.sum()
        )
        over = (world.t - world.since >= env.max_steps) if env.max_steps else jnp.bool_(False)
        uid = jnp.where(fresh.alive, fresh.uid + world.next_uid, -1)
        again = dataclasses.replace(
            fresh, uid=uid, root=uid, birth=jnp.broadcast_to(world.t, slots), t=world.t, since=world.t,
            next_uid=world.next_uid + fresh.next_uid,
        )  # fmt: skip
        chosen = jax.tree.map(lambda a, b: jnp.where(over, a, b), again, mixed)
        return chosen, jnp.where(over, 0, comes.sum()), over

    return jax.vmap(one)(worlds, jax.random.split(key, config.train.num_envs))
