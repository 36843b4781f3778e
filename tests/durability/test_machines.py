"""Two machines that train together: network namespaces, connected by a cable. They end as one machine does."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
importlib.import_module("torch.distributed.fsdp")  # here once, and not in every fork

from outlast.checkpoint import CheckpointStore  # noqa: E402
from outlast.folder.layout import RunFolder  # noqa: E402
from tests.conftest import REPOSITORY  # noqa: E402
from tests.durability import crash_ranks  # noqa: E402
from tests.standins.machines import INTERFACE, Machine, two_machines  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")

SCRIPT = """
import os, sys, time
from pathlib import Path

import torch

from tests.durability import crash_ranks

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
print("rank", torch.distributed.get_rank(), "of", torch.distributed.get_world_size(), flush=True)
crash_ranks.EVERY_STEP[:] = [lambda run, model: time.sleep(float(sys.argv[3]))]
crash_ranks.TRAINERS[sys.argv[1]](Path(sys.argv[2]))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Sequence[Machine]]:
    with two_machines() as made:
        yield made


def twin(root: Path, trainer: str, count: int = 2) -> dict[str, str] | None:
    """What the same ranks leave on one machine."""
    root.mkdir(parents=True)
    assert crash_ranks.attempt(crash_ranks.TRAINERS[trainer], root, count) == [0] * count
    return crash_ranks.final_state(root)


@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_a_rank_on_each_of_two_machines(tmp_path: Path, machines: Sequence[Machine], trainer: str) -> None:
    root = tmp_path / "two/runs"
    root.mkdir(parents=True)
    statuses = crash_ranks.attempt(
        crash_ranks.TRAINERS[trainer],
        root,
        2,
        meeting=f"tcp://{machines[0].address}:29400",
        begin=lambda rank: machines[rank].enter(),
    )
    assert statuses == [0, 0], [path.read_text() for path in root.parent.glob("error-*.txt")]
    assert crash_ranks.final_state(root) == twin(tmp_path / "twin/runs", trainer)


def start(machine: Machine, machines: Sequence[Machine], folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """torchrun on one machine, in a group of its own; a rank there meets the other by c10d on the first machine."""
    (folder / "script.py").write_text(SCRIPT)
    flags = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={machines[0].address}:29500"]
    # Both have the host name of this machine, by which torchrun would find out where the meeting is.
    flags += ["--rdzv-id=test", f"--rdzv-conf=is_host={machine is machines[0]}", f"--local-addr={machine.address}"]
    command = machine.command(sys.executable, "-m", "torch.distributed.run", *flags, str(folder / "script.py"), *words)
    variables = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"}
    variables |= {"GLOO_SOCKET_IFNAME": INTERFACE, "OMP_NUM_THREADS": "1"}
    with (folder / f"{machine.name}.txt").open("ab") as told:
        return subprocess.Popen(command, env=variables, stdout=told, stderr=told, start_new_session=True)


def end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for each in started:
        if each.poll() is None:
            kill_all(each.pid)
            each.wait()


def kill_all(pid: int) -> None:
    """A machine goes down: a process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for child in children.read_text().split() if children.exists() else []:
        kill_all(int(child))
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
@pytest.mark.parametrize("down", [0, 1], ids=["first", "second"])
def test_torchrun_on_two_machines_of_which_one_goes_down(
    tmp_path: Path, machines: Sequence[Machine], trainer: str, down: int
) -> None:
    root = tmp_path / "two/runs"
    root.mkdir(parents=True)
    both = [start(machine, machines, tmp_path, trainer, str(root), "0.5") for machine in machines]
    try:
        until = time.monotonic() + 120
        while CheckpointStore(RunFolder(root / "r")).newest_step() < 4:
            assert time.monotonic() < until, (tmp_path / f"{machines[0].name}.txt").read_text()
            time.sleep(0.1)
        kill_all(both[down].pid)
        began = time.monotonic()
        assert both[1 - down].wait(60) != 0
        assert time.monotonic() - began < 45, "the other machine does not notice"
    finally:
        end(both)
    assert CheckpointStore(RunFolder(root / "r")).newest_step() < 12
    both = [start(machine, machines, tmp_path, trainer, str(root), "0") for machine in machines]
    try:
        assert [each.wait(180) for each in both] == [0, 0], (tmp_path / f"{machines[0].name}.txt").read_text()
    finally:
        end(both)
    assert crash_ranks.final_state(root) == twin(tmp_path / "twin/runs", trainer)
    text = (tmp_path / f"{machines[0].name}.txt").read_text() + (tmp_path / f"{machines[1].name}.txt").read_text()
    assert "rank 0 of 2" in text
    assert "rank 1 of 2" in text
