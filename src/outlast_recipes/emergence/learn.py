"""A chunk: a rollout of all worlds, PPO on what happened, and what is done between two rollouts.

PPO (Schulman et al. 2017, arXiv 1707.06347) with generalized advantage estimation (arXiv 1506.02438). An agent that died ended its episode; the
end of a rollout only cuts it. A newborn begins its own, also in a slot that another had. Dead slots are in no mean, and cost no update: the
living are packed to the front of a pass, and it ends after them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from outlast_recipes.emergence import observe, policy
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.world import (
    AGED,
    AGENT,
    ENDED,
    GRAVE,
    STARVED,
    World,
    chances,
    founders,
    graves_of,
    population_of,
    tick,
)

ARCHIVE = 64  # genomes that immigrants are made from
WATCHED = 4  # worlds whose moves the trackers see
EPSILON = 1e-5  # of Adam, as is usual with PPO


class Archive(NamedTuple):
    """Genomes of the longest lives at the ends of chunks, by population, each life once.

    Attributes:
        genes: f32[P, S, G].
        trait: f32[P, S].
        age: i32[P, S], ticks; -1 where there is none.
        who: i32[P, S, 2], world and uid.
    """

    genes: Array
    trait: Array
    age: Array
    who: Array


class Colony(NamedTuple):
    """The whole state of a run: everything that the next chunk depends on.

    Attributes:
        worlds: W worlds.
        shared: the layers that populations share; arrays begin with P.
        optimizer: Adam's moments.
        archive: genomes for immigrants.
        key: the PRNG key.
        chunk: i32, chunks done.
        deserted: i32, chunks in a row in which nobody lived.
    """

    worlds: World
    shared: dict[str, Array]
    optimizer: Any
    archive: Archive
    key: Array
    chunk: Array
    deserted: Array


class Phase(NamedTuple):
    """What a chunk is to do: learning rate f32, passes of PPO i32 (0: none), and the factor of all mutations f32."""

    rate: Array
    passes: Array
    mutation: Array


class Trajectory(NamedTuple):
    """What happened in a rollout, arrays [T, W, N, ...]: obs, chosen, logp, value, reward, alive (before the tick), died (in it), row
    of the genome in the bank."""

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


def adam(config: Config) -> optax.GradientTransformation:
    """Without the rate, which is a function of the chunk."""
    return optax.chain(optax.clip_by_global_norm(config.train.max_grad_norm), optax.scale_by_adam(eps=EPSILON))


@partial(jax.jit, static_argnames="config")
def begin(config: Config) -> Colony:
    """The first state of a run: a function of the values alone."""
    key, where, layers = jax.random.split(jax.random.key(config.seed), 3)
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
    """The factor of mutations, but in the turns of freeze-evolve: 0 where evolution is off."""
    return float(config.evolution.enabled and config.train.mode != "frozen")


def phase_of(chunk: int, config: Config) -> Phase:
    """What the chunk after so many is to do: a function of the values, so that a resume with others uses them."""
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


Act = Callable[[Array, Array, Array], tuple[Array, Array, Array]]
"""Observations f32[W, N, D], genes f32[W, N, G], uniform numbers f32[W, N, heads] -> choices, log-probability, value."""


def acts(shared: policy.Shared, config: Config) -> Act:
    """How agents decide."""

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
        act: how agents decide.
        key: for all chance in it.
        mutation: factor of the mutations of genomes and traits.
        config: all values.
        look: what to keep of each tick, of the worlds after it and its trajectory; all of the trajectory by default.
        lens: what agents see is what this makes of the worlds.

    Returns:
        The worlds after it; what was kept, arrays [T, ...]; the bank of genomes f32[W, N + K, G] that rows of the trajectory mean; lives that ended; sums.
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
        lives = jax.vmap(_keep_lives)(lives, events.graves, died)
        trajectory = Trajectory(obs, chosen, logp, value, reward, worlds.alive, died, acting)
        sums = {
            "agents": worlds.alive.sum(), "meals": events.meals.sum(), "births": events.births.happen.sum(),
            "waiting": events.waiting.sum(), "starved": (events.cause == STARVED).sum(), "aged": (events.cause == AGED).sum(),
            "gained": events.gained.sum(), "wasted": events.wasted.sum(), "spent": events.spent.sum(), "lost": events.lost.sum(),
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


def _keep_lives(lives: Lives, graves: Array, died: Array) -> Lives:
    at = jnp.where(died, lives.count + died.cumsum() - 1, len(lives.rows))
    return Lives(lives.rows.at[at].set(graves, mode="drop"), lives.count + died.sum())


def advantages(trajectory: Trajectory, last: Array, config: Config) -> tuple[Array, Array]:
    """Advantages and returns, both f32[T, W, N], of a trajectory; `last` f32[W, N] is the value after it, zero of the dead."""
    train = config.train

    def back(carry: tuple[Array, Array], now: Trajectory) -> tuple[tuple[Array, Array], Array]:
        following, ahead = carry
        goes_on = 1.0 - now.died
        delta = now.reward + train.gamma * following * goes_on - now.value
        advantage = (delta + train.gamma * train.gae_lambda * goes_on * ahead) * now.alive
        # A slot that was empty before this tick has nothing to do with what was in it earlier.
        return (now.value * now.alive, advantage), advantage

    light = trajectory._replace(obs=trajectory.reward, chosen=trajectory.reward)  # the scan needs neither
    _, found = jax.lax.scan(back, (last, jnp.zeros_like(last)), light, reverse=True)
    return found, found + trajectory.value


def loss_of(
    shared: dict[str, Array], x: Array, genes: Array, facts: Array, config: Config
) -> tuple[Array, dict[str, Array]]:
    """PPO's loss of a minibatch of S slot-steps, as a mean over the living, and its parts.

    Args:
        shared: layers.
        x: observations f32[S, D].
        genes: f32[S, G], of who acted.
        facts: f32[S, 6 + heads]: log-probability, advantage, return, whether it lived, population, row in the bank, choices.
        config: all values.
    """
    train = config.train
    logp, gain, goal, living, group = jnp.moveaxis(facts[..., :5], -1, 0)
    total = jnp.maximum(living.sum(), 1)

    def mean(each: Array) -> Array:
        return (each * living).sum() / total

    if config.env.populations == 1:
        logits, value = policy.forward({name: layer[0] for name, layer in shared.items()}, genes, x, config)
    else:  # each by all, then its own: minibatches mix populations
        every = jax.vmap(lambda layers: policy.forward(layers, genes, x, config))(shared)
        own = group.astype(jnp.int32)[None, :, None]
        logits = jnp.take_along_axis(every[0], own, 0)[0]
        value = jnp.take_along_axis(every[1], own[..., 0], 0)[0]
    now, entropy = policy.judge(logits, facts[..., 6:].astype(jnp.int32), config)
    centred = gain - mean(gain)
    gain = centred * jax.lax.rsqrt(mean(centred**2) + 1e-8)
    ratio = jnp.exp(now - logp)
    clipped = jnp.clip(ratio, 1 - train.clip, 1 + train.clip)
    policy_loss = -mean(jnp.minimum(ratio * gain, clipped * gain))
    value_loss = mean((value - goal) ** 2)
    loss = policy_loss + train.value_weight * value_loss - train.entropy * mean(entropy)
    facts = {
        "loss": loss, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": mean(entropy),
        "kl": mean(ratio - 1 - (now - logp)), "clipped": mean((jnp.abs(ratio - 1) > train.clip).astype(jnp.float32)),
    }  # fmt: skip
    return loss, facts


def shuffled(key: Array, living: Array) -> Array:
    """The indices 0 to L - 1 in each row in an order drawn by lot, the living first: i32[W, L] of bool[W, L].

    A number that begins with whether it is dead, goes on with chance and ends with the index is sorted several times faster than indices by a key.
    """
    count = living.shape[1]
    bits = (count - 1).bit_length()
    luck = jax.random.bits(key, living.shape, jnp.uint32) >> (bits + 1) << bits
    tickets = jnp.where(living, 0, jnp.uint32(1 << 31)) | luck | jnp.arange(count, dtype=jnp.uint32)
    return (jax.lax.sort(tickets, dimension=1, is_stable=False) & ((1 << bits) - 1)).astype(jnp.int32)


def update(
    shared: dict[str, Array],
    optimizer: Any,
    trajectory: Trajectory,
    bank: Array,
    last: Array,
    key: Array,
    phase: Phase,
    config: Config,
) -> tuple[dict[str, Array], Any, dict[str, Array]]:
    """PPO on a trajectory: passes over its living slot-steps in minibatches that take as many of each world.

    Returns:
        Layers, optimizer, and means over the minibatches of the last pass.
    """
    count = config.train.num_envs
    advantage, returns = advantages(trajectory, last, config)
    ticks, _, slots = trajectory.alive.shape
    per_world = ticks * slots
    size = -(-per_world // config.minibatches)

    def by_world(each: Array) -> Array:  # [T, W, N, ...] -> [W, T * N, ...]
        return jnp.moveaxis(each, 1, 0).reshape(count, per_world, *each.shape[3:])

    population = jnp.broadcast_to(population_of(config), trajectory.alive.shape)
    # What is small is gathered as one row; observations and genomes are gathered by themselves.
    small = jnp.stack([trajectory.logp, advantage, returns, trajectory.alive, population, trajectory.row], -1).astype(
        jnp.float32
    )
    small = by_world(jnp.concatenate([small, trajectory.chosen.astype(jnp.float32)], -1))
    small = jnp.pad(small, ((0, 0), (0, 1), (0, 0)))  # one more, of nobody, for the last minibatch to be filled up with
    # Observations are most of the memory, so they stay where they are.
    seen = jax.vmap(lambda obs, at: obs[at // slots, at % slots], in_axes=(1, 0))
    alive = by_world(trajectory.alive)
    most = alive.sum(1).max()

    transform, gradient = adam(config), jax.grad(partial(loss_of, config=config), has_aux=True)
    batches = -(-most // size)

    def minibatch(number: Array, carry: Any) -> Any:
        shared, optimizer, told, order = carry
        at = jax.lax.dynamic_slice_in_dim(order, number * size, size, 1)  # [W, size]
        facts = jnp.take_along_axis(small, at[..., None], 1)
        x = seen(trajectory.obs, at)
        genes = jnp.take_along_axis(bank, facts[..., 5].astype(jnp.int32)[..., None], 1)
        flat = [each.reshape(count * size, each.shape[-1]) for each in (x, genes, facts)]
        gradients, new = gradient(shared, *flat)
        change, optimizer = transform.update(gradients, optimizer)
        shared = jax.tree.map(lambda old, by: old - phase.rate * by, shared, change)
        told = jax.tree.map(lambda sum_, each: sum_ + each / batches, told, new)
        return shared, optimizer, told, order

    none = dict.fromkeys(("loss", "policy_loss", "value_loss", "entropy", "kl", "clipped"), jnp.float32(0))

    def one_pass(number: Array, carry: Any) -> Any:
        shared, optimizer, _ = carry
        order = shuffled(jax.random.fold_in(key, number), alive)
        order = jnp.pad(order, ((0, 0), (0, size)), constant_values=per_world)  # the last one may reach beyond the end
        shared, optimizer, told, _ = jax.lax.fori_loop(0, batches, minibatch, (shared, optimizer, none, order))
        return shared, optimizer, told

    shared, optimizer, told = jax.lax.fori_loop(0, phase.passes, one_pass, (shared, optimizer, none))
    spread = ((returns - returns.mean(where=trajectory.alive)) ** 2).mean(where=trajectory.alive)
    told["explained"] = 1 - ((returns - trajectory.value) ** 2).mean(where=trajectory.alive) / jnp.maximum(spread, 1e-8)
    return shared, optimizer, told


def chunk(colony: Colony, phase: Phase, config: Config) -> tuple[Colony, Lives, dict[str, Array], Array]:
    """One step of a run: rollout, PPO, immigrants. To be jitted, with `config` static.

    Returns:
        The state after it; lives that ended; what is logged; moves i8[T, WATCHED, N] for the trackers, -1 of the dead.
    """
    key, chance, order, boundary = jax.random.split(colony.key, 4)
    worlds, trajectory, bank, lives, sums = rollout(
        colony.worlds, acts(colony.shared, config), chance, phase.mutation, config
    )
    obs = jax.vmap(partial(observe.observe, config=config))(worlds)
    _, last = policy.of_populations(colony.shared, worlds.genes, obs, config)
    shared, optimizer, told = update(
        colony.shared, colony.optimizer, trajectory, bank, last * worlds.alive, order, phase, config
    )
    archive = remember(colony.archive, worlds, config)
    ended = worlds
    worlds, arrived, over = refill(worlds, archive, boundary, config)
    if config.env.max_steps:
        cause = jnp.full(config.env.slots, ENDED)
        graves = jax.vmap(lambda world: graves_of(world, cause, config))(ended)
        lives = jax.vmap(_keep_lives)(lives, graves, ended.alive & over[:, None])
    deserted = jnp.where(sums["agents"] < 1, colony.deserted + 1, 0).astype(jnp.int32)
    told |= sums | {"immigrants": arrived.sum(), "begun": over.sum(), "living": worlds.alive.sum()}
    moves = jnp.where(trajectory.alive, trajectory.chosen[..., 0], -1)[:, :WATCHED].astype(jnp.int8)
    colony = Colony(worlds, shared, optimizer, archive, key, colony.chunk + 1, deserted)
    return colony, lives, told, moves


def remember(archive: Archive, worlds: World, config: Config) -> Archive:
    """The archive with the oldest of those who live now."""
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
    """Worlds that are over begin anew, and populations that are nearly extinct get immigrants; never in the middle of a rollout.

    Both come with genomes of the archive, so that what evolved is not lost; with none while it is empty.

    Returns:
        The worlds; how many immigrants came to each, i32[W]; and which began anew, bool[W].
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
            fresh, alive=comes, energy=jnp.full(slots, env.starting_energy), uid=uid, root=uid, birth=jnp.broadcast_to(world.t, slots),
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
