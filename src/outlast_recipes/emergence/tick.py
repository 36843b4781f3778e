"""A tick of one world: pure functions of arrays; `jax.vmap` runs many worlds.

A tick has these steps, in this order:

1. All agents move at once. A border stops them, unless the world is a torus. Agents may share a cell.
2. Each piece of food goes to the nearest living agent within one cell (Chebyshev distance; ties at random). Energy over
   the maximum is lost.
3. Eaten food grows again with some probability, in another place.
4. The field spreads and fades, agents write to it, and it is limited to its cap.
5. Agents lose the energy cost of a tick; it is higher among neighbours with the same diet (`niche_pressure`).
6. Agents without energy, or over the maximum age, die.
7. Agents with enough energy give birth into a free slot. The child gets energy and the genome of the parent. Genomes
   mutate only here.
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
NEAR = 3  # distance in cells within which other agents add to the niche pressure
HABIT = 0.1  # weight of the newest meal in an agent's niche


class Action(NamedTuple):
    """The actions of all agents: move i32[N]; signal i32[N], 0 for none; wants bool[N], whether to give birth."""

    move: Array
    signal: Array
    wants: Array


class Births(NamedTuple):
    """At most B births: whether each happens bool[B], its slot i32[B] (N if it does not), the parent's slot i32[B], the
    genome f32[B, G]."""

    happen: Array
    slot: Array
    parent: Array
    genes: Array


class Events(NamedTuple):
    """The events of a tick.

    Attributes:
        meals: f32[N], pieces eaten.
        worth: f32[N], their value for the eater; 1 each if there is one kind of food.
        bits: f32[N], information of the meals about the eater; see `Train.diversity_bonus`.
        births: births.
        waiting: i32, births that the limit of this chunk prevented.
        cause: i32[N], why an agent died in this tick; 0 if it did not die.
        graves: i32[N, len(GRAVE)], the lives that ended, in the rows of the dead.
        gained: f32, energy that agents took in.
        wasted: f32, energy that was eaten but exceeded the maximum.
        spent: f32, energy that agents used.
        lost: f32, remaining energy of agents that died (may be negative).
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
        world: the world before the tick.
        action: the actions of all agents; those of dead slots are ignored.
        u: f32[chances(config)], uniform in 0..1: all random numbers of a tick except mutations.
        noise: f32[K, G] and f32[K], the mutations of a chunk; its k-th birth uses the k-th.
        born: i32, number of births of this chunk so far.
        config: the config.
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
    """Blur f32[H, H, C] with the weights [1 2 1] in both directions. The sum is preserved except at borders."""
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
    """The niche pressure f32[N]: the summed overlaps (Bhattacharyya) with niches of near agents of the population."""
    root = jnp.sqrt(world.niche)
    overlap = root @ root.T
    population = population_of(config)
    near = (distance(world.pos, world.pos, config) <= NEAR) & world.alive[None] & (population[:, None] == population)
    near &= ~jnp.eye(config.env.slots, dtype=bool)
    return (overlap * near).sum(1)


def _live(world: World, action: Action, config: Config) -> tuple[World, Array]:
    env, weight = config.env, config.train.niche_pressure
    cost = env.energy_per_step + env.move_cost * (action.move > 0)  # also if a border stops it
    if weight:
        cost = cost * (1 + weight * pressure(world, config))
    cost = jnp.where(world.alive, cost, 0.0)
    return dataclasses.replace(world, energy=world.energy - cost), cost.sum()


def graves_of(world: World, cause: Array, config: Config) -> Array:
    """i32[N, len(GRAVE)]: the lives of all slots, as if they ended now."""
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
        spread = (world.uid * 7919 % 201 - 100) / 1000  # up to a tenth more or less, fixed for an agent
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
        if evolution.inherit == "random":  # among those that lived before the births of this tick
            cumulative = jnp.where(old.alive & mine, 1.0, 0.0).cumsum()
            donor = jnp.minimum(
                jnp.searchsorted(cumulative, u[2 * number + 1] * cumulative[-1], side="right"), slots - 1
            )
        mutation, drift = noise[0][jnp.minimum(born, len(noise[0]) - 1)], noise[1][jnp.minimum(born, len(noise[1]) - 1)]
        genes = old.genes[donor] + mutation
        beside = world.pos[parent] + places[(u[2 * number] * len(places)).astype(jnp.int32)]
        beside = beside % env.grid_size if env.torus else jnp.clip(beside, 0, env.grid_size - 1)
        at = jnp.where(happens, slot, slots)  # an index out of range: a birth that does not happen is not written

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
    # All writes at once: alternate reads and writes would copy the array in every tick, and genomes are the largest.
    world = dataclasses.replace(world, genes=old.genes.at[at].set(genomes, mode="drop"))
    return world, Births(happen, at, parents, genomes), waiting
