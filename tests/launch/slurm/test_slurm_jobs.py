"""Sessions as jobs of a real Slurm cluster: requeue, nodes that die, a full queue, limits, and a user's own script."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.errors import LaunchError, LaunchRefused
from outlast.folder.layout import RunFolder
from outlast.launch.fetch import fetch
from outlast.launch.provider import Terms
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.relay import Bounds, Pace, relay
from outlast.launch.slurm.provider import SlurmProvider
from outlast.launch.slurm.scheduler import Scheduler
from outlast.launch.start import launch
from outlast.launch.watch import state_of
from outlast.launch.work import RecipeWork
from tests import messages
from tests.launch import recipes
from tests.launch.conftest import RECIPE
from tests.standins import slurm

WALK = Path("runs/walk")


@pytest.fixture(autouse=True)
def walk(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/recipe.py").write_text(RECIPE.replace("from helper import STEP", "STEP = 0.5"))


def prepared(**flags: str) -> RecipeWork:
    return recipes.work("walk", **flags)


def provider(**more: Any) -> SlurmProvider:
    scheduler = Scheduler(60.0, sleep=lambda seconds: time.sleep(min(seconds, 0.2)), **more)
    return SlurmProvider(Path("runs").absolute() / ".jobs", scheduler, late=2.0)


def terms(*flags: str, seconds: float = 120.0) -> Terms:
    return Terms(options={"time": seconds, "sbatch": list(flags)})


def until(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def saved(record: LaunchRecord) -> int:
    """The newest step of a session that may run."""
    return CheckpointStore(RunFolder(Path("runs/.jobs") / record.name / "work/runs/walk")).newest_step()


def over(jobs: SlurmProvider, record: LaunchRecord, seconds: float = 60.0) -> str:
    until(lambda: (state := jobs.state(record.handle)) and state.over, seconds)
    return state_of(jobs, record)


def test_a_job_that_slurm_starts_again_continues(cluster: slurm.Cluster) -> None:
    """`scontrol requeue`, as preemption does it: the job is killed, and waits two minutes unless it is released."""
    jobs, run = provider(), prepared(pause="0.4", stop_every="0", save_every="1 steps")
    record = launch(jobs, run, terms())
    until(lambda: saved(record) >= 2)
    job = record.handle["job"]
    cluster.ask("scontrol", "requeue", str(job))
    until(lambda: jobs.state(record.handle).word in ("queued", "completed"))

    def released() -> bool:
        cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        return jobs.state(record.handle).word != "queued"

    until(released)
    assert over(jobs, record) in ("succeeded", "stopped")
    fetch(jobs, record)
    if state_of(jobs, record) == "stopped":  # it could save before it was killed, and is not started again
        relay(jobs, lambda: run, terms(), tell=lambda _: None, pace=Pace(ask=0.1))
    assert RunFolder(WALK).attempt_numbers() == [1, 2]
    begun = json.loads(RunFolder(WALK).events(2).read_text().splitlines()[0])
    assert begun["resumed_from"] >= 2
    assert CheckpointStore(RunFolder(WALK)).newest_step() == 9


def test_a_job_that_can_never_run_is_told_with_its_reason(cluster: slurm.Cluster) -> None:
    jobs, told = provider(), []

    def tell(sentence: str) -> None:
        told.append(sentence)
        if "PartitionConfig" in sentence:
            jobs.cancel(all_launches(RunFolder(WALK))[-1].handle)

    with messages.raises(LaunchError, "launch/session-cancelled", number=1, step=0):
        relay(jobs, prepared, terms("nodes=3"), tell=tell, pace=Pace(ask=0.1))
    (queued,) = [sentence for sentence in told if "PartitionConfig" in sentence]
    messages.said([queued], "launch/session-waits", number=1, why="PartitionConfig")


def test_a_script_that_cannot_start_says_where_to_read(cluster: slurm.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.launch.slurm.script.sys.executable", "/no/such/python")
    jobs = provider()
    record = launch(jobs, prepared(), terms())
    assert over(jobs, record) == "failed(1)"
    state = jobs.state(record.handle)
    log = Path("runs/.jobs/outlast-walk-001/log.txt").absolute()
    messages.said([state.message], "launch/slurm-script-failed", reason="NonZeroExitCode", log=log)
    assert any("/no/such/python" in line.text for line in jobs.log(record.handle))


def test_a_refused_job_leaves_nothing_and_its_name_is_used_again(cluster: slurm.Cluster) -> None:
    jobs = provider()
    with messages.raises(LaunchRefused, "launch/slurm-refused", words=messages.ANY):
        launch(jobs, prepared(), terms("partition=nowhere"))
    assert not list(Path("runs/.jobs").iterdir())
    assert launch(jobs, prepared(stop_every="0"), terms()).name == "outlast-walk-001"


def test_a_cancelled_job_that_waits_never_runs(cluster: slurm.Cluster) -> None:
    jobs = provider()
    record = launch(jobs, prepared(), terms("hold"))
    assert jobs.state(record.handle).word == "queued"
    assert jobs.state(record.handle).message == "JobHeldUser"
    jobs.cancel(record.handle)
    assert over(jobs, record) == "cancelled"
    assert list(jobs.outputs(record.handle)) == []


def test_a_person_who_cancels_a_job_ends_the_relay(cluster: slurm.Cluster) -> None:
    """The training saves all the same, so its exit code alone would ask for another job."""
    jobs, told = provider(), []

    def tell(sentence: str) -> None:
        told.append(sentence)
        record = all_launches(RunFolder(WALK))[-1]
        if "is running" in sentence:
            until(lambda: saved(record) >= 1)
            cluster.ask("scancel", str(record.handle["job"]))

    run = prepared(pause="0.3", stop_every="0", save_every="1 steps")
    with messages.raises(LaunchError, "launch/session-cancelled", number=1, step=messages.ANY):
        relay(jobs, lambda: run, terms(), tell=tell, pace=Pace(ask=0.1))
    assert 1 <= CheckpointStore(RunFolder(WALK)).newest_step() < 9
    assert len(all_launches(RunFolder(WALK))) == 1


def test_a_preview_writes_a_script_that_slurm_accepts(cluster: slurm.Cluster) -> None:
    from outlast.launch.start import request_for

    jobs = provider()
    told = jobs.preview(request_for(jobs, prepared(), terms("mem=100M")), Path("out"))
    place = "out/outlast-walk-001.sh"
    messages.said([told], "launch/slurm-preview", place=place, files=messages.ANY, hash=messages.ANY)
    Path("runs/.jobs/outlast-walk-001").mkdir(parents=True)
    done = subprocess.run(["sbatch", "--test-only", place], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line(cluster: slurm.Cluster, outlast_cli, tmp_path: Path) -> None:
    words = ("relay", "walk", "--on", "slurm", "--time", "2m", "--sbatch", "mem=100M", "--ask-every", "0.2")
    done = outlast_cli(*words, "--experiment-name", "walk", template="launch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "walk is finished at step 9"
    assert "is job" in done.stdout
    record = json.loads((WALK / "launches/0001.json").read_text())
    assert record["terms"]["sbatch"] == ["mem=100M"]
    assert record["handle"]["session"] == "outlast-walk-001"
    attempt = json.loads((WALK / "attempts/0001.json").read_text())
    assert attempt["environment"]["name"] == "slurm"
    assert 0 < attempt["environment"]["limits"]["seconds"] <= 120


@pytest.mark.slow
def test_three_jobs_of_a_minute_end_as_an_uninterrupted_run_does(cluster: slurm.Cluster, outlast_cli) -> None:
    """Slurm's own limit, in the smallest unit that it has."""
    flags = ("--experiment-name", "walk", "--stop-every", "0", "--pause", "14")
    twin = outlast_cli("train", "walk", *flags[:4], "--pause", "0", "--checkpoint-dir", "twin", template="launch")
    assert twin.returncode == 0, twin.stderr
    words = ("relay", "walk", "--on", "slurm", "--time", "1m", "--ask-every", "1", *flags)
    done = outlast_cli(*words, timeout=500, template="launch")
    assert done.returncode == 0, done.stderr
    assert len(all_launches(RunFolder(WALK))) >= 3
    assert (WALK / "journal.jsonl").read_bytes() == Path("twin/walk/journal.jsonl").read_bytes()
    ours, theirs = (max(root.glob("checkpoints/step-*")) for root in (WALK, Path("twin/walk")))
    for name in ("state.safetensors", "rng.safetensors"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    ends = [json.loads(path.read_text())["end"]["reason"] for path in sorted((WALK / "attempts").glob("*.json"))]
    assert set(ends[:-1]) <= {"budget", "preempted"}, ends  # Slurm's own warning may come first
    assert ends[-1] == "finished"


OWN = """
import numpy as np
import outlast, time

with outlast.open_run("own") as run:
    state = run.restore({"x": np.zeros(3)})
    for step in run.steps(100_000):
        state = {"x": state["x"] + np.random.standard_normal(3)}
        run.offer(state)
        time.sleep(0.05)
"""


@pytest.mark.slow
def test_a_users_own_script_stops_in_time(cluster: slurm.Cluster, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    flags = f"#SBATCH --time=1\n#SBATCH --output={tmp_path}/own.txt\n"
    (tmp_path / "own.sh").write_text(f"#!/bin/bash\n{flags}exec {sys.executable} {tmp_path}/own.py\n")
    job = cluster.ask("sbatch", "--parsable", f"--chdir={tmp_path}", str(tmp_path / "own.sh")).strip()
    going = ("JobState=PENDING", "JobState=RUNNING", "JobState=COMPLETING")
    until(lambda: not any(state in cluster.ask("scontrol", "show", "job", job) for state in going), 120)
    told = cluster.ask("scontrol", "show", "job", job)
    assert "JobState=FAILED" in told, told
    assert "ExitCode=75:0" in told, told
    record = json.loads((tmp_path / "runs/own/attempts/0001.json").read_text())
    assert record["end"]["reason"] == "budget"
    assert CheckpointStore(RunFolder(tmp_path / "runs/own")).newest_step() == record["end"]["step"]


@pytest.mark.slow
def test_a_node_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with slurm.cluster(tmp_path / "cluster") as own:
        monkeypatch.setenv("SLURM_CONF", own.environment["SLURM_CONF"])
        jobs, run = provider(), prepared(pause="0.4", stop_every="0", save_every="1 steps")
        record = launch(jobs, run, terms())
        until(lambda: saved(record) >= 2)
        node = own.ask("squeue", "-h", "-o", "%N").strip()
        own.kill_node(node)
        until(lambda: jobs.state(record.handle).word == "queued", 120)
        until(lambda: jobs.state(record.handle).word != "queued", 240)
        assert over(jobs, record, 120) == "succeeded"
        fetch(jobs, record)
    assert RunFolder(WALK).attempt_numbers() == [1, 2]
    begun = json.loads(RunFolder(WALK).events(2).read_text().splitlines()[0])
    assert begun["resumed_from"] >= 2


@pytest.mark.slow
def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with slurm.cluster(tmp_path / "cluster", "MaxJobCount=2\nMinJobAge=2") as own:
        monkeypatch.setenv("SLURM_CONF", own.environment["SLURM_CONF"])
        (tmp_path / "other.sh").write_text("#!/bin/bash\nsleep 20\n")
        own.ask("sbatch", f"--output={tmp_path}/other.txt", str(tmp_path / "other.sh"))
        jobs = provider(timeout=2.0)
        with messages.raises(LaunchRefused, "launch/slurm-refused", words=messages.ANY) as caught:
            launch(jobs, prepared(), terms())
        assert caught.value.again == "full"
        told: list[str] = []
        relay(jobs, prepared, terms(), bounds=Bounds(wait=True), tell=told.append, pace=Pace(ask=0.2))
    assert "All places are taken. Waiting." in told
    assert CheckpointStore(RunFolder(WALK)).newest_step() == 9
