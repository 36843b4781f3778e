"""Killed before every file operation, then resumed: the same final state and journal, byte for byte."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

import outlast
from outlast.errors import SessionEnded
from tests import processes
from tests.conftest import REPOSITORY
from tests.counting import Counter as Counting
from tests.counting import attempts, count_to
from tests.durability.naive import NaiveStore


def crash(folder: Path, *options: str) -> dict:
    command = [sys.executable, "-m", "tests.durability.crash", *options[:1], str(folder / "work"), *options[1:]]
    done = processes.run(command, cwd=REPOSITORY, timeout=3000, template="jax" if options[0] == "jax" else "torch")
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


def test_power_cuts_with_shared_files_chunks_and_a_best(tmp_path: Path) -> None:
    result = crash(tmp_path, "large", "--power", "--torn", "--stride", "13")
    assert result["operations"] >= 280
    assert result["failures"] == []


@pytest.mark.parametrize("more", [("--stride", "9"), ("--power", "--torn", "--again", "150", "--stride", "7")])
def test_some_points_where_every_step_is_kept(tmp_path: Path, more: tuple[str, ...]) -> None:
    """A slot that is whole is adopted, also by an attempt that is cut off while it does so; a torn one is not."""
    result = crash(tmp_path, "each", *more)
    assert result["operations"] >= 50
    assert result["failures"] == []


def test_power_cuts_of_a_second_attempt(tmp_path: Path) -> None:
    """Which cleans up after a first that was cut off in the middle of a checkpoint."""
    result = crash(tmp_path, "torch", "--power", "--torn", "--again", "120", "--stride", "6")
    assert result["operations"] >= 60
    assert result["failures"] == []


def test_the_naive_store_works_while_nothing_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what the harness finds are its torn files, and not that it fell behind the interface of stores."""
    monkeypatch.setattr("outlast.run.open.CheckpointStore", NaiveStore)
    for stop_at in (4, None):
        counter = Counting()
        with (
            contextlib.suppress(SessionEnded),
            outlast.open_run("r", total_steps=8, root=tmp_path, save="2 steps", progress="none") as run,
        ):
            count_to(run, counter, stop_at)
    assert counter.value == sum(range(9))
    assert [attempt["end"]["reason"] for attempt in attempts(tmp_path)] == ["budget", "finished"]


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
@pytest.mark.parametrize("framework", ["torch", "large", "jax", "each"])
def test_every_point_every_way(tmp_path: Path, framework: str, way: str) -> None:
    result = crash(tmp_path, framework, *WAYS[way])
    assert result["points"] == result["operations"] >= 50
    assert result["failures"] == []


def test_data_are_durable_before_their_manifest(tmp_path: Path) -> None:
    """The power is cut at every point of one commit, eight times: where there is a manifest, all that it names is
    whole."""
    command = [sys.executable, "-m", "tests.durability.commits", str(tmp_path)]
    done = processes.run(command, cwd=REPOSITORY, template="launch")
    assert done.returncode == 0, done.stderr[-2000:]
    point, survived = json.loads(done.stdout)
    assert point >= 25, "operations of a commit"
    in_question = {there for at, there in survived if at == point - 1}  # before the fsync after the manifest's rename
    assert in_question == {False, True}
    assert [10, True] not in survived
