"""PPO (Schulman et al. 2017, arXiv 1707.06347) with generalized advantage estimation (arXiv 1506.02438).

The death of an agent ends its episode; the end of a rollout only truncates it. A newborn starts its own episode, also
in a slot that another agent used before. Dead slots are in no mean and cost no update: the living are packed to the
front of an epoch, which ends after them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from outlast_recipes.emergence import compiled, policy
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.rollout import Trajectory
from outlast_recipes.emergence.world import population_of

EPSILON = 1e-5  # of Adam, as is usual with PPO


ROWS = 512
"""Slot-steps whose gradient is computed at a time on a CPU: what a network of this size makes of them stays in the
cache of a core. With a whole minibatch, half of the time went to memory (docs/log.md)."""

METRICS = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clipfrac")
"""Names of the logged metrics of a minibatch."""


class Phase(NamedTuple):
    """The phase of a chunk: learning rate f32, epochs of PPO i32 (0: none), and the factor of all mutations f32."""

    rate: Array
    epochs: Array
    mutation: Array


class Sample(NamedTuple):
    """Slot-steps for PPO, arrays [...].

    Attributes:
        logp: f32, log-probability of the actions.
        advantage, returns: f32.
        alive: f32, 1 for the living; after `weighted`, their share of the minibatch.
        population: f32.
        row: f32, row of the genome in the bank.
        action: f32[..., heads].
    """

    logp: Array
    advantage: Array
    returns: Array
    alive: Array
    population: Array
    row: Array
    action: Array


def adam(config: Config) -> optax.GradientTransformation:
    """Adam without its learning rate, which depends on the chunk."""
    return optax.chain(optax.clip_by_global_norm(config.train.max_grad_norm), optax.scale_by_adam(eps=EPSILON))


def advantages(trajectory: Trajectory, last_value: Array, config: Config) -> tuple[Array, Array]:
    """Generalized advantage estimation.

    Args:
        trajectory: T ticks.
        last_value: f32[W, N], the value after them; zero for the dead.
        config: all values.

    Returns:
        Advantages and returns, f32[T, W, N].
    """
    train = config.train

    def back(carry: tuple[Array, Array], now: Trajectory) -> tuple[tuple[Array, Array], Array]:
        next_value, next_advantage = carry
        continues = 1.0 - now.died
        delta = now.reward + train.gamma * next_value * continues - now.value
        advantage = (delta + train.gamma * train.gae_lambda * continues * next_advantage) * now.alive
        # A slot that was empty before this tick holds another agent than earlier.
        return (now.value * now.alive, advantage), advantage

    light = trajectory._replace(obs=trajectory.reward, chosen=trajectory.reward)  # the scan needs neither
    _, advantage = jax.lax.scan(back, (last_value, jnp.zeros_like(last_value)), light, reverse=True)
    return advantage, advantage + trajectory.value


def explained_variance(values: Array, returns: Array, alive: Array) -> Array:
    """1 minus the mean squared error of the values over the variance of the returns, for living agents: f32.

    It is 1 for a perfect value function, and 0 for one that always returns the mean.
    """
    variance = ((returns - returns.mean(where=alive)) ** 2).mean(where=alive)
    return 1 - ((returns - values) ** 2).mean(where=alive) / jnp.maximum(variance, 1e-8)


def loss_of(
    shared: dict[str, Array], obs: Array, genes: Array, packed: Array, config: Config
) -> tuple[Array, dict[str, Array]]:
    """PPO's loss of S slot-steps, a sum of shares of their minibatch, and METRICS.

    The sum over all slot-steps of a minibatch is its mean over the living.

    Args:
        shared: layers.
        obs: observations f32[S, D].
        genes: f32[S, G], genomes of the agents that acted.
        packed: f32[S, 6 + heads], see `weighted`.
        config: all values.
    """
    train, sample = config.train, unpack(packed)

    def mean(each: Array) -> Array:
        return (each * sample.alive).sum()

    logits, value = _forward(shared, genes, obs, sample.population, config)
    logp, entropy = policy.judge(logits, sample.action.astype(jnp.int32), config)
    advantage, ratio = sample.advantage, jnp.exp(logp - sample.logp)
    clipped = jnp.clip(ratio, 1 - train.clip, 1 + train.clip)
    policy_loss = -mean(jnp.minimum(ratio * advantage, clipped * advantage))
    value_loss = mean((value - sample.returns) ** 2)
    apart = mean(ratio - 1 - (logp - sample.logp))
    outside = mean((jnp.abs(ratio - 1) > train.clip).astype(jnp.float32))
    metrics = _told((policy_loss, value_loss, mean(entropy), apart, outside), config)
    return metrics["loss"], metrics


def _told(means: Iterable[Array], config: Config) -> dict[str, Array]:
    """METRICS from all but the first."""
    policy_loss, value_loss, entropy, *others = means
    loss = policy_loss + config.train.value_weight * value_loss - config.train.entropy * entropy
    return dict(zip(METRICS, (loss, policy_loss, value_loss, entropy, *others), strict=True))


def _forward(
    shared: dict[str, Array], genes: Array, obs: Array, population: Array, config: Config
) -> tuple[Array, Array]:
    """Logits and values of slot-steps, each with the layers of its population."""
    if config.env.populations == 1:
        return policy.forward({name: layer[0] for name, layer in shared.items()}, genes, obs, config)
    # Compute all layers, then select, because minibatches mix populations.
    logits, value = jax.vmap(lambda layers: policy.forward(layers, genes, obs, config))(shared)
    own = population.astype(jnp.int32)[None, :, None]
    return jnp.take_along_axis(logits, own, 0)[0], jnp.take_along_axis(value, own[..., 0], 0)[0]


def pack(sample: Sample) -> Array:
    """A sample as one array f32[..., 6 + heads], so that one gather is enough."""
    scalars = jnp.stack(list(sample[:-1]), -1).astype(jnp.float32)
    return jnp.concatenate([scalars, sample.action.astype(jnp.float32)], -1)


def unpack(packed: Array) -> Sample:
    """The inverse of `pack`."""
    scalars = jnp.moveaxis(packed[..., :6], -1, 0)
    return Sample._make([*scalars, packed[..., 6:]])


def weighted(packed: Array) -> Array:
    """A whole minibatch for `loss_of`: `alive` is divided by the number of the living, and their advantages have mean 0
    and variance 1."""
    sample = unpack(packed)
    share = sample.alive / jnp.maximum(sample.alive.sum(), 1)
    centred = sample.advantage - (sample.advantage * share).sum()
    advantage = centred * jax.lax.rsqrt((centred**2 * share).sum() + 1e-8)
    return pack(sample._replace(advantage=advantage, alive=share))


def blocks_of(count: int, size: int) -> tuple[int, int]:
    """How a minibatch of `size` slot-steps from each of `count` worlds is cut: number of blocks, and slot-steps of each
    world in a block; a CPU's blocks have about ROWS slot-steps, other devices compute the minibatch at once."""
    if jax.default_backend() != "cpu":
        return 1, size
    number = -(-size // max(1, ROWS // count))
    return number, -(-size // number)


def shuffled(key: Array, alive: Array) -> Array:
    """The indices 0 to L - 1 of each row in random order, living slots first: i32[W, L] for bool[W, L].

    It sorts numbers that consist of one bit for the dead, random bits, and the index. This is several times faster than
    to sort indices by a key.
    """
    count = alive.shape[1]
    bits = (count - 1).bit_length()
    luck = jax.random.bits(key, alive.shape, jnp.uint32) >> (bits + 1) << bits
    tickets = jnp.where(alive, 0, jnp.uint32(1 << 31)) | luck | jnp.arange(count, dtype=jnp.uint32)
    return (jax.lax.sort(tickets, dimension=1, is_stable=False) & ((1 << bits) - 1)).astype(jnp.int32)


def update(
    shared: dict[str, Array],
    optimizer: Any,
    trajectory: Trajectory,
    bank: Array,
    last_value: Array,
    key: Array,
    phase: Phase,
    config: Config,
) -> tuple[dict[str, Array], Any, dict[str, Array]]:
    """PPO on a trajectory: epochs over its living slot-steps, in minibatches with as many from each world.

    Args:
        shared: layers.
        optimizer: state of `adam`.
        trajectory: T ticks of W worlds.
        bank: genomes f32[W, N + K, G]; the rows of the trajectory are indices into it.
        last_value: f32[W, N], see `advantages`.
        key: PRNG key for the order of slot-steps.
        phase: learning rate and epochs.
        config: all values.

    Returns:
        Layers, optimizer, and METRICS as means over the minibatches of the last epoch; `explained_variance` besides.
    """
    count = config.train.num_envs
    advantage, returns = advantages(trajectory, last_value, config)
    ticks, _, slots = trajectory.alive.shape
    per_world = ticks * slots
    size = -(-per_world // config.minibatches)

    def by_world(each: Array) -> Array:  # [T, W, N, ...] -> [W, T * N, ...]
        return jnp.moveaxis(each, 1, 0).reshape(count, per_world, *each.shape[3:])

    population = jnp.broadcast_to(population_of(config), trajectory.alive.shape)
    sample = Sample(
        trajectory.logp, advantage, returns, trajectory.alive, population, trajectory.row, trajectory.chosen
    )
    # One more row, without an agent, pads the last minibatch.
    small = jnp.pad(by_world(pack(sample)), ((0, 0), (0, 1), (0, 0)))
    # Observations use most of the memory, so they are gathered without a copy.
    gather_obs = jax.vmap(lambda obs, at: obs[at // slots, at % slots], in_axes=(1, 0))
    alive = by_world(trajectory.alive)
    batches = -(-alive.sum(1).max() // size)
    transform, gradient = adam(config), jax.grad(partial(loss_of, config=config), has_aux=True)
    zeros = dict.fromkeys(METRICS, jnp.float32(0))
    blocks, width = blocks_of(count, size)

    def block(total: Any, now: tuple[Array, Array]) -> tuple[Any, None]:
        at, packed = now
        row = unpack(packed).row.astype(jnp.int32)
        genes = jnp.take_along_axis(bank, row[..., None], 1)
        inputs = (gather_obs(trajectory.obs, at), genes, packed)
        new = gradient(total[2], *(each.reshape(count * width, each.shape[-1]) for each in inputs))
        return (*jax.tree.map(jnp.add, total[:2], new), total[2]), None

    def in_blocks(shared: dict[str, Array], at: Array, packed: Array) -> tuple[Any, dict[str, Array]]:
        cut = jax.tree.map(
            lambda each: each.reshape(count, blocks, width, *each.shape[2:]).swapaxes(0, 1), (at, packed)
        )
        start = jax.tree.map(jnp.zeros_like, shared), zeros, shared
        (gradients, new, _), _ = jax.lax.scan(block, start, cut)
        return gradients, new

    def by_c(shared: dict[str, Array], at: Array, packed: Array) -> tuple[Any, dict[str, Array]]:
        gradients, means = compiled.gradient(shared, trajectory.obs, at, packed, bank, config)
        return gradients, _told(means, config)

    gradient_of = by_c if compiled.usable(config) else in_blocks

    def minibatch(number: Array, carry: Any) -> Any:
        shared, optimizer, metrics, order = carry
        at = jax.lax.dynamic_slice_in_dim(order, number * size, size, 1)  # [W, size]
        at = jnp.pad(at, ((0, 0), (0, blocks * width - size)), constant_values=per_world)
        packed = weighted(jnp.take_along_axis(small, at[..., None], 1))
        gradients, new = gradient_of(shared, at, packed)
        change, optimizer = transform.update(gradients, optimizer)
        shared = jax.tree.map(lambda old, by: old - phase.rate * by, shared, change)
        metrics = jax.tree.map(lambda sum_, each: sum_ + each / batches, metrics, new)
        return shared, optimizer, metrics, order

    def epoch(number: Array, carry: Any) -> Any:
        shared, optimizer, _ = carry
        order = shuffled(jax.random.fold_in(key, number), alive)
        order = jnp.pad(order, ((0, 0), (0, size)), constant_values=per_world)  # the last one may reach beyond the end
        shared, optimizer, metrics, _ = jax.lax.fori_loop(0, batches, minibatch, (shared, optimizer, zeros, order))
        return shared, optimizer, metrics

    shared, optimizer, metrics = jax.lax.fori_loop(0, phase.epochs, epoch, (shared, optimizer, zeros))
    metrics["explained_variance"] = explained_variance(trajectory.value, returns, trajectory.alive)
    return shared, optimizer, metrics
