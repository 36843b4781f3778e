"""A few steps of the real recipe, measured in a process that is bounded and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests import messages

import outlast
from outlast.checkpoint.memory import peak
from outlast.environment.base import clock
from outlast.errors import UsageError
from outlast.recipe import batch, measuring, prepare, registry
from outlast.recipe import measured as process
from outlast.recipe.measuring import Bounds, Measured
from outlast.recipe.prepare import Request
from outlast.run import measure

SIZED = str(Path(__file__).with_name("sized.py"))
BOUNDS = Bounds(steps=4, within=60.0)


def measured(tmp_path: Path, bounds: Bounds = BOUNDS, **flags: str) -> Measured:
    found = measuring.run(SIZED, Request(flags=flags), tmp_path / "runs", bounds)
    assert list(tmp_path.iterdir()) == []
    return found


def test_steps_memory_and_a_checkpoint_are_measured(tmp_path: Path) -> None:
    found = measured(tmp_path, wait="0.05", megabytes="25")
    assert (found.why, found.words) == ("ok", "")
    assert found.start is not None
    assert 0 < found.start < 60
    assert found.first is not None
    assert found.first >= 0.05
    assert len(found.steps) == 4
    assert found.step is not None
    assert 0.05 <= found.step < 5
    assert found.total == 1000
    assert found.memory > 100e6 + 20e6  # four samples of 25 MB, and Python with NumPy
    assert found.checkpoint is not None
    assert 8000 < found.checkpoint < 100_000  # 1000 numbers and the manifest
    assert found.save is not None
    assert found.software["numpy"]


def test_memory_beyond_the_bound_ends_it(tmp_path: Path) -> None:
    bounds = replace(BOUNDS, memory=300_000_000, why="what the test gives")
    found = measured(tmp_path, bounds, megabytes="100", wait="0.2")
    assert found.why == "memory"
    assert found.memory > 300_000_000
    messages.said([found.words], "recipe/ended-at-memory")


def test_memory_that_is_asked_for_at_once_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    found = measured(tmp_path, replace(BOUNDS, hard=600_000_000), megabytes="1000")
    assert found.why == "memory"
    assert found.memory < 600_000_000
    messages.said([found.words], "recipe/memory-refused")


def test_a_step_that_does_not_end_is_ended(tmp_path: Path) -> None:
    found = measured(tmp_path, replace(BOUNDS, within=3.0), wait="3600")
    assert (found.why, found.first) == ("time", None)
    assert found.words.startswith("it was ended after 3s: ")


def test_the_words_of_a_failure_are_told(tmp_path: Path) -> None:
    found = measured(tmp_path, fails="2")
    assert found.why == "error"
    assert found.words == "ValueError: as it was told to"
    assert found.first is not None


def test_a_recipe_that_cannot_be_prepared_says_why(tmp_path: Path) -> None:
    found = measured(tmp_path, no_such="1")
    assert found.why == "error"
    assert "no_such" in found.words


def test_few_seconds_make_few_steps(tmp_path: Path) -> None:
    found = measured(tmp_path, replace(BOUNDS, steps=500, seconds=0.3), wait="0.1")
    assert found.why == "ok"
    assert 1 <= len(found.steps) < 20


def test_the_peak_is_of_this_program_and_not_of_whoever_started_it(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    assert peak(tmp_path) == 0
    (tmp_path / "proc/self/status").write_text("Name:\tx\nVmPeak:\t   99 kB\nVmHWM:\t   1234 kB\n")
    assert peak(tmp_path) == 1234 * 1024
    assert peak() > 10_000_000


def test_a_bound_is_the_smaller_of_what_is_free_and_what_is_stated() -> None:
    stated = measuring.bound(9.0, 100_000_000, "local.yaml:2")
    assert (stated.within, stated.memory) == (9.0, 90_000_000)
    assert stated.hard is not None
    assert stated.hard > stated.memory  # addresses are not memory, and a small bound would refuse what is never used
    assert stated.why == "90% of the 100.0 MB that local.yaml:2 states"
    free = measuring.bound(9.0, 2**62)
    assert free.memory is not None
    assert free.memory < 2**62
    assert free.why.endswith("that are free now")


def test_a_process_that_the_system_kills_needed_memory(tmp_path: Path) -> None:
    found = measured(tmp_path, killed="3")
    assert found.why == "memory"
    assert len(found.steps) == 1
    messages.said([found.words], "recipe/killed-by-the-system")


def test_an_end_that_is_none_of_a_training_is_told(tmp_path: Path) -> None:
    found = measured(tmp_path, ends_with="9")
    assert (found.why, found.words) == ("error", "it ended with exit code 9 after its steps")


def test_processes_that_it_starts_count_and_end_with_it(tmp_path: Path) -> None:
    found = measuring.run(
        SIZED, Request(flags={"elsewhere": "300", "tells": str(tmp_path / "pid"), "wait": "0.1"}), tmp_path, BOUNDS
    )
    assert found.why == "ok"
    assert found.memory > 300e6 + 30e6
    pid = int((tmp_path / "pid").read_text())
    assert gone(pid)


def gone(pid: int) -> bool:
    """Whether a process has ended, within a minute."""
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}/fd/0").exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}/fd/0").exists()


def test_nothing_of_it_is_seen_elsewhere(tmp_path: Path) -> None:
    there = {name: str(tmp_path / name) for name in ("checkpoint_dir", "results_dir", "log_dir", "log_csv", "remote")}
    found = measured(tmp_path, **there, prepares="true")
    assert (found.why, found.words) == ("ok", "")


def test_the_budget_of_a_session_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_BUDGET", "1s")
    bounds = replace(BOUNDS, steps=8)
    for flags in ({}, {"budget": "1s"}):
        found = measured(tmp_path, bounds, wait="0.3", **flags)
        assert (found.why, len(found.steps)) == ("ok", 8)


def test_a_run_with_that_variable_is_only_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []

    class Heard(outlast.Sink):
        def started(self, *facts: object) -> None:
            heard.append(facts)

    plan = measure.Plan(str(tmp_path / "here"), str(tmp_path / "record"), 3, 60.0, clock(), os.getpid())
    monkeypatch.setenv(measure.VARIABLE, plan.as_text())
    with (
        pytest.raises(outlast.SessionEnded),
        outlast.open_run(
            "r", root=tmp_path / "root", results=tmp_path / "results", remote=str(tmp_path / "remote"), total_steps=99,
            save="1 step", resume_from=tmp_path / "nothing", sinks=[Heard()], progress="none",
        ) as run,
    ):  # fmt: skip
        state = run.restore({"w": np.zeros(3)})
        with run.artifact("picture.png") as path:
            path.write_bytes(b"")
        for _ in run.steps():
            run.offer(state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "record"]
    assert heard == []
    assert [path.name for path in (tmp_path / "here/r/checkpoints").iterdir()] == ["step-00000004"]


def test_the_last_step_is_not_made_and_devices_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[tuple[str, str]] = []
    session = SimpleNamespace(request_stop=lambda *words: stops.append(words))
    attempt: Any = SimpleNamespace(session=session, ranks=SimpleNamespace(several=False))
    plan = measure.Plan(str(tmp_path), str(tmp_path / "record"), 50, 60.0, clock(), os.getpid())
    monkeypatch.setattr(measure.state, "wait_for_devices", lambda: time.sleep(0.05))
    one = measure.Measure(plan, attempt)
    one.begin(2, 7)
    for step in range(3, 7):
        assert stops == []
        one.after_step(step)
    assert stops == [("budget", "4 steps are measured")]
    attempt.ranks.several = True
    one = measure.Measure(plan, attempt)
    one.begin(0, 14)
    for step in range(1, 4):
        assert len(stops) == 1
        one.after_step(step)
    assert len(stops) == 2, "ten more steps may be made"
    noted = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert all(each["seconds"] >= 0.05 for each in noted if each["kind"] == "step")


def test_a_run_that_is_named_is_measured_with_its_own_values(tmp_path: Path) -> None:
    flags = {"megabytes": "100", "budget": "3s", "checkpoint_dir": str(tmp_path), "experiment_name": "large"}
    with pytest.raises(outlast.SessionEnded):
        prepare.start(prepare.prepare(registry.find(SIZED), Request(flags=flags)), progress="none")
    before = sorted(tmp_path.rglob("*"))
    found = measuring.run(SIZED, Request(resume=str(tmp_path / "large")), tmp_path, BOUNDS)
    assert (found.why, found.words) == ("ok", "")
    assert found.memory > 400e6
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stage_is_measured_with_its_inputs(tmp_path: Path) -> None:
    pair, flags = str(Path(__file__).parent / "pair"), {"checkpoint_dir": str(tmp_path), "steps": "40"}
    recipe = registry.find(pair)
    prepare.start(prepare.prepare(recipe, Request(stage="mean", flags=flags)), progress="none")
    before = sorted(tmp_path.rglob("*"))
    found = measuring.run(pair, Request(stage="walk", flags=flags), tmp_path, BOUNDS)
    assert (found.why, found.words) == ("ok", "")
    assert found.total == 40
    assert sorted(tmp_path.rglob("*")) == before


def test_addresses_are_not_bounded_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded: list[object] = []
    monkeypatch.setattr(
        process, "resource", SimpleNamespace(RLIMIT_DATA=2, setrlimit=lambda *words: bounded.append(words))
    )
    monkeypatch.setattr(process, "gpus", lambda: ("one",))
    process._bound_memory(10**9)
    assert bounded == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"other": 1}', "5", "null"])
def test_a_variable_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="OUTLAST_MEASURE is set and is no plan of `outlast doctor`"):
        measure.read_plan({measure.VARIABLE: text})
    assert measure.read_plan({}) is None


def test_a_process_whose_doctor_is_gone_already_leaves_nothing(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "folder").mkdir()
    plan = measure.Plan(str(tmp_path / "folder"), str(tmp_path / "folder/record"), 4, 1.0, clock(), gone.pid)
    process = subprocess.Popen(
        [sys.executable, "-m", "outlast.recipe.measured"],
        env={**os.environ, measure.VARIABLE: plan.as_text()},
        stdin=subprocess.PIPE,
    )
    assert process.wait(60) == 1
    assert process.stdin is not None
    process.stdin.close()
    assert list(tmp_path.iterdir()) == []


# several ranks -------------------------------------------------------------------------------------------------------

RANKED = str(Path(__file__).with_name("ranked.py"))


def together(tmp_path: Path, bounds: Bounds = BOUNDS, ranks: int = 2, **flags: str) -> Measured:
    pytest.importorskip("torch", reason="ranks of torchrun need torch")
    found = measuring.run(RANKED, Request(flags=flags), tmp_path / "runs", bounds, ranks=ranks)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "runs"))] == []
    return found


@pytest.mark.long
def test_the_steps_of_two_ranks_are_measured_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "left").mkdir()
    found = together(tmp_path, wait="0.2", megabytes="25", leaves=str(tmp_path / "left"))
    assert (found.why, found.words, found.ranks) == ("ok", "", 2)
    assert found.first is not None
    assert 4 <= len(found.steps) <= 14, "they agree to stop half a second or ten steps later"
    assert found.step is not None
    assert 0.19 < found.step < 5, "rank 0 waits for rank 1"
    assert found.total == 1000
    assert found.memory > 2 * 100e6 + 100e6, "of both"
    assert found.checkpoint is not None
    assert 8000 < found.checkpoint < 100_000
    left = {path.name: path.read_text() for path in (tmp_path / "left").iterdir()}
    assert left == {"0": "0 0 2 2 1", "1": "1 1 2 2 1"}


def test_memory_is_that_of_all_ranks_and_times_are_those_of_the_first() -> None:
    def noted(seconds: float, **devices: int) -> dict[str, Any]:
        return {"kind": "step", "seconds": seconds, "peak": 100, "devices": devices}

    found = measuring._read([[noted(1.0, a=5), noted(2.0, a=4)], [noted(9.0, a=1, b=7)]], 0, 120, BOUNDS)
    assert (found.memory, dict(found.devices), found.ranks) == (200, {"a": 5, "b": 7}, 2)
    assert (found.first, list(found.steps)) == (1.0, [2.0])
    assert measuring._read([[noted(1.0)]], 0, 120, BOUNDS).memory == 120


@pytest.mark.long
def test_what_fails_on_another_rank_is_told(tmp_path: Path) -> None:
    found = together(tmp_path, fails="2")
    assert (found.why, found.words) == ("error", "ValueError: as rank 1 was told to")
    assert found.first is not None


@pytest.mark.long
def test_a_rank_that_is_gone_ends_the_measurement(tmp_path: Path) -> None:
    found = together(tmp_path, replace(BOUNDS, within=50.0), stops="true")
    assert found.why == "error"
    assert found.words


@pytest.mark.slow  # start of two processes with torch
def test_a_rank_that_is_gone_ends_it_though_another_hears_nothing_of_it(tmp_path: Path) -> None:
    found = together(tmp_path, replace(BOUNDS, within=100.0), stops="true", hangs="true")
    assert (found.why, found.words) == ("error", "it ended with exit code 9 after its steps")


@pytest.mark.slow  # start of two processes with torch
def test_memory_of_all_ranks_counts_for_the_bound(tmp_path: Path) -> None:
    bounds = replace(BOUNDS, memory=900_000_000, why="what the test gives")  # a rank needs 400 MB, torch, and Python
    found = together(tmp_path, bounds, megabytes="100", wait="0.2")
    assert found.why == "memory"
    assert found.memory > 900_000_000
    messages.said([found.words], "recipe/ended-at-memory")


def test_one_rank_is_alone_wherever_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as in a job of Slurm, or under torchrun."""
    given = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1"}
    for name, value in {**given, "OUTLAST_ROOT": str(tmp_path / "root"), "OUTLAST_RUN": "mine"}.items():
        monkeypatch.setenv(name, value)
    found = measured(tmp_path)
    assert (found.why, found.ranks) == ("ok", 1)
    assert os.environ["RANK"] == "1"


# the largest batch ---------------------------------------------------------------------------------------------------


def fake(most: int, tried: list[int], other: int = 2**62):
    def attempt(size: int) -> Measured:
        tried.append(size)
        if size >= other:
            return Measured("error", "fewer samples than a batch")
        return Measured("ok", first=1.0, memory=size) if size <= most else Measured("memory", f"{size} is too much")

    return attempt


@pytest.mark.parametrize(
    ("first", "most", "expected", "tries"),
    [
        (64, 300, 256, [64, 128, 256, 512]),
        (100, 127, 64, [64, 128]),
        (64, 5, 4, [64, 4, 16, 8]),
        (64, 1, 1, [64, 4, 1, 2]),
        (64, 63, 32, [64, 4, 16, 32]),
        (1, 1, 1, [1, 2]),
    ],
)
def test_the_largest_power_of_two_is_found_in_few_tries(first: int, most: int, expected: int, tries: list[int]) -> None:
    tried: list[int] = []
    told: list[str] = []
    found = batch.search(first, fake(most, tried), told.append)
    assert (found.batch, tried) == (expected, tries)
    assert found.measured.memory == expected
    assert found.above == f"{2 * expected}: {2 * expected} is too much"
    assert len(told) == len(tries)


def test_a_batch_larger_than_the_data_ends_the_search() -> None:
    found = batch.search(4, fake(2**62, [], other=32), print)
    assert (found.batch, found.above) == (16, "32: fewer samples than a batch")


def test_no_try_is_larger_than_the_largest() -> None:
    tried: list[int] = []
    assert batch.search(2**19, fake(2**62, tried), print).batch == max(tried) == batch.LARGEST


def test_a_training_that_fails_anyway_has_no_batch() -> None:
    with messages.raises(UsageError, "recipe/no-batch-training-fails", words="fewer samples than a batch"):
        batch.search(4, fake(0, [], other=4), print)
    with messages.raises(UsageError, "recipe/no-batch-fits", words="1 is too much"):
        batch.search(4, fake(0, []), print)


def test_what_else_depends_on_it_is_said() -> None:
    recipe = registry.find("digits")
    key = batch.key_of(recipe)
    words = " ".join(batch.depends(recipe, recipe.Config(), key, 256))
    assert key == "batch_size"
    assert "learning_rate is 0.003, chosen for a batch of 64" in words
    assert "0.006 (square root, for Adam) or 0.012 (linear, for SGD)" in words
    assert "--batch-size 512 --accumulate 2" in words
    assert batch.meaning(recipe, key) == "samples per optimizer step"
    (same,) = batch.depends(recipe, recipe.Config(), key, 64)
    assert same == "--batch-size is 64 already."
    recipe = registry.find("skeleton")
    (chosen,) = batch.depends(recipe, recipe.Config(), key, 64)
    assert chosen.startswith("--batch-size was not given")


@pytest.mark.parametrize(
    ("name", "key"),
    [("skeleton", "batch_size"), ("dungeon", "diffusion.batch_size"), ("yolo", "batch_size")],
)
def test_every_recipe_names_its_batch(name: str, key: str) -> None:
    assert batch.key_of(registry.find(name)).endswith(key.rpartition(".")[2])
