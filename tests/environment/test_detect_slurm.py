"""A process in a Slurm job knows the job's end, cores, memory and GPUs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from outlast.environment import detect, slurm
from outlast.environment.base import Environment, Gpu, Limits

JOB = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n01", "SLURM_JOB_PARTITION": "gpu", "SLURM_CLUSTER_NAME": "alps"}
CARDS = (Gpu("A", 1, True), Gpu("B", 1, True), Gpu("C", 1, True))


def in_job(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in {**JOB, **more}.items():
        monkeypatch.setenv(name, value)


def test_the_variables_of_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_job(monkeypatch, SLURM_JOB_END_TIME=str(int(time.time()) + 100), SLURM_CPUS_ON_NODE="1", SLURM_MEM_PER_NODE="64")
    found = detect(root=tmp_path)
    assert found.name == "slurm"
    assert 95 < found.limits.seconds <= 100
    assert (found.limits.cores, found.limits.ram) == (1, 64 * 2**20)
    assert found.facts["job_id"] == "12"
    assert found.facts["job_partition"] == "gpu"
    assert "end" not in found.facts


def test_memory_by_core_and_the_end_that_the_user_states(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_job(monkeypatch, SLURM_CPUS_ON_NODE="1", SLURM_MEM_PER_CPU="100", SLURM_JOB_END_TIME=str(int(time.time()) + 999))
    monkeypatch.setenv("OUTLAST_SESSION_ENDS", f"{time.time() + 50:.3f}")
    found = detect(root=tmp_path)
    assert found.limits.ram == 100 * 2**20
    assert 45 < found.limits.seconds <= 50


@pytest.mark.parametrize(
    ("told", "ends"),
    [
        ("JobId=12 TimeLimit=00:01:00 StartTime=1795955712 EndTime=1795955772 Deadline=N/A", 1795955772.0),
        ("JobId=12 TimeLimit=UNLIMITED StartTime=1795955712 EndTime=Unknown Deadline=N/A", None),
        ("JobId=12 EndTime=" + "9" * 400 + " Deadline=N/A", None),
        ("JobId=12 EndTime=0 Deadline=N/A", None),
        ("JobId=12 EndTime=-5 Deadline=N/A", None),
        ("", None),
    ],
)
def test_an_older_slurm_is_asked_for_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, ends: float | None
) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\n[ "$*" = "show job -o 12" ] && [ "$SLURM_TIME_FORMAT" = %s ] && echo "{told}"\n')
    program.chmod(0o755)
    in_job(monkeypatch, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert slurm.ends() == ends
    assert ("end" in detect(root=tmp_path).facts) == (ends is None)


def test_a_node_without_scontrol_has_no_known_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_job(monkeypatch, PATH=str(tmp_path))
    found = detect(root=tmp_path)
    assert found.limits.seconds is None
    assert found.facts["end"] == "unknown"


def test_a_shell_of_salloc_on_the_login_node_is_no_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_job(monkeypatch)
    monkeypatch.delenv("SLURMD_NODENAME")
    assert detect(root=tmp_path).name == "local"


@pytest.mark.parametrize(
    ("devices", "count"), [(None, 3), ("0,1", 2), ("GPU-8f0e2a", 1), ("", 0), ("NoDevFiles", 0), ("0,1,2,3", 3)]
)
def test_the_gpus_of_a_job(devices: str | None, count: int) -> None:
    environ = JOB if devices is None else {**JOB, "CUDA_VISIBLE_DEVICES": devices}
    assert slurm.within(CARDS, environ) == CARDS[:count]
    assert slurm.within(CARDS, {"CUDA_VISIBLE_DEVICES": "0"}) == CARDS, "outside a job, nothing is known"


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "9" * 5000, "\u0663", "1.5", " 2"])
def test_a_variable_that_is_no_number_is_not_known(text: str) -> None:
    names = ("JOB_END_TIME", "CPUS_ON_NODE", "MEM_PER_NODE", "RESTART_COUNT", "JOB_NUM_NODES")
    environ = {**JOB, "PATH": "", **{f"SLURM_{name}": text for name in names}}
    assert slurm.ends(environ) is None
    assert slurm.restarts(environ) == 0
    assert slurm.nodes(environ) == 1
    limits = slurm.inside(Environment("local", Limits(None, 2**34, 2)), environ).limits
    assert (limits.seconds, limits.ram, limits.cores) == (None, 2**34, 2)


def test_restarts_and_nodes_of_a_job() -> None:
    environ = {"SLURM_RESTART_COUNT": "2", "SLURM_JOB_NUM_NODES": "3"}
    assert (slurm.restarts(environ), slurm.nodes(environ)) == (2, 3)


@pytest.mark.parametrize(
    ("more", "cores", "ram"),
    [
        ({"SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_CPU": "100"}, 4, 400 * 2**20),
        ({"SLURM_CPUS_ON_NODE": "64"}, 8, 2**34),
        ({"SLURM_MEM_PER_CPU": "100"}, 8, 800 * 2**20),
        ({"SLURM_MEM_PER_NODE": "999999999"}, 8, 2**34),
        ({"SLURM_MEM_PER_NODE": "50", "SLURM_MEM_PER_CPU": "100"}, 8, 50 * 2**20),
    ],
)
def test_never_more_than_the_machine_has(more: dict[str, str], cores: int, ram: int) -> None:
    limits = slurm.inside(Environment("local", Limits(None, 2**34, 8)), {**JOB, "PATH": "", **more}).limits
    assert (limits.cores, limits.ram) == (cores, ram)
