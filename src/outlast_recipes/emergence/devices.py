"""The devices of a population: placement of its arrays, and compilation."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import outlast
from outlast_recipes.emergence import learn
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.learn import Colony


def devices_of(config: Config) -> list[Any]:
    """The devices that share the worlds.

    Raises:
        outlast.ConfigError: the device does not exist, or the number of worlds is not a multiple of that of devices.
    """
    kind, _, number = config.device.partition(":")
    kind = {"cuda": "gpu", "auto": ""}.get(kind, kind)
    try:
        found = jax.devices(kind) if kind else jax.devices()
    except RuntimeError:
        found = []
    if number:
        found = found[int(number) : int(number) + 1] if number.isdigit() else []
    if not found:
        there = ", ".join(str(device) for device in jax.devices())
        raise outlast.ConfigError(
            f"--device is {config.device!r}, and JAX has {there}. Give cpu, cuda, cuda:0 or auto."
        )
    if config.train.num_envs % len(found):
        raise outlast.ConfigError(
            f"--train.num-envs is {config.train.num_envs}; expected a multiple of {len(found)}, the number of "
            "devices. Give one, or use one device with --device cuda:0."
        )
    return found


def placement(colony: Colony, devices: list[Any]) -> Colony:
    """The placement of each array of the state: worlds are divided among the devices, other arrays are replicated."""
    mesh = Mesh(np.array(devices), ("worlds",))
    shared, everywhere = NamedSharding(mesh, PartitionSpec("worlds")), NamedSharding(mesh, PartitionSpec())
    spread = jax.tree.map(lambda _: everywhere, colony)
    return spread._replace(worlds=jax.tree.map(lambda _: shared, colony.worlds))


def compiled(config: Config, spread: Colony) -> Any:
    """The chunk, compiled once."""
    # The state has the same placement before and after; otherwise the second chunk would be compiled again.
    return jax.jit(partial(learn.chunk, config=config), donate_argnums=0, out_shardings=(spread, None, None, None))


def keep_compilations() -> None:
    """Cache compiled functions on the disk, for the next session on this machine."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(Path.home() / ".cache" / "outlast" / "jax")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
