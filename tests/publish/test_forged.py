"""Manifests that somebody has changed, and destinations that somebody has not meant."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlast.checkpoint.manifest import digest_of
from outlast.errors import CorruptCheckpoint, ObjectMissing, OutlastError, PublishFailed, RemoteRefused, UsageError
from outlast.folder import durable
from outlast.publish import contents, gc
from outlast.publish.destination import Destination, prepared
from outlast.publish.fetching import fetch
from outlast.remote.folder import FolderRemote
from tests import messages
from tests.folders import walk
from tests.publish import making


@pytest.fixture
def store(tmp_path: Path) -> FolderRemote:
    store = FolderRemote(tmp_path / "store")
    making.by_manifest(tmp_path, store)
    return store


def change(store: FolderRemote, how: Callable[[dict[str, Any]], object]) -> None:
    path = store.root / f"publications/{making.NAME}.json"
    record = json.loads(path.read_text())
    how(record)
    path.write_text(json.dumps(record))


CARD = "README.md"
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another name": lambda record: record.update(publication="another"),
    "the manifest": lambda record: record["files"].update({"MANIFEST.json": record["files"][CARD]}),
    "a file and a folder": lambda record: record["files"].update({"train": record["files"][CARD]}),
    "below a file": lambda record: record["files"].update({f"{CARD}/x": record["files"][CARD]}),
    "a long path": lambda record: record["files"].update({"/".join(["a"] * 3000): record["files"][CARD]}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_manifest_is_neither_fetched_nor_collected(store: FolderRemote, tmp_path: Path, what: str) -> None:
    change(store, CHANGES[what])
    with pytest.raises(CorruptCheckpoint) as caught:
        fetch(store, making.NAME, tmp_path / "got")
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "got").exists()
    with pytest.raises(CorruptCheckpoint):
        gc.roots_of(store, [], tmp_path / "git")()


def test_a_manifest_that_names_what_is_not_there_keeps_all(store: FolderRemote, tmp_path: Path) -> None:
    before = sorted(entry.name for entry in store.list())
    change(store, lambda record: record["files"][CARD].update(sha256="0" * 64))
    roots = gc.roots_of(store, [], tmp_path / "git")
    with pytest.raises(RemoteRefused, match="Nothing was deleted"):
        gc.collect(store, roots, delete=True, clock=lambda: time.time() + 100 * 86400.0)
    assert sorted(entry.name for entry in store.list()) == before


def test_names_that_a_file_system_takes_for_one_are_an_error(
    store: FolderRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outlast.publish import fetching

    monkeypatch.setattr(fetching.plain, "kind_of", lambda path: "file" if path.name == CARD else None)
    with pytest.raises(CorruptCheckpoint, match="another file"):
        fetch(store, making.NAME, tmp_path / "got")


def test_a_missing_publication_comes_with_those_there_are(store: FolderRemote, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match=making.NAME):
        fetch(store, "another", tmp_path / "got")


def test_an_unreadable_repository_is_named(store: FolderRemote, tmp_path: Path) -> None:
    with pytest.raises(RemoteRefused, match=f"^{tmp_path / 'none'} cannot be read"):
        gc.roots_of(store, [str(tmp_path / "none")], tmp_path / "git")()


@pytest.mark.parametrize("to", ["git", "dvc", "GIT+DVC", "git-dvc", "git+dcv", "gitdvc"])
def test_a_destination_that_is_nearly_git_is_no_folder(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"git\+dvc"):
        Destination(to).check()
    Destination(f"./{to}").check()
    (tmp_path / to).mkdir()
    Destination(to).check()


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_with_the_file_when_a_publication_comes(
    store: FolderRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "write_file", full)
    with pytest.raises(OutlastError, match=f"^{tmp_path / 'got'}/.*No space left on device"):
        fetch(store, making.NAME, tmp_path / "got")
    assert [path.name for path in tmp_path.iterdir() if "got" in path.name] == []


def test_a_full_disk_is_named_with_the_folder_when_a_publication_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(tmp_path / "runs", stop=4)
    monkeypatch.setattr(contents._Contents, "write", full)
    made = prepared(tmp_path / "runs/r", Destination(str(tmp_path / "to")), part="walk")
    with pytest.raises(PublishFailed, match=r"r/publish/.*No space left on device"), made:
        pass
    assert not (tmp_path / "to").exists()


def test_a_name_that_the_disk_does_not_take(store: FolderRemote, tmp_path: Path) -> None:
    making.by_manifest(tmp_path, store)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutlastError, match="cannot be written"):
        fetch(store, making.NAME, tmp_path / "file" / "got")


def test_a_checkpoint_of_no_time(tmp_path: Path) -> None:
    walk(tmp_path / "runs", stop=4)
    path = tmp_path / "runs/r/checkpoints/step-00000004/MANIFEST.json"
    found = json.loads(path.read_text())
    found["written"]["time"] = "yesterday"
    del found["digest"]
    path.write_text(json.dumps({**found, "digest": digest_of(found)}))
    with (
        messages.raises(CorruptCheckpoint, "publish/no-time", time="yesterday"),
        prepared(tmp_path / "runs/r", Destination("store"), part="walk"),
    ):
        pass
