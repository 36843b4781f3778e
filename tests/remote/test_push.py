"""A run folder in a remote: what is sent, in which order, what a second machine finds, and what is deleted."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.folders import place, steps, told, walk
from tests.remote.remotes import Distant, Watched, blobs, needed, newest, push_all, pusher, seal

from outlast.checkpoint import CheckpointStore, Retention, open_checkpoint
from outlast.errors import CorruptCheckpoint, OutlastError, RemoteUnavailable, RunBusy
from outlast.folder import copying, hashing
from outlast.remote import outgoing, parallel
from outlast.remote.base import Entry, Remote
from outlast.remote.folder import FolderRemote
from outlast.remote.gather import bring_home
from outlast.remote.outgoing import CheckpointFiles, PushAbandoned, RecordFiles
from outlast.remote.revision import PushedRun, parse_revision


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run at step 8, with checkpoints at 4, 6 and 8."""
    walk(tmp_path / "home", stop=8)
    return tmp_path / "home"


@pytest.fixture
def remote(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "remote")


def files(folder: Path) -> dict[str, bytes]:
    """What belongs to a run, by name."""
    names = ("run.json", "config.json", "journal.jsonl", "attempts", "checkpoints")
    found = [path for name in names for path in [folder / name, *(folder / name).rglob("*")] if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def come(target: Path, remote: FolderRemote) -> list[str]:
    return bring_home(place(target), [], [PushedRun(remote, "r")]).told


def came(said: list[str]) -> int:
    """The step that the last sentence says was copied from the remote."""
    found = re.fullmatch(r"step (\d+) .*/remote/r", said[-1])
    assert found, said
    return int(found[1])


def test_an_empty_machine_has_all_of_it(home: Path, remote: Watched, tmp_path: Path) -> None:
    push_all(home, remote)
    assert came(come(tmp_path / "new", remote)) == 8
    expected = files(home / "r")
    assert steps(tmp_path / "new") == [4, 6, 8]
    assert files(tmp_path / "new/r") == expected
    assert walk(tmp_path / "new", stop=10).resumed_from == 8


def test_the_revision_comes_when_all_its_blobs_are_there(home: Path, remote: Watched) -> None:
    def look(name: str) -> None:
        if "/revisions/" in name:
            assert needed(json.loads((remote.root / name).read_text())) <= blobs(remote.root)

    remote.after = look
    push_all(home, remote)
    shown = [name for name in remote.put if "/revisions/" in name]
    assert shown == [f"r/revisions/{number:08d}.json" for number in (1, 2, 3, 4)]
    assert remote.put[-1] == shown[-1]
    assert list(newest(remote.root)["checkpoints"]) == ["step-00000004", "step-00000006", "step-00000008"]


def test_the_newest_is_sent_first(home: Path, remote: Watched) -> None:
    found = pusher(home, remote)
    assert found.wanted() == [8, 6, 4]
    found.push(8)
    assert (found.wanted(), found.steps) == ([6, 4], [8])


def test_what_is_there_is_not_sent_again(home: Path, remote: Watched) -> None:
    push_all(home, remote)
    remote.put.clear()
    push_all(home, remote, attempt="cd")
    assert remote.put == ["r/revisions/00000005.json"]
    walk(home, stop=10)
    remote.put.clear()
    push_all(home, remote, attempt="ef")
    rng = json.loads((home / "r/checkpoints/step-00000010/MANIFEST.json").read_text())["files"]["rng.safetensors"]
    assert f"r/blobs/{hashing.WrittenFile.from_json(rng).name}" not in remote.put, "NumPy's generator alone has moved"
    revision = newest(remote.root)
    own = {blob[0] for name, found in revision["checkpoints"]["step-00000010"]["files"].items() for blob in found}
    assert {name.removeprefix("r/blobs/") for name in remote.put if "/blobs/" in name} & own


def test_a_push_that_is_interrupted_continues_where_it_was(home: Path, remote: Watched) -> None:
    """Whatever is the last thing that was sent: the next try sends what is missing and nothing twice."""
    sent = 0
    for count in range(1, 40):
        shutil.rmtree(remote.root, ignore_errors=True)
        remote.put.clear()

        def fail(_: str, count: int = count) -> None:
            if len(remote.put) == count:
                remote.after = lambda _: None
                raise RemoteUnavailable("no answer", "timed out")

        remote.after = fail
        found = pusher(home, remote)
        try:
            found.push(8)
        except RemoteUnavailable:
            assert come_nothing_or_whole(home, remote)
            found.push(8)
        else:
            break
        sent = max(sent, len(remote.put))
        assert len(remote.put) == len(set(remote.put)), "nothing is written twice"
        assert needed(newest(remote.root)) <= blobs(remote.root)
        assert found.steps == [8]
        found.close()
    assert sent > 5


def come_nothing_or_whole(home: Path, remote: Watched) -> bool:
    new = home.parent / "looked"
    shutil.rmtree(new, ignore_errors=True)
    come(new, remote)
    return not steps(new) or bool(open_checkpoint(place(new).checkpoint(8)))


def test_of_two_machines_one_continues(home: Path, remote: Watched, tmp_path: Path) -> None:
    push_all(home, remote)
    come(tmp_path / "other", remote)
    first, second = pusher(home, remote, attempt="aa"), pusher(tmp_path / "other", remote, attempt="bb")
    second.push()
    with messages.raises(RunBusy, "remote/other-attempt-pushes", other="bb", own="aa"):
        first.push()
    walk(tmp_path / "other", stop=10)
    second.push(second.wanted()[0])
    assert newest(remote.root)["attempt"] == "bb"
    with pytest.raises(RunBusy):
        first.push()
    assert came(come(tmp_path / "third", remote)) == 10


def test_a_machine_that_was_asleep_for_long_is_no_longer_listened_to(
    home: Path, remote: Watched, tmp_path: Path
) -> None:
    """The number that it would write next was written by the other one, and deleted again since."""
    push_all(home, remote)
    come(tmp_path / "other", remote)
    asleep = pusher(home, remote, attempt="aa")
    for stop in (10, 12, 14, 16):
        walk(tmp_path / "other", stop=stop)
        push_all(tmp_path / "other", remote, attempt=f"b{stop}", continued=stop - 2)
    walk(home, stop=12)
    before = newest(remote.root)
    with messages.raises(RunBusy, "remote/other-attempt-pushes", other="b16", own="aa"):
        asleep.push(12)
    with pytest.raises(RunBusy):
        asleep.tidy()
    assert newest(remote.root) == before
    assert needed(before) <= blobs(remote.root)
    assert came(come(tmp_path / "third", remote)) == 16
    push_all(tmp_path / "third", remote, attempt="cd")
    assert len(list((remote.root / "r/revisions").glob("*.json"))) == 2


def test_an_answer_that_was_lost_is_no_rival(home: Path, remote: Watched) -> None:
    def lose(name: str) -> None:
        if name.endswith("00000001.json"):
            raise RemoteUnavailable("the connection was reset", "reset")

    found = pusher(home, remote)
    remote.after = lose
    with pytest.raises(RemoteUnavailable):
        found.push(8)
    remote.after = lambda _: None
    walk(home, stop=10)  # another record, so another revision
    found.push(10)
    assert found.steps == [8, 10]
    assert newest(remote.root)["number"] == 2


def test_the_remote_keeps_what_the_policy_wants(home: Path, remote: Watched) -> None:
    keep = Retention(last=2, best=1, metric="count", mode="min")
    found = pusher(home, remote, keep=keep)
    for stop in (10, 12, 14):
        walk(home, stop=stop)
        found.push(found.wanted()[0])
        found.tidy()
    assert found.steps == [10, 12, 14]
    push_all(home, remote, attempt="cd", keep=Retention(last=1))
    assert list(newest(remote.root)["checkpoints"]) == ["step-00000014"]
    two = sorted((remote.root / "r/revisions").glob("*.json"))
    assert len(two) == 2
    assert blobs(remote.root) == set().union(*(needed(json.loads(path.read_text())) for path in two))


def test_what_killed_pushes_have_left_is_swept_by_the_next(home: Path, remote: Watched, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"of a push that was killed")
    remote.put_if_absent(f"r/blobs/{'0' * 32}", tmp_path / "junk")
    os.utime(remote.root / f"r/blobs/{'0' * 32}", (1, 1))
    push_all(home, remote)
    assert "0" * 32 not in blobs(remote.root)


def test_an_overtaken_pusher_deletes_nothing_that_the_other_needs(home: Path, remote: Watched, tmp_path: Path) -> None:
    """The first has dropped step 4; the second, which follows it, makes the very same checkpoint again."""
    shutil.copytree(home, tmp_path / "other")
    first = pusher(home, remote, attempt="aa")
    for step in (4, 6, 8):
        first.push(step)
    walk(home, stop=12)
    for step in (10, 12):
        first.push(step)
    own = needed(newest(remote.root))
    second = pusher(tmp_path / "other", remote, attempt="bb", continued=4)
    listed = remote.list

    def overtake(prefix: str = "") -> Iterator[Entry]:
        found = list(listed(prefix))
        if "/revisions/" in prefix:  # the first has seen that it is the newest
            remote.list = listed
            second.push()
            second.push(4)
        yield from found

    remote.list = overtake
    first.tidy()
    assert newest(remote.root)["attempt"] == "bb"
    assert needed(newest(remote.root)) <= blobs(remote.root)
    assert own - needed(newest(remote.root)) <= blobs(remote.root), "what it follows is whole as well"


def test_where_nothing_gets_young_a_rival_is_looked_for_before_each_deletion(
    home: Path, remote: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "capabilities", replace(remote.capabilities, freshens=False))
    monkeypatch.setattr(Watched, "_freshen", lambda *_: None)
    shutil.copytree(home, tmp_path / "other")
    first = pusher(home, remote, attempt="aa", keep=Retention(last=1))
    for step in (4, 6, 8):
        first.push(step)
    second = pusher(tmp_path / "other", remote, attempt="bb", continued=4)
    listed = remote.list

    def overtake(prefix: str = "") -> Iterator[Entry]:
        found = list(listed(prefix))
        if "/blobs/" in prefix:  # the first has seen that it is the newest
            remote.list = listed
            second.push(4)
        yield from found

    remote.list = overtake
    with messages.raises(RunBusy, "remote/other-attempt-pushes", other="bb", own="aa"):
        first.tidy()
    assert needed(newest(remote.root)) <= blobs(remote.root)


def test_what_was_just_sent_is_not_dropped(home: Path, remote: Watched) -> None:
    found = pusher(home, remote, keep=Retention(last=1))
    found.push(8)
    found.push(4)
    assert found.steps == [4, 8]
    assert needed(newest(remote.root)) <= blobs(remote.root)


def test_records_of_a_push_that_failed_are_sent_again(
    home: Path, remote: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "capabilities", replace(remote.capabilities, atomic_batch=True))
    found, together, failing = pusher(home, remote), remote.put_all_if_absent, [RemoteUnavailable("no answer", "")]
    found.push(8)
    walk(home, stop=10)

    def put(files: dict[str, Path], last: str | None = None) -> set[str]:
        if failing:
            raise failing.pop()
        return together(files, last)

    monkeypatch.setattr(remote, "put_all_if_absent", put)
    with pytest.raises(RemoteUnavailable):
        found.push()
    found.push()
    assert needed(newest(remote.root)) <= blobs(remote.root)


def test_retention_may_delete_what_is_being_sent(home: Path, remote: Watched, tmp_path: Path) -> None:
    found = pusher(home, remote)

    def delete(_: str) -> None:
        shutil.rmtree(home / "r/checkpoints/step-00000004", ignore_errors=True)

    remote.before = delete
    found.push(4)
    assert found.steps == [4]
    come(tmp_path / "new", remote)
    assert open_checkpoint(place(tmp_path / "new").checkpoint(4)).checkpoint.step == 4


def test_room_is_given_when_it_is_needed(home: Path, remote: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "AT_ONCE", 1)  # otherwise all of so small a checkpoint is copied at once
    found = pusher(home, remote)
    given: list[bool] = []

    def need(_: str) -> None:
        given.append(found.open.let_go())
        shutil.rmtree(home / "r/checkpoints/step-00000004", ignore_errors=True)
        given.append(found.open.let_go())

    remote.before = need
    with messages.raises(PushAbandoned, "remote/push-abandoned", step=4):
        found.push(4)
    assert given[:2] == [False, True], "only what takes room that nothing else does"
    assert found.steps == []
    assert found.wanted() == [8, 6]


def test_a_damaged_checkpoint_here_is_reported_and_not_sent(home: Path, remote: Watched) -> None:
    (home / "r/checkpoints/step-00000008/state.json").write_text("short")
    found = pusher(home, remote)
    with pytest.raises(PushAbandoned):
        found.push(found.wanted()[0])
    assert found.wanted() == [6, 4]
    (complaint,) = found.complaints
    messages.said([complaint], "remote/damaged-and-not-pushed", file="step-00000008/state.json", size=5)


def test_a_damaged_blob_is_skipped_and_mended(home: Path, remote: Watched, tmp_path: Path) -> None:
    """Training from an older checkpoint makes the very same bytes again: then they are put anew."""
    push_all(home, remote)
    (hash_, _), *_ = newest(remote.root)["checkpoints"]["step-00000008"]["files"]["step-00000008/walk.safetensors"]
    blob = remote.root / "r/blobs" / hash_
    blob.write_bytes(blob.read_bytes()[:-1] + bytes([blob.read_bytes()[-1] ^ 1]))
    said = come(tmp_path / "new", remote)
    assert steps(tmp_path / "new") == [4, 6]
    assert any("step-00000008/walk.safetensors" in sentence for sentence in said)
    push_all(home, remote, attempt="cd", continued=6)
    come(tmp_path / "newer", remote)
    assert steps(tmp_path / "newer") == [4, 6, 8]


def test_a_damaged_revision_gives_way_to_the_one_before(home: Path, remote: Watched, tmp_path: Path) -> None:
    push_all(home, remote)
    newest_path = max((remote.root / "r/revisions").glob("*.json"))
    newest_path.write_bytes(newest_path.read_bytes().replace(b"step-00000004", b"step-00000005"))
    said = come(tmp_path / "new", remote)
    messages.said(said, "remote/damaged-revision")
    assert steps(tmp_path / "new") == [6, 8]
    push_all(tmp_path / "new", remote, attempt="cd")
    assert newest(remote.root)["number"] == int(newest_path.stem) + 1


def test_a_revision_may_be_deleted_while_it_is_looked_at(home: Path, remote: Watched) -> None:
    push_all(home, remote)
    listed = list(remote.list())
    max((remote.root / "r/revisions").glob("*.json")).unlink()
    remote.list = lambda prefix="": (entry for entry in listed if entry.name.startswith(prefix))
    found = PushedRun(remote, "r")
    assert (found.last, found.revision.number) == (4, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda revision: revision.update(number="1"),
        lambda revision: revision.update(files={"journal.jsonl": [["../../../etc/passwd", 3]]}),
        lambda revision: revision.update(files={"journal.jsonl": [["0" * 32, -1]]}),
        lambda revision: revision["checkpoints"].update({"../x": revision["checkpoints"]["step-00000008"]}),
        lambda revision: revision.update(files={"run.json": "all"}),
        lambda revision: revision.update(checkpoints=[]),
    ],
)
def test_what_a_revision_says_is_not_trusted(
    home: Path, remote: Watched, tmp_path: Path, change: Callable[[dict], None]
) -> None:
    push_all(home, remote)
    path = max((remote.root / "r/revisions").glob("*.json"))
    revision = json.loads(path.read_text())
    change(revision)
    with pytest.raises(CorruptCheckpoint):
        parse_revision(seal(revision), "it")


def test_unknown_files_are_not_pushed(home: Path, remote: Watched, tmp_path: Path) -> None:
    push_all(home, remote)
    path = max((remote.root / "r/revisions").glob("*.json"))
    revision = json.loads(path.read_text())
    one = revision["files"]["run.json"]
    revision["files"] |= {"../../planted": one, "attempts/../../planted.json": one, "artifacts/x": one}
    path.write_bytes(seal(revision))
    come(tmp_path / "new", remote)
    assert files(tmp_path / "new/r") == files(home / "r")
    assert not list(tmp_path.rglob("*planted*"))


def test_a_newer_outlasts_revision_is_not_skipped(home: Path, remote: Watched) -> None:
    push_all(home, remote)
    path = max((remote.root / "r/revisions").glob("*.json"))
    path.write_bytes(seal(json.loads(path.read_text()) | {"format": 99}))
    with messages.raises(OutlastError, "remote/revision-of-a-newer-outlast", format=99):
        PushedRun(remote, "r")


def test_a_journal_is_sent_in_pieces_as_it_grows(tmp_path: Path) -> None:
    chance, folder = random.Random(3), place(tmp_path)
    folder.path.mkdir()
    records, data, sent = RecordFiles(folder, {}), b"", 0
    for _ in range(300):
        data += chance.randbytes(chance.randrange(1, 400))
        folder.journal.write_bytes(data)
        sent += sum(piece.blob.size for piece in records.pieces())
        records.keep()
        blobs = records.files["journal.jsonl"]
        assert sum(blob.size for blob in blobs) == len(data)
        assert len(blobs) < 20
    assert sent < 12 * len(data)
    again = RecordFiles(folder, records.files)
    assert [piece.blob.size for piece in again.pieces()] == []
    assert again.files["journal.jsonl"] == records.files["journal.jsonl"]
    cut = len(data) - records.files["journal.jsonl"][-1].size - 1
    folder.journal.write_bytes(data[:cut] + b"another history")
    assert list(RecordFiles(folder, records.files).pieces())[-1].blob.size < len(data)


def test_blobs_of_a_large_file_are_put_together_again(home: Path, remote: Watched, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 * 2**20 + 5)
    (home / "r/journal.jsonl").write_bytes(data)
    part = outgoing.BLOB
    try:
        outgoing.BLOB = 2**20
        push_all(home, remote)
    finally:
        outgoing.BLOB = part
    found = PushedRun(remote, "r")
    assert [blob.size for blob in found.revision.files["journal.jsonl"]] == [2**20, 2**20, 2**20, 5]
    for start, stop in ((0, None), (0, 5), (2**20 - 1, 2**20 + 1), (3 * 2**20, None), (10, 2**22), (2**22, 2**23)):
        assert b"".join(found.get("journal.jsonl", start, stop)) == data[start:stop]


def test_a_part_of_several_blobs(tmp_path: Path, remote: Watched) -> None:
    """64 MiB and a little more, named by the hashes that the manifest has."""
    from tests.folders import forge

    walk(tmp_path / "home", stop=2)
    folder = place(tmp_path / "home").checkpoint(2)
    data = (folder / "walk.safetensors").read_bytes()
    forge(folder, "state.json", (folder / "state.json").read_bytes() + b" " * (outgoing.BLOB + 10))
    push_all(tmp_path / "home", remote)
    found = PushedRun(remote, "r").revision.files["checkpoints/step-00000002/state.json"]
    assert [blob.size for blob in found[:-1]] == [outgoing.BLOB]
    for blob in found:
        piece = (remote.root / "r/blobs" / blob.hash).read_bytes()
        assert hashing.hash_pieces([piece]).name == blob.hash
    come(tmp_path / "new", remote)
    assert (place(tmp_path / "new").checkpoint(2) / "walk.safetensors").read_bytes() == data
    assert CheckpointStore(place(tmp_path / "new")).newest_step() == 2


def test_where_many_become_visible_at_once_a_push_is_one_request(
    home: Path, remote: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = replace(remote.capabilities, atomic_batch=True)
    monkeypatch.setattr(Watched, "capabilities", able)
    asked: list[tuple[int, str | None]] = []
    together = remote.put_all_if_absent

    def put(files: dict[str, Path], last: str | None = None) -> set[str]:
        asked.append((len(files), last))
        if len(asked) == 2:
            raise RemoteUnavailable("no answer", "timed out")
        return together(files, last)

    monkeypatch.setattr(remote, "put_all_if_absent", put)
    found = pusher(home, remote)
    found.push(8)
    with pytest.raises(RemoteUnavailable):
        found.push(6)
    found.push(6)
    found.close()
    assert [last for _, last in asked] == [f"r/revisions/{number:08d}.json" for number in (1, 2, 2)]
    assert [count for count, _ in asked[1:]] == [asked[1][0]] * 2
    assert asked[0][0] > asked[1][0] > 3, "records and parts that are there are not sent again"
    come(tmp_path / "new", remote)
    assert steps(tmp_path / "new") == [6, 8]


def test_the_rate_is_kept_on_average(home: Path, remote: Watched) -> None:
    waited: list[float] = []
    found = pusher(home, remote, rate=1e6, sleep=waited.append)
    found.push(8)
    sent = sum((remote.root / name).stat().st_size for name in remote.put if "/blobs/" in name)
    assert 0.5 * sent / 1e6 < sum(waited) <= sent / 1e6


def test_nothing_is_left_in_the_run_folder(home: Path, remote: Watched) -> None:
    before = sorted(path.name for path in (home / "r").iterdir())
    push_all(home, remote)
    assert sorted(path.name for path in (home / "r").iterdir()) == before


def test_another_machine_reads_the_records_of_the_first(home: Path, remote: Watched, tmp_path: Path) -> None:
    push_all(home, remote)
    come(tmp_path / "new", remote)
    walk(tmp_path / "new", stop=10)
    push_all(tmp_path / "new", remote, attempt="cd")
    time.sleep(0.01)
    assert walk(home, stop=12).resumed_from == 8, "without a remote it knows nothing of that"
    assert str(remote.root) not in told(home)


@pytest.mark.parametrize("kind", [Watched, Distant])
def test_a_folder_is_written_without_a_copy_beside_the_run(
    home: Path, tmp_path: Path, kind: type[Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    real = copying.copy_scratch

    def counted(source: int, start: int, size: int, path: Path) -> None:
        copies.append(path)
        real(source, start, size, path)

    monkeypatch.setattr(copying, "copy_scratch", counted)
    push_all(home, kind(tmp_path / "remote"))
    assert bool(copies) is (kind is Distant)
    come(tmp_path / "new", FolderRemote(tmp_path / "remote"))
    assert steps(tmp_path / "new") == [4, 6, 8]


def test_a_file_that_becomes_shorter_while_it_is_pushed_leaves_nothing(home: Path, remote: Watched) -> None:
    found, file = pusher(home, remote), home / "r/checkpoints/step-00000004/walk.safetensors"

    def cut(_: str) -> None:
        os.truncate(file, 10)

    remote.before = cut
    with pytest.raises(CorruptCheckpoint, match="became shorter"):
        found.push(4)
    found.close()
    assert not list(remote.root.glob("r/revisions/*"))
    assert all(path.stat().st_size for path in remote.root.glob("r/blobs/*"))


def test_a_reader_is_waited_for_when_room_is_needed(home: Path) -> None:
    """The room is free when it is said to be: no descriptor of a file is left, and a read under way ends."""
    files = CheckpointFiles(place(home), 4)
    pieces = next(piece for piece in files.pieces()).read()
    shutil.rmtree(home / "r/checkpoints/step-00000004")
    assert next(pieces)
    given: list[bool] = []
    thread = threading.Thread(target=lambda: given.append(files.let_go()))
    thread.start()
    thread.join(0.2)
    assert given == [], "a reader still has a file open"
    with contextlib.suppress(PushAbandoned, StopIteration):
        next(pieces)
    thread.join(20)
    assert given == [True]
    with messages.raises(PushAbandoned, "remote/push-abandoned", step=4):
        next(next(iter(files.pieces())).read())


def test_a_checkpoint_of_another_run_in_the_folder_is_not_pushed(home: Path, remote: Watched, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=10)
    shutil.copytree(tmp_path / "other/r/checkpoints/step-00000010", home / "r/checkpoints/step-00000010")
    push_all(home, remote)
    assert list(newest(remote.root)["checkpoints"]) == ["step-00000004", "step-00000006", "step-00000008"]
