"""What agents see and know: a square around them, and themselves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.world import MOVES, World, population_of

CROWD = 3.0  # agents in a cell that count as one


def layers(config: Config) -> int:
    """Numbers for each cell that is seen: food by kind, agents by population, whether it is inside, field by channel."""
    return config.env.food_kinds + config.env.populations + 1 + config.field.channels


def size(config: Config) -> int:
    """D: numbers of an observation."""
    side = 2 * config.env.sight + 1
    return side * side * layers(config) + 3 + len(MOVES)


def maps(world: World, config: Config) -> Array:
    """The world as layers, f32[H, H, L]; what is hidden is zero."""
    env = config.env
    side = env.grid_size
    kind = jnp.arange(env.num_food) % env.food_kinds
    row, column = world.food_pos.T
    food = jnp.zeros((side, side, env.food_kinds)).at[row, column, kind].max(world.food_on.astype(jnp.float32))
    row, column = world.pos.T
    here = world.alive / CROWD
    agents = jnp.zeros((side, side, env.populations)).at[row, column, population_of(config)].add(here)
    shown = {"food": food, "agents": jnp.minimum(agents, 1.0), "field": world.field / config.field.cap}
    shown |= {name: jnp.zeros_like(shown[name]) for name in env.hide}
    inside = jnp.ones((side, side, 1))
    return jnp.concatenate([shown["food"], shown["agents"], inside, shown["field"]], -1)


def observe(world: World, config: Config) -> Array:
    """Observations of all slots, f32[N, D]; zero for the dead. The square is first, row by row, layers last."""
    env = config.env
    side, sight = 2 * env.sight + 1, env.sight
    pads = ((sight, sight), (sight, sight), (0, 0))
    wide = jnp.pad(maps(world, config), pads, mode="wrap" if env.torus else "constant")
    count = wide.shape[-1]

    def around(pos: Array) -> Array:
        return jax.lax.dynamic_slice(wide, (pos[0], pos[1], jnp.int32(0)), (side, side, count)).reshape(-1)

    square = jax.vmap(around)(world.pos)
    age = (world.t - world.birth) / (env.max_age or 1000)
    own = jnp.stack([world.energy / env.max_energy, jnp.minimum(age, 1.0), world.trait], -1)
    seen = jnp.concatenate([square, own, jax.nn.one_hot(world.move, len(MOVES))], -1)
    return seen * world.alive[:, None]
