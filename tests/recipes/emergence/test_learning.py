"""Policy, genomes, PPO, what happens between rollouts, and that each value is a function of state and values alone."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import outlast
from outlast.config import leaves
from outlast_recipes.emergence import assay, learn, observe, policy, ppo, refill, rollout, training
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.world import AGENT
from tests import messages, processes
from tests.conftest import REPOSITORY
from tests.durability.digits import final, train
from tests.recipes.colonies import TINY, begin, chunk, compiled_once, config, forget, run, same, undrawn


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the same values are compiled once; what a run draws at its end is looked at in test_commands.py."""
    monkeypatch.setattr(training, "compiled", compiled_once)
    undrawn(monkeypatch.setattr)


def some(values: Config, seed: int = 0) -> tuple[dict, jax.Array, jax.Array]:
    """Shared layers with a livelier action head, genomes and observations of 2 x 8 slots."""
    shared = policy.init(jax.random.key(seed), values)
    shared["action"] = shared["action"] * 100
    one, two = jax.random.split(jax.random.key(seed + 1))
    genes = 0.3 * jax.random.normal(one, (2, 8, policy.genome_size(values)))
    return shared, genes, jax.random.normal(two, (2, 8, observe.size(values)))


@pytest.mark.parametrize("kind", ["film", "head", "lowrank", "full"])
def test_a_genome_affects_only_its_agent(kind: str) -> None:
    values = config(evolution__genome=kind, evolution__rank=2)
    shared, genes, obs = some(values)
    before, value = policy.of_populations(shared, genes, obs, values)
    after, same_value = policy.of_populations(shared, genes.at[1, 3].add(0.5), obs, values)
    changed = np.argwhere(np.asarray(before != after).any(-1)).tolist()
    assert changed == [[1, 3]]
    zero, _ = policy.of_populations(shared, 0 * genes, obs, values)
    plain, _ = policy.of_populations(shared, genes[..., :0], obs, config(evolution__genome="none"))
    assert np.allclose(zero, plain, atol=1e-5)
    if kind in ("film", "head"):
        assert np.array_equal(value, same_value)  # what is expected of a place is everybody's


def test_populations_have_layers_of_their_own() -> None:
    values = config(env__populations=2)
    shared, genes, obs = some(values)
    before, _ = policy.of_populations(shared, genes, obs, values)
    shared["first"] = shared["first"].at[1].add(0.1)
    after, _ = policy.of_populations(shared, genes, obs, values)
    changed = np.asarray(before != after).any(-1)
    assert not changed[:, :4].any()
    assert changed[:, 4:].all()


def test_actions_are_drawn_as_likely_as_they_are() -> None:
    values = config(field__signals=1, env__reproduction="choice")
    assert policy.heads(values) == (5, 2, 2)
    logits = jnp.broadcast_to(jnp.array([1.0, 0, -1, 0.5, 0, 0.3, -0.3, 2, 0]), (20_000, 9))
    chosen, logp = policy.sample(logits, jax.random.uniform(jax.random.key(0), (20_000, 3)), values)
    for head, logs in enumerate(policy.split(logits, values)):
        share = np.bincount(chosen[:, head], minlength=logs.shape[-1]) / 20_000
        assert np.allclose(share, jnp.exp(logs[0]), atol=0.015)
    again, entropy = policy.judge(logits, chosen, values)
    assert np.allclose(again, logp, atol=1e-6)
    expected = sum(-(np.exp(log[0]) * log[0]).sum() for log in policy.split(logits, values))
    assert float(entropy[0]) == pytest.approx(float(expected), rel=1e-5)


def rolled(values: Config, chunks: int = 5):
    """A path in which agents are born and die, its bank, and the state before it."""
    colony, _ = run(values, chunks)
    colony = colony._replace(shared=some(values)[0])
    worlds, path, bank, lives, sums = jax.jit(
        lambda worlds: rollout.rollout(
            worlds, rollout.acts(colony.shared, values), jax.random.key(5), jnp.float32(1), values
        )
    )(colony.worlds)
    return colony, worlds, path, bank, lives, sums


def test_ppo_judges_each_action_by_the_genome_that_chose_it() -> None:
    values = config(evolution__mutation_std=1.0)
    colony, _, path, bank, _, sums = rolled(values)
    assert sums["births"] > 0
    assert sums["starved"] + sums["aged"] > 0
    genes = jax.vmap(lambda rows: bank[jnp.arange(2)[:, None], rows])(path.row)
    logits, _ = jax.vmap(lambda g, o: policy.of_populations(colony.shared, g, o, values))(genes, path.obs)
    again, _ = policy.judge(logits, path.chosen, values)
    assert np.allclose(np.asarray(again)[path.alive], np.asarray(path.logp)[path.alive], atol=1e-5)
    wrong, _ = jax.vmap(lambda o: policy.of_populations(colony.shared, colony.worlds.genes, o, values))(path.obs)
    assert not np.allclose(
        np.asarray(policy.judge(wrong, path.chosen, values)[0])[path.alive],
        np.asarray(path.logp)[path.alive],
        atol=1e-2,
    )


def test_advantages_against_a_loop() -> None:
    values, rng = config(train__gamma=0.9, train__gae_lambda=0.8), np.random.default_rng(0)
    shape = (8, 2, 8)
    alive = rng.random(shape) < 0.8
    died = alive & (rng.random(shape) < 0.2)
    zero = jnp.zeros(shape)
    reward, value, last = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape[1:])
    path = rollout.Trajectory(
        zero[..., None],
        zero[..., None],
        zero,
        jnp.array(value),
        jnp.array(reward),
        jnp.array(alive),
        jnp.array(died),
        zero,
    )
    found, returns = ppo.advantages(path, jnp.array(last), values)
    for world in range(2):
        for slot in range(8):
            for t in range(8):
                if not alive[t, world, slot]:
                    assert not found[t, world, slot]
                    continue
                total, share = 0.0, 1.0
                for s in range(t, 8):
                    at = s, world, slot
                    if not alive[at]:
                        break
                    ended = died[at]
                    following = last[world, slot] if s == 7 else value[s + 1, world, slot] * alive[s + 1, world, slot]
                    total += share * (reward[at] + 0.9 * following * (not ended) - value[at])
                    share *= 0.9 * 0.8
                    if ended:
                        break
                assert float(found[t, world, slot]) == pytest.approx(total, abs=1e-4), (t, world, slot)
    assert np.allclose(returns, found + value, atol=1e-6)


def test_dead_agents_are_not_in_the_loss() -> None:
    values = config(evolution__mutation_std=1.0)
    colony, _, path, bank, _, _ = rolled(values)
    dead = ~path.alive
    assert dead.any()

    def learnt(path: rollout.Trajectory):
        phase = ppo.Phase(jnp.float32(1e-3), jnp.int32(2), jnp.float32(1))
        last = jnp.zeros((2, 8))
        return jax.jit(partial(ppo.update, config=values))(
            colony.shared, colony.optimizer, path, bank, last, jax.random.key(0), phase
        )

    spoilt = path._replace(
        obs=jnp.where(dead[..., None], 99.0, path.obs),
        reward=jnp.where(dead, 99.0, path.reward),
        logp=jnp.where(dead, -9.0, path.logp),
    )
    layers, _, told = learnt(path)
    assert same(layers, learnt(spoilt)[0])
    assert not same(layers, colony.shared)
    assert all(np.isfinite(float(value)) for value in told.values())


@pytest.mark.slow
def test_modes() -> None:
    def changes(**given) -> tuple[bool, bool]:
        values = config(**given)
        first = begin(values)
        last, _ = run(values, 3)
        born = np.asarray(last.worlds.alive & (last.worlds.generation > 0))
        assert born.any()
        return not same(first.shared, last.shared), bool(np.asarray(last.worlds.genes)[born].any())

    assert changes(train__mode="gradient") == (True, True)
    assert changes(train__mode="evolve") == (False, True)
    assert changes(train__mode="frozen") == (False, False)
    assert changes(train__mode="gradient", evolution__enabled=False) == (True, False)
    assert changes(train__mode="gradient", evolution__mutation_std=0) == (True, False)
    values = config(
        train__mode="freeze-evolve", train__gradient_steps=256, train__evolve_steps=128, train__evolve_boost=5
    )
    phases = [learn.phase_of(number, values) for number in range(6)]
    assert [int(phase.epochs) for phase in phases] == [2, 2, 0, 2, 2, 0]
    assert [float(phase.mutation) for phase in phases] == [0, 0, 5, 0, 0, 5]


def test_without_genomes_a_population_still_lives_and_learns() -> None:
    values = config(evolution__genome="none")
    last, told = run(values, 2)
    assert last.worlds.genes.shape == (2, 8, 0)
    assert not same(begin(values).shared, last.shared)
    assert told[-1]["agents"] > 0


def test_founders_are_alike_or_not_as_asked() -> None:
    alike, apart = begin(config()).worlds, begin(config(evolution__founders_std=0.1)).worlds
    assert not alike.genes.any()
    assert float(jnp.std(apart.genes)) == pytest.approx(0.1, rel=0.1)
    assert not np.array_equal(apart.genes[0], apart.genes[1])
    assert same(dataclasses.replace(apart, genes=alike.genes), alike)


def test_learning_changes_no_genome() -> None:
    values = config(evolution__mutation_std=1.0)
    colony, _ = run(values, 2)
    after, _ = run(values, 3)
    stayed = np.asarray((colony.worlds.uid == after.worlds.uid) & colony.worlds.alive & after.worlds.alive)
    assert stayed.any()
    assert np.array_equal(np.asarray(colony.worlds.genes)[stayed], np.asarray(after.worlds.genes)[stayed])
    assert np.asarray(colony.worlds.genes)[stayed].any()


def test_the_learning_rate_falls_to_the_planned_end() -> None:
    values = config()
    rates = [float(learn.phase_of(number, values).rate) for number in range(13)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[6] == pytest.approx(5e-4)
    assert rates[12] == 0
    assert float(learn.phase_of(6, config(train__lr_schedule="constant")).rate) == pytest.approx(1e-3)


def test_nearly_extinct_populations_get_immigrants_from_long_lives() -> None:
    values = config(env__min_agents=2)
    colony, _ = run(values, 2)
    genes = (1 + jnp.arange(16.0)).reshape(2, 8, 1) * jnp.ones(policy.genome_size(values))
    alive = np.ones((2, 8), bool)
    birth = np.full((2, 8), 10)
    birth[0, 3] = -50  # the oldest
    full = dataclasses.replace(colony.worlds, alive=jnp.array(alive), genes=genes, birth=jnp.array(birth))
    archive = refill.remember(begin(values).archive, full, values)
    assert float(archive.genes[0, 0, 0]) == 4
    assert float(archive.age[0, 0]) == float(full.t[0]) + 50
    alive[0, 1:] = False
    poor = dataclasses.replace(full, alive=jnp.array(alive))
    worlds, came, over = jax.jit(partial(refill.refill, config=values))(poor, archive, jax.random.key(0))
    assert came.tolist() == [3, 0]  # up to the founders
    assert worlds.alive[0].sum() == 4
    assert not over.any()
    assert set(np.asarray(worlds.genes[0, 1:4, 0]).tolist()) <= set(range(1, 17))
    assert worlds.genes[0, 0, 0] == 1  # who lives keeps all that is its own
    assert np.array_equal(worlds.pos[0, 0], full.pos[0, 0])
    assert np.array_equal(worlds.genes[1], full.genes[1])
    assert len(set(np.asarray(worlds.uid[0, :4]).tolist())) == 4
    assert worlds.parent[0, 1:4].tolist() == [-1] * 3
    assert worlds.energy[0, 1:4].tolist() == [200.0] * 3
    nobody = config(env__min_agents=0)
    untouched, came, _ = refill.refill(poor, archive, jax.random.key(0), nobody)
    assert same(untouched, poor)


def test_a_long_life_is_in_the_archive_once() -> None:
    values = config(env__min_agents=2)
    colony, _ = run(values, 2)
    alive = colony.worlds.alive
    once = refill.remember(begin(values).archive, colony.worlds, values)
    older = dataclasses.replace(colony.worlds, t=colony.worlds.t + 8)
    twice = refill.remember(once, older, values)
    for archive in (once, twice):
        held = np.asarray(archive.who[0])[np.asarray(archive.age[0]) >= 0]
        assert len(held) == int(alive.sum())
        assert len(np.unique(held, axis=0)) == len(held)
    assert int(twice.age[0, 0]) == int(once.age[0, 0]) + 8


@pytest.mark.parametrize("given", [{"env__num_food": 8}, {"env__slots": 8, "env__grid_size": 8}])
def test_living_agents_are_unchanged_when_immigrants_arrive(given: dict[str, int]) -> None:
    values = config(**given)  # as many places of food, or as many cells along a side, as slots
    colony, _ = run(values, 2)
    worlds, came, _ = refill.refill(colony.worlds, colony.archive, jax.random.key(0), values)
    assert came.tolist() == [0, 0]
    assert same(worlds, colony.worlds)
    alive = np.zeros((2, 8), bool)
    alive[:, 5] = True
    poor = dataclasses.replace(colony.worlds, alive=jnp.array(alive))
    worlds, came, _ = refill.refill(poor, colony.archive, jax.random.key(0), values)
    assert came.tolist() == [3, 3]
    for name in AGENT:
        assert np.array_equal(getattr(worlds, name)[:, 5], getattr(poor, name)[:, 5]), name
    for name in ("food_pos", "food_on", "field", "t", "since"):
        assert np.array_equal(getattr(worlds, name), getattr(poor, name)), name
    assert (worlds.meals[worlds.alive & ~poor.alive] == 0).all()


def test_worlds_start_over_and_their_lives_are_kept() -> None:
    values = config(env__max_steps=16)
    colony, lives = begin(values), []
    for number in range(4):
        colony, ended, told, _ = chunk(values)(colony, learn.phase_of(number, values))
        lives.append([ended.rows[world, : ended.count[world]] for world in range(2)])
        assert float(told["begun"]) == (2 if number % 2 else 0)
    assert colony.worlds.since.tolist() == [32, 32]
    assert colony.worlds.t.tolist() == [32, 32]  # the clock goes on
    ended = [row for rows in lives[1] for row in np.asarray(rows) if row[6] == 3]
    assert ended
    uids = [int(row[0]) for chunk_ in lives for row in np.asarray(chunk_[0])]
    assert len(set(uids)) == len(uids)
    assert min(np.asarray(colony.worlds.uid[0])[np.asarray(colony.worlds.alive[0])]) > max(uids)


def test_slot_steps_are_shuffled_with_the_living_first() -> None:
    living = np.random.default_rng(0).random((3, 1000)) < 0.4
    order = np.asarray(ppo.shuffled(jax.random.key(0), jnp.array(living)))
    again = np.asarray(ppo.shuffled(jax.random.key(1), jnp.array(living)))
    for row, lives, other in zip(order, living, again, strict=True):
        count = lives.sum()
        assert sorted(row) == list(range(1000))
        assert lives[row[:count]].all()
        assert not lives[row[count:]].any()
        assert not np.array_equal(row, other)
        assert abs(np.corrcoef(np.arange(count), row[:count])[0, 1]) < 0.2  # four standard errors


def test_greedy_goes_to_the_food_that_it_sees() -> None:
    values = config(env__sight=2)
    act = assay.greedy(values)
    obs = np.zeros((1, 8, observe.size(values)), np.float32)
    layers = observe.layers(values)
    for slot, cell in enumerate((0 * 5 + 2, 4 * 5 + 2, 2 * 5 + 0, 2 * 5 + 4, 2 * 5 + 3, 0 * 5 + 0)):
        obs[0, slot, cell * layers] = 1
    u = jax.random.uniform(jax.random.key(0), (1, 8, 1))
    chosen, _, _ = act(jnp.array(obs), jnp.zeros((1, 8, 0)), u)
    assert chosen[0, :5, 0].tolist() == [1, 2, 3, 4, 0]  # north, south, west, east, and within reach: stay
    assert int(chosen[0, 5, 0]) in (1, 3)


def test_the_common_garden_knows_foragers() -> None:
    values = config(env__grid_size=16, env__slots=16, env__founders=8, env__sight=3, train__num_envs=4)
    colony = begin(values)
    garden = assay.garden_of(values)
    assert garden.env.num_food == 5
    random = float(np.nanmean(np.asarray(assay.common_garden(colony, jax.random.key(0), values))))
    greedy = np.asarray(assay.garden_of_greedy(jax.random.key(0), values))
    assert greedy.shape == (4,)
    assert greedy.mean() > 1.5 * random
    nobody = colony._replace(worlds=dataclasses.replace(colony.worlds, alive=jnp.zeros((4, 16), bool)))
    assert np.isnan(np.asarray(assay.common_garden(nobody, jax.random.key(0), values))).all()


def test_genomes_are_taken_away_as_asked() -> None:
    values = config()
    colony = begin(values)
    genes = jnp.arange(16.0).reshape(2, 8, 1) * jnp.ones(policy.genome_size(values))
    alive = np.ones((2, 8), bool)
    alive[0, [1, 5]] = False
    colony = colony._replace(worlds=dataclasses.replace(colony.worlds, genes=genes, alive=jnp.array(alive)))
    key = jax.random.key(3)
    mean = assay.with_genes(colony, "mean", key, values).worlds.genes
    assert float(mean[0, 0, 0]) == pytest.approx(np.mean([0, 2, 3, 4, 6, 7]))
    mixed = np.asarray(assay.with_genes(colony, "permuted", key, values).worlds.genes[..., 0])
    assert sorted(mixed[0][alive[0]].tolist()) == [0, 2, 3, 4, 6, 7]
    assert sorted(mixed[1].tolist()) == list(range(8, 16))
    assert not np.array_equal(mixed[1], np.arange(8, 16))
    none = assay.with_genes(colony, "none", key, values)
    assert not none.worlds.genes.any()
    # Nor do immigrants bring back what was taken.
    colony = colony._replace(archive=refill.remember(colony.archive, colony.worlds, values))
    assert colony.archive.genes.any()
    assert not assay.with_genes(colony, "none", key, values).archive.genes.any()
    assert len(np.unique(assay.with_genes(colony, "mean", key, values).archive.genes)) == 1


@pytest.mark.slow
def test_every_option_changes_what_happens() -> None:
    """A dead option is a defect."""
    others = {
        "env.grid_size": 10, "env.torus": True, "env.slots": 10, "env.founders": 3, "env.populations": 2,
        "env.num_food": 5, "env.food_kinds": 2, "env.regrow": 0.5, "env.starting_energy": 90, "env.food_energy": 30,
        "env.energy_per_step": 2, "env.move_cost": 0.5, "env.reproduction": "choice", "env.reproduce_threshold": 199.5,
        "env.reproduce_cost": 60, "env.births_by": "random", "env.births_per_tick": 1, "env.max_age": 10,
        "env.max_steps": 16, "env.sight": 2, "env.hide": "field", "field.signals": 1, "field.presence": 0.2,
        "field.meals": 0.1, "field.spread": 0.5, "field.decay": 0.5, "field.cap": 0.02, "evolution.enabled": False,
        "evolution.genome": "film", "evolution.mutation_std": 0.5, "evolution.founders_std": 0.1,
        "evolution.inherit": "random", "evolution.births_per_chunk": 2, "model.hidden": 12, "train.num_envs": 4,
        "train.num_steps": 16, "train.mode": "evolve", "train.gamma": 0.5, "train.gae_lambda": 0.5, "train.clip": 0.01,
        "train.value_weight": 2, "train.entropy": 0.5, "train.max_grad_norm": 0.01, "train.lr_schedule": "constant",
        "train.birth_reward": 1, "train.death_penalty": 1, "train.diversity_bonus": 1, "train.niche_pressure": 1,
        "train.total_steps": 600, "epochs": 3, "batch_size": 64, "learning_rate": 0.01, "seed": 1,
        "mixed_precision": True,
    }  # fmt: skip
    beside = {
        "env.max_energy": ({"env.starting_energy": 150}, 150), "env.tradeoff": ({"env.food_kinds": 2}, 0.5),
        "evolution.trait_std": ({"env.food_kinds": 2}, 0.5), "field.mark": ({"field.signals": 1}, 0.3),
        "evolution.rank": ({"evolution.genome": "lowrank"}, 2),
        "train.gradient_steps": ({"train.mode": "freeze-evolve", "train.evolve_steps": 256}, 128),
        "train.evolve_steps": ({"train.mode": "freeze-evolve", "train.gradient_steps": 128}, 128),
        "train.evolve_boost": ({"train.mode": "freeze-evolve", "train.gradient_steps": 128}, 20),
        "env.min_agents": ({"env.food_energy": 0, "env.starting_energy": 20}, 0),
    }  # fmt: skip
    elsewhere = {"track.every", "track.surrogates"}  # below
    known = {leaf.key for leaf in leaves(Config)}
    own = {key for key in known if key.partition(".")[0] in ("env", "field", "evolution", "model", "train", "track")}
    assert own <= others.keys() | beside.keys() | elsewhere, own - others.keys() - beside.keys() - elsewhere

    def ends(**given) -> bytes:
        colony, _ = run(config(**{key.replace(".", "__"): value for key, value in given.items()}), 5)
        arrays = [
            colony.worlds.pos,
            colony.worlds.energy,
            colony.worlds.genes,
            colony.worlds.trait,
            colony.worlds.field,
            colony.worlds.food_pos,
        ]
        arrays += [colony.shared[name] for name in sorted(colony.shared)]
        ended = b"".join(np.asarray(each).tobytes() for each in arrays)
        forget()
        return ended

    usual = ends()
    for key, value in others.items():
        assert ends(**{key: value}) != usual, key
    for key, (also, value) in beside.items():
        assert ends(**also, **{key: value}) != ends(**also), key


def test_trackers_return_the_requested_values(tmp_path) -> None:
    import outlast

    for every, surrogates in ((3, 20), (2, 25)):
        root = tmp_path / str(every)
        train(root, recipe="emergence", small={**TINY, "track.every": str(every), "track.surrogates": str(surrogates)})
        book = outlast.open_saved("emergence", root=root).part("book")
        assert book["looks"].tolist() == list(range(every, 13, every))
        known = book["findings"]["field_food"][:, 3] > 0
        assert known.any()
        counts = book["findings"]["field_food"][known, 2] * (surrogates + 1)
        assert np.allclose(counts, np.round(counts))  # a p-value is a rank among so many


RICH = {
    "env.food_kinds": "2", "env.populations": "2", "env.founders": "2", "env.max_steps": "24", "env.torus": "True",
    "env.reproduction": "choice", "field.signals": "2", "evolution.genome": "film", "train.mode": "freeze-evolve",
    "train.gradient_steps": "256", "train.evolve_steps": "128",
}  # fmt: skip
"""What TINY leaves out: shadows, two populations, worlds that begin anew, choices, marks, turns."""


def test_a_resume_is_exact_with_all_that_the_smallest_run_leaves_out(tmp_path) -> None:
    small = {**TINY, **RICH}
    assert train(tmp_path / "twin", recipe="emergence", small=small) == "finished"
    assert train(tmp_path / "cut", stop_after=5, recipe="emergence", small=small) == "preempted"
    assert train(tmp_path / "cut", recipe="emergence", small=small) == "finished"
    assert final(tmp_path / "cut", "emergence") == final(tmp_path / "twin", "emergence")
    book = outlast.open_saved("emergence", root=tmp_path / "cut").part("book")
    assert len(book["shadow"]["who"]) > 0
    assert max(book["curves"]["begun_anew"]) > 0
    assert max(book["curves"]["marks"]) > 0
    assert np.isnan(book["divergence"]).all()  # mutation comes and goes


def test_a_longer_total_continues_and_does_not_begin_again(tmp_path) -> None:
    train(tmp_path, recipe="emergence", small={**TINY, "train.total_steps": "600"})
    first = final(tmp_path, "emergence")
    assert first["step"] == "step-00000005"  # 600 / 128, rounded up
    train(tmp_path, recipe="emergence", small={**TINY, "train.total_steps": "900"})
    assert final(tmp_path, "emergence")["step"] == "step-00000008"
    assert train(tmp_path, recipe="emergence", small={**TINY, "train.total_steps": "900"}) == "finished"
    assert final(tmp_path, "emergence")["step"] == "step-00000008"


def test_a_desert_is_refused_with_a_sentence(tmp_path) -> None:
    import outlast

    starving = {
        "env.food_energy": "0",
        "env.starting_energy": "2",
        "env.min_agents": "0",
        "env.reproduce_threshold": "120",
    }
    with messages.raises(outlast.OutlastError, "emergence/no-agents", worlds=2, chunks=3):
        train(tmp_path, recipe="emergence", small={**TINY, **starving})


ALONE = """
import sys, jax
from pathlib import Path
from tests.durability.digits import train
from tests.recipes.colonies import TINY, undrawn
if sys.argv[3:]:
    undrawn(setattr)
print(jax.device_count(), train(Path(sys.argv[1]), recipe="emergence", small=TINY, stop_after=int(sys.argv[2]) or None))
"""


def attempt(root: pathlib.Path, stop: int, *more: str, **environment: str) -> str:
    """Train TINY in a process of its own, compiled as it is for users; stop after so many chunks, 0: go to the end, and
    draw unless there is one more word. How many devices, and how it ended."""
    usual = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = processes.run(
        [sys.executable, "-c", ALONE, str(root), str(stop), *more],
        env={**usual, "PYTHONPATH": str(REPOSITORY), **environment},
        timeout=300,
        template="torch" if environment else "jax",  # JAX reads its variables when it is imported
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.long
def test_a_resume_in_another_process_is_exact_as_compiled_for_users(tmp_path) -> None:
    """What tests/conformance asks of every recipe, without the flags of tests/conftest.py, which may hide what
    optimised code does."""
    assert attempt(tmp_path / "twin", 0, "undrawn") == "1 finished"
    assert attempt(tmp_path / "cut", 5, "undrawn") == "1 preempted"
    assert attempt(tmp_path / "cut", 0, "undrawn") == "1 finished"
    assert final(tmp_path / "cut", "emergence") == final(tmp_path / "twin", "emergence")


@pytest.mark.slow
def test_two_devices_share_the_worlds_and_one_continues(tmp_path) -> None:
    import outlast

    assert attempt(tmp_path / "shared", 6, JAX_NUM_CPU_DEVICES="2") == "2 preempted"
    assert attempt(tmp_path / "shared", 0) == "1 finished"
    assert attempt(tmp_path / "alone", 0) == "1 finished"
    books = [outlast.open_saved("emergence", root=tmp_path / root).part("book") for root in ("shared", "alone")]
    # Sums are added in another order on two devices; the first chunks, before that grows, are the same.
    for name in ("population", "births", "intake"):
        assert books[0]["curves"][name][:2] == pytest.approx(books[1]["curves"][name][:2])
    assert len(books[0]["curves"]["population"]) == 12
    assert (tmp_path / "shared/emergence/artifacts/curves.png").stat().st_size > 10_000


def test_worlds_that_devices_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from outlast.errors import ConfigError
    from outlast_recipes.emergence import devices

    with messages.raises(ConfigError, "emergence/unknown-device", value="cuda"):
        devices.devices_of(config(device="cuda"))
    assert len(devices.devices_of(config(device="cpu"))) == 1
    monkeypatch.setattr(jax, "devices", lambda *_: ["one", "two", "three"])
    assert devices.devices_of(config(train__num_envs=6)) == ["one", "two", "three"]
    assert devices.devices_of(config(device="cuda:1")) == ["two"]
    with messages.raises(ConfigError, "emergence/worlds-not-shared-equally", value=2, devices=3):
        devices.devices_of(config())


def test_an_unusual_economy_is_reported_before_training() -> None:
    from outlast_recipes.emergence.training import economy

    food = {"env__num_food": 10, "env__regrow": 0.1, "env__food_energy": 20}
    frugal = config(env__grid_size=16, env__slots=32, env__energy_per_step=2, **food)
    assert economy(frugal) == (10, [])
    feeds, odd = economy(config(env__max_age=0))
    assert feeds == pytest.approx(60)
    assert len(odd) == 1
    messages.said(odd, "emergence/more-food-than-slots", feeds=60, slots=8)
    saturated = "emergence/field-saturates"
    more = economy(config(field__presence=0.5, env__max_age=0))[1][1]
    messages.said([more], saturated, channel="presence", amount=0.5, level=6.2)
    more = economy(config(field__signals=1, field__mark=0.5, env__max_age=0))[1][-1]
    messages.said([more], saturated, channel="mark", amount=0.5, level=3.1)
    more = economy(config(field__meals=2, env__max_age=0))[1][-1]
    messages.said([more], saturated, channel="meals", amount=2, level=1.9)
    assert economy(config(field__decay=0, field__presence=0, field__meals=0, env__max_age=0))[1] == odd
    # Where all die of age and the richest give birth, a full world selects.
    assert economy(config(env__births_by="energy", env__max_age=40))[1] == []
    assert economy(config(env__food_kinds=2))[0] == pytest.approx(30)
    assert economy(config(env__energy_per_step=0, env__move_cost=0))[0] == float("inf")


def test_a_population_without_evolution_has_none_when_it_is_looked_at() -> None:
    for given, changes in (({}, True), ({"evolution__enabled": False}, False), ({"train__mode": "frozen"}, False)):
        values = config(evolution__mutation_std=1.0, **given)
        after, sums = assay.live_on(begin(values), jax.random.key(0), values)
        assert sums["births"] > 0
        assert bool(after.worlds.genes.any()) == changes, given


def test_the_state_is_a_function_of_the_seed() -> None:
    assert not same(begin(config()), begin(config(seed=1)))
    assert same(run(config(), 2)[0], run(config(), 2)[0])


def test_the_upper_half_of_a_long_seed_counts() -> None:
    assert jax.random.key_data(learn.key_of(5)).tolist() == jax.random.key_data(jax.random.key(5)).tolist()
    keys = [tuple(jax.random.key_data(learn.key_of(rank << 32 | 5)).tolist()) for rank in (0, 1, 2, 2**31 - 1)]
    assert len(set(keys)) == len(keys)
