"""A training that is watched over: what its end means, and how it is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from outlast.launch import keeper
from outlast.launch.keeper import DOWN, Job, Keeper
from outlast.launch.process import children


@pytest.fixture(autouse=True)
def _signals():
    """A keeper takes the signals of its process."""
    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def end_of(folder: Path, script: str, *, seconds: float = 20.0, grace: float = 1.0, nodes: bool = False) -> dict:
    job = Job(["sh", "-c", script], str(folder), seconds, grace, nodes)
    Keeper(folder, job).run()
    return json.loads((folder / "end.json").read_text())


@pytest.mark.parametrize(
    ("script", "nodes", "word", "code"),
    [
        ("exit 0", False, "completed", 0),
        ("exit 3", False, "failed", 3),
        ("echo 75 > exit", False, "completed", 75),
        ("echo 75 > exit; exit 1", True, "completed", 75),
        ("echo 8 > exit; exit 137", True, "failed", 8),
        ("kill -9 $$", False, "lost", 137),
        ("exit 1", True, "lost", 1),
        ("echo 999 > exit; exit 1", False, "failed", 1),
        ("echo nonsense > exit", False, "completed", 0),
    ],
)
def test_what_an_end_means(tmp_path: Path, script: str, nodes: bool, word: str, code: int) -> None:
    found = end_of(tmp_path, script, nodes=nodes)
    assert (found["word"], found["exit"]) == (word, code)


def test_what_an_earlier_start_left_does_not_count(tmp_path: Path) -> None:
    """A job that Slurm starts again runs in the same folder."""
    for name in ("exit", "exit.1", "stop"):
        (tmp_path / name).write_text("75")
    found = end_of(tmp_path, "kill -9 $$")
    assert (found["word"], found["exit"]) == ("lost", 137)
    assert not list(tmp_path.glob("exit*"))
    assert not (tmp_path / "stop").exists()


def test_one_process_gets_a_signal_and_several_nodes_a_file(tmp_path: Path) -> None:
    loop = "while sleep 0.05; do [ -e stop ] && echo 75 > exit && exit 0; done"
    found = end_of(tmp_path, f"trap 'echo 5 > exit; exit 0' TERM; {loop}", seconds=8.0, grace=4.0, nodes=True)
    assert (found["word"], found["exit"]) == ("completed", 75)
    found = end_of(tmp_path, f"trap 'echo 0 > exit; exit 0' TERM; {loop}", seconds=8.0, grace=4.0)
    assert (found["word"], found["exit"]) == ("completed", 0)


def test_the_machine_goes_down(tmp_path: Path) -> None:
    found = end_of(tmp_path, "trap 'echo 75 > exit; exit 0' TERM; kill -TERM $PPID; while sleep 0.05; do :; done")
    assert (found["word"], found["message"], found["exit"]) == ("completed", DOWN, 75)


def test_a_training_that_does_not_stop_is_killed_at_its_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    found = end_of(tmp_path, "trap '' TERM; while :; do sleep 0.1; done", seconds=4.0, grace=0.5)
    assert (found["word"], found["exit"]) == ("timed-out", 137)
    assert 4.0 <= time.monotonic() - began < 20


def test_children_of_a_process(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    try:
        assert child in children(os.getpid())
        assert children(child) == []
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert child not in children(os.getpid())


@pytest.mark.parametrize(("word", "least"), [("", 0.6), ("now", 0.0)])
def test_a_cancelled_training_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, least: float
) -> None:
    monkeypatch.setattr(keeper, "SAVING", 0.6)
    began = time.monotonic()
    script = f"trap '' TERM; printf '{word}' > new; mv new cancel; while :; do sleep 0.1; done"
    found = end_of(tmp_path, script, seconds=60.0)
    assert (found["word"], found["exit"]) == ("cancelled", 137)
    assert least <= time.monotonic() - began < 40, "long before its limit"


def test_the_end_of_a_training_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "0.2"]) as process:
        began = time.monotonic()
        keeper._wait_for(process, 60.0)
        assert 0.1 < time.monotonic() - began < 30
    with subprocess.Popen(["sleep", "30"]) as process:
        began = time.monotonic()
        keeper._wait_for(process, 0.2)
        assert 0.2 <= time.monotonic() - began < 20
        monkeypatch.delattr(os, "pidfd_open")  # as on a Mac
        waited: list[float] = []
        monkeypatch.setattr(keeper.time, "sleep", waited.append)
        keeper._wait_for(process, 0.3)
        assert waited == [0.3]
        process.kill()
