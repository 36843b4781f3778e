"""A remote that somebody has changed by hand, that cannot be read in part, or that is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.folders import place, steps, walk
from tests.remote.remotes import Distant, Watched, blobs, newest, push_all, pusher

from outlast.checkpoint import Retention
from outlast.errors import CorruptCheckpoint, ObjectConflict, RemoteRefused, RemoteUnavailable, UsageError
from outlast.folder import copying
from outlast.remote import carry
from outlast.remote.address import open_remote
from outlast.remote.base import ListingIncomplete
from outlast.remote.folder import FolderRemote
from outlast.remote.gather import bring_home
from outlast.remote.place import Place
from outlast.remote.revision import PushedRun


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run at step 8, with checkpoints at 4, 6 and 8."""
    walk(tmp_path / "home", stop=8)
    return tmp_path / "home"


@pytest.fixture
def remote(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "remote")


def closed(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let these folders be ones that this user may not look into; root may look into all."""
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) in paths:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize("damage", ["all gone", "one gone", "one cut"])
def test_what_was_deleted_or_cut_there_is_pushed_again(
    home: Path, remote: Watched, tmp_path: Path, damage: str
) -> None:
    push_all(home, remote)
    before = blobs(remote.root)
    largest = max((remote.root / "r/blobs").iterdir(), key=lambda path: path.stat().st_size)
    if damage == "all gone":
        shutil.rmtree(remote.root / "r/blobs")
    elif damage == "one gone":
        largest.unlink()
    else:
        os.truncate(largest, 3)
    said = list(carry.push(place(home), remote))
    assert any("were deleted or changed there" in sentence for sentence in said)
    assert blobs(remote.root) == before
    assert bring_home(place(tmp_path / "new"), [], [PushedRun(remote, "r")]).rejected == []
    assert steps(tmp_path / "new") == [4, 6, 8]


def test_an_undamaged_remote_gets_nothing_twice(home: Path, remote: Watched) -> None:
    push_all(home, remote)
    remote.put.clear()
    assert list(carry.push(place(home), remote)) == []
    assert [name for name in remote.put if "/blobs/" in name] == []


def test_a_blob_that_a_service_does_not_list_yet_is_not_lost(
    home: Path, remote: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_all(home, remote)
    late = max((remote.root / "r/blobs").iterdir(), key=lambda path: path.stat().st_size).name
    listed = FolderRemote.list
    monkeypatch.setattr(
        FolderRemote, "list", lambda self, prefix="": (e for e in listed(self, prefix) if not e.name.endswith(late))
    )
    again = pusher(home, remote)
    again.push()
    assert again.complaints == []
    assert sorted(newest(remote.root)["checkpoints"]) == ["step-00000004", "step-00000006", "step-00000008"]
    again.close()


def test_a_pull_of_which_nothing_verifies_is_an_error(home: Path, remote: Watched, tmp_path: Path) -> None:
    push_all(home, remote)
    manifests = [files for each in newest(remote.root)["checkpoints"].values() for files in [each["files"]]]
    for files in manifests:
        for name, pieces in files.items():
            if name.endswith("MANIFEST.json"):
                (remote.root / "r/blobs" / pieces[0][0]).write_bytes(b"x" * pieces[0][1])
    with pytest.raises(CorruptCheckpoint, match="Nothing was pulled"):
        carry.pull(place(tmp_path / "new"), remote)
    assert steps(tmp_path / "new") == []


def test_a_pull_of_a_run_without_checkpoints_is_an_error(home: Path, remote: Watched, tmp_path: Path) -> None:
    first = pusher(home, remote)
    first.push()
    first.close()
    with pytest.raises(CorruptCheckpoint, match="has no checkpoint yet"):
        carry.pull(place(tmp_path / "new"), remote)


def test_of_many_damaged_revisions_few_are_told(home: Path, remote: Watched) -> None:
    push_all(home, remote)
    top = newest(remote.root)["number"]
    for number in range(top + 1, top + 21):
        (remote.root / f"r/revisions/{number:08d}.json").write_text("x")
    found = PushedRun(remote, "r")
    assert found.revision is not None
    assert (found.revision.number, found.last, len(found.told)) == (top, top + 20, 4)
    assert found.told[-1].startswith("17 more")


def test_a_checkpoint_whose_folder_cannot_be_read_is_named_and_skipped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "remote/r"
    shutil.copytree(home / "r", copy)
    closed(monkeypatch, copy / "checkpoints/step-00000008")
    told = carry.pull(place(tmp_path / "new"), FolderRemote(tmp_path / "remote", writes=False))
    assert steps(tmp_path / "new") == [4, 6]
    assert any("step-00000008 cannot be read: Permission denied" in sentence for sentence in told)


def test_checkpoints_of_which_none_can_be_listed_are_no_empty_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, home / "r/checkpoints")
    with pytest.raises(CorruptCheckpoint, match="checkpoints cannot be read"):
        list(Place(FolderRemote(home), "r/").newest_first(passed=[]))


def test_a_listing_names_what_it_left_out_after_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/x", "b/x", "b/c/x", "d/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    closed(monkeypatch, tmp_path / "b/c", tmp_path / "d")
    found, remote = [], FolderRemote(tmp_path)
    with pytest.raises(ListingIncomplete) as caught:
        for entry in remote.list():
            found.append(entry.name)
    assert (sorted(found), sorted(caught.value.folders)) == (["a/x", "b/x"], ["b/c", "d"])
    assert [entry.name for entry in remote.list("a/")] == ["a/x"]
    with pytest.raises(RemoteRefused):
        list(FolderRemote(tmp_path / "d").list())


def test_a_listing_does_not_follow_a_link_in_its_prefix(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(RemoteRefused, match="link"):
        list(FolderRemote(tmp_path).list("link/x"))


def test_an_object_of_another_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r").mkdir()
    with (tmp_path / "r/a").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(ObjectConflict):
        FolderRemote(tmp_path / "r").put_if_absent("a", tmp_path / "file")


def test_a_root_that_leads_to_nothing_is_no_missing_object(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to(tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(RemoteRefused, match="link to what does not exist"):
        FolderRemote(tmp_path / "root").put_if_absent("a", tmp_path / "file")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3:/bucket/x", "s3://BUCKET"), ("gs:bucket", "gs://BUCKET"), ("me@host:runs", "sftp://"),
        ("host:/runs", "sftp://"), ("", "address"), ("  ", "address"), ("a\nb", "address"),
    ],
)  # fmt: skip
def test_what_looks_like_a_url_is_no_folder(address: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        open_remote(address)


@pytest.mark.parametrize("address", ["./s3:", "a/b:c", "runs of me", "/mnt/s3:/x"])
def test_a_folder_may_have_a_colon(address: str) -> None:
    assert isinstance(open_remote(address), FolderRemote)


def test_a_checkpoint_that_retention_does_not_keep_is_not_behind(home: Path, remote: Watched) -> None:
    pushing = pusher(home, remote, keep=Retention(last=2))
    pushing.push()
    assert pushing.wanted() == [8, 6]
    assert pushing.missing() == [6, 8]
    for step in (8, 6):
        pushing.push(step)
    assert (pushing.wanted(), pushing.missing()) == ([], [])
    pushing.close()


@pytest.mark.parametrize("address", ["./bucket", "file:///bucket"])
def test_a_remote_knows_its_address_as_it_was_typed(address: str) -> None:
    assert open_remote(address).typed == address


def test_without_room_for_what_is_sent_the_folder_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copying, "copy_scratch", full)
    with pytest.raises(RemoteUnavailable, match=rf"{home}/r/\.tmp-push-.*No space left on device") as caught:
        list(carry.push(place(home), Distant(tmp_path / "remote")))
    assert caught.value.reason == "No space left on device"
    assert [path.name for path in (home / "r").iterdir() if path.name.startswith(".tmp-")] == []


def test_a_revision_under_another_number_is_not_read(home: Path, remote: Watched) -> None:
    """Somebody has copied an old revision over the newest one, to go back."""
    push_all(home, remote)
    here = sorted((remote.root / "r/revisions").glob("*.json"))
    copied = here[-1].with_name("00000099.json")
    shutil.copy(here[-1], copied)
    pushed = PushedRun(remote, "r")
    assert f"{pushed.revision.number:08d}.json" == here[-1].name
    messages.said(pushed.told, "remote/revision-of-another-number", place=copied, number=int(here[-1].stem))
    assert pushed.last == 99, "the next one is written above it"
