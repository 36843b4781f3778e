"""A collection of garbage that is killed at each of its operations, and one that does not read the references again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from outlast.publish import dvc, gc
from outlast.publish.gitcommand import Git
from outlast.remote.folder import FolderRemote
from tests.durability.publish import publishers, sweep
from tests.publish import making
from tests.publish.test_gc import age, put

GARBAGE = [dvc.object_name(word * 32) for word in "abc"]


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world with a branch, and old objects in the store that nothing names."""
    monkeypatch.setenv("HOME", str(tmp_path))
    world = sweep.World(tmp_path / "template")
    making.clone(making.server(world.server), world.tree)
    making.git(world.tree, "remote", "set-url", "origin", "../server.git")
    publishers.branch(world)
    for name in GARBAGE:
        put(FolderRemote(world.store), tmp_path, name)
    age(FolderRemote(world.store), 15)
    return world.root


def collect(world: sweep.World) -> None:
    """`outlast publish --gc STORE --git URL --delete`; the URL is that of this copy of the world."""
    store = FolderRemote(world.store)
    for entry in list(store.list("owners/")):
        (world.store / entry.name).unlink()
    gc.collect(store, gc.roots_of(store, [str(world.server)], world.run / "gc"), delete=True)


def wrong(world: sweep.World) -> str | None:
    """What is published must be whole; `sweep` asks after each kill, and after the collection that follows."""
    return making.wrong_with_branch(world.server, world.store)


def test_a_collection_that_is_killed_leaves_what_is_published(published: Path, tmp_path: Path) -> None:
    names = sweep.operations(collect, published, tmp_path)
    assert sum("unlink" in name or "rename" in name or "replace" in name for name in names) >= len(GARBAGE)
    world = sweep.World(tmp_path / "world")
    assert not any((world.store / name).exists() for name in GARBAGE)
    found = sweep.sweep(collect, wrong, published, tmp_path, range(1, len(names) + 1), lose=False)
    print(f"\ncollection: {len(names)} points, {len(found)} wrong")
    assert len(names) >= 4
    assert found == []
    assert not any((world.store / name).exists() for name in GARBAGE), "the last one was finished by the second"


def test_mutant_gc_without_fetch_is_caught(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that reads the references of a clone loses what was published since that was fetched."""
    world = sweep.World(published)
    store = FolderRemote(world.store)
    roots = gc.roots_of(store, [str(world.server)], world.run / "gc")
    roots()  # a clone of all references, from before the second publication
    later = making.plan(world.run / "later", {**making.FILES, "train/weights/last.safetensors": b"later"}, "later")
    making.by_git(world.run / "later", store, str(world.server), plan=later)
    new = {dvc.object_name(file.md5) for file in later.files if file.path.endswith("last.safetensors")}
    age(store, 15)
    assert new <= roots(), "ours fetches"
    assert new.isdisjoint(entry.name for entry in gc.collect(store, roots, delete=False).found)

    clone = next((world.run / "gc").glob("*/repository"))
    making.git(clone, "update-ref", "-d", "refs/heads/later")
    real = Git.run

    def run(self: Git, *words: str | Path, **options: object) -> bytes:
        return b"" if words[0] == "fetch" else real(self, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Git, "run", run)
    deleted = gc.collect(store, roots, delete=True, clock=time.time).deleted
    assert new <= {entry.name for entry in deleted}, "the mutant deletes what a branch names"
