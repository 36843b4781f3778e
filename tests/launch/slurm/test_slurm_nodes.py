"""Jobs of two nodes on a real Slurm cluster: ranks that train together, a stop that reaches all, a node that dies."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.errors import UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.provider import Terms
from outlast.launch.records import all_launches
from outlast.launch.relay import Pace, relay
from outlast.launch.slurm.node import main, meeting, on_all
from outlast.launch.slurm.provider import SlurmProvider
from outlast.launch.slurm.scheduler import Scheduler
from outlast.launch.slurm.script import script
from outlast.launch.start import launch, request_for
from outlast.recipe import prepare, registry
from tests import messages, processes
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


@pytest.fixture
def cluster(slurm_cluster: slurm.Cluster, monkeypatch: pytest.MonkeyPatch) -> slurm.Cluster:
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.environment["SLURM_CONF"])
    return slurm_cluster


@pytest.fixture(autouse=True)
def pair(tmp_path: Path) -> None:
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair/recipe.py").write_text(PAIR)


def prepared(**flags: str) -> prepare.PreparedRun:
    return prepare.prepare(registry.find("pair"), prepare.Request(flags={"experiment_name": "pair", **flags}))


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


def test_two_nodes_train_together_and_go_on_in_the_next_job(cluster: slurm.Cluster) -> None:
    expected = twin()
    relay(provider(), lambda: prepared(stop_every="6"), terms(), tell=lambda _: None, pace=Pace(ask=0.1))
    assert len(all_launches(RunFolder(RUN))) == 2
    assert "rank 0 on one" in log_of(1)
    assert "rank 1 on two" in log_of(1)
    assert_equal(RUN, expected)
    record = json.loads((RUN / "attempts/0001.json").read_text())
    assert record["environment"]["facts"]["job_num_nodes"] == "2"
