"""Peers of emergence: other environments where they install, and PPO as in single-file programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from outlast_recipes.emergence import learn, ppo, rollout
from outlast_recipes.emergence.config import Config

Call = Callable[[], Any]


def environments() -> Iterator[tuple[str, int, int, Call]]:
    """Name, agents, steps of each, and a call that plays so much at random."""
    for name, make in (("gymnax Breakout-MinAtar, 32", _gymnax), ("JaxMARL simple_spread, 32 x 3", _jaxmarl)):
        try:
            agents, call = make()
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        yield f"{name}: agent-steps", agents, 512, call


def _gymnax() -> tuple[int, Call]:
    import gymnax

    env, params = gymnax.make("Breakout-MinAtar")
    _, start = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 32), params)

    @jax.jit
    def play(state: Any) -> Any:
        def body(state: Any, key: Any) -> Any:
            keys = jax.random.split(key, 32)
            actions = jax.random.randint(key, (32,), 0, env.num_actions)
            obs, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, actions, params)
            return state, obs.sum() + reward.sum()

        return jax.lax.scan(body, state, jax.random.split(jax.random.key(1), 512))

    return 32, lambda: play(start)


def _jaxmarl() -> tuple[int, Call]:
    import jaxmarl

    env = jaxmarl.make("MPE_simple_spread_v3")
    _, start = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 32))

    @jax.jit
    def play(state: Any) -> Any:
        def body(state: Any, key: Any) -> Any:
            keys = jax.random.split(key, 32)
            actions = {agent: jax.random.randint(key, (32,), 0, 5) for agent in env.agents}
            obs, state, *_ = jax.vmap(env.step)(keys, state, actions)
            return state, sum(each.sum() for each in obs.values())

        return jax.lax.scan(body, state, jax.random.split(jax.random.key(1), 512))

    return 96, lambda: play(start)


def purejax(config: Config) -> Call:
    """The same worlds and network, updated as PureJaxRL does: all slot-steps permuted, dead ones too, in nested
    scans."""
    transform, count = ppo.adam(config), config.minibatches

    @jax.jit
    def step(colony: learn.Colony) -> learn.Colony:
        key, chance, order = jax.random.split(colony.key, 3)
        worlds, path, bank, _, _ = rollout.rollout(
            colony.worlds, rollout.acts(colony.shared, config), chance, jnp.float32(1), config
        )
        gain, returns = ppo.advantages(path, path.value[-1], config)
        zero = jnp.zeros_like(path.logp)
        facts = jnp.stack([path.logp, gain, returns, path.alive.astype(jnp.float32), zero, zero], -1)
        facts = jnp.concatenate([facts, path.chosen.astype(jnp.float32)], -1).reshape(-1, 6 + path.chosen.shape[-1])
        obs = path.obs.reshape(len(facts), -1)
        genes = jnp.zeros((len(facts), 0))

        def loss_of(shared: Any, obs: Any, genes: Any, facts: Any) -> Any:
            return ppo.loss_of(shared, obs, genes, ppo.weighted(facts), config)

        gradient = jax.grad(loss_of, has_aux=True)

        def one_pass(carry: Any, key: Any) -> Any:
            at = jax.random.permutation(key, len(facts)).reshape(count, -1)
            batches = jax.tree.map(lambda each: each[at], (obs, genes, facts))

            def minibatch(carry: Any, batch: Any) -> Any:
                shared, optimizer = carry
                gradients, _ = gradient(shared, *batch)
                change, optimizer = transform.update(gradients, optimizer)
                return (jax.tree.map(lambda old, by: old - 1e-3 * by, shared, change), optimizer), None

            return jax.lax.scan(minibatch, carry, batches)[0], None

        (shared, optimizer), _ = jax.lax.scan(
            one_pass, (colony.shared, colony.optimizer), jax.random.split(order, config.epochs)
        )
        del bank
        return colony._replace(worlds=worlds, shared=shared, optimizer=optimizer, key=key)

    state = [learn.begin(config)]

    def call() -> Any:
        state[0] = step(state[0])
        return state[0]

    for _ in range(3):
        call()
    return call
