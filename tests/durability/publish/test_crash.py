"""Publishers that are killed, lose power, race, or lack one safeguard: what is visible is complete.

pytest tests/durability/publish -m "slow or not slow" -s     prints the numbers of docs/log.md
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outlast.errors import PublishConflict, PublishFailed, RemoteUnavailable
from outlast.publish import fetching
from outlast.remote.folder import FolderRemote
from tests.conftest import REPOSITORY
from tests.durability.publish import publishers, sweep
from tests.publish import making


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world with a run's files and an empty store."""
    monkeypatch.setenv("HOME", str(tmp_path))
    world = tmp_path / "template"
    making.plan(world / "run")
    (world / "store").mkdir()
    return world


@pytest.fixture
def hosted(bare: Path) -> Path:
    """The same with a git server and the user's clone; the world's place is part of the clone's configuration."""
    making.server(bare / "server.git")
    making.clone(bare / "server.git", bare / "tree")
    making.git(bare / "tree", "remote", "set-url", "origin", "../server.git")
    return bare


@pytest.mark.parametrize("lose", [False, True])
def test_killed_before_each_operation(bare: Path, tmp_path: Path, lose: bool) -> None:
    names = sweep.operations(publishers.manifest, bare, tmp_path)
    points = range(1, len(names) + 1)
    found = sweep.sweep(publishers.manifest, publishers.wrong_with_manifest, bare, tmp_path, points, lose=lose)
    print(f"\nmanifest, unsynced bytes {'lost' if lose else 'kept'}: {len(points)} points, {len(found)} wrong")
    assert len(points) > 40
    assert found == []


def _of_branch(hosted: Path, tmp_path: Path, stride: int, *, lose: bool) -> list[str]:
    names = sweep.operations(publishers.branch, hosted, tmp_path)
    points = range(1, len(names) + 1, stride)
    found = sweep.sweep(publishers.branch, publishers.wrong_with_branch, hosted, tmp_path, points, lose=lose)
    kept = "lost" if lose else "kept"
    print(f"\nbranch, unsynced bytes {kept}: {len(points)} of {len(names)} points, {len(found)} wrong")
    return found


def test_killed_at_some_operations_with_a_branch(hosted: Path, tmp_path: Path) -> None:
    assert _of_branch(hosted, tmp_path, 11, lose=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("lose", [False, True])
def test_killed_before_each_operation_with_a_branch(hosted: Path, tmp_path: Path, lose: bool) -> None:
    assert _of_branch(hosted, tmp_path, 1, lose=lose) == []


def test_the_originals_order_fails_the_sweep(hosted: Path, tmp_path: Path) -> None:
    names = sweep.operations(publishers.naive, hosted, tmp_path)
    points = range(1, len(names) + 1)
    found = sweep.sweep(publishers.naive, publishers.wrong_with_branch, hosted, tmp_path, points, lose=True)
    assert any("published again: train/weights" in each for each in found)
    assert any("the second publication fails" in each for each in found)
    assert any("the user's repository was written" in each for each in found)


def _mutant(publisher, bare: Path, tmp_path: Path, *, lose: bool) -> list[str]:
    points = range(1, len(sweep.operations(publisher, bare, tmp_path)) + 1)
    return sweep.sweep(publisher, publishers.wrong_with_manifest, bare, tmp_path, points, lose=lose)


def test_mutant_reference_first_is_caught(bare: Path, tmp_path: Path) -> None:
    found = _mutant(publishers.reference_first, bare, tmp_path, lose=False)
    assert any("has no whole object" in each and "again" not in each for each in found)


def test_mutant_exists_only_is_caught(bare: Path, tmp_path: Path) -> None:
    found = _mutant(publishers.exists_only, bare, tmp_path, lose=False)
    assert any("published again: " in each and "has no whole object" in each for each in found)


def test_mutant_without_fsync_is_caught(bare: Path, tmp_path: Path) -> None:
    found = _mutant(publishers.unsynced, bare, tmp_path, lose=True)
    assert any("has no whole object" in each for each in found)
    assert _mutant(publishers.unsynced, bare, tmp_path, lose=False) == [], "without a power cut nothing is lost"


def test_mutant_that_trusts_the_reply_is_caught(bare: Path, tmp_path: Path) -> None:
    """A reply that says no more than that the connection is gone, after the reference was created."""

    class Lost(FolderRemote):
        def put_if_absent(self, name: str, file: Path) -> bool:
            if name.startswith("publications"):
                return True  # a proxy has answered, and the server knows nothing of it
            return super().put_if_absent(name, file)

    world = sweep.fresh(bare, tmp_path)
    with publishers.trusting():
        publishers.manifest(world, Lost(world.store))
    assert not sweep.is_visible(world), "the mutant says visible, and nothing is"
    with pytest.raises(PublishFailed):
        publishers.manifest(world, Lost(world.store))


def test_mutant_that_deletes_on_failure_is_caught(bare: Path, tmp_path: Path) -> None:
    world = sweep.fresh(bare, tmp_path)
    store = FolderRemote(world.store)
    publishers.manifest(world)
    publishers.deleting(store, world, RemoteUnavailable("503"))
    assert "has no whole object" in str(publishers.wrong_with_manifest(world)), "the mutant breaks what is published"
    world = sweep.fresh(bare, tmp_path)
    publishers.manifest(world)
    other = making.plan(world.root / "other", {**making.FILES, "README.md": b"another"})
    with pytest.raises(PublishConflict):
        making.by_manifest(world.root / "other", FolderRemote(world.store), other)
    assert publishers.wrong_with_manifest(world) is None, "ours deletes nothing"


def test_mutant_in_the_users_objects_is_caught(hosted: Path, tmp_path: Path) -> None:
    world = sweep.fresh(hosted, tmp_path)
    before = making.fingerprint(world.tree)
    publishers.in_the_users_objects(world)
    assert making.fingerprint(world.tree) != before
    world = sweep.fresh(hosted, tmp_path)
    before = making.fingerprint(world.tree)
    publishers.branch(world)
    assert making.fingerprint(world.tree) == before


def _race(world: sweep.World, seed: int, publishers_: int = 4) -> None:
    """Several publishers of the same bytes; half of them are killed at random."""
    chance, children = random.Random(seed), []
    for number in range(publishers_):
        child = os.fork()
        if not child:
            signal.alarm(60)
            try:
                store = FolderRemote(world.store)
                making.by_manifest(world.root / f"run{number}", store)
            finally:
                os._exit(0)
        children.append(child)
    for child in children[::2]:
        time.sleep(chance.random() * 0.01)
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    assert publishers.wrong_with_manifest(world) is None


def _races(bare: Path, tmp_path: Path, rounds: int) -> None:
    for seed in range(rounds):
        world = sweep.fresh(bare, tmp_path)
        _race(world, seed)
        publishers.manifest(world)
        assert publishers.wrong_with_manifest(world) is None
        assert sweep.is_visible(world)
    print(f"\n{rounds} races of 4 publishers, {2 * rounds} kills: 0 incomplete")


def test_four_publishers_of_the_same_bytes(bare: Path, tmp_path: Path) -> None:
    _races(bare, tmp_path, 8)


@pytest.mark.slow
def test_four_publishers_a_hundred_times(bare: Path, tmp_path: Path) -> None:
    _races(bare, tmp_path, 100)


@pytest.mark.parametrize("kind", ["manifest", "branch"])
def test_of_two_publishers_of_one_name_one_wins(hosted: Path, tmp_path: Path, kind: str) -> None:
    world = sweep.fresh(hosted, tmp_path)
    for turn in range(4):
        children = []
        for number in range(2):
            child = os.fork()
            if not child:
                signal.alarm(60)
                code = 1
                try:
                    folder = world.root / f"turn{turn}-{number}"
                    made = making.plan(folder, {**making.FILES, "README.md": b"%d" % number}, f"turn{turn}")
                    store = FolderRemote(world.store)
                    if kind == "branch":
                        making.by_git(folder, store, str(world.server), plan=made)
                    else:
                        making.by_manifest(folder, store, made)
                    code = 0
                except PublishConflict:
                    code = 7
                finally:
                    os._exit(code)
            children.append(child)
        assert sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == [0, 7]
    if kind == "manifest":
        assert fetching.names_in(FolderRemote(world.store)) == [f"turn{turn}" for turn in range(4)]


def _of_tree(hosted: Path, tmp_path: Path, stride: int, *options: str) -> dict:
    """The sweep of processes: ours, git and the git server; see tree.py for the options.

    The server fsyncs, as a service does. By its default git does not: a power cut may then leave an empty object in the
    server, which only its owner can repair.
    """
    making.git(hosted / "server.git", "config", "core.fsync", "all")
    making.git(hosted / "server.git", "config", "http.receivepack", "true")
    shim = tmp_path / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.durability.publish.tree", hosted, tmp_path, str(stride), *options],
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print("\nprocesses", *options, {**found, "wrong": len(found["wrong"])})
    return found


WAYS = [
    pytest.param((), id="all"),
    pytest.param(("lose",), id="all-lose"),
    pytest.param(("alone",), id="alone"),
    pytest.param(("http",), id="http"),
    pytest.param(("http", "lose"), id="http-lose"),
    pytest.param(("http", "alone"), id="http-alone"),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("options", WAYS)
def test_killed_with_git_and_the_server(hosted: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    found = _of_tree(hosted, tmp_path, 1, *options)
    # One `git fast-import` builds the commit: 91 calls without the server's own, 178 when each file had a process.
    assert found["points"] > (85 if "http" in options else 100)
    assert 0 < found["visible"] < found["points"], "killed before the branch was there, and after"
    assert found["wrong"] == []


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize(
    ("options", "stride"), [(("lose",), 61), (("alone",), 113), (("http", "lose"), 41), (("http", "alone"), 45)]
)
def test_killed_with_git_and_the_server_at_some_calls(
    hosted: Path, tmp_path: Path, options: tuple[str, ...], stride: int
) -> None:
    found = _of_tree(hosted, tmp_path, stride, *options)
    assert found["points"] >= 3, "the first call, one in the middle and one near the end"
    assert found["wrong"] == []
