"""Two processes of a JAX program that train together (`jax.distributed`, CPU, gloo), stopped and continued."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("jax")

from outlast.checkpoint import CheckpointStore, open_checkpoint
from outlast.folder.layout import RunFolder
from tests import processes

SCRIPT = """
import os
import signal
import sys
import time

import jax
import numpy as np

import outlast

rank, count, port, root, stop, spread = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, rank, heartbeat_timeout_seconds=10)
mesh = jax.sharding.Mesh(jax.devices(), ("data",))
everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
shares = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

features = np.arange(264, dtype=np.float32).reshape(44, 6)
features = np.sin(features)


def init():
    key, other = jax.random.split(jax.random.key(0))
    return {"w": jax.random.normal(key, (6,)), "key": other, "seen": jax.numpy.zeros((), int)}


def update(state, x):
    key, use = jax.random.split(state["key"])
    noisy = x + 0.1 * jax.random.normal(use, x.shape)
    loss, gradient = jax.value_and_grad(lambda w: ((noisy @ w - x.sum(1)) ** 2).mean())(state["w"])
    return {"w": state["w"] - 0.05 * gradient, "key": key, "seen": state["seen"] + 1}, loss


placed = everywhere if spread == "no" else {"w": shares, "key": everywhere, "seen": everywhere}
update = jax.jit(update, out_shardings=(placed, everywhere))
order = outlast.BatchSampler(44, batch_size=8, seed=3)
outlast.seed_everything(rank)
with outlast.open_run("r", root=root, total_steps=16, save="4 steps", progress="none") as run:
    run.track(order=order)
    state = run.restore(jax.jit(init, out_shardings=placed)())
    for step in run.steps():
        batch = next(order)
        batch = np.resize(batch, 8)
        x = jax.make_array_from_callback((8, 6), shares, lambda index: features[batch][index])
        state, loss = update(state, x)
        np.random.random(1 + rank)
        run.offer(state, loss=loss)
        if int(stop) == step and rank == count - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if int(stop) < 0:
            time.sleep(0.1)  # the save of step 4 has the time to be committed
        if -int(stop) == step and rank == count - 1:
            os.kill(os.getpid(), signal.SIGKILL)
print("finished", rank)
"""


def train(root: Path, count: int = 2, stop: int = 0, spread: str = "no") -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each process."""
    place = root.parent / "train.py"
    root.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [str(count), str(port), str(root), str(stop), spread]
    # A device in each process: the tests' own flags may ask for several.
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        processes.start([sys.executable, str(place), str(rank), *words], env=env, template="jax")
        for rank in range(count)
    ]
    ends: list[tuple[int, str, str]] = []
    for each in started:
        out, err = each.communicate(300)
        ends.append((each.returncode or 0, out, err))
    return ends


def codes(ends: Sequence[tuple[int, str, str]]) -> list[int]:
    return [code for code, _, _ in ends]


def newest(root: Path) -> Path:
    return max((root / "r/checkpoints").glob("step-*"))


def assert_equal(ours: Path, theirs: Path) -> None:
    assert (ours / "r/journal.jsonl").read_bytes() == (theirs / "r/journal.jsonl").read_bytes()
    names = sorted(path.name for path in newest(ours).glob("*.safetensors"))
    assert names == sorted(path.name for path in newest(theirs).glob("*.safetensors"))
    assert "state.safetensors" in names
    for name in names:
        assert (newest(ours) / name).read_bytes() == (newest(theirs) / name).read_bytes(), name


def told(root: Path) -> list[str]:
    return json.loads(max((root / "r/attempts").glob("*[0-9].json")).read_text())["told"]


def test_two_processes_stop_together_and_end_as_uninterrupted_ones(tmp_path: Path) -> None:
    twin, root = tmp_path / "twin/runs", tmp_path / "two/runs"
    ends = train(twin)
    assert codes(ends) == [0, 0], ends
    ends = train(root, stop=5)
    assert codes(ends) == [75, 75], ends
    step = CheckpointStore(RunFolder(root / "r")).newest_step()
    assert 5 <= step < 16
    record = json.loads((root / "r/attempts/0001.json").read_text())
    assert record["end"]["reason"] == "preempted"
    ends = train(root)
    assert codes(ends) == [0, 0], ends
    assert_equal(root, twin)
    ranks = open_checkpoint(newest(root))
    assert "state" in ranks.parts


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_and_both_continue(tmp_path: Path) -> None:
    twin, root = tmp_path / "twin/runs", tmp_path / "two/runs"
    assert codes(train(twin)) == [0, 0]
    ends = train(root, stop=-7)  # `train` waits for both
    assert ends[0][0] not in (0, 75), ends
    assert ends[1][0] == -9
    assert CheckpointStore(RunFolder(root / "r")).newest_step() == 4
    ends = train(root)
    assert codes(ends) == [0, 0], ends
    assert_equal(root, twin)


@pytest.mark.slow
def test_another_number_of_processes_continues_and_is_told(tmp_path: Path) -> None:
    root = tmp_path / "two/runs"
    assert codes(train(root, stop=5)) == [75, 75]
    ends = train(root, count=1)
    assert codes(ends) == [0], ends
    assert any("2" in sentence and "1" in sentence and "bit" in sentence for sentence in told(root)), told(root)
    assert CheckpointStore(RunFolder(root / "r")).newest_step() == 16


@pytest.mark.slow
def test_a_state_of_which_each_process_has_a_block_is_refused(tmp_path: Path) -> None:
    ends = train(tmp_path / "two/runs", spread="yes")
    assert codes(ends) == [1, 1], ends
    assert "each process holds another block of it" in ends[0][2]
