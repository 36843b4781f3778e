"""The folder driver: links, the system's errors, and places where nothing may be written."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest
from tests import messages

from outlast.errors import ObjectConflict, ObjectMissing, OutlastError, RemoteRefused, RemoteUnavailable
from outlast.remote.base import Pieces
from outlast.remote.folder import LOCK, FolderRemote


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"data")
    return tmp_path / "source"


def test_no_link_below_the_folder_is_followed(tmp_path: Path, source: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    root = tmp_path / "remote"
    root.mkdir()
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside/secret")
    (root / "gone").symlink_to(tmp_path / "outside/new")
    os.mkfifo(root / "fifo")
    (root / "folder").mkdir()
    remote = FolderRemote(root)
    for name in ("out/secret", "file", "gone", "fifo", "folder"):
        for ask in (
            lambda name=name: list(remote.get(name)),
            lambda name=name: remote.stat(name),
            lambda name=name: remote.put_if_absent(name, source),
            lambda name=name: remote.delete_if_unchanged(name, "1"),
        ):
            with pytest.raises(RemoteRefused, match=name.split("/")[0]):
                ask()
    assert list(remote.list()) == []
    assert sorted(os.listdir(tmp_path / "outside")) == ["secret"]
    assert (tmp_path / "outside/secret").read_bytes() == b"secret"


def test_the_folder_itself_may_be_a_link(tmp_path: Path, source: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "real")
    FolderRemote(tmp_path / "mount").put_if_absent("a/b", source)
    assert [entry.name for entry in FolderRemote(tmp_path / "real").list()] == ["a/b"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, RemoteRefused), (errno.EROFS, RemoteRefused), (errno.EIO, RemoteRefused),
        (errno.EPERM, RemoteRefused), (errno.ESTALE, RemoteUnavailable), (errno.ETIMEDOUT, RemoteUnavailable),
    ],
)  # fmt: skip
def test_the_systems_errors_are_permanent_or_transient(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    remote = FolderRemote(tmp_path / "remote")
    monkeypatch.setattr(os, "link", broken)
    with pytest.raises((RemoteRefused, RemoteUnavailable)) as caught:
        remote.put_if_absent("a/b", source)
    assert type(caught.value) is kind
    assert caught.value.reason == os.strerror(number)
    assert "remote/a/b" in str(caught.value)
    assert list((tmp_path / "remote/a").iterdir()) == [], "nothing is left of it"
    with pytest.raises(ObjectMissing):
        remote.stat("a/b")


def test_a_deletion_waits_for_a_process_that_renews_the_object(tmp_path: Path, source: Path) -> None:
    """Who finds the object there and relies on it holds the lock until the object is young again."""
    fcntl = pytest.importorskip("fcntl")
    remote, outcome = FolderRemote(tmp_path / "remote"), []
    remote.put_if_absent("a", source)
    (entry,) = remote.list()

    def delete() -> None:
        try:
            remote.delete_if_unchanged("a", entry.generation)
        except ObjectConflict as error:
            outcome.append(error)

    with (tmp_path / "remote" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        deleting = threading.Thread(target=delete)
        deleting.start()
        deleting.join(0.2)
        assert deleting.is_alive()
        os.utime(tmp_path / "remote/a", ns=(1, 1))
    deleting.join(20)
    assert [type(error) for error in outcome] == [ObjectConflict]
    assert b"".join(remote.get("a")) == b"data"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_folder_that_may_not_be_written(tmp_path: Path, source: Path) -> None:
    root = tmp_path / "remote"
    FolderRemote(root).put_if_absent("a", source)
    root.chmod(0o555)
    child = os.fork()
    if not child:  # root may write everywhere; nobody else may
        os.chdir(root)
        if os.geteuid() == 0:
            os.setuid(65534)
        remote, code = FolderRemote(Path()), 1
        try:
            remote.put_if_absent("b", Path("a"))
        except RemoteRefused as error:
            code = 0 if error.reason == os.strerror(errno.EACCES) and b"".join(remote.get("a")) == b"data" else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    root.chmod(0o755)
    assert sorted(os.listdir(root)) == ["a"]


def test_an_object_of_a_machine_whose_clock_is_ahead_becomes_younger_all_the_same(tmp_path: Path, source: Path) -> None:
    remote = FolderRemote(tmp_path / "remote")
    remote.put_if_absent("a", source)
    ahead = time.time_ns() + 10**12
    os.utime(tmp_path / "remote/a", ns=(ahead, ahead))
    before = remote.stat("a")
    for _ in range(2):
        assert remote.put_if_absent("a", source) is False
        after = remote.stat("a")
        assert after.modified >= before.modified
        assert after.generation != before.generation
        before = after


def test_unfinished_files_of_killed_writers_are_deleted_after_a_day(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "remote/a"
    folder.mkdir(parents=True)
    old, young, other = (folder / name for name in (".tmp-old", ".tmp-young", "old"))
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (1, 1))
    FolderRemote(tmp_path / "remote").put_if_absent("a/b", source)
    assert sorted(os.listdir(folder)) == [".tmp-young", "b", "old"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a place where nobody can make a folder")
def test_a_place_that_cannot_be_made_is_no_missing_object(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with messages.raises(RemoteRefused, "remote/cannot-be-made", place="/proc/outlast/a") as caught:
        FolderRemote(Path("/proc/outlast")).put_if_absent("a", tmp_path / "file")
    assert not isinstance(caught.value, ObjectMissing)


def test_pieces_are_an_object_as_a_file_is(tmp_path: Path) -> None:
    remote, data = FolderRemote(tmp_path / "remote"), b"x" * 30
    (tmp_path / "file").write_bytes(data)
    thirty = Pieces(30, lambda: iter([data[:10], data[10:]]))
    assert remote.put_if_absent("a", thirty) is True
    assert remote.put_if_absent("a", tmp_path / "file") is False
    assert remote.put_if_absent("a", thirty) is False
    with pytest.raises(ObjectConflict, match="another file than what was to be written"):
        remote.put_if_absent("a", Pieces(30, lambda: iter([b"y" * 30])))
    assert b"".join(remote.get("a")) == data


@pytest.mark.parametrize("data", [b"", b"x" * 29, b"x" * 31])
def test_pieces_that_are_more_or_less_than_they_should_be_write_nothing(tmp_path: Path, data: bytes) -> None:
    remote = FolderRemote(tmp_path / "remote")
    with pytest.raises(OutlastError):
        remote.put_if_absent("a", Pieces(30, lambda: iter([data])))
    assert [path.name for path in (tmp_path / "remote").iterdir()] == []


def test_an_object_of_another_user_is_put_again(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file of somebody else nobody may set the time, nor write to the lock: two people share a store."""
    remote = FolderRemote(tmp_path / "remote")
    remote.put_if_absent("a", source)
    then = time.time() - 1000
    os.utime(tmp_path / "remote/a", (then, then))
    before, opened = remote.stat("a"), os.open

    def owned(path: object, flags: int, *rest: int, **more: object) -> int:
        if str(path).endswith(LOCK) and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest, **more)  # type: ignore[call-overload]

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    remote.put_if_absent("a", source)  # makes the lock
    os.utime(tmp_path / "remote/a", (then, then))
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(os, "open", owned)
    assert remote.put_if_absent("a", source) is False
    after = remote.stat("a")
    assert (after.digest, after.size) == (before.digest, before.size)
    assert after.modified > then + 500
    with pytest.raises(ObjectConflict):
        remote.delete_if_unchanged("a", before.generation)
    remote.delete_if_unchanged("a", after.generation)
