"""What every remote must do. A driver joins with a case in remotes.py; what it declares that it cannot do is skipped by
name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import messages
from tests.conformance.remotes import CASES, FolderCase

from outlast.errors import ObjectConflict, ObjectMissing, OutlastError, RemoteRefused
from outlast.folder import layout
from outlast.remote import base
from outlast.remote.base import Remote


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderCase]:
    case = CASES[request.param](tmp_path, monkeypatch)
    yield case
    case.close()


@pytest.fixture
def remote(case: FolderCase) -> Remote:
    return case.open()


def file(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def contents(remote: Remote, name: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(remote.get(name, start, stop))


def names(remote: Remote, prefix: str = "") -> list[str]:
    return sorted(entry.name for entry in remote.list(prefix))


def test_a_put_object_is_complete(remote: Remote, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    assert remote.put_if_absent("runs/r/weights.bin", file(tmp_path, data)) is True
    stat = remote.stat("runs/r/weights.bin")
    assert (stat.name, stat.size) == ("runs/r/weights.bin", len(data))
    assert stat.digest == hashlib.new(remote.capabilities.digest, data).hexdigest()
    assert stat.digest == base.digest_of(tmp_path / "file", remote.capabilities.digest)
    (entry,) = remote.list()
    assert (entry.name, entry.size, entry.generation) == (stat.name, stat.size, stat.generation)
    assert contents(remote, "runs/r/weights.bin") == data
    assert remote.address("runs/r/weights.bin").endswith("runs/r/weights.bin")


def test_an_empty_object(remote: Remote, tmp_path: Path) -> None:
    assert remote.put_if_absent("empty", file(tmp_path, b"")) is True
    assert (remote.stat("empty").size, contents(remote, "empty"), contents(remote, "empty", 0, 5)) == (0, b"", b"")
    assert remote.put_if_absent("empty", file(tmp_path, b"")) is False


def test_the_same_again_is_not_written_and_is_young(remote: Remote, tmp_path: Path) -> None:
    data = b"x" * 1000
    remote.put_if_absent("a", file(tmp_path, data))
    before = remote.stat("a")
    assert remote.put_if_absent("a", file(tmp_path, data)) is False
    after = remote.stat("a")
    assert (after.size, after.digest) == (before.size, before.digest)
    assert after.modified >= before.modified
    if remote.capabilities.conditional_delete and remote.capabilities.freshens:
        assert after.generation != before.generation
        with pytest.raises(ObjectConflict):
            remote.delete_if_unchanged("a", before.generation)
        assert contents(remote, "a") == data


@pytest.mark.parametrize("other", [b"other", b"longer than it was", b""])
def test_nothing_is_overwritten(remote: Remote, tmp_path: Path, other: bytes) -> None:
    remote.put_if_absent("a", file(tmp_path, b"first"))
    with pytest.raises(ObjectConflict, match="a"):
        remote.put_if_absent("a", file(tmp_path, other, "other"))
    assert contents(remote, "a") == b"first"


def test_several_at_once(remote: Remote, tmp_path: Path) -> None:
    files = {name: file(tmp_path, name.encode(), name) for name in ("manifest", "a", "b")}
    remote.put_if_absent("runs/a", files["a"])
    named = {f"runs/{name}": path for name, path in files.items()}
    assert remote.put_all_if_absent(named, "runs/manifest") == {"runs/manifest", "runs/b"}
    assert {name: contents(remote, name) for name in named} == {name: name[5:].encode() for name in named}
    assert remote.put_all_if_absent(named) == set()
    assert remote.put_all_if_absent({}) == set()
    with messages.raises(ValueError, "remote/last-not-among-names", last="c"):
        remote.put_all_if_absent(named, "c")


def test_the_last_of_several_needs_all_others(remote: Remote, tmp_path: Path) -> None:
    remote.put_if_absent("b", file(tmp_path, b"another"))
    files = {name: file(tmp_path, name.encode(), name) for name in ("manifest", "a", "b")}
    with pytest.raises(ObjectConflict, match="b"):
        remote.put_all_if_absent(files, "manifest")
    assert names(remote) == (["b"] if remote.capabilities.atomic_batch else ["a", "b"])
    assert contents(remote, "b") == b"another"


@pytest.mark.parametrize("same", [True, False])
def test_of_two_writers_of_one_name_one_wins(remote: Remote, tmp_path: Path, same: bool) -> None:
    if not remote.capabilities.exclusive_put:
        pytest.skip("it declares that a name must have one writer")
    sources = [file(tmp_path, (b"same" if same else b"%d" % number) * 100_000, f"file{number}") for number in range(2)]
    for turn in range(10):
        barrier, came = threading.Barrier(2), ["", ""]

        def put(number: int, turn: int = turn, barrier: threading.Barrier = barrier, came: list[str] = came) -> None:
            barrier.wait()
            try:
                came[number] = "wrote" if remote.put_if_absent(f"name{turn}", sources[number]) else "was there"
            except ObjectConflict:
                came[number] = "refused"

        threads = [threading.Thread(target=put, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(came) == sorted(["wrote", "was there" if same else "refused"])
        assert contents(remote, f"name{turn}") == sources[came.index("wrote")].read_bytes()
    assert len(names(remote)) == 10


def test_a_killed_write_leaves_nothing_that_is_listed(case: FolderCase, tmp_path: Path) -> None:
    data = os.urandom(3 * base.PIECE + 17)
    source, point, seen = file(tmp_path, data), 0, []
    while True:
        point += 1
        name = f"runs/{point}/weights.bin"
        child = os.fork()
        if not child:
            case.kill_at(point)
            case.open().put_if_absent(name, source)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        remote = case.open()
        there = names(remote, f"runs/{point}/")
        assert there in ([], [name])
        for each in there:
            assert contents(remote, each) == data
        assert remote.put_if_absent(name, source) is not bool(there)
        assert remote.stat(name).digest == base.digest_of(source, remote.capabilities.digest)
        seen.append(bool(there))
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            break
    assert seen[0] is False
    assert seen[-1] is True
    assert seen == sorted(seen), "once it is visible it stays"
    assert len(seen) >= 5


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, None), (0, 0), (0, 1), (9, 10), (10, 10), (10, None), (11, None), (99, 200), (3, 99), (0, 10), (4, 4), (2, 7)],
)
def test_ranges(remote: Remote, tmp_path: Path, start: int, stop: int | None) -> None:
    data = b"0123456789"
    remote.put_if_absent("a", file(tmp_path, data))
    assert contents(remote, "a", start, stop) == data[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(base.PIECE - 1, base.PIECE + 1), (base.PIECE, 2 * base.PIECE), (5, None)])
def test_ranges_across_pieces(remote: Remote, tmp_path: Path, start: int, stop: int | None) -> None:
    data = os.urandom(2 * base.PIECE + 3)
    remote.put_if_absent("a", file(tmp_path, data))
    pieces = list(remote.get("a", start, stop))
    assert b"".join(pieces) == data[start:stop]
    assert all(0 < len(piece) <= base.PIECE for piece in pieces)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, -1), (5, 4)])
def test_ranges_that_are_none(remote: Remote, tmp_path: Path, start: int, stop: int | None) -> None:
    remote.put_if_absent("a", file(tmp_path, b"0123456789"))
    with messages.raises(ValueError, "remote/range-not-ascending", start=start, stop=stop):
        contents(remote, "a", start, stop)


ODD = (
    "with space", "a+b%20c", "100%", "q?x=1&y=#z", "ünïcödé/雪", "e\u0301", "'quoted\"", "$HOME", "a;b|c", "-rf", "~",
    "a.b/c..d", "x" * 200, "UPPER/lower", "[a]*{b}", "\U0001f9ea", "trailing.", "comma,=",
)  # fmt: skip


def test_names_with_odd_characters(remote: Remote, tmp_path: Path) -> None:
    for number, name in enumerate(ODD):
        assert remote.put_if_absent(name, file(tmp_path, b"%d" % number)) is True
    assert names(remote) == sorted(ODD)
    for number, name in enumerate(ODD):
        assert contents(remote, name) == b"%d" % number
        assert remote.stat(name).name == name
        assert names(remote, name) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "/etc/passwd", "../up", "a/../b", "a/./b", "a//b", "a/", ".hidden", "a/.tmp-b", "a\\b", "a\nb",
        "a\0b", "\x7f", "\ud800", "x" * 201, "/".join(["y" * 150] * 7), "..",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(case: FolderCase, tmp_path: Path, name: str) -> None:
    remote = case.open()
    for ask in (
        lambda: remote.put_if_absent(name, file(tmp_path, b"x")),
        lambda: contents(remote, name),
        lambda: remote.stat(name),
        lambda: remote.delete_if_unchanged(name, "1"),
    ):
        with messages.raises(RemoteRefused, "remote/not-an-object-name", name=repr(name[:80])):
            ask()
    assert names(remote) == []


def test_a_name_below_an_object(remote: Remote, tmp_path: Path) -> None:
    """Buckets allow it and folders cannot: either both are there, or the second is refused."""
    remote.put_if_absent("a", file(tmp_path, b"1"))
    with contextlib.suppress(RemoteRefused):
        remote.put_if_absent("a/b", file(tmp_path, b"2"))
        assert contents(remote, "a/b") == b"2"
    assert contents(remote, "a") == b"1"


def test_a_missing_name(remote: Remote) -> None:
    for ask in (
        lambda: contents(remote, "a/b"),
        lambda: remote.stat("a/b"),
        lambda: remote.delete_if_unchanged("a/b", "1"),
    ):
        with pytest.raises(ObjectMissing) as caught:
            ask()
        assert "a/b" in str(caught.value)
    assert names(remote) == []
    assert names(remote, "a/b/c") == []


def test_an_object_that_changed_is_not_deleted(remote: Remote, tmp_path: Path) -> None:
    if not remote.capabilities.conditional_delete:
        pytest.skip("it declares that it cannot")
    remote.put_if_absent("a", file(tmp_path, b"first"))
    (first,) = remote.list()
    remote.delete_if_unchanged("a", first.generation)
    assert names(remote) == []
    remote.put_if_absent("a", file(tmp_path, b"other"))
    with pytest.raises(ObjectConflict):
        remote.delete_if_unchanged("a", first.generation)
    assert contents(remote, "a") == b"other"
    remote.delete_if_unchanged("a", remote.stat("a").generation)
    with pytest.raises(ObjectMissing):
        remote.stat("a")


def test_a_prefix_is_text_and_no_folder(remote: Remote, tmp_path: Path) -> None:
    for name in ("runs/r/a", "runs/r/b/c", "runs/rs/a", "run", "other/runs/r/a"):
        remote.put_if_absent(name, file(tmp_path, b"x"))
    assert names(remote, "runs/r/") == ["runs/r/a", "runs/r/b/c"]
    assert names(remote, "runs/r") == ["runs/r/a", "runs/r/b/c", "runs/rs/a"]
    assert names(remote, "run") == ["run", "runs/r/a", "runs/r/b/c", "runs/rs/a"]
    assert names(remote, "runs/r/b/c") == ["runs/r/b/c"]
    assert names(remote, "nothing") == []
    assert len(names(remote)) == 5


def test_a_large_object_takes_little_memory(remote: Remote, tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as opened:
        opened.truncate(64 * base.PIECE)
    assert remote.capabilities.writes is True  # a client's own tables are in memory from now on
    tracemalloc.start()
    try:
        remote.put_if_absent("large", source)
        remote.stat("large")
        size = sum(len(piece) for piece in remote.get("large"))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 * base.PIECE
    assert most < 8 * base.PIECE


def test_a_place_that_is_only_read(case: FolderCase, tmp_path: Path) -> None:
    case.open().put_if_absent("a", file(tmp_path, b"data"))
    remote = case.open(writes=False)
    assert remote.capabilities.writes is False
    generation = remote.stat("a").generation
    for ask in (
        lambda: remote.put_if_absent("b", file(tmp_path, b"x")),
        lambda: remote.put_if_absent("a", file(tmp_path, b"data")),
        lambda: remote.delete_if_unchanged("a", generation),
    ):
        with pytest.raises(RemoteRefused):
            ask()
    assert (names(remote), contents(remote, "a")) == (["a"], b"data")
    assert remote.stat("a").generation == generation


@pytest.mark.parametrize("what", ["missing", "folder", "link", "fifo"])
def test_a_source_that_is_no_file(remote: Remote, tmp_path: Path, what: str) -> None:
    source = tmp_path / "source"
    if what == "folder":
        source.mkdir()
    elif what == "link":
        source.symlink_to(file(tmp_path, b"x"))
    elif what == "fifo":
        os.mkfifo(source)
    with pytest.raises(OutlastError, match="source"):
        remote.put_if_absent("a", source)
    assert names(remote) == []


def test_own_files_of_a_driver_are_not_listed(case: FolderCase, remote: Remote, tmp_path: Path) -> None:
    for _ in range(2):
        remote.put_if_absent("a", file(tmp_path, b"x"))
    assert names(remote) == ["a"]
    assert not [entry for entry in remote.list() if layout.TEMPORARY in entry.name]
