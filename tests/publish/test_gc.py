"""Collecting garbage: what a reference names stays, in every order of events; what cannot be known is not deleted."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from outlast.errors import CorruptCheckpoint, RemoteError, RemoteRefused, UsageError
from outlast.publish import dvc, gc, manifest, owners
from outlast.remote.folder import FolderRemote
from tests import messages
from tests.publish import making, model

DAY = 86400.0


def age(store: FolderRemote, days: float, prefix: str = "") -> None:
    """Let all objects be as old as this."""
    for path in store.root.rglob("*"):
        if path.is_file() and str(path.relative_to(store.root)).startswith(prefix):
            then = time.time() - days * DAY
            os.utime(path, (then, then))


def put(store: FolderRemote, folder: Path, name: str, data: bytes = b"x") -> None:
    (folder / "source").write_bytes(data)
    store.put_if_absent(name, folder / "source")


def names(store: FolderRemote) -> set[str]:
    return {entry.name for entry in store.list()}


@pytest.fixture
def store(tmp_path: Path) -> FolderRemote:
    return FolderRemote(tmp_path / "store")


def test_no_order_of_steps_loses_an_object() -> None:
    states, broken = model.explore(2, 1, 2)
    print(f"publish and collect: {states} states, {broken} broken")
    assert (states, broken) == (5809, 0)


@pytest.mark.slow
def test_no_order_of_steps_of_two_collections_loses_an_object() -> None:
    states, broken = model.explore(2, 2, 2)
    print(f"publish and two collections: {states} states, {broken} broken")
    assert (states, broken) == (59626, 0)


@pytest.mark.parametrize("safeguard", model.SAFEGUARDS)
def test_without_any_safeguard_an_object_is_lost(safeguard: str) -> None:
    _, broken = model.explore(2, 1, 2, without=safeguard)
    assert broken > 0


@pytest.mark.parametrize("collections", [0, 1])
def test_a_publisher_that_deletes_loses_an_object(collections: int) -> None:
    _, broken = model.explore(2, collections, 2, rollback=True)
    assert broken > 0


def test_what_manifests_name_stays_and_the_rest_goes_when_it_is_old(store: FolderRemote, tmp_path: Path) -> None:
    making.by_manifest(tmp_path, store)
    published = names(store)
    put(store, tmp_path, manifest.blob_name("0" * 64))
    put(store, tmp_path, "mine/notes.txt")
    age(store, 15)
    put(store, tmp_path, manifest.blob_name("1" * 64))
    roots = gc.roots_of(store, (), tmp_path / "git")

    found = gc.collect(store, roots, delete=False)
    assert [entry.name for entry in found.found] == [manifest.blob_name("0" * 64)]
    assert [entry.name for entry in found.young] == [manifest.blob_name("1" * 64)]
    assert (found.named, found.deleted) == (4, [])
    assert manifest.blob_name("0" * 64) in names(store)

    assert [entry.name for entry in gc.collect(store, roots, delete=True).deleted] == [manifest.blob_name("0" * 64)]
    assert names(store) == published | {"mine/notes.txt", manifest.blob_name("1" * 64)}
    assert making.wrong_with_manifest(store.root) is None


def test_what_branches_tags_and_pipelines_name_stays(store: FolderRemote, tmp_path: Path) -> None:
    server = making.server(tmp_path / "server")
    clone = making.clone(server, tmp_path / "clone")
    making.by_git(tmp_path, store, str(server), clone)
    kept = names(store)
    objects = {word: dvc.object_name(word * 32) for word in "abcdef8"}
    listing = dvc.object_name(f"{'9' * 32}.dir")
    for name in objects.values():
        put(store, tmp_path, name)
    put(store, tmp_path, listing, b'[{"md5": "%s", "relpath": "x"}]' % (b"a" * 32))
    (clone / "folder.dvc").write_text(f"outs:\n- md5: {'9' * 32}.dir\n  hash: md5\n  path: folder\n")
    (clone / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  s:\n    outs:\n    - path: p\n      hash: md5\n      md5: {'b' * 32}\n"
        f"    deps:\n    - path: q\n      hash: md5\n      md5: {'8' * 32}\n"
    )
    making.git(clone, "add", ".")
    making.git(clone, "commit", "--quiet", "-m", "pointers")
    (clone / "dvc.lock").unlink()
    (clone / "old.dvc").write_text(f"outs:\n- md5: {'c' * 32}\n  path: old\n")
    making.git(clone, "add", "-A")
    making.git(clone, "commit", "--quiet", "-m", "without the lock")
    making.git(clone, "tag", "v1")
    making.git(clone, "push", "--quiet", "origin", "v1")
    (clone / "mine.dvc").write_text(f"outs:\n- md5: {'d' * 32}\n  path: mine\n")
    making.git(clone, "add", "-A")
    making.git(clone, "commit", "--quiet", "-m", "on no server")
    age(store, 15)

    found = gc.collect(store, gc.roots_of(store, [str(server)], tmp_path / "git"), delete=True)
    assert {entry.name for entry in found.deleted} == {objects[word] for word in "def"}
    assert names(store) == kept | {objects[word] for word in "abc8"} | {listing}
    assert making.wrong_with_branch(server, store.root) is None


def test_the_store_knows_its_git_repositories(store: FolderRemote, tmp_path: Path) -> None:
    server = making.server(tmp_path / "server")
    making.by_git(tmp_path, store, str(server), making.clone(server, tmp_path / "clone"))
    put(store, tmp_path, dvc.object_name("0" * 32))
    age(store, 15)
    assert owners.owners_in(store) == [str(server)]
    found = gc.collect(store, gc.roots_of(store, (), tmp_path / "git"), delete=True)
    assert [entry.name for entry in found.deleted] == [dvc.object_name("0" * 32)]

    server.rename(tmp_path / "moved")
    put(store, tmp_path, dvc.object_name("0" * 32))
    age(store, 15)
    with pytest.raises(RemoteError, match="server"):
        gc.collect(store, gc.roots_of(store, (), tmp_path / "more"), delete=True)
    assert dvc.object_name("0" * 32) in names(store)


def test_what_was_put_again_or_named_meanwhile_stays(store: FolderRemote, tmp_path: Path) -> None:
    again, named, gone = (dvc.object_name(word * 32) for word in "abc")
    for name in (again, named, gone, dvc.object_name("d" * 32)):
        put(store, tmp_path, name)
    age(store, 15)
    asked = []

    def roots() -> set[str]:
        asked.append(1)
        if len(asked) == 1:
            return {dvc.object_name("d" * 32)}
        put(store, tmp_path, again)
        (store.root / gone).unlink()
        return {dvc.object_name("d" * 32), named}

    found = gc.collect(store, roots, delete=True)
    assert found.deleted == []
    assert {entry.name for entry in found.kept} == {again, named, gone}
    assert {again, named} <= names(store)


def test_references_that_cannot_be_read_end_it(store: FolderRemote, tmp_path: Path) -> None:
    making.by_manifest(tmp_path, store)
    put(store, tmp_path, manifest.blob_name("0" * 64))
    put(store, tmp_path, manifest.reference_name("torn"), b"{")
    age(store, 15)
    before = names(store)
    with pytest.raises(CorruptCheckpoint, match="torn"):
        gc.collect(store, gc.roots_of(store, (), tmp_path / "git"), delete=True)
    assert names(store) == before


@pytest.mark.parametrize(
    ("days", "grace", "kind", "words"),
    [
        (15, 3600.0, UsageError, messages.says("publish/gc-grace", seconds=3600)),
        (15, float("nan"), UsageError, messages.says("publish/gc-grace", seconds="nan")),
        (-1, gc.GRACE, RemoteRefused, messages.says("publish/gc-future")),
        (15, gc.GRACE, UsageError, messages.says("publish/gc-no-reference", count=1)),
    ],
)
def test_what_is_not_safe_is_refused(
    store: FolderRemote, tmp_path: Path, days: float, grace: float, kind: type[Exception], words: messages.Message
) -> None:
    put(store, tmp_path, dvc.object_name("0" * 32))
    age(store, days)
    with messages.raises(kind, words):
        gc.collect(store, lambda: set(), delete=True, grace=grace)
    assert dvc.object_name("0" * 32) in names(store)


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("writes", "is only read"),
        ("conditional_delete", "has no deletion that is safe beside a publisher at work"),
        ("freshens", "does not renew the age of a file that is published again"),
    ],
)
def test_a_store_without_conditions_is_not_collected(
    store: FolderRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, why: str
) -> None:
    put(store, tmp_path, dvc.object_name("0" * 32))
    age(store, 15)
    monkeypatch.setattr(FolderRemote, "capabilities", replace(store.capabilities, **{lacking: False}))
    with messages.raises(RemoteRefused, "publish/gc-not-safely", why=why):
        gc.collect(store, lambda: {"x"}, delete=True)
    assert dvc.object_name("0" * 32) in names(store)


@pytest.mark.parametrize(("days", "deleted"), [(13.9, 0), (14.1, 1)])
def test_what_was_put_within_two_weeks_stays(store: FolderRemote, tmp_path: Path, days: float, deleted: int) -> None:
    put(store, tmp_path, dvc.object_name("0" * 32))
    age(store, days)
    found = gc.collect(store, lambda: {"x"}, delete=True)
    assert (len(found.deleted), len(found.young)) == (deleted, 1 - deleted)


LISTING = f"{'9' * 32}.dir"


@pytest.mark.parametrize(
    ("path", "text", "listing", "kind"),
    [
        ("a.dvc", "{", None, CorruptCheckpoint),
        ("a.dvc", "outs: 3\n", None, CorruptCheckpoint),
        ("a.dvc", "outs:\n- md5: ../../publications/x\n", None, CorruptCheckpoint),
        ("dvc.lock", "{", None, CorruptCheckpoint),
        ("dvc.lock", "stages: {a: 3}\n", None, CorruptCheckpoint),
        ("a.dvc", f"outs:\n- md5: {LISTING}\n", None, RemoteRefused),
        ("a.dvc", f"outs:\n- md5: {LISTING}\n", b"{", CorruptCheckpoint),
        ("a.dvc", f"outs:\n- md5: {LISTING}\n", b'[{"relpath": "x"}]', CorruptCheckpoint),
    ],
)
def test_a_pointer_that_cannot_be_read_ends_it(
    store: FolderRemote, tmp_path: Path, path: str, text: str, listing: bytes | None, kind: type[Exception]
) -> None:
    """What it names is not known, so nothing is garbage."""
    server = making.server(tmp_path / "server")
    clone = making.clone(server, tmp_path / "clone")
    (clone / path).write_text(text)
    (clone / "whole.dvc").write_text(f"outs:\n- md5: {'1' * 32}\n")
    making.git(clone, "add", ".")
    making.git(clone, "commit", "--quiet", "-m", "pointers")
    making.git(clone, "push", "--quiet", "origin", "main")
    for word in "01":
        put(store, tmp_path, dvc.object_name(word * 32))
    if listing is not None:
        put(store, tmp_path, dvc.object_name(LISTING), listing)
    age(store, 15)
    before = names(store)
    with pytest.raises(kind, match=rf"{path}|{LISTING[2:]}"):
        gc.collect(store, gc.roots_of(store, [str(server)], tmp_path / "git"), delete=True)
    assert names(store) == before


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'{"git": 3}', b'{"git": "https://user:password@host/x"}', owners.owner_of("https://host/x")[1]],
)
def test_an_owner_that_is_none(store: FolderRemote, tmp_path: Path, data: bytes) -> None:
    put(store, tmp_path, f"{owners.OWNERS}x.json", data)
    with messages.raises(CorruptCheckpoint, "publish/names-no-git-repository"):
        owners.owners_in(store)


@pytest.mark.parametrize("folder", ["a\u2028b", "a\x85b", "a\x1cb", "a\tb", "a b"])
def test_a_pointer_in_a_folder_with_an_odd_name_keeps_its_object(
    store: FolderRemote, tmp_path: Path, folder: str
) -> None:
    """Some characters end a line for Python and none for git."""
    server = making.server(tmp_path / "server")
    clone = making.clone(server, tmp_path / "clone")
    (clone / folder).mkdir()
    (clone / folder / "x.dvc").write_text(f"outs:\n- md5: {'a' * 32}\n  size: 1\n  path: x\n")
    making.git(clone, "add", ".")
    making.git(clone, "commit", "--quiet", "-m", "more")
    making.git(clone, "push", "--quiet", "origin", "main")
    put(store, tmp_path, dvc.object_name("a" * 32))
    age(store, 15)
    found = gc.collect(store, gc.roots_of(store, [str(server)], tmp_path / "git"), delete=True)
    assert (found.named, found.deleted) == (1, [])
