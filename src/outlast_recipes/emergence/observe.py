"""Observations of agents: the square around them, and their own state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.world import MOVES, World, niche_bits, population_of, quarter_of

CROWD = 3.0  # agents in a cell that give the value 1
AGE = 1000  # ticks of age that give the value 1 if there is no maximum age
BITS = 4.0  # bits that give the value 1
PIECE = 4.0  # value of a piece of food; large, because few are visible and an untrained network would ignore them


def layers(config: Config) -> int:
    """Number of values per visible cell: food by kind, agents by population, outside the world, field by channel.

    The value is "outside", not "inside": a value that is nearly always 1 hides the others from an untrained network.
    """
    return config.env.food_kinds + config.env.populations + 1 + config.field.channels


def size(config: Config) -> int:
    """D: length of an observation."""
    side = 2 * config.env.sight + 1
    return side * side * layers(config) + 3 + _bits_of(config) + len(MOVES)


def _bits_of(config: Config) -> int:
    return config.env.food_kinds if config.train.diversity_bonus else 0


def maps(world: World, config: Config) -> Array:
    """The world as layers, f32[H, H, L], with a border as wide as the sight. Hidden layers are zero."""
    env = config.env
    side = env.grid_size
    kind = jnp.arange(env.num_food) % env.food_kinds
    row, column = world.food_pos.T
    food = jnp.zeros((side, side, env.food_kinds)).at[row, column, kind].max(PIECE * world.food_on)
    row, column = world.pos.T
    density = world.alive / CROWD
    agents = jnp.zeros((side, side, env.populations)).at[row, column, population_of(config)].add(density)
    shown = {"food": food, "agents": jnp.minimum(agents, 1.0), "field": world.field / config.field.cap}
    shown |= {name: jnp.zeros_like(shown[name]) for name in env.hide}
    parts = [shown["food"], shown["agents"], jnp.zeros((side, side, 1)), shown["field"]]
    pads = ((env.sight, env.sight), (env.sight, env.sight), (0, 0))
    if env.torus:
        return jnp.pad(jnp.concatenate(parts, -1), pads, mode="wrap")
    wide = [jnp.pad(part, pads, constant_values=float(at == 2)) for at, part in enumerate(parts)]
    return jnp.concatenate(wide, -1)


def observe(world: World, config: Config) -> Array:
    """Observations of all slots, f32[N, D]; zero for dead agents. The square comes first, row by row, layers last.

    With a diversity bonus, agents observe the bonus of a meal of each kind at their place. Without it, they could not
    learn to increase the bonus.
    """
    env = config.env
    side = 2 * env.sight + 1
    wide = maps(world, config)
    count = wide.shape[-1]

    def around(pos: Array) -> Array:
        return jax.lax.dynamic_slice(wide, (pos[0], pos[1], jnp.int32(0)), (side, side, count)).reshape(-1)

    square = jax.vmap(around)(world.pos)
    age = (world.t - world.birth) / (env.max_age or AGE)
    own = jnp.stack([world.energy / env.max_energy, jnp.minimum(age, 1.0), world.trait], -1)
    if _bits_of(config):
        niche = 4 * jnp.arange(env.food_kinds) + quarter_of(world.pos, config)[:, None]
        own = jnp.concatenate([own, jnp.take_along_axis(niche_bits(world, config), niche, 1) / BITS], -1)
    seen = jnp.concatenate([square, own, jax.nn.one_hot(world.move, len(MOVES))], -1)
    return seen * world.alive[:, None]
