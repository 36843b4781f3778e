"""Killed before every file operation, then resumed: the same final state and journal, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def crash(folder: Path, *options: str) -> dict:
    command = [sys.executable, "-m", "tests.durability.crash", *options[:1], str(folder / "work"), *options[1:]]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_third_point_of_a_torch_run(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--stride", "3")
    assert result["points"] >= 50
    assert result["failures"] == []


def test_some_points_of_a_jax_run(tmp_path: Path) -> None:
    result = crash(tmp_path, "jax", "--stride", "7", "--offset", "1")
    assert result["operations"] >= 100
    assert result["failures"] == []


def test_power_cuts_with_torn_writes(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--power", "--torn", "--stride", "5")
    assert result["points"] >= 30
    assert result["failures"] == []


def test_power_cuts_between_data_and_manifest(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--power", "--only", "fsync r/checkpoints/step-00000004$", "--seeds", "5")
    assert result["points"] == 3
    assert result["failures"] == []


def test_power_cuts_with_shared_files_chunks_and_a_best(tmp_path: Path) -> None:
    result = crash(tmp_path, "large", "--power", "--torn", "--stride", "13")
    assert result["operations"] >= 280
    assert result["failures"] == []


def test_power_cuts_of_a_second_attempt(tmp_path: Path) -> None:
    """Which cleans up after a first that was cut off in the middle of a checkpoint."""
    result = crash(tmp_path, "torch", "--power", "--torn", "--again", "120", "--stride", "6")
    assert result["operations"] >= 60
    assert result["failures"] == []


def test_the_harness_finds_a_naive_store_wanting(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--store", "naive", "--only", "^write", "--stride", "2")
    assert len(result["failures"]) >= 6, result


def test_the_harness_finds_missing_fsyncs(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--power", "--drop-fsync", "--stride", "9")
    assert len(result["failures"]) >= 5, result


WAYS = {
    "kill": (),
    "torn": ("--torn",),
    "power": ("--power", "--torn", "--seeds", "2"),
    "again": ("--power", "--torn", "--again", "100"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framework", ["torch", "large", "jax"])
def test_every_point_every_way(tmp_path: Path, framework: str, way: str) -> None:
    result = crash(tmp_path, framework, *WAYS[way])
    assert result["points"] == result["operations"] >= 50
    assert result["failures"] == []
