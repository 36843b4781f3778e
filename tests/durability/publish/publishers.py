"""Ours, a naive publisher in the order of the original, and ours with one safeguard taken out each (mutants)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from outlast.errors import RemoteError
from outlast.folder import durable
from outlast.publish import dvc, transaction
from outlast.publish.git import GitReference
from outlast.publish.manifest import ManifestReference
from outlast.remote.base import Remote
from outlast.remote.folder import FolderRemote
from tests.durability.publish.sweep import World
from tests.publish import making


def manifest(world: World, store: Remote | None = None) -> None:
    """Ours, with a manifest."""
    store = store or FolderRemote(world.store)
    made = making.plan(world.run)
    transaction.publish(made, store, ManifestReference(store, "x", world.run / "scratch"), making.journal(world.run))


def branch(world: World, url: str = "") -> None:
    """Ours, with a branch; `url`: of the server, if it is not asked by its folder."""
    making.by_git(world.run, FolderRemote(world.store), url or str(world.server), world.tree)


def wrong_with_manifest(world: World) -> str | None:
    return making.wrong_with_manifest(world.store)


def wrong_with_branch(world: World) -> str | None:
    return making.wrong_with_branch(world.server, world.store)


def naive(world: World) -> None:
    """The original's order: DVC's copy, its `exists`, the branch in the user's clone, and a rollback that deletes."""
    made, pushed = making.plan(world.run), []
    try:
        for file in made.files:
            if file.is_large:
                place = world.store / dvc.object_name(file.md5)
                if not place.exists():
                    os.makedirs(place.parent, exist_ok=True)
                    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                    data = file.source.read_bytes()
                    os.write(descriptor, data[:100])
                    os.write(descriptor, data[100:])
                    os.close(descriptor)
                    pushed.append(place)
        making.git(world.tree, "checkout", "--quiet", "-b", made.name)
        for file in made.files:
            target = world.tree / made.folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.is_large:
                target.with_name(f"{target.name}.dvc").write_bytes(dvc.pointer(file, "outlast"))
            else:
                shutil.copy(file.source, target)
        making.git(world.tree, "add", "artifacts")
        making.git(world.tree, "commit", "--quiet", "-m", "publish")
        making.git(world.tree, "push", "--quiet", "origin", made.name)
    except Exception:
        for place in pushed:
            place.unlink()
        raise


class Reversed(transaction.Reference):
    """M1: the reference before the blobs."""

    def __init__(self, inner: transaction.Reference) -> None:
        self.inner = inner

    where = property(lambda self: self.inner.where)

    def blobs(self, plan):
        return self.inner.blobs(plan)

    def prepare(self, plan):
        identity = self.inner.prepare(plan)
        with contextlib.suppress(RemoteError):
            self.inner.create(lambda _name, _size: None)
        return identity

    def place(self, plan, file):
        return self.inner.place(plan, file)

    def create(self, progress):
        self.inner.create(progress)

    def read(self):
        return self.inner.read()

    def commands(self):
        return self.inner.commands()


def reference_first(world: World) -> None:
    store = FolderRemote(world.store)
    reference = Reversed(ManifestReference(store, "x", world.run / "scratch"))
    transaction.publish(making.plan(world.run), store, reference, making.journal(world.run))


class ExistsOnly(FolderRemote):
    """M2: written in place, and "present" means that it exists."""

    def put_if_absent(self, name: str, file: Path) -> bool:
        if name.startswith("publications"):
            return super().put_if_absent(name, file)
        path = self._path(name)
        if path.exists():
            return False
        durable.make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, file.read_bytes())
        os.fsync(descriptor)
        os.close(descriptor)
        return True


def exists_only(world: World) -> None:
    with mock.patch.object(transaction, "gate", return_value=None):
        manifest(world, ExistsOnly(world.store))


class Unsynced(FolderRemote):
    """M3: no fsync of the blobs."""

    def put_if_absent(self, name: str, file: Path) -> bool:
        if name.startswith("publications"):
            return super().put_if_absent(name, file)
        with mock.patch.object(os, "fsync", return_value=None):
            return super().put_if_absent(name, file)


def unsynced(world: World) -> None:
    manifest(world, Unsynced(world.store))


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """M4: the reply of the push is believed, and the reference not read back."""
    with mock.patch.object(
        transaction, "_read",
        lambda _reference, _plan, identity, _known, *, asked: identity if asked else None,
    ):  # fmt: skip
        yield


def deleting(store: FolderRemote, world: World, fails: Exception) -> None:
    """M5: what was sent is deleted when a later step fails."""
    made, sent = making.plan(world.run), []
    try:
        for name, file in ManifestReference(store, "x", world.run / "scratch").blobs(made).items():
            store.put_if_absent(name, file.source)
            sent.append(name)
        raise fails
    except RemoteError:
        for name in sent:
            store.delete_if_unchanged(name, store.stat(name).generation)


def in_the_users_objects(world: World) -> None:
    """M6: the commit is built in the user's repository."""
    real = GitReference._make_repository

    def make(self: GitReference) -> None:
        real(self)
        place = self._scratch / "repository"
        shutil.rmtree(place / "objects")
        (place / "objects").symlink_to(world.tree / ".git/objects")

    with mock.patch.object(GitReference, "_make_repository", make):
        branch(world)
