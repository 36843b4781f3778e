"""What the tests of Slurm share: its cluster for this process."""

from __future__ import annotations

import pytest

from tests.standins import slurm


@pytest.fixture
def cluster(slurm_cluster: slurm.Cluster, monkeypatch: pytest.MonkeyPatch) -> slurm.Cluster:
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.environment["SLURM_CONF"])
    return slurm_cluster
