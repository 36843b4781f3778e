"""The cost of a chunk, of its compilation, and of a whole run."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from benchmarks.emergence import peers
from benchmarks.emergence.values import REFERENCE, values
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console
from rich.table import Table

from outlast_recipes.emergence import learn, observe, rollout, tick, world
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.devices import keep_compilations


def timed(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median seconds of wall and of CPU."""
    jax.block_until_ready(call())
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def random_play(config: Config, *, seeing: bool) -> Callable[[], Any]:
    """A chunk of random moves; observations are made (and summed) or not."""
    count, slots = config.train.num_envs, config.env.slots
    step, see = jax.vmap(partial(tick.tick, config=config)), jax.vmap(partial(observe.observe, config=config))
    rows, start = config.evolution.births_per_chunk, learn.begin(config).worlds
    noise = jnp.zeros((count, rows, start.genes.shape[-1])), jnp.zeros((count, rows))

    @jax.jit
    def play(worlds: world.World, key: jax.Array) -> Any:
        def body(carry: Any, key: jax.Array) -> Any:
            worlds, total = carry
            u = jax.random.uniform(key, (count, tick.chances(config) + slots))
            moves = (u[:, :slots] * 5).astype(jnp.int32)
            action = tick.Action(moves, jnp.zeros_like(moves), jnp.ones_like(moves, bool))
            worlds, events = step(worlds, action, u[:, slots:], noise, jnp.zeros(count, jnp.int32))
            return (worlds, total + events.meals.sum() + (see(worlds).sum() if seeing else 0.0)), None

        return jax.lax.scan(body, (worlds, jnp.float32(0)), jax.random.split(key, config.train.num_steps))[0]

    return lambda: play(start, jax.random.key(0))


def policy_play(config: Config) -> Callable[[], Any]:
    colony = learn.begin(config)

    @jax.jit
    def play(worlds: world.World, key: jax.Array) -> Any:
        return rollout.rollout(worlds, rollout.acts(colony.shared, config), key, jnp.float32(1), config)

    return lambda: play(colony.worlds, jax.random.key(0))


def whole(config: Config) -> Callable[[], Any]:
    """Chunks with PPO, one after the other."""
    step, state = jax.jit(partial(learn.chunk, config=config)), [learn.begin(config), 0]

    def call() -> Any:
        state[0], *_ = step(state[0], learn.phase_of(state[1], config))
        state[1] += 1
        return state[0]

    for _ in range(3):  # worlds fill up first
        call()
    return call


def speed(rounds: int, *, growth: bool) -> dict[str, Any]:
    none, head = values(**{**under(REFERENCE), "evolution__genome": "none"}), values(**under(REFERENCE))
    stages: list[tuple[str, Config, Callable[[], Any], float | None]] = [
        ("environment", none, random_play(none, seeing=False), None),
        ("+ observations", none, random_play(none, seeing=True), 350e3),
        ("+ shared policy", none, policy_play(none), None),
        ("+ head genomes", head, policy_play(head), 230e3),
        ("PPO, shared policy", none, whole(none), 70e3),
        ("PPO, head genomes", head, whole(head), 50e3),
        ("PPO, PureJaxRL's way", none, peers.purejax(none), None),
    ]
    table = Table("slot-steps a second", "wall", "CPU", "goal (CPU)", "env-steps (wall)")
    found: dict[str, Any] = {"numbers seen": observe.size(head)}
    for name, config, call, goal in stages:
        wall, cpu = timed(call, rounds)
        found[name] = {"wall": config.slot_steps / wall, "cpu": config.slot_steps / cpu, "goal": goal}
        table.add_row(
            name, f"{config.slot_steps / wall:,.0f}", f"{config.slot_steps / cpu:,.0f}", f"{goal:,.0f}" if goal else "",
            f"{config.slot_steps / config.env.slots / wall:,.0f}",
        )  # fmt: skip
    for name, agents, steps, call in peers.environments():
        wall, cpu = timed(call, rounds)
        found[name] = {"agent-steps, wall": agents * steps / wall, "agent-steps, cpu": agents * steps / cpu}
        table.add_row(name, f"{agents * steps / wall:,.0f}", f"{agents * steps / cpu:,.0f}", "", "")
    Console().print(table)
    found["compile seconds"] = dict(zip(("cold", "cached"), compiling(head), strict=True))
    print(
        "seconds to compile a chunk of PPO with head genomes: {cold:.1f}, from the cache {cached:.1f}".format_map(
            found["compile seconds"]
        )
    )
    if growth:
        found["growth"] = grown(rounds)
    return found


def compiling(config: Config) -> list[float]:
    """Seconds from Python to a program: with nothing known of it, and with the cache that a session before left on the
    disk."""
    colony, seconds = learn.begin(config), []
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
        for _ in range(2):
            jax.clear_caches()
            start = time.perf_counter()
            jax.jit(partial(learn.chunk, config=config)).lower(colony, learn.phase_of(0, config)).compile()
            seconds.append(time.perf_counter() - start)
        compilation_cache.reset_cache()
        keep_compilations()
    return seconds


def whole_run(devices: int) -> dict[str, Any]:
    """The command that a user types, as its own process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "outlast.cli",
            "train",
            "emergence",
            "--checkpoint-dir",
            folder,
            "--experiment-name",
            "whole",
        ]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)})
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        checkpoints = sorted(Path(folder, "whole/checkpoints").glob("step-*"))
        size = sum(file.stat().st_size for file in checkpoints[-1].iterdir())
        run = sum(file.stat().st_size for file in Path(folder, "whole").rglob("*") if file.is_file())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{devices} device(s): 10 million slot-steps in {wall:.0f} s of wall, {cpu:.0f} s of CPU; the last checkpoint "
        f"{size / 1e6:.1f} MB, the run folder {run / 1e6:.1f} MB"
    )
    return {"devices": devices, "wall": wall, "cpu": cpu, "checkpoint bytes": size, "run bytes": run}


def grown(rounds: int) -> list[dict[str, Any]]:
    rows, table = [], Table("worlds x slots, grid", "environment", "rollout", "PPO", title="slot-steps a CPU second")
    for worlds, slots, grid in ((1, 32, 20), (8, 32, 20), (32, 32, 20), (128, 32, 20), (32, 8, 20), (8, 128, 40)):
        config = values(**under(REFERENCE), train__num_envs=worlds, env__slots=slots, env__grid_size=grid)
        size = config.slot_steps
        each = [
            size / timed(call, rounds)[1]
            for call in (random_play(config, seeing=False), policy_play(config), whole(config))
        ]
        rows.append(
            {"worlds": worlds, "slots": slots, "grid": grid, "environment": each[0], "rollout": each[1], "ppo": each[2]}
        )
        table.add_row(f"{worlds} x {slots}, {grid}", *(f"{value:,.0f}" for value in each))
    Console().print(table)
    return rows


def under(flags: dict[str, str]) -> dict[str, str]:
    return {name.replace(".", "__"): value for name, value in flags.items()}
