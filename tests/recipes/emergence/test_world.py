"""A tick: its order, its energy, its chances; what is seen; who is born, and what dies."""

from __future__ import annotations

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast_recipes.emergence import observe, policy, tick, world
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.tick import Action, chances
from outlast_recipes.emergence.world import World, founders
from tests import messages
from tests.recipes.colonies import config


@cache
def compiled(values: Config):
    return jax.jit(partial(tick.tick, config=values))


@cache
def fresh(values: Config):
    genes, trait = jnp.zeros((values.env.slots, policy.genome_size(values))), jnp.full(values.env.slots, 0.5)
    return jax.jit(lambda seed: founders(jax.random.key(seed), genes, trait, values))


def new(values: Config, seed: int = 0) -> World:
    return fresh(values)(seed)


def noise(values: Config, size: float = 0.0) -> tuple[jax.Array, jax.Array]:
    rows = values.evolution.births_per_chunk
    genes = size * jax.random.normal(jax.random.key(9), (rows, policy.genome_size(values)))
    return genes, jnp.zeros(rows)


def go(
    values: Config, before: World, moves=None, u=None, *, seed: int = 0, mutation: float = 0.0, signal=None, wants=None
) -> tuple[World, tick.Events]:
    count = values.env.slots
    moves = jnp.zeros(count, int) if moves is None else jnp.asarray(moves)
    signal = jnp.zeros(count, int) if signal is None else jnp.asarray(signal)
    wants = jnp.ones(count, bool) if wants is None else jnp.asarray(wants)
    u = jax.random.uniform(jax.random.key(seed), (chances(values),)) if u is None else u
    return compiled(values)(before, Action(moves, signal, wants), u, noise(values, mutation), jnp.int32(0))


def place(before: World, **changes) -> World:
    return dataclasses.replace(before, **{name: jnp.asarray(value) for name, value in changes.items()})


def bare(values: Config) -> World:
    """Two agents and no food."""
    alive = np.zeros(values.env.slots, bool)
    alive[:2] = True
    return place(
        new(values),
        alive=alive,
        energy=np.where(alive, 50.0, 0).astype(np.float32),
        food_on=np.zeros(values.env.num_food, bool),
    )


QUIET = {"env__regrow": 0, "train__niche_pressure": 0}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), variety=st.integers(0, 3))
def test_energy_is_conserved(seed: int, variety: int) -> None:
    values = config(
        **[
            {},
            {"env__torus": True, "env__food_kinds": 2, "env__move_cost": 0.5},
            {"env__populations": 2, "env__founders": 2, "env__reproduction": "choice", "train__niche_pressure": 1.0},
            {"env__max_age": 3, "env__food_energy": 40, "evolution__inherit": "random"},
        ][variety]
    )
    state, rng = new(values, seed), np.random.default_rng(seed)
    for number in range(12):
        before = float(state.energy.sum())
        moves, wants = rng.integers(0, 5, values.env.slots), rng.integers(0, 2, values.env.slots) > 0
        state, events = go(values, state, moves, seed=seed + number, wants=wants)
        change = float(events.gained - events.spent - events.lost)
        assert float(state.energy.sum()) == pytest.approx(before + change, abs=1e-2)
        assert float(events.gained + events.wasted) == pytest.approx(
            values.env.food_energy * float(events.worth.sum()), abs=1e-2
        )
        assert not state.energy[~state.alive].any()
        living = np.asarray(state.uid)[np.asarray(state.alive)]
        assert len(set(living.tolist())) == len(living)


def test_moves_borders_and_the_torus() -> None:
    for torus, expected in ((False, [[0, 0], [7, 7]]), (True, [[7, 0], [7, 0]])):
        values = config(env__torus=torus, **QUIET)
        before = place(bare(values), pos=np.array([[0, 0], [7, 7]] + [[3, 3]] * 6))
        after, _ = go(values, before, [1, 4] + [0] * 6)
        assert after.pos[:2].tolist() == expected
        assert after.moved[:2].tolist() == ([0, 0] if not torus else [1, 1])


def test_food_goes_to_the_nearest_agent_and_ties_are_random() -> None:
    values = config(**QUIET)
    on = np.zeros(6, bool)
    on[0] = True
    where = np.full((6, 2), 3)
    near = place(bare(values), food_on=on, food_pos=where, pos=np.array([[3, 4], [3, 3]] + [[0, 0]] * 6))
    assert all(go(values, near, seed=seed)[1].meals.tolist()[:2] == [0, 1] for seed in range(5))
    tied = place(near, pos=np.array([[3, 4], [3, 2]] + [[0, 0]] * 6))
    first = sum(float(go(values, tied, seed=seed)[1].meals[0]) for seed in range(60))
    assert 15 < first < 45
    far = place(near, pos=np.array([[3, 5], [5, 3]] + [[0, 0]] * 6))
    assert not go(values, far)[1].meals.any()


def test_eaten_food_grows_again_in_another_place() -> None:
    values = config(env__regrow=0.3, train__niche_pressure=0)
    state = place(bare(values), pos=np.full((8, 2), 7))
    grown = []
    for seed in range(30):
        state, _ = go(values, place(state, food_on=np.zeros(6, bool), energy=np.full(8, 50.0, np.float32)), seed=seed)
        grown.append(int(state.food_on.sum()))
    assert 0.2 < np.mean(grown) / 6 < 0.4
    assert go(config(**QUIET), bare(config(**QUIET)))[0].food_on.sum() == 0


def test_a_trait_trades_one_food_for_the_other() -> None:
    values = config(
        env__food_kinds=2,
        env__tradeoff=2,
        env__max_energy=1000,
        env__energy_per_step=0,
        env__reproduce_threshold=500,
        **QUIET,
    )
    on, where = np.zeros(6, bool), np.full((6, 2), 3)
    on[[0, 1]] = True  # one of each kind
    where[1] = 6
    traits = np.full(8, 0.5, np.float32)
    traits[0] = 0.9
    state = place(bare(values), food_on=on, food_pos=where, pos=np.array([[3, 3], [6, 6]] + [[0, 0]] * 6), trait=traits)
    after, events = go(values, state)
    assert after.energy[:2].tolist() == pytest.approx([50 + 100 * 0.81, 50 + 100 * 0.25])
    assert after.meals[:2].tolist() == [[1, 0], [0, 1]]
    assert events.worth[:2].tolist() == pytest.approx([0.81, 0.25])


def test_who_has_enough_gives_birth_next_to_it() -> None:
    values = config(env__births_per_tick=1, **QUIET)
    genes = jax.random.normal(jax.random.key(1), (8, policy.genome_size(values)))
    state = place(
        bare(values), energy=np.array([130, 150] + [0] * 6, np.float32), genes=genes, generation=np.full(8, 4)
    )
    after, events = go(values, state, mutation=0.1)
    child = int(events.births.slot[0])
    assert child == 2
    assert bool(after.alive[child])
    assert int(events.births.parent[0]) == 1  # the one with more energy
    assert after.energy[:3].tolist() == pytest.approx([129, 99, 50])
    assert np.abs(np.asarray(after.pos[child] - after.pos[1])).max() <= 1
    assert int(after.parent[child]) == int(state.uid[1])
    assert int(after.generation[child]) == 5
    assert int(after.uid[child]) == int(state.next_uid)
    assert int(after.offspring[1]) == 1
    mutated = np.asarray(genes[1] + noise(values, 0.1)[0][0])
    assert np.array_equal(after.genes[child], mutated)
    assert np.array_equal(after.genes[:2], genes[:2])  # nobody else's changed
    full = place(state, alive=np.ones(8, bool), energy=np.full(8, 150, np.float32))
    assert not go(values, full)[1].births.happen.any()


def test_births_by_lot_and_by_choice() -> None:
    values = config(env__births_per_tick=1, env__births_by="random", **QUIET)
    state = place(bare(values), energy=np.array([130, 150] + [0] * 6, np.float32))
    parents = {int(go(values, state, seed=seed)[1].births.parent[0]) for seed in range(20)}
    assert parents == {0, 1}
    values = config(env__births_per_tick=1, env__reproduction="choice", **QUIET)
    state = place(bare(values), energy=np.array([130, 150] + [0] * 6, np.float32))
    wants = np.array([True] + [False] * 7)
    assert int(go(values, state, wants=wants)[1].births.parent[0]) == 0
    assert not go(values, state, wants=np.zeros(8, bool))[1].births.happen.any()


def test_without_selection_a_child_gets_the_genome_of_a_random_agent() -> None:
    values = config(env__births_per_tick=1, evolution__inherit="random", **QUIET)
    genes = jnp.arange(8.0)[:, None] * jnp.ones(policy.genome_size(values))
    state = place(bare(values), energy=np.array([20, 150] + [0] * 6, np.float32), genes=genes)
    after = [go(values, state, seed=seed)[0] for seed in range(20)]
    assert {float(each.genes[2, 0]) for each in after} == {0.0, 1.0}
    assert {int(each.parent[2]) for each in after} == {int(state.uid[1])}


def test_why_agents_die() -> None:
    values = config(env__max_age=20, **QUIET)
    state = place(bare(values), energy=np.array([1, 50] + [0] * 6, np.float32), t=jnp.int32(40))
    after, events = go(values, state)
    assert events.cause[:2].tolist() == [world.STARVED, world.AGED]
    assert not after.alive.any()
    grave = dict(zip(world.GRAVE, events.graves[1].tolist(), strict=True))
    assert (grave["uid"], grave["birth"], grave["death"], grave["cause"]) == (1, 0, 40, world.AGED)
    ages = [
        next(
            t
            for t in range(15, 30)
            if int(go(values, place(bare(values), uid=np.arange(8) + 10 * k, t=jnp.int32(t)))[1].cause[0])
        )
        for k in range(6)
    ]
    assert len(set(ages)) > 1  # not all at once
    assert all(18 <= age <= 23 for age in ages)


def test_the_field_is_written_spreads_fades_and_is_capped() -> None:
    values = config(field__signals=2, field__decay=0, field__spread=0.5, field__cap=100, env__torus=True, **QUIET)
    state = place(bare(values), pos=np.full((8, 2), 4))
    after, _ = go(values, state, signal=[1, 2] + [0] * 6)
    assert after.field.shape == (8, 8, 4)
    assert np.allclose(after.field.sum((0, 1)), [0.1, 0, 0.1, 0.1])
    again, _ = go(values, place(after, alive=np.zeros(8, bool)))
    assert np.allclose(again.field.sum((0, 1)), after.field.sum((0, 1)), atol=1e-5)  # spreading keeps the sum
    assert 0 < float(again.field[4, 5, 0]) < float(after.field[4, 4, 0])
    fading = config(field__decay=0.5, **QUIET)
    faded, _ = go(fading, place(bare(fading), alive=np.zeros(8, bool), field=after.field[..., :2]))
    assert float(faded.field.sum()) == pytest.approx(float(after.field[..., :2].sum()) / 2, rel=1e-3)
    capped, _ = go(config(field__cap=0.06, **QUIET), place(bare(config(**QUIET)), pos=np.full((8, 2), 4)))
    assert float(capped.field.max()) == pytest.approx(0.06)


def test_a_niche_that_is_shared_is_dear() -> None:
    values = config(train__niche_pressure=0.5, env__regrow=0)
    alike = place(bare(values), pos=np.array([[2, 2], [3, 3]] + [[7, 7]] * 6))
    assert go(values, alike)[0].energy[:2].tolist() == pytest.approx([48.5, 48.5])
    niche = np.full((8, 4), 0.25, np.float32)
    niche[0], niche[1] = [1, 0, 0, 0], [0, 1, 0, 0]
    assert go(values, place(alike, niche=niche))[0].energy[:2].tolist() == pytest.approx([49, 49])
    apart = place(alike, pos=np.array([[0, 0], [7, 7]] + [[7, 7]] * 6))
    assert go(values, apart)[0].energy[:2].tolist() == pytest.approx([49, 49])


def test_a_meal_in_an_agents_own_niche_identifies_it() -> None:
    values = config(**QUIET)
    on = np.arange(6) == 0
    niche = np.full((8, 4), 0.25, np.float32)
    niche[0], niche[1] = [1, 0, 0, 0], [0, 0, 0, 1]
    state = place(
        bare(values),
        food_on=on,
        food_pos=np.full((6, 2), 1),
        pos=np.array([[1, 1], [7, 7]] + [[0, 0]] * 6),
        niche=niche,
    )
    own = float(go(values, state)[1].bits[0])
    assert own == pytest.approx(1.0, abs=0.01)  # one bit: which of two
    strange = place(state, niche=niche[[1, 0, 2, 3, 4, 5, 6, 7]])
    assert float(go(values, strange)[1].bits[0]) < -5
    usual = place(state, niche=np.full((8, 4), 0.25, np.float32))
    assert float(go(values, usual)[1].bits[0]) == pytest.approx(0)


def test_observations_against_a_loop() -> None:
    values = config(env__food_kinds=2, env__populations=2, env__sight=2, field__signals=1, env__founders=3)
    state, rng = new(values, 3), np.random.default_rng(0)
    state = place(
        state, field=rng.random((8, 8, 3)).astype(np.float32), t=jnp.int32(7), trait=rng.random(8).astype(np.float32),
        niche=rng.dirichlet(np.ones(8), 8).astype(np.float32),
    )  # fmt: skip
    seen = np.asarray(observe.observe(state, values))
    assert seen.shape == (8, observe.size(values))
    pos, alive, food, niche = (np.asarray(each) for each in (state.pos, state.alive, state.food_pos, state.niche))
    for slot in range(8):
        if not alive[slot]:
            assert not seen[slot].any()
            continue
        expected: list[float] = []
        for row in range(-2, 3):
            for column in range(-2, 3):
                at = pos[slot] + [row, column]
                if not ((at >= 0) & (at < 8)).all():
                    expected += [0, 0, 0, 0, 1, 0, 0, 0]
                    continue
                foods = [
                    observe.PIECE * any((food[n] == at).all() for n in range(6) if n % 2 == kind) for kind in range(2)
                ]
                crowd = [
                    min(1, sum(alive[n] and (pos[n] == at).all() and n // 4 == p for n in range(8)) / 3)
                    for p in range(2)
                ]
                expected += [*foods, *crowd, 0.0, *state.field[at[0], at[1]].tolist()]
        quarter = 2 * int(pos[slot, 0] >= 4) + int(pos[slot, 1] >= 4)
        group = [n for n in range(8) if alive[n] and n // 4 == slot // 4]
        here = [
            np.log2((niche[slot, 4 * kind + quarter] + 1e-3) / (niche[group, 4 * kind + quarter].mean() + 1e-3))
            / observe.BITS
            for kind in range(2)
        ]
        expected += [float(state.energy[slot]) / 200, min(7 / 40, 1), float(state.trait[slot]), *here, 1, 0, 0, 0, 0]
        assert np.allclose(seen[slot], expected, atol=1e-6), slot
    # Without the bonus nobody needs to know.
    given_ = {"env__food_kinds": 2, "env__populations": 2, "env__sight": 2, "field__signals": 1, "env__founders": 3}
    assert observe.size(config(train__diversity_bonus=0.0, **given_)) == observe.size(values) - 2
    for name, layers in (("food", slice(0, 2)), ("agents", slice(2, 4)), ("field", slice(5, 8))):
        hidden = np.asarray(observe.observe(state, config(
            env__food_kinds=2, env__populations=2, env__sight=2, field__signals=1, env__founders=3,
            env__hide=name)))  # fmt: skip
        square = hidden[:, : 25 * 8].reshape(8, 25, 8)
        assert not square[..., layers].any()
        assert square.any()


def test_values_that_cannot_be() -> None:
    from outlast.errors import ConfigError

    for key, given_ in (
        ("emergence/slots-no-multiple-of-populations", {"env__populations": 3}),
        ("emergence/more-founders-than-slots", {"env__founders": 9}),
        ("emergence/birth-could-kill", {"env__reproduce_cost": 120}),
        ("emergence/no-agent-could-reproduce", {"env__reproduce_threshold": 201}),
        ("emergence/energy-over-maximum", {"env__max_energy": 150}),
    ):
        with messages.raises(ConfigError, key):
            config(**given_)
