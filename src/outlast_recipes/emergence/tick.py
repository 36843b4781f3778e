"""A tick of one world: pure functions of arrays; `jax.vmap` runs many worlds.

What happens in a tick, in this order:

1. All move at once; a border stops (or the world is a torus). Cells may be shared.
2. Each piece of food goes to the nearest living agent within one cell (Chebyshev), ties by lot. Energy over the maximum
   is wasted.
3. Eaten food grows again with a chance, elsewhere.
4. The field spreads, fades, is written to, and is cut at its cap.
5. Living costs energy, more among neighbours that eat the same (`niche_pressure`).
6. Who has no energy left, or is too old, dies.
7. Who has enough gives birth into a free slot: the child gets the parent's energy and genome, which mutates here and
   nowhere else.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.world import (
    AGED,
    MOVES,
    STARVED,
    World,
    niche_bits,
    niches,
    population_of,
    quarter_of,
    use_of,
)

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
NEAR = 3  # cells within which others press on a niche
HABIT = 0.1  # weight of the newest meal in an agent's niche


class Action(NamedTuple):
    """The actions of all agents: move i32[N]; signal i32[N], 0 for none; wants bool[N], whether to give birth."""

    move: Array
    signal: Array
    wants: Array


class Births(NamedTuple):
    """At most B births: whether they happen bool[B], the slot i32[B] (N where none), the parent's slot i32[B], the
    genome f32[B, G]."""

    happen: Array
    slot: Array
    parent: Array
    genes: Array


class Events(NamedTuple):
    """The events of a tick.

    Attributes:
        meals: f32[N], pieces eaten.
        worth: f32[N], what they were worth to who ate them: 1 each where there is one kind.
        bits: f32[N], information of the meals about who ate them; see `Train.diversity_bonus`.
        births: births.
        waiting: i32, births for which this chunk had no room left.
        cause: i32[N], why an agent died in this tick; 0: it did not.
        graves: i32[N, len(GRAVE)], the lives that ended, in the rows of the dead.
        gained: f32, energy eaten, what is wasted not counted.
        wasted: f32, energy eaten by those who could not hold more.
        spent: f32, energy that living cost.
        lost: f32, energy that the dead had left, or owed (negative).
    """

    meals: Array
    worth: Array
    bits: Array
    births: Births
    waiting: Array
    cause: Array
    graves: Array
    gained: Array
    wasted: Array
    spent: Array
    lost: Array


def chances(config: Config) -> int:
    """The number of uniform random numbers per tick."""
    env = config.env
    return 2 * env.slots + 3 * env.num_food + 2 * env.births_per_tick * env.populations


def distance(a: Array, b: Array, config: Config) -> Array:
    """Chebyshev distances i32[A, B] between cells i32[A, 2] and i32[B, 2]."""
    apart = jnp.abs(a[:, None] - b[None])
    if config.env.torus:
        apart = jnp.minimum(apart, config.env.grid_size - apart)
    return apart.max(-1)


def tick(
    world: World, action: Action, u: Array, noise: tuple[Array, Array], born: Array, config: Config
) -> tuple[World, Events]:
    """One tick of a world.

    Args:
        world: before.
        action: what all do; what dead slots do is ignored.
        u: f32[chances(config)], uniform in 0..1: all the chance in a tick but that of mutation.
        noise: f32[K, G] and f32[K], the mutations of a chunk: its k-th birth takes the k-th.
        born: i32, births of this chunk so far.
        config: all values.
    """
    env = config.env
    slots, food = env.slots, env.num_food
    lot, regrow, place, ties, rest = jnp.split(u, [slots, slots + food, slots + 3 * food, 2 * slots + 3 * food])
    world = _move(world, action, config)
    world, eaten, worth, bits, gained, wasted = _eat(world, lot, config)
    world = _regrow(world, regrow, place, config)
    world = _write_field(world, action, eaten, config)
    world, spent = _live(world, action, config)
    world, cause, graves, lost = _die(world, config)
    world, births, waiting = _give_birth(world, action, ties, rest, noise, born, config)
    world = dataclasses.replace(world, t=world.t + 1)
    return world, Events(eaten.sum(-1), worth, bits, births, waiting, cause, graves, gained, wasted, spent, lost)


def _move(world: World, action: Action, config: Config) -> World:
    size = config.env.grid_size
    step = jnp.asarray(MOVES)[action.move] * world.alive[:, None]
    target = world.pos + step
    pos = target % size if config.env.torus else jnp.clip(target, 0, size - 1)
    moved = world.moved + ((pos != world.pos).any(-1) & world.alive)
    return dataclasses.replace(world, pos=pos, moved=moved, move=jnp.where(world.alive, action.move, 0))


def _eat(world: World, lot: Array, config: Config) -> tuple[World, Array, Array, Array, Array, Array]:
    env = config.env
    apart = distance(world.food_pos, world.pos, config)  # [F, N]
    near = (apart <= 1) & world.alive & world.food_on[:, None]
    eater = jnp.argmin(jnp.where(near, apart + lot, jnp.inf), axis=1)
    eaten = near.any(1)
    # What each agent eats, by niche: [F, N] x [F, M].
    kind = jnp.arange(env.num_food) % env.food_kinds
    niche = jax.nn.one_hot(4 * kind + quarter_of(world.food_pos, config), niches(config))
    plates = ((jnp.arange(env.slots) == eater[:, None]) & eaten[:, None]).astype(jnp.float32)
    served = plates.T @ niche  # [N, M]
    by_kind = served.reshape(env.slots, env.food_kinds, 4).sum(-1)
    worth = (by_kind * use_of(world.trait, config)).sum(-1)
    energy = world.energy + env.food_energy * worth
    kept = jnp.minimum(energy, env.max_energy)
    wasted, gained = (energy - kept).sum(), (kept - world.energy).sum()
    total = by_kind.sum(-1)
    bits = (served * niche_bits(world, config)).sum(-1)
    share = 1 - (1 - HABIT) ** total
    habit = world.niche + share[:, None] * (served / jnp.maximum(total, 1)[:, None] - world.niche)
    meals = world.meals.at[:, : env.food_kinds].add(by_kind.astype(jnp.int32))
    world = dataclasses.replace(world, energy=kept, niche=habit, meals=meals, food_on=world.food_on & ~eaten)
    return world, by_kind, worth, bits, gained, wasted


def _regrow(world: World, chance: Array, place: Array, config: Config) -> World:
    env = config.env
    grows = ~world.food_on & (chance < env.regrow)
    somewhere = (place.reshape(env.num_food, 2) * env.grid_size).astype(jnp.int32)
    somewhere = jnp.minimum(somewhere, env.grid_size - 1)
    pos = jnp.where(grows[:, None], somewhere, world.food_pos)
    return dataclasses.replace(world, food_pos=pos, food_on=world.food_on | grows)


def blur(field: Array, *, torus: bool) -> Array:
    """The mean of each cell and its neighbours with weights [1 2 1] in both directions; f32[H, H, C]. Keeps the sum but
    at borders."""
    for axis in (0, 1):
        pads = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = jnp.pad(field, pads, mode="wrap" if torus else "edge")
        size = field.shape[axis]
        parts = [jax.lax.slice_in_dim(wide, at, at + size, axis=axis) for at in range(3)]
        field = 0.25 * parts[0] + 0.5 * parts[1] + 0.25 * parts[2]
    return field


def _write_field(world: World, action: Action, eaten: Array, config: Config) -> World:
    form = config.field
    field = world.field + form.spread * (blur(world.field, torus=config.env.torus) - world.field)
    field = field * (1 - form.decay)
    written = [form.presence * world.alive, form.meals * eaten.sum(-1)]
    if form.signals:
        marks = form.mark * jax.nn.one_hot(action.signal - 1, form.signals).T * world.alive
        written += list(marks)
    row, column = world.pos.T
    field = field.at[row, column].add(jnp.stack(written, -1))
    return dataclasses.replace(world, field=jnp.minimum(field, form.cap))


def pressure(world: World, config: Config) -> Array:
    """How many near agents of its population eat what an agent eats: sum of the overlaps (Bhattacharyya) of their
    niches, f32[N]."""
    root = jnp.sqrt(world.niche)
    overlap = root @ root.T
    population = population_of(config)
    near = (distance(world.pos, world.pos, config) <= NEAR) & world.alive[None] & (population[:, None] == population)
    near &= ~jnp.eye(config.env.slots, dtype=bool)
    return (overlap * near).sum(1)


def _live(world: World, action: Action, config: Config) -> tuple[World, Array]:
    env, weight = config.env, config.train.niche_pressure
    cost = env.energy_per_step + env.move_cost * (action.move > 0)  # also against a border
    if weight:
        cost = cost * (1 + weight * pressure(world, config))
    cost = jnp.where(world.alive, cost, 0.0)
    return dataclasses.replace(world, energy=world.energy - cost), cost.sum()


def graves_of(world: World, cause: Array, config: Config) -> Array:
    """i32[N, len(GRAVE)]: the lives of all slots, were they to end now."""
    now = jnp.broadcast_to(world.t, cause.shape)
    return jnp.stack(
        [world.uid, world.parent, world.root, world.generation, world.birth, now, cause, world.offspring, world.moved,
         world.meals[:, 0], world.meals[:, 1], population_of(config)], -1
    )  # fmt: skip


def _die(world: World, config: Config) -> tuple[World, Array, Array, Array]:
    age = world.t - world.birth
    starved = world.alive & (world.energy <= 0)
    cause = jnp.where(starved, STARVED, 0)
    if config.env.max_age:
        spread = (world.uid * 7919 % 201 - 100) / 1000  # a tenth more or less, fixed for life
        aged = world.alive & ~starved & (age > config.env.max_age * (1 + spread))
        cause = jnp.where(aged, AGED, cause)
    died = cause > 0
    lost = jnp.where(died, world.energy, 0.0).sum()
    graves = graves_of(world, cause, config)
    alive = world.alive & ~died
    return dataclasses.replace(world, alive=alive, energy=jnp.where(alive, world.energy, 0.0)), cause, graves, lost


def _give_birth(
    world: World, action: Action, ties: Array, u: Array, noise: tuple[Array, Array], born: Array, config: Config
) -> tuple[World, Births, Array]:
    env, evolution = config.env, config.evolution
    slots, population = env.slots, population_of(config)
    places = jnp.asarray(AROUND)
    able = world.alive & (world.energy >= env.reproduce_threshold)
    if env.reproduction == "choice":
        able &= action.wants
    rank = world.energy + ties if env.births_by == "energy" else ties
    old, done, waiting = world, [], jnp.int32(0)
    for number in range(env.populations * env.births_per_tick):
        mine = population == number // env.births_per_tick
        parent = jnp.argmax(jnp.where(able & mine, rank, -jnp.inf))
        slot = jnp.argmax(~world.alive & mine)
        possible = able[parent] & mine[parent] & ~world.alive[slot] & mine[slot]
        room = born < evolution.births_per_chunk
        happens = possible & room
        waiting += possible & ~room
        donor = parent
        if evolution.inherit == "random":  # of those that lived before this tick's births
            cumulative = jnp.where(old.alive & mine, 1.0, 0.0).cumsum()
            donor = jnp.minimum(
                jnp.searchsorted(cumulative, u[2 * number + 1] * cumulative[-1], side="right"), slots - 1
            )
        mutation, drift = noise[0][jnp.minimum(born, len(noise[0]) - 1)], noise[1][jnp.minimum(born, len(noise[1]) - 1)]
        genes = old.genes[donor] + mutation
        beside = world.pos[parent] + places[(u[2 * number] * len(places)).astype(jnp.int32)]
        beside = beside % env.grid_size if env.torus else jnp.clip(beside, 0, env.grid_size - 1)
        at = jnp.where(happens, slot, slots)  # a birth that does not happen is written nowhere

        def put(into: Array, value: Array | int | float, at: Array = at) -> Array:
            return into.at[at].set(value, mode="drop")

        paid = jnp.where(happens, parent, slots)
        world = dataclasses.replace(
            world,
            pos=put(world.pos, beside),
            energy=put(world.energy.at[paid].add(-env.reproduce_cost, mode="drop"), env.reproduce_cost),
            alive=put(world.alive, True),
            uid=put(world.uid, world.next_uid),
            parent=put(world.parent, world.uid[parent]),
            root=put(world.root, world.root[parent]),
            generation=put(world.generation, world.generation[parent] + 1),
            birth=put(world.birth, world.t),
            trait=put(world.trait, jnp.clip(old.trait[donor] + drift, 0, 1)),
            niche=put(world.niche, 1 / world.niche.shape[1]),
            move=put(world.move, 0),
            offspring=put(world.offspring.at[paid].add(1, mode="drop"), 0),
            moved=put(world.moved, 0),
            meals=put(world.meals, 0),
            next_uid=world.next_uid + happens,
        )
        able = able & (jnp.arange(slots) != parent)
        born = born + happens
        done.append((happens, at, parent, genes))
    happen, at, parents, genomes = (jnp.stack(each) for each in zip(*done, strict=True))
    # All at once: what is read and written in turns is copied in every tick, and genomes are the largest there is.
    world = dataclasses.replace(world, genes=old.genes.at[at].set(genomes, mode="drop"))
    return world, Births(happen, at, parents, genomes), waiting
