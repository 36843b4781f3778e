"""The machine goes away while its run is pushed: an empty one always goes on from a whole checkpoint."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.remote.folder import FolderRemote
from outlast.remote.gather import bring_home
from outlast.remote.revision import PushedRun
from tests import processes
from tests.durability.crash import Counter, attempt
from tests.folders import place, walk
from tests.remote.remotes import blobs, needed, newest, push_all

STEPS = 200


def command(root: Path, remote: Path | str) -> list[str]:
    return [sys.executable, "-m", "tests.durability.followed", str(root), str(remote), str(STEPS)]


def arrays(root: Path) -> dict[str, bytes]:
    """The journal, and the arrays of the last checkpoint."""
    last = place(root).checkpoint(STEPS)
    found = [place(root).journal, *last.glob("*.safetensors")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def look(remote: Path, empty: Path) -> int:
    """What an empty machine would go on from; everything that comes verifies."""
    shutil.rmtree(empty, ignore_errors=True)
    told = bring_home(place(empty), [], [PushedRun(FolderRemote(remote), "r")]).told
    opened, damaged = CheckpointStore(place(empty)).open_newest()
    assert not damaged
    assert len(told) <= 1, told  # which step came, and nothing about damage
    return opened.checkpoint.step if opened else 0


def kills(tmp_path: Path, count: int) -> int:
    """Kill so many machines at random moments, each of which has nothing but the remote.

    Every run that ends is compared with the twin, and another one begins. Returns after how many kills an empty machine
    goes on from a later step than before.
    """
    home = Path(__file__).parents[2]
    twin = processes.run(command(tmp_path / "twin", ""), cwd=home)
    assert twin.returncode == 0, twin.stderr
    chance, killed, step, further, ended, remote = random.Random(5), 0, 0, 0, 0, tmp_path / "remote0"
    while killed < count or step:
        machine = tmp_path / "machine"
        shutil.rmtree(machine, ignore_errors=True)
        process = processes.start(command(machine, remote), cwd=home)
        process.stderr.readline()
        if killed < count:
            time.sleep(chance.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        found = look(remote, tmp_path / "empty")
        assert found >= step, killed
        if process.returncode == 0:
            assert arrays(machine) == arrays(tmp_path / "twin")
            assert arrays(tmp_path / "empty") == arrays(tmp_path / "twin")
            step, ended, remote = 0, ended + 1, tmp_path / f"remote{ended + 1}"
            continue
        assert process.returncode == -signal.SIGKILL, said
        killed, further, step = killed + 1, further + (found > step), found
    print(f"{killed} kills, {further} of them after something new was pushed; {ended} runs came to their end")
    assert ended
    return further


def test_six_kills(tmp_path: Path) -> None:
    assert kills(tmp_path, 6) >= 1


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    assert kills(tmp_path, 100) >= 30


@pytest.mark.parametrize("way", ["kill", "power"])
def test_every_third_point_of_a_push(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points(tmp_path, way, 3, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kill", "power"])
def test_every_point_of_a_push(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points(tmp_path, way, 1, monkeypatch)


def points(tmp_path: Path, way: str, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before every operation on the remote, in a push that replaces an older one; then pushed again."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    home, before, remote = tmp_path / "home", tmp_path / "before", tmp_path / "remote"
    walk(home, stop=8)
    push_all(home, FolderRemote(before))
    walk(home, stop=12)

    def push(root: Path) -> None:
        push_all(home, FolderRemote(root), attempt="cd")

    point = 1 - stride
    while True:
        point += stride
        shutil.rmtree(remote, ignore_errors=True)
        shutil.copytree(before, remote)
        counter = Counter(remote, point, power=way == "power", torn=True, seed=point)
        status = attempt(push, remote, "outlast", counter)
        assert not (tmp_path / "error.txt").exists(), (point, (tmp_path / "error.txt").read_text())
        assert look(remote, tmp_path / "empty") in (8, 10, 12), point
        push_all(home, FolderRemote(remote), attempt="ef")
        assert look(remote, tmp_path / "empty") == 12, point
        revisions = sorted((remote / "r/revisions").glob("*.json"))
        assert blobs(remote) >= needed(newest(remote)), point
        assert len(revisions) == 2, point
        assert blobs(remote) == set().union(*(needed(json.loads(path.read_text())) for path in revisions)), point
        if not os.WIFSIGNALED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert point > 60, "operations of it"
