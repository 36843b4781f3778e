"""The gradient of PPO's loss on a CPU by `ppo.c`, where a C compiler is at hand.

The same function as `ppo.loss_of` and its gradient, to rounding. It serves what most runs have: one population on one
device in float32, whose genomes are action heads or none. Everything else, and a machine without a compiler, has XLA.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.common import native
from outlast_recipes.emergence import policy
from outlast_recipes.emergence.config import Config

_SOURCE = Path(__file__).with_name("ppo.c")
_TARGET = "outlast_emergence_ppo_gradient"
_MULTIPLE = 16  # of hidden units
_CHOICES = 16  # of all heads together, and the value
_LAYERS = ("first", "second", "action", "value")


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiled gradient, known to XLA, or in words why there is none."""
    found = native.library(_SOURCE, Path(jax.ffi.include_dir()))
    if not isinstance(found, str):
        jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(found.gradient), platform="cpu")
    return found


def fits(config: Config) -> bool:
    """Whether `ppo.c` can compute the gradients of this config on the devices of this process."""
    return (
        jax.default_backend() == "cpu"
        and jax.device_count() == 1
        and not config.mixed_precision
        and config.env.populations == 1
        and config.evolution.genome in ("none", "head")
        and config.model.hidden % _MULTIPLE == 0
        and sum(policy.heads(config)) < _CHOICES
    )


def usable(config: Config) -> bool:
    """Whether `gradient` is there for this config."""
    return fits(config) and not isinstance(library(), str)


def how(config: Config) -> str:
    """How gradients are computed: resumed in another way, a run goes on with other last bits."""
    return native.how(_SOURCE, Path(jax.ffi.include_dir())) if usable(config) else "XLA"


def gradient(
    shared: dict[str, Array], obs: Array, at: Array, packed: Array, bank: Array, config: Config
) -> tuple[dict[str, Array], Array]:
    """The gradient of a minibatch, and its means.

    Args:
        shared: layers of one population.
        obs: observations of T ticks, f32[T, W, N, D].
        at: the slot-steps of the minibatch, i32[W, S]: tick * N + slot. Those without a share are not looked at.
        packed: f32[W, S, 6 + heads], see `ppo.weighted`.
        bank: genomes f32[W, N + K, G].
        config: all values.

    Returns:
        The gradients of the layers; f32[5]: policy loss, value loss, entropy, approx_kl and clipfrac.
    """
    if isinstance(why := library(), str):
        raise RuntimeError(f"PPO's gradients are not compiled: {why}.")  # noqa: TRY004 (`usable` was not asked)
    train, names = config.train, [name + end for name in _LAYERS for end in ("", "_bias")]
    layers = [shared[name] for name in names]
    if odd := {str(each.dtype) for each in (obs, packed, bank, *layers)} - {"float32"} or {str(at.dtype)} - {"int32"}:
        raise TypeError(f"The gradient is compiled for float32 and for indices in int32, not {', '.join(sorted(odd))}.")
    values = jnp.array([train.clip, train.value_weight, train.entropy, *policy.heads(config)], jnp.float32)
    results = [jax.ShapeDtypeStruct(layer.shape, jnp.float32) for layer in layers]
    call = jax.ffi.ffi_call(_TARGET, [*results, jax.ShapeDtypeStruct((5,), jnp.float32)])
    *found, means = call(obs, at, packed, bank, values, *layers)
    return dict(zip(names, found, strict=True)), means
