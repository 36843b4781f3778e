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


def test_every_point_of_a_torch_run(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch")
    assert result["points"] == result["operations"] >= 100
    assert result["failures"] == []


def test_every_fourth_point_of_a_jax_run(tmp_path: Path) -> None:
    result = crash(tmp_path, "jax", "--stride", "4", "--offset", "1")
    assert result["operations"] >= 100
    assert result["failures"] == []


def test_power_cuts_with_torn_writes(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--power", "--torn", "--stride", "3")
    assert result["points"] >= 50
    assert result["failures"] == []


def test_the_harness_finds_a_naive_store_wanting(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--store", "naive")
    assert len(result["failures"]) >= 20, result


def test_the_harness_finds_missing_fsyncs(tmp_path: Path) -> None:
    result = crash(tmp_path, "torch", "--power", "--drop-fsync", "--stride", "9")
    assert len(result["failures"]) >= 5, result


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--torn",), ("--power", "--torn")], ids=["kill", "torn", "power"])
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_every_point_every_way(tmp_path: Path, framework: str, options: tuple[str, ...]) -> None:
    result = crash(tmp_path, framework, *options)
    assert result["points"] == result["operations"] >= 100
    assert result["failures"] == []
