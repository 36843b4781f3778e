"""The recipe in miniature."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from outlast.config import resolve
from outlast_recipes.emergence import devices, learn, pictures
from outlast_recipes.emergence.config import Config

TINY = {
    "env.grid_size": "8", "env.slots": "8", "env.founders": "4", "env.num_food": "6", "env.sight": "1",
    "env.max_age": "40", "model.hidden": "8", "train.num_envs": "2", "train.num_steps": "8",
    "train.total_steps": "1536", "batch_size": "32", "epochs": "2", "log_every": "1", "save_every": "never",
    "keep_best": "0", "track.every": "3", "track.surrogates": "20",
}  # fmt: skip
"""12 chunks of 128 slot-steps."""


def config(**given: Any) -> Config:
    """The values of TINY with others; `env__torus=True` for env.torus."""
    flags = {name.replace("__", "."): value if isinstance(value, bool) else str(value) for name, value in given.items()}
    return resolve(Config, flags={**TINY, **flags}).config


@cache
def chunk(values: Config) -> Any:
    """A compiled chunk."""
    return jax.jit(partial(learn.chunk, config=values))


@cache
def begin(values: Config) -> learn.Colony:
    """The first state."""
    return learn.begin(values)


def undrawn(replace: Callable[[Any, str, Any], None]) -> None:
    """Let runs draw nothing at their end, which takes seconds: tests/recipes/emergence/test_commands.py looks at it."""
    for name in ("curves", "phylogeny"):
        replace(pictures, name, lambda *given: given[-1].write_bytes(b"a picture"))


_steps: dict[Config, Any] = {}


def compiled_once(values: Config, spread: learn.Colony) -> Any:
    """In place of `devices.compiled`: a run that continues in this process is not traced again."""
    if values not in _steps:
        _steps[values] = devices.compiled(values, spread)
    return _steps[values]


def forget() -> None:
    """Let go of all that was compiled: a process may hold only so many pieces of compiled code."""
    _steps.clear()
    chunk.cache_clear()
    begin.cache_clear()
    jax.clear_caches()


def run(values: Config, chunks: int = 4) -> tuple[learn.Colony, list[dict[str, float]]]:
    """The state after some chunks, and what was told of each."""
    colony, told = begin(values), []
    for number in range(chunks):
        colony, _, facts, _ = chunk(values)(colony, learn.phase_of(number, values))
        told.append({name: float(value) for name, value in facts.items()})
    return colony, told


def same(a: Any, b: Any) -> bool:
    """Whether two pytrees are equal to the last bit."""
    plain = [jax.tree.leaves(jax.tree.map(_bits, tree)) for tree in (a, b)]
    return all(bool((x == y).all()) for x, y in zip(*plain, strict=True))


def _bits(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
