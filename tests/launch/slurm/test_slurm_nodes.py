"""Jobs of two nodes on a real Slurm cluster: ranks that train together, a stop that reaches all, a node that dies."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.errors import UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.provider import Terms
from outlast.launch.records import all_launches
from outlast.launch.relay import Pace, relay
from outlast.launch.slurm.node import meeting, on_all
from outlast.launch.slurm.provider import SlurmProvider
from outlast.launch.slurm.scheduler import Scheduler
from outlast.launch.slurm.script import script
from outlast.launch.start import launch, request_for
from outlast.launch.work import RecipeWork
from tests import messages, processes
from tests.launch import recipes
from tests.standins import slurm

pytest.importorskip("torch")

PAIR = """
import os
import time

import outlast


def train(run, config):
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    outlast.seed_everything(config.seed + torch.distributed.get_rank())
    model = DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    features = torch.arange(264, dtype=torch.float32).reshape(44, 6).sin()
    loader = outlast.DataLoader(torch.utils.data.TensorDataset(features, features.sum(1)), 8, seed=3)
    run.track(model=model, optimizer=optimizer)
    for x, y in run.batches(loader, epochs=2):
        optimizer.zero_grad()
        loss = (model(x).squeeze(1) - y).square().mean()
        loss.backward()
        optimizer.step()
        run.log(loss=loss)
        print("rank", torch.distributed.get_rank(), "on", os.environ.get("SLURMD_NODENAME"), flush=True)
        time.sleep(config.pause)
        if config.stop_every and run.step % config.stop_every == 0 and torch.distributed.get_rank() == 1:
            run.session.request_stop("budget", "the test's session is short")


class Config(outlast.SupervisedConfig):
    pause: float = outlast.setting(0.0, "seconds that a step sleeps")
    stop_every: int = outlast.setting(0, "steps after which a session ends; 0: never", on_resume="free")


recipe = outlast.Recipe(name="pair", summary="two ranks", Config=Config, train=train, ranks=True)
"""
RUN = Path("runs/pair")
STEPS = 12


@pytest.fixture(autouse=True)
def pair(tmp_path: Path) -> None:
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair/recipe.py").write_text(PAIR)


def prepared(**flags: str) -> RecipeWork:
    return recipes.work("pair", **flags)


def provider() -> SlurmProvider:
    scheduler = Scheduler(60.0, sleep=lambda seconds: time.sleep(min(seconds, 0.2)))
    return SlurmProvider(Path("runs").absolute() / ".jobs", scheduler, late=2.0)


def terms(nodes: int = 2, *flags: str) -> Terms:
    return Terms(options={"time": 240.0, "nodes": nodes, "sbatch": list(flags)})


def twin(count: int = 2) -> Path:
    """The same training on one machine with so many ranks, uninterrupted."""
    words = ["train", "pair", "--experiment-name", "pair", "--checkpoint-dir", "twin"]
    ranks = processes.start_ranks([sys.executable, "-m", "outlast.cli", *words], count)
    ends = [(rank.communicate(120), rank.returncode) for rank in ranks]
    assert [code for _, code in ends] == [0] * count, ends
    return Path("twin/pair")


def assert_equal(ours: Path, theirs: Path) -> None:
    """Byte for byte: the curve, and each file of the last checkpoint but the records of its attempt."""
    assert (ours / "journal.jsonl").read_bytes() == (theirs / "journal.jsonl").read_bytes()
    a, b = (max(root.glob("checkpoints/step-*")) for root in (ours, theirs))
    files = [sorted(path.name for path in place.glob("*.safetensors")) for place in (a, b)]
    assert files[0] == files[1]
    assert any("rank-0001" in name for name in files[0])
    for name in files[0]:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def log_of(number: int) -> str:
    return Path(f"runs/.jobs/outlast-pair-{number:03}/log.txt").read_text()


def until(found: Callable[[], Any], seconds: float = 120.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def saved(number: int) -> int:
    """The newest step of a session that may run."""
    folder = Path(f"runs/.jobs/outlast-pair-{number:03}") / "work/runs/pair"
    return CheckpointStore(RunFolder(folder)).newest_step()


def test_two_nodes_train_together(cluster: slurm.Cluster) -> None:
    expected = twin()
    relay(provider(), prepared, terms(), tell=lambda _: None, pace=Pace(ask=0.1))
    assert len(all_launches(RunFolder(RUN))) == 1
    assert "rank 0 on one" in log_of(1)
    assert "rank 1 on two" in log_of(1)
    assert_equal(RUN, expected)
    record = json.loads((RUN / "attempts/0001.json").read_text())
    assert record["environment"]["facts"]["job_num_nodes"] == "2"


@pytest.mark.slow
def test_three_jobs_of_two_nodes_end_as_two_ranks_on_one_machine_do(cluster: slurm.Cluster) -> None:
    """Ended by a rank on the second node, by the relay's budget, and finished."""
    expected = twin()
    relay(provider(), lambda: prepared(stop_every="4", pause="0.6"), terms(), tell=lambda _: None, pace=Pace(ask=0.1))
    assert len(all_launches(RunFolder(RUN))) == 3
    assert_equal(RUN, expected)


@pytest.mark.slow
def test_slurms_own_limit_ends_two_nodes_in_time(cluster: slurm.Cluster, outlast_cli) -> None:
    expected = twin()
    words = ("relay", "pair", "--on", "slurm", "--time", "2m", "--nodes", "2", "--ask-every", "1", "--pause", "14")
    done = outlast_cli(*words, "--experiment-name", "pair", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(all_launches(RunFolder(RUN))) >= 2
    assert_equal(RUN, expected)
    assert json.loads((RUN / "launches/0001.json").read_text())["terms"]["nodes"] == 2


@pytest.mark.slow
def test_a_cancel_reaches_both_nodes(cluster: slurm.Cluster) -> None:
    jobs = provider()
    record = launch(jobs, prepared(pause="1", save_every="1 steps"), terms())
    until(lambda: saved(1) >= 1)
    jobs.cancel(record.handle)
    until(lambda: jobs.state(record.handle).over, 60)
    state = jobs.state(record.handle)
    assert (state.word, state.exit) == ("cancelled", 75)
    assert 1 <= saved(1) < STEPS
    end = json.loads(
        next((Path("runs/.jobs/outlast-pair-001") / "work/runs/pair/attempts").glob("*.json")).read_text()
    )["end"]
    assert end["reason"] == "preempted"
    assert end["step"] == saved(1)


@pytest.mark.slow
def test_a_person_who_cancels_the_job_of_two_nodes(cluster: slurm.Cluster) -> None:
    jobs = provider()
    record = launch(jobs, prepared(pause="0.3", save_every="1 steps"), terms())
    until(lambda: saved(1) >= 1)
    cluster.ask("scancel", str(record.handle["job"]))
    until(lambda: jobs.state(record.handle).over, 60)
    assert jobs.state(record.handle).word == "cancelled"
    assert saved(1) < STEPS


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_job_soon_and_the_relay_goes_on(cluster: slurm.Cluster) -> None:
    told: list[str] = []
    killed: list[float] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        if "is running" in sentence and not killed:
            until(lambda: saved(1) >= 2)
            place = Path("runs/.jobs/outlast-pair-001").absolute()
            os.kill(rank_of(place, 1), 9)
            killed.append(time.monotonic())
            until(lambda: (place / "end.json").exists(), 60)
            killed.append(time.monotonic())

    expected = twin()
    relay(provider(), lambda: prepared(pause="0.5", save_every="1 steps"), terms(), tell=tell, pace=Pace(ask=0.1))
    assert killed[1] - killed[0] < 40, told
    assert len(all_launches(RunFolder(RUN))) == 2
    assert_equal(RUN, expected)


def rank_of(folder: Path, rank: int) -> int:
    """The process of a rank of the session in a folder."""
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables, words = place.read_bytes().split(b"\0"), place.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if b"outlast.launch.inside" in words and os.fsencode(folder) in words and f"RANK={rank}".encode() in variables:
            return int(place.parent.name)
    raise AssertionError(f"no rank {rank} runs")


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_one_of_two_nodes_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    expected = twin()
    with slurm.cluster(tmp_path / "cluster") as own:
        monkeypatch.setenv("SLURM_CONF", own.environment["SLURM_CONF"])
        jobs, run = provider(), prepared(pause="0.5", save_every="1 steps")
        record = launch(jobs, run, terms())
        until(lambda: saved(1) >= 2)
        own.kill_node("one" if first else "two")
        began = time.monotonic()
        place = Path("runs/.jobs/outlast-pair-001").absolute()

        def gone() -> bool:
            with contextlib.suppress(AssertionError):
                return rank_of(place, 1 if first else 0) == 0
            return True

        until(gone, 60)
        assert time.monotonic() - began < 40
        own.start_node("one" if first else "two")

        def over() -> bool:  # Slurm starts the job again, unless rank 0 has noticed first
            own.ask("scontrol", "update", f"JobId={record.handle['job']}", "StartTime=now")
            return jobs.state(record.handle).over

        until(over, 400)
        relay(jobs, lambda: run, terms(), tell=lambda _: None, pace=Pace(ask=0.1))
    assert RunFolder(RUN).attempt_numbers()[:2] == [1, 2]
    assert_equal(RUN, expected)


def test_nodes_that_are_not_understood() -> None:
    with messages.raises(UsageError, "launch/slurm-nodes-twice", nodes=2):
        script("x", Path("/a"), None, ["nodes=3"], 2)
    assert "#SBATCH --nodes=2" in script("x", Path("/a"), None, ["exclusive"], 2).splitlines()
    assert not any("--nodes" in line for line in script("x", Path("/a"), None, ["nodelist=a"]).splitlines())
    Path("pair/recipe.py").write_text(PAIR.replace(", ranks=True", ""))
    with messages.raises(UsageError, "launch/slurm-nodes-one-process", run="pair", nodes=2):
        launch(provider(), prepared(), terms())
    assert request_for(provider(), prepared(), terms(1)).asked["ranks"] is False


def test_how_the_nodes_meet() -> None:
    environ = {"SLURM_JOB_NUM_NODES": "3", "SLURM_NODEID": "2", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7"}
    assert meeting(4711, environ) == ["--nnodes=3", "--node-rank=2", "--master-addr=10.0.0.7", "--master-port=4711"]
    words = on_all(3, Path("/a"), 4711)
    assert words[0] == "srun"
    assert {"--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "--export=ALL"} <= set(words)
    assert words[-2:] == ["/a", "4711"]
