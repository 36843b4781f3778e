"""JAX pytrees: keys, weak types, optax states, donated buffers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests import messages

import outlast
from outlast import state
from outlast.errors import ResumeRefused, StateError
from outlast.state import pack_tree, unpack_tree


def again(tree, template=None):
    node, arrays = pack_tree("state", tree)
    return unpack_tree(
        "state", tree if template is None else template, json.loads(json.dumps(node, allow_nan=False)), arrays
    )


def test_dtypes_and_shapes() -> None:
    tree = {
        name: jnp.asarray(np.arange(4).reshape(2, 2)).astype(name)
        for name in ("float32", "bfloat16", "float16", "int8", "uint32", "bool", "complex64", "float8_e4m3fn")
    } | {"scalar": jnp.float32(3), "empty": jnp.zeros((0, 2))}
    back = again(tree)
    for name, value in tree.items():
        assert back[name].dtype == value.dtype, name
        assert np.asarray(back[name]).tobytes() == np.asarray(value).tobytes(), name


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_stay_keys(impl: str) -> None:
    key = jax.random.key(7, impl=impl)
    back = again({"key": key, "raw": jax.random.PRNGKey(3), "many": jax.random.split(key, 3)})
    assert back["key"].dtype == key.dtype
    assert jax.random.bits(back["key"]) == jax.random.bits(key)
    assert back["many"].shape == (3,)


def test_weak_types_stay_weak() -> None:
    weak = jnp.asarray(2.0)
    back = again({"x": weak})["x"]
    assert weak.weak_type
    assert back.weak_type
    assert (back * jnp.ones((), jnp.bfloat16)).dtype == jnp.bfloat16


def test_optax_states_keep_their_structure() -> None:
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3), optax.ema(0.9))
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    state = optimizer.init(params)
    _, state = optimizer.update(params, state, params)
    back = again((params, state), template=(params, optimizer.init(params)))
    assert jax.tree.structure(back) == jax.tree.structure((params, state))
    assert all(
        bool((a == b).all()) for a, b in zip(jax.tree.leaves(back), jax.tree.leaves((params, state)), strict=True)
    )


def test_python_leaves() -> None:
    assert again({"n": 3, "x": 2.5, "flag": True}) == {"n": 3, "x": 2.5, "flag": True}


def test_a_donated_buffer_is_named() -> None:
    old = jnp.ones(4)
    jax.jit(lambda x: x + 1, donate_argnums=0)(old)
    if not old.is_deleted():
        old.delete()
    with messages.raises(StateError, "state/donated"):
        pack_tree("state", {"params": old})


def test_a_donating_loop_saves_what_it_returned(tmp_path, here) -> None:
    import outlast

    update = jax.jit(lambda x: x * 2, donate_argnums=0)
    with outlast.open_run("r", total_steps=5, root=tmp_path, save="1 steps", progress="none", environment=here) as run:
        state = run.restore(jnp.ones(3))
        for _ in run.steps():
            state = update(state)
            run.offer(state)
    with outlast.open_run("r", total_steps=5, root=tmp_path, progress="none", environment=here) as run:
        assert run.restore(jnp.ones(3)).tolist() == [32.0, 32.0, 32.0]


def test_weak_arrays_stay_weak() -> None:
    weak = jnp.full((3,), 2.0)
    assert weak.weak_type
    assert again({"x": weak})["x"].weak_type


def test_numbers_that_a_jitted_step_turns_into_arrays_can_be_resumed(tmp_path, here) -> None:
    import outlast

    update = jax.jit(lambda s: {"w": s["w"] + 1, "n": s["n"] + 1, "x": s["x"] * 2.0, "b": s["b"]})

    def initial():
        return {"w": np.zeros(2), "n": 0, "x": 1.0, "b": True}

    for total in (3, 5):
        with outlast.open_run("r", total_steps=total, root=tmp_path, progress="none", environment=here) as run:
            state = run.restore(initial())
            for _ in run.steps():
                state = update(state)
                run.offer(state)
    assert (int(state["n"]), float(state["x"]), state["w"].tolist()) == (5, 32.0, [5.0, 5.0])


def test_two_leaves_under_one_path_are_refused() -> None:
    with messages.raises(StateError, "state/leaves-with-one-path", path="a/b"):
        pack_tree("state", {"a/b": jnp.ones(1), "a": {"b": jnp.zeros(1)}})


def test_x64_state_is_not_truncated_in_silence() -> None:
    node, arrays = pack_tree("state", {"x": np.ones(2)})
    node["x"]["as"] = "jax"
    with messages.raises(ResumeRefused, "state/needs-x64", number=1):
        unpack_tree("state", {"x": jnp.ones(2)}, node, arrays)


def test_threads_decide_the_last_bits_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPROC", raising=False)
    assert state.software()["jax threads"] == str(len(os.sched_getaffinity(0)))
    monkeypatch.setenv("NPROC", "3")  # XLA asks this first
    assert state.software()["jax threads"] == "3"


def test_deterministic_kernels_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from outlast.state import jax as adapter

    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    for _ in range(2):
        adapter.use_deterministic_kernels()
        assert os.environ["XLA_FLAGS"] == "--xla_backend_optimization_level=0 --xla_gpu_deterministic_ops=true"
    code = "import jax; print(jax.devices()[0].platform)"  # JAX knows the flag, or it would end here
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", [False, True])
def test_open_run_asks_for_them_only_when_told(given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # a test before this one may have trained in this process
    code = (
        f"import os, jax, outlast; outlast.open_run('r', progress='none', deterministic={given});"
        "print('deterministic_ops' in os.environ.get('XLA_FLAGS', ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{given}\n", done.stderr


def test_modules_of_jax_libraries_are_refused_with_the_lines_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """flax.nnx has no state_dict, and an equinox module holds functions; stand-ins of the same modules, since neither
    is installed."""
    from outlast.state import tracked

    for library in ("flax", "equinox"):
        monkeypatch.setitem(sys.modules, library, object())
    nnx = type("Linear", (), {"__module__": "flax.nnx.nn.linear"})
    with messages.raises(StateError, "state/nnx-module"):
        tracked("model", nnx())
    eqx = type("MLP", (), {"__module__": "equinox.nn._mlp"})
    with messages.raises(StateError, "state/equinox-module"):
        tracked("model", eqx())
    with messages.raises(StateError, "state/equinox-partition"):
        pack_tree("state", {"layer": eqx(), "n": 1})


def test_a_restored_pytree_is_compared_with_the_checkpoint(tmp_path, here) -> None:
    def train(total: int, spoil: bool = False) -> dict:
        with outlast.open_run("r", total_steps=total, root=tmp_path, progress="none", environment=here) as run:
            state = run.restore({"w": jnp.ones(3), "n": 0, "key": jax.random.key(1), "table": np.zeros(2)})
            if spoil:
                state["table"] += 1  # in the memory that was read
            for _ in run.steps():
                state = {**state, "w": state["w"] * 2, "n": state["n"] + 1}
                run.offer(state)
        record = json.loads(max((tmp_path / "r" / "attempts").glob("*.json")).read_text())
        return record.get("resume", {})

    train(1)
    assert train(2)["grade"] == "exact"
    spoilt = train(3, spoil=True)
    assert spoilt["grade"] == "not to the last bit"
    messages.said([spoilt["differences"][0]], "state/other-contents", leaf="state[table]")
