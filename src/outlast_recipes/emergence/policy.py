"""The policy: layers that a population shares, and the genome of each agent.

logits = f(x; shared, genome). PPO changes only the shared layers; a genome changes only at birth. The network has two
hidden layers of tanh, an action head and a value head. The action has a move; with signals, the channel to mark; with
`reproduction: choice`, whether to give birth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from outlast_recipes.emergence import observe
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.tick import Action
from outlast_recipes.emergence.world import MOVES

Shared = Mapping[str, Array]


def heads(config: Config) -> tuple[int, ...]:
    """Number of choices of each head."""
    signals = (1 + config.field.signals,) if config.field.signals else ()
    return (len(MOVES), *signals, *((2,) if config.env.reproduction == "choice" else ()))


def init(key: Array, config: Config) -> dict[str, Array]:
    """Orthogonal layers (gain sqrt 2; action head 0.01, value head 1) of each population P; arrays begin with P."""
    wide, hidden, choices = observe.size(config), config.model.hidden, sum(heads(config))
    shapes = {
        "first": (wide, hidden, math.sqrt(2)),
        "second": (hidden, hidden, math.sqrt(2)),
        "action": (hidden, choices, 0.01),
        "value": (hidden, 1, 1.0),
    }
    found = {}
    for name, (inputs, outputs, gain) in shapes.items():
        key, own = jax.random.split(key)
        make = jax.nn.initializers.orthogonal(gain)
        keys = jax.random.split(own, config.env.populations)
        found[name] = jnp.stack([make(each, (inputs, outputs), jnp.float32) for each in keys])
        found[f"{name}_bias"] = jnp.zeros((config.env.populations, outputs))
    return found


def genome(config: Config) -> dict[str, tuple[int, ...]]:
    """The matrices of a genome and their shapes: a row per output, and the bias of the layer, if any, as last column.

    With this layout, a batch is multiplied several times faster, and a genome of one matrix is not copied.
    """
    wide, hidden, choices, rank = observe.size(config), config.model.hidden, sum(heads(config)), config.evolution.rank
    head: dict[str, tuple[int, ...]] = {"action": (choices, hidden + 1)}
    kinds: dict[str, dict[str, tuple[int, ...]]] = {
        "none": {},
        "film": {"gain": (hidden,), "shift": (hidden,)},
        "head": head,
        "lowrank": {
            "first_in": (rank, wide), "first_out": (hidden, rank), "second_in": (rank, hidden),
            "second_out": (hidden, rank), **head,
        },
        "full": {"first": (hidden, wide + 1), "second": (hidden, hidden + 1), **head},
    }  # fmt: skip
    return kinds[config.evolution.genome]


def genome_size(config: Config) -> int:
    """G: length of a genome."""
    return sum(math.prod(shape) for shape in genome(config).values())


def unpack(genes: Array, config: Config) -> dict[str, Array]:
    """The arrays of genomes f32[..., G]."""
    found, at = {}, 0
    for name, shape in genome(config).items():
        count = math.prod(shape)
        found[name] = genes[..., at : at + count].reshape(*genes.shape[:-1], *shape)
        at += count
    return found


def forward(shared: Shared, genes: Array, x: Array, config: Config) -> tuple[Array, Array]:
    """Logits f32[S, A] and values f32[S] for observations f32[S, D] and genomes f32[S, G] of one population."""
    if config.mixed_precision:
        shared, genes, x = jax.tree.map(lambda each: each.astype(jnp.bfloat16), (dict(shared), genes, x))
    own = unpack(genes, config)

    def times(x: Array, name: str) -> Array:
        if own[name].shape[-1] > x.shape[-1]:
            x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], -1)
        return jnp.einsum("si,soi->so", x, own[name])

    def layer(x: Array, name: str) -> Array:
        y = x @ shared[name] + shared[f"{name}_bias"]
        if name in own:
            y = y + times(x, name)
        if f"{name}_in" in own:
            y = y + times(times(x, f"{name}_in"), f"{name}_out")
        return y

    first = jnp.tanh(layer(x, "first"))
    second = jnp.tanh(layer(first, "second"))
    value = (second @ shared["value"] + shared["value_bias"])[..., 0]
    if "gain" in own:  # after the value, which does not depend on the genome
        second = second * (1 + own["gain"]) + own["shift"]
    return layer(second, "action").astype(jnp.float32), value.astype(jnp.float32)


def of_populations(shared: Shared, genes: Array, x: Array, config: Config) -> tuple[Array, Array]:
    """`forward` for slots f32[W, N, ...], with the layers of each population: logits f32[W, N, A], values f32[W, N]."""
    worlds, slots = x.shape[:2]
    count = config.env.populations

    def grouped(each: Array) -> Array:  # [P, W * N / P, ...]
        parts = each.reshape(worlds, count, slots // count, each.shape[-1])
        return parts.swapaxes(0, 1).reshape(count, worlds * slots // count, each.shape[-1])

    if count == 1:
        only = {name: layer[0] for name, layer in shared.items()}
        count = worlds * slots
        logits, values = forward(only, genes.reshape(count, -1 if genes.size else 0), x.reshape(count, -1), config)
        return logits.reshape(worlds, slots, -1), values.reshape(worlds, slots)
    logits, values = jax.vmap(lambda layers, g, o: forward(layers, g, o, config))(shared, grouped(genes), grouped(x))
    logits = logits.reshape(count, worlds, slots // count, -1).swapaxes(0, 1).reshape(worlds, slots, -1)
    return logits, values.reshape(count, worlds, -1).swapaxes(0, 1).reshape(worlds, slots)


def split(logits: Array, config: Config) -> list[Array]:
    """The log-probabilities of each head."""
    ends = [sum(heads(config)[: at + 1]) for at in range(len(heads(config)) - 1)]
    return [jax.nn.log_softmax(part) for part in jnp.split(logits, ends, -1)]


def sample(logits: Array, u: Array, config: Config) -> tuple[Array, Array]:
    """Sample choices i32[..., heads] with uniform numbers f32[..., heads]. Returns them and their log-probability."""
    chosen, total = [], jnp.zeros(logits.shape[:-1])
    for number, logs in enumerate(split(logits, config)):
        below = jnp.exp(logs).cumsum(-1)[..., :-1]
        choice = (u[..., number, None] > below).sum(-1)
        chosen.append(choice)
        total += _of(logs, choice)
    return jnp.stack(chosen, -1), total


def _of(logs: Array, choice: Array) -> Array:
    return (logs * jax.nn.one_hot(choice, logs.shape[-1])).sum(-1)


def judge(logits: Array, chosen: Array, config: Config) -> tuple[Array, Array]:
    """The joint log-probability of choices i32[..., heads], and the sum of the entropies of all heads."""
    logs = split(logits, config)
    total = sum((_of(log, chosen[..., at]) for at, log in enumerate(logs)), jnp.zeros(logits.shape[:-1]))
    entropy = sum((-(jnp.exp(log) * log).sum(-1) for log in logs), jnp.zeros(logits.shape[:-1]))
    return total, entropy


def as_action(chosen: Array, config: Config) -> Action:
    """The action for choices i32[..., heads]."""
    parts = iter(jnp.moveaxis(chosen, -1, 0))
    move = next(parts)
    signal = next(parts) if config.field.signals else jnp.zeros_like(move)
    wants = next(parts) == 1 if config.env.reproduction == "choice" else jnp.ones_like(move, bool)
    return Action(move, signal, wants)
