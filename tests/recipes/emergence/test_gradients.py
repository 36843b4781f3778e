"""The gradient of a minibatch: in pieces, and compiled from C."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from outlast_recipes.emergence import compiled, observe, policy, ppo, rollout, training
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.trackers import Book
from tests import messages
from tests.recipes.colonies import config, same

WHY = "no C compiler was found (cc, gcc, clang)"
TICKS, WORLDS, SLOTS = 9, 2, 8


@pytest.fixture
def in_c() -> None:
    if isinstance(why := compiled.library(), str):
        pytest.skip(why)


def played(values: Config) -> tuple[dict[str, jax.Array], rollout.Trajectory, jax.Array]:
    """Layers, the trajectory of a rollout by chance, some of it dead, and a bank of genomes."""
    draws, size = np.random.default_rng(0), (TICKS, WORLDS, SLOTS)
    shared = policy.init(jax.random.key(0), values)
    shared = {name: layer + 0.1 if name.endswith("bias") else layer for name, layer in shared.items()}
    shared["action"] = shared["action"] * 100  # a livelier head
    bank = 0.3 * draws.normal(size=(WORLDS, SLOTS + 4, policy.genome_size(values)))
    chosen = np.stack([draws.integers(0, choices, size) for choices in policy.heads(values)], -1)
    path = rollout.Trajectory(
        obs=draws.normal(size=(*size, observe.size(values))).astype(np.float32), chosen=chosen,
        logp=np.log(draws.uniform(0.05, 0.5, size)).astype(np.float32), value=draws.normal(size=size),
        reward=draws.normal(size=size), alive=draws.random(size) < 0.8, died=draws.random(size) < 0.1,
        row=draws.integers(0, bank.shape[1], size),
    )  # fmt: skip
    return shared, jax.tree.map(jnp.asarray, path), jnp.float32(bank)


def updated(values: Config) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    shared, path, bank = played(values)
    phase = ppo.Phase(jnp.float32(1e-3), jnp.int32(2), jnp.float32(1))
    last, optimizer = jnp.zeros((WORLDS, SLOTS)), ppo.adam(values).init(shared)
    step = jax.jit(lambda *given: ppo.update(*given, values))
    layers, _, told = step(shared, optimizer, path, bank, last, jax.random.key(0), phase)
    assert not same(layers, shared)
    return layers, told


def test_a_minibatch_in_pieces_is_a_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole; pieces of which the last has padding, and of one row; and compiled."""
    values, found = config(model__hidden=16), []
    if not isinstance(compiled.library(), str):
        found.append(updated(values))
    monkeypatch.setattr(compiled, "library", lambda: WHY)
    for rows in (10**6, 10, 2):
        monkeypatch.setattr(ppo, "ROWS", rows)
        found.append(updated(values))
    whole, whole_told = found[-3]
    for layers, told in found:
        for name, layer in whole.items():
            np.testing.assert_allclose(layers[name], layer, rtol=0, atol=2e-6, err_msg=name)
        for name, value in whole_told.items():
            assert float(told[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(("count", "size"), [(2, 64), (32, 512), (32, 509), (600, 64), (1, 1)])
def test_pieces_of_a_minibatch_hold_all_of_it(count: int, size: int) -> None:
    number, width = ppo.blocks_of(count, size)
    assert size <= number * width < size + number
    assert width == 1 or count * width <= ppo.ROWS


def a_minibatch(values: Config) -> tuple[dict[str, jax.Array], jax.Array, jax.Array, jax.Array, jax.Array]:
    """What `compiled.gradient` is given: all slot-steps, in random order, and one of padding."""
    draws, (shared, path, bank) = np.random.default_rng(1), played(values)
    at = np.stack([draws.permutation(TICKS * SLOTS + 1) for _ in range(WORLDS)])
    sample = ppo.Sample(
        path.logp, path.reward, path.value, path.alive, jnp.zeros_like(path.reward), path.row, path.chosen
    )
    small = np.moveaxis(np.asarray(ppo.pack(sample)), 1, 0).reshape(WORLDS, TICKS * SLOTS, -1)
    small = np.pad(small, ((0, 0), (0, 1), (0, 0)))
    return shared, path.obs, jnp.int32(at), ppo.weighted(np.take_along_axis(small, at[..., None], 1)), bank


@pytest.mark.usefixtures("in_c")
@pytest.mark.parametrize(
    "given",
    [
        {"field__signals": 8},  # 14 choices of two heads
        {"env__reproduction": "choice", "train__entropy": 0.5, "train__clip": 0.5},
        {"evolution__genome": "none", "model__hidden": 80},  # more than one tile of a product is wide
    ],
)
def test_the_compiled_gradient_is_the_gradient_of_the_loss(given: dict[str, object]) -> None:
    values = config(**{"model__hidden": 16, **given})
    assert compiled.usable(values)
    shared, obs, at, packed, bank = a_minibatch(values)
    found, means = jax.jit(partial(compiled.gradient, config=values))(shared, obs, at, packed, bank)
    worlds = np.arange(WORLDS)[:, None]
    seen = np.asarray(obs)[np.minimum(at // SLOTS, TICKS - 1), worlds, at % SLOTS]
    genes = np.asarray(bank)[worlds, np.asarray(packed[..., 5], int)]
    inputs = [each.reshape(at.size, each.shape[-1]) for each in (seen, genes, packed)]
    expected, told = jax.jit(jax.grad(partial(ppo.loss_of, config=values), has_aux=True))(shared, *inputs)
    for name, each in expected.items():
        scale = float(jnp.abs(each).max())
        assert scale > 1e-3
        np.testing.assert_allclose(found[name] / scale, each / scale, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(means, [told[name] for name in ppo.METRICS[1:]], rtol=1e-5, atol=1e-6)
    assert told["clipfrac"] > 0.05


@pytest.mark.usefixtures("in_c")
def test_a_compiled_gradient_hides_nothing_that_is_no_number() -> None:
    values = config(model__hidden=16)
    shared, *inputs = a_minibatch(values)
    step = jax.jit(partial(compiled.gradient, config=values))
    for name in ("first", "second", "action", "value"):
        found, _ = step(shared | {name: shared[name].at[0, 0, 0].set(jnp.nan)}, *inputs)
        assert any(bool(jnp.isnan(each).any()) for each in found.values()), name


@pytest.mark.parametrize(
    "given",
    [
        {"evolution__genome": "film"},
        {"env__populations": 2},
        {"mixed_precision": True},
        {"model__hidden": 24},
        {"field__signals": 8, "env__reproduction": "choice"},  # 16 choices leave no place for the value
    ],
)
def test_what_the_compiled_gradient_does_not_serve(given: dict[str, object]) -> None:
    assert compiled.fits(config(model__hidden=16))
    other = config(**{"model__hidden": 16, **given})
    assert not compiled.fits(other)
    assert compiled.how(other) == "XLA"


@pytest.mark.usefixtures("in_c")
def test_a_run_knows_how_its_gradients_were_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    values, said = config(model__hidden=16), []
    run = SimpleNamespace(tell=said.append)
    book = Book(values, training.computed(run, values))
    assert book.computed == compiled.how(values)
    assert not said
    monkeypatch.setattr(compiled, "library", lambda: WHY)
    other = Book(values, training.computed(run, values))
    messages.said(said, "emergence/computed-by-xla", why=WHY)
    # It keeps its own, so that the loaded state differs from the checkpoint, which a resume names.
    other.load_state_dict(book.state_dict())
    assert other.state_dict()["computed"] == "XLA" != book.computed
    assert training.computed(run, config(model__hidden=24)) == "XLA"
    assert len(said) == 1
