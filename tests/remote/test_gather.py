"""Copies of a run elsewhere: what continues ours is taken, whole and verified; another history is told and left where
it is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import messages
from tests.folders import as_format_1, forge, manifest_of, place, seal, steps, told, walk

from outlast.checkpoint import CheckpointStore, read_manifest
from outlast.checkpoint.history import History, is_ancestor
from outlast.errors import CorruptCheckpoint, NoGoodCheckpoint, RemoteRefused, RemoteUnavailable, SaveFailed, UsageError
from outlast.folder import durable, hashing
from outlast.remote import attached, incoming
from outlast.remote.attached import copies_of, stored_config
from outlast.remote.base import Entry
from outlast.remote.folder import FolderRemote
from outlast.remote.fork import fork
from outlast.remote.gather import bring_home
from outlast.remote.place import Place
from outlast.remote.revision import PushedRun


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run at step 4 in `home`, and a copy of it in `away`."""
    walk(tmp_path / "home", stop=4)
    shutil.copytree(tmp_path / "home", tmp_path / "away")
    return tmp_path / "home"


def test_manifests_say_who_wrote_them_and_what_they_continue(home: Path) -> None:
    walk(home, stop=6)
    run = json.loads((home / "r/run.json").read_text())
    first, second = (json.loads((home / f"r/attempts/000{number}.json").read_text()) for number in (1, 2))
    old, new = (read_manifest(place(home).checkpoint(step)) for step in (4, 6))
    assert len(run["uid"]) == 32
    assert run["format"] == old.manifest["format"] == 2
    assert (old.manifest["run"], old.manifest["attempt"], old.manifest["lineage"]) == (run["uid"], first["id"], [])
    assert (new.manifest["run"], new.manifest["attempt"]) == (run["uid"], second["id"])
    assert new.manifest["lineage"] == [{"attempt": first["id"], "step": 4, "digest": old.digest}]
    assert (old.is_ancestor_of(new), new.is_ancestor_of(old), new.is_ancestor_of(new)) == (True, False, True)


def test_of_one_attempt_only_the_earlier_is_continued_by_the_later(home: Path) -> None:
    old, new = (read_manifest(place(home).checkpoint(step)) for step in (2, 4))
    assert old.manifest["attempt"] == new.manifest["attempt"]
    assert (old.is_ancestor_of(new), new.is_ancestor_of(old)) == (True, False)


def test_a_copy_that_continues_ours_is_taken(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=8)
    before = snapshot(tmp_path / "away")
    run = walk(home, stop=10, inputs=[tmp_path / "away"])
    assert run.resumed_from == 8
    messages.said(told(home), "remote/step-was-copied", step=8, folder=tmp_path / "away/r")
    assert snapshot(tmp_path / "away") == before
    lines = [json.loads(line)["count"] for line in (home / "r/journal.jsonl").read_text().splitlines()]
    assert lines == list(range(1, 11))
    assert sorted(os.listdir(home / "r/attempts")) == [
        f"000{number}{ending}" for number in (1, 2, 3) for ending in (".events.jsonl", ".json")
    ]
    assert not [path for path in (home / "r").iterdir() if path.name.startswith(".tmp-")]


def test_a_copy_that_ours_continues_changes_nothing(home: Path, tmp_path: Path) -> None:
    walk(home, stop=8)
    journal = (home / "r/journal.jsonl").read_bytes()
    brought = bring_home(place(home), [tmp_path / "away"])
    assert (brought.told, brought.rejected) == ([], [])
    assert (home / "r/journal.jsonl").read_bytes() == journal
    assert steps(home) == [4, 6, 8]


def test_another_history_is_reported_and_not_changed(home: Path, tmp_path: Path) -> None:
    walk(home, stop=6)
    walk(tmp_path / "away", stop=10)
    before, elsewhere = snapshot(home), snapshot(tmp_path / "away")
    brought = bring_home(place(home), [tmp_path / "away"])
    assert snapshot(home) == before
    assert snapshot(tmp_path / "away") == elsewhere
    assert brought.rejected == [str(tmp_path / "away/r")]
    (sentence,) = brought.told
    messages.said(
        sentence,
        "remote/another-history",
        step=10,
        folder=tmp_path / "away/r",
        step2=6,
        folder2=tmp_path / "away/r/checkpoints/step-00000010",
    )
    run = walk(home, stop=8, inputs=[tmp_path / "away"])
    assert run.resumed_from == 6
    messages.said(
        told(home),
        "remote/another-history",
        step=10,
        folder=tmp_path / "away/r",
        step2=6,
        folder2=tmp_path / "away/r/checkpoints/step-00000010",
    )


def test_of_two_foreign_histories_the_one_that_continues_ours_wins(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "apart")
    walk(tmp_path / "apart", stop=12)
    walk(home, stop=6)
    shutil.rmtree(tmp_path / "away")
    shutil.copytree(home, tmp_path / "away")
    walk(tmp_path / "away", stop=8)
    run = walk(home, stop=10, inputs=[tmp_path / "apart", tmp_path / "away"])
    assert run.resumed_from == 8
    messages.said(
        told(home),
        "remote/another-history",
        step=12,
        folder=tmp_path / "apart/r",
        step2=6,
        folder2=tmp_path / "apart/r/checkpoints/step-00000012",
    )


def test_without_a_local_run_the_newest_wins_and_the_other_is_reported(home: Path, tmp_path: Path) -> None:
    walk(home, stop=6)
    walk(tmp_path / "away", stop=8)
    brought = bring_home(place(tmp_path / "new"), [home, tmp_path / "away"])
    messages.said(brought.told, "remote/step-was-copied", step=8, folder=tmp_path / "away/r")
    assert brought.rejected == [str(home / "r")]
    # Of the two histories, only one is here.
    assert {read_manifest(path).manifest["attempt"] for path in (tmp_path / "new/r/checkpoints").glob("step-*")} <= {
        json.loads(path.read_text())["id"] for path in (tmp_path / "away/r/attempts").glob("*.json")
    }
    assert walk(tmp_path / "new", stop=10).resumed_from == 8


def test_only_the_history_of_the_newest_is_copied_with_it(home: Path, tmp_path: Path) -> None:
    """Somebody put a checkpoint of another attempt, which the newest does not continue, into the same folder."""
    away = tmp_path / "away/r/checkpoints"
    walk(tmp_path / "away", stop=6)
    (away / "step-00000006").rename(tmp_path / "other")
    walk(tmp_path / "away", stop=8)
    shutil.rmtree(away / "step-00000006")
    (tmp_path / "other").rename(away / "step-00000006")
    bring_home(place(home), [tmp_path / "away"])
    assert steps(home) == [2, 4, 8]


def test_another_run_of_the_same_name_is_not_mixed_in(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=10)
    before = snapshot(home)
    brought = bring_home(place(home), [tmp_path / "other"])
    assert snapshot(home) == before
    messages.only_said(brought.told, messages.says("remote/another-run", theirs=tmp_path / "other/r", ours=home / "r"))


def test_a_run_of_format_1_continues_and_its_copies_still_count(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=6)
    for root in (home, tmp_path / "away"):
        as_format_1(root / "r")
    run = walk(home, stop=8, inputs=[tmp_path / "away"])
    assert run.resumed_from == 6, "without a lineage the newer one is taken, as before"
    about = json.loads((home / "r/run.json").read_text())
    assert (about["format"], about["format_1_until"]) == (2, 6)
    assert [manifest_of(place(home).checkpoint(step))["format"] for step in (4, 6, 8)] == [1, 1, 2]
    old, new = (read_manifest(place(home).checkpoint(step)) for step in (6, 8))
    assert new.manifest["lineage"] == [{"attempt": None, "step": 6, "digest": old.digest}]
    assert old.is_ancestor_of(new) is True
    assert read_manifest(place(home).checkpoint(4)).is_ancestor_of(new) is None
    assert new.is_ancestor_of(old) is False
    # A copy that another old outlast took further meanwhile cannot continue step 8.
    walk(tmp_path / "away", stop=10)
    as_format_1(tmp_path / "away/r")
    assert bring_home(place(home), [tmp_path / "away"]).rejected == [str(tmp_path / "away/r")]


def test_a_checkpoint_of_another_run_that_was_copied_here_is_not_used(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=10)
    shutil.copytree(tmp_path / "other/r/checkpoints/step-00000010", home / "r/checkpoints/step-00000010")
    run = walk(home, stop=6)
    assert run.resumed_from == 4
    messages.said(told(home), "remote/is-checkpoint-of-another-run", path="step-00000010")
    assert [path.name for path in (home / "r/set-aside").iterdir()] == ["step-00000010-1"]


def test_a_checkpoint_of_another_run_in_a_copy_elsewhere_is_not_taken(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=8)
    walk(tmp_path / "other", stop=10)
    shutil.copytree(tmp_path / "other/r/checkpoints/step-00000010", tmp_path / "away/r/checkpoints/step-00000010")
    for root in (home, tmp_path / "new"):
        brought = bring_home(place(root), [tmp_path / "away"])
        assert steps(root)[-1] == 8
        assert brought.rejected == []
        messages.said([brought.told[0]], "remote/checkpoint-of-another-run", path="step-00000010")


def test_one_of_another_run_below_ours_is_neither_counted_nor_deleted(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "other", stop=3)
    shutil.copytree(tmp_path / "other/r/checkpoints/step-00000003", home / "r/checkpoints/step-00000003")
    walk(home, stop=10, last=1)
    assert steps(home) == [3, 10]
    with messages.raises(NoGoodCheckpoint, "remote/is-checkpoint-of-another-run-2"):
        shutil.rmtree(home / "r/checkpoints/step-00000010")
        walk(home, stop=12)


def test_a_fork_continues_from_its_parents_checkpoint(home: Path, tmp_path: Path) -> None:
    checkpoint = read_manifest(place(home).checkpoint(4))
    fork(place(home), checkpoint, place(tmp_path / "forks", "mine"))
    about, parent = (json.loads((path / "run.json").read_text()) for path in (tmp_path / "forks/mine", home / "r"))
    assert about["parent"] == {"run": "r", "step": 4, "uid": parent["uid"], "digest": checkpoint.digest}
    assert about["uid"] != parent["uid"]
    assert walk(tmp_path / "forks", stop=6, name="mine").resumed_from == 4
    new = read_manifest(place(tmp_path / "forks", "mine").checkpoint(6))
    assert (new.manifest["run"], checkpoint.is_ancestor_of(new)) == (about["uid"], True)
    fork(place(home), checkpoint, place(tmp_path / "forks", "mine"))  # it has begun already
    forge(checkpoint.path, "state.json", (checkpoint.path / "state.json").read_bytes() + b" ")
    with messages.raises(UsageError, "remote/another-run-already"):
        fork(place(home), read_manifest(checkpoint.path), place(tmp_path / "forks", "mine"))


@pytest.mark.parametrize(
    "name",
    ["../../../../planted.json", "/tmp/planted.json", "a/b.safetensors", ".hidden.safetensors", "x\n.safetensors"],
)
def test_names_in_a_manifest_lead_nowhere(tmp_path: Path, name: str) -> None:
    """cases/folders/02."""
    walk(tmp_path / "evil", stop=4)
    checkpoint = tmp_path / "evil/r/checkpoints/step-00000004"
    manifest = manifest_of(checkpoint)
    manifest["files"][name] = hashing.hash_pieces([b"{}"]).as_json() | {"rank": 9}
    seal(checkpoint, manifest)
    with messages.raises(CorruptCheckpoint, "checkpoint/names-a-file", name=f"{name[:80]!r}", complaint=messages.ANY):
        read_manifest(checkpoint)
    before = snapshot(tmp_path)
    brought = bring_home(place(tmp_path / "home/a/b/c"), [tmp_path / "evil"])
    messages.said(brought.told[-1], "remote/step-was-copied", step=2, folder=tmp_path / "evil/r")
    shutil.rmtree(tmp_path / "home")
    assert snapshot(tmp_path) == before


def test_only_what_the_manifest_names_is_copied(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=6)
    (tmp_path / "away/r/checkpoints/step-00000006/extra.sh").write_text("echo")
    (tmp_path / "away/r/checkpoints/step-00000006/link").symlink_to("/etc")
    bring_home(place(home), [tmp_path / "away"])
    assert sorted(os.listdir(home / "r/checkpoints/step-00000006")) == [
        "MANIFEST.json", "rng.safetensors", "state.json", "walk.safetensors"
    ]  # fmt: skip


def test_nothing_here_is_touched_when_the_copy_fails(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of it; and files that change while they are copied."""
    walk(tmp_path / "away", stop=6)
    before, real = snapshot(home), os.write

    def full(descriptor: int, data) -> int:
        if "coming" in os.readlink(f"/proc/self/fd/{descriptor}") and "MANIFEST" in os.readlink(
            f"/proc/self/fd/{descriptor}"
        ):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with messages.raises(SaveFailed, "remote/step-could-not-be-copied", step=6, folder=tmp_path / "home/r"):
        bring_home(place(home), [tmp_path / "away"])
    monkeypatch.undo()
    assert snapshot(home) == before


def test_a_damaged_local_one_of_the_same_step_is_set_aside_and_not_deleted(home: Path, tmp_path: Path) -> None:
    walk(home, stop=6)
    shutil.rmtree(tmp_path / "away")
    shutil.copytree(home, tmp_path / "away")
    (home / "r/checkpoints/step-00000006/state.json").write_text("damaged")
    run = walk(home, stop=8, inputs=[tmp_path / "away"])
    assert run.resumed_from == 6
    assert (home / "r/set-aside/step-00000006-1/state.json").read_text() == "damaged"


def test_a_shared_file_comes_whole_from_its_good_copy(home: Path, tmp_path: Path) -> None:
    checkpoint = place(home).checkpoint(4)
    data = (checkpoint / "walk.safetensors").read_bytes()
    manifest = manifest_of(checkpoint)
    written = hashing.hash_pieces([data])
    del manifest["files"]["walk.safetensors"]
    manifest["files"]["walk.shared.safetensors"] = {**written.as_json(), "part": "walk", "shared": written.name}
    (checkpoint / "walk.safetensors").unlink()
    shared = home / "r/checkpoints/shared"
    shared.mkdir()
    (shared / f"{written.name}.safetensors").write_bytes(b"damaged")
    (shared / f"{written.name}.copy.safetensors").write_bytes(data)
    seal(checkpoint, manifest)
    bring_home(place(tmp_path / "new"), [home])
    copies = sorted((tmp_path / "new/r/checkpoints/shared").iterdir())
    assert [path.read_bytes() for path in copies] == [data, data]
    assert CheckpointStore(place(tmp_path / "new")).open_newest()[0].checkpoint.step == 4


@pytest.mark.parametrize("damage", ["empty", "other", "gone", "fifo"])
def test_a_damaged_journal_elsewhere_does_not_replace_ours(home: Path, tmp_path: Path, damage: str) -> None:
    walk(tmp_path / "away", stop=8)
    theirs, ours = tmp_path / "away/r/journal.jsonl", (home / "r/journal.jsonl").read_bytes()
    data = theirs.read_bytes()
    theirs.unlink()
    if damage == "other":
        theirs.write_bytes(data.replace(b'"count": 2', b'"count": 7'))
    elif damage == "empty":
        theirs.write_bytes(b"")
    elif damage == "fifo":
        os.mkfifo(theirs)
    brought = bring_home(place(home), [tmp_path / "away"])
    messages.said([brought.told[-1]], "remote/step-was-copied", step=8, folder=tmp_path / "away/r")
    assert str(theirs) in brought.told[0]
    messages.said(
        brought.told[0], "remote/journal-not-copied", complaint=messages.ANY, journal=home / "r/journal.jsonl"
    )
    assert (home / "r/journal.jsonl").read_bytes() == ours
    assert walk(home, stop=10).resumed_from == 8
    messages.said(told(home), "tracking/journal-does-not-match", file="home/r/journal.jsonl", step=8, kept=8)
    lines = [json.loads(line)["count"] for line in (home / "r/journal.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3, 4, 9, 10]


def test_of_a_damaged_journal_elsewhere_the_lines_count_where_there_is_none(home: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "away/r/journal.jsonl"
    theirs.write_bytes(theirs.read_bytes().replace(b'"count": 2}', b'"count": 2)'))
    brought = bring_home(place(tmp_path / "new"), [tmp_path / "away"])
    messages.said(brought.told[0], "remote/journal-does-not-match-its-own-checkpoint", theirs=theirs)
    assert walk(tmp_path / "new", stop=6).resumed_from == 4
    lines = (tmp_path / "new/r/journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["count"] for line in lines] == [1, 3, 4, 5, 6]


def test_only_so_much_of_a_journal_comes_as_the_checkpoint_may_need(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "TAIL_BYTES", 1000)
    whole = (tmp_path / "away/r/journal.jsonl").read_bytes()
    os.truncate(tmp_path / "away/r/journal.jsonl", 10**12)
    bring_home(place(tmp_path / "new"), [tmp_path / "away"])
    assert (tmp_path / "new/r/journal.jsonl").read_bytes() == whole + bytes(1000)


def test_checkpoints_elsewhere_that_are_skipped_are_reported(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=12, last=9)
    elsewhere = tmp_path / "away/r/checkpoints"
    for step in (8, 10, 12):
        os.truncate(elsewhere / f"step-{step:08d}/MANIFEST.json", 50)
    (elsewhere / "step-00000014").mkdir()  # of a save that was killed: nothing to tell
    brought = bring_home(place(home), [tmp_path / "away"])
    assert [sentence.split(" is not valid")[0] for sentence in brought.told[:3]] == [
        str(elsewhere / f"step-{step:08d}/MANIFEST.json") for step in (12, 10, 8)
    ]
    messages.said(brought.told[0], "remote/skipped-for-the-newest-valid", step=6)
    messages.only_said(brought.told[3:], messages.says("remote/step-was-copied", step=6, folder=tmp_path / "away/r"))


@pytest.mark.parametrize("below", ["attempts", "checkpoints", "checkpoints/step-00000008"])
def test_a_very_deep_folder_in_a_copy_does_not_matter(home: Path, tmp_path: Path, below: str) -> None:
    walk(tmp_path / "away", stop=8)
    deep(tmp_path / "away/r" / below)
    try:
        assert walk(home, stop=10, inputs=[tmp_path / "away"]).resumed_from == 8
        assert bring_home(place(home), [tmp_path / "away"]).told == []
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "away"], check=True)  # its paths are too long for Python


def deep(folder: Path) -> None:
    """Make 1,500 folders inside each other, more than a path can name."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("dddd", dir_fd=at)
        inside = os.open("dddd", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inside
    os.close(at)


@pytest.mark.parametrize("same_step", [False, True], ids=["behind", "same-step"])
def test_attempts_that_cannot_be_listed_do_not_keep_checkpoints(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_step: bool
) -> None:
    if not same_step:
        walk(tmp_path / "away", stop=8)
    known = FolderRemote.list

    def refuse(self: FolderRemote, prefix: str = "") -> Iterator[Entry]:
        if prefix == "attempts/" and self.root == tmp_path / "away/r":
            raise RemoteRefused(f"{self.root / prefix}: Input/output error.")
        return known(self, prefix)

    monkeypatch.setattr(FolderRemote, "list", refuse)
    brought = bring_home(place(home), [tmp_path / "away"])
    if same_step:
        assert brought.told == []
    else:
        messages.said(brought.told, "remote/attempts-were-not-copied", folder=tmp_path / "away/r/attempts")
        messages.said(brought.told, "remote/step-was-copied", step=8, folder=tmp_path / "away/r")
    assert steps(home)[-1] == (4 if same_step else 8)


@pytest.mark.parametrize("name", ["checkpoints", "attempts"])
@pytest.mark.parametrize("kind", ["file", "link", "special file"])
def test_files_in_place_of_folders_in_a_copy_are_reported(home: Path, tmp_path: Path, name: str, kind: str) -> None:
    walk(tmp_path / "away", stop=8)
    found = tmp_path / "away/r" / name
    found.rename(tmp_path / "elsewhere")
    if kind == "link":
        found.symlink_to(tmp_path / "elsewhere")
    else:
        found.touch() if kind == "file" else os.mkfifo(found)
    brought = bring_home(place(home), [tmp_path / "away"])
    messages.said(brought.told, "remote/no-folder-in-a-copy", path=found, kind=kind)
    assert steps(home)[-1] == (4 if name == "checkpoints" else 8)


def test_a_copy_of_which_nothing_verifies_is_reported_in_few_sentences(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=14, last=9)
    for manifest in (tmp_path / "away/r/checkpoints").glob("*/MANIFEST.json"):
        os.truncate(manifest, 50)
    before = snapshot(home)
    brought = bring_home(place(home), [tmp_path / "away"])
    assert len(brought.told) == 4
    messages.said(brought.told[0], "remote/skipped-without-a-valid-one", folder=tmp_path / "away/r")
    messages.said(
        [brought.told[3]], "remote/more-have-the-same-problem", folder=tmp_path / "away/r", more=4, steps="8, 6, 4, 2"
    )
    assert snapshot(home) == before


def test_a_failed_copy_of_an_older_checkpoint_is_reported(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=10)
    (tmp_path / "away/r/checkpoints/step-00000008/state.json").write_text("damaged")
    os.truncate(tmp_path / "away/r/checkpoints/step-00000006/MANIFEST.json", 50)
    brought = bring_home(place(home), [tmp_path / "away"])
    messages.said([brought.told[0]], "remote/damaged-file-not-copied", path="step-00000008")
    messages.said([brought.told[1]], "remote/damaged-manifest-not-copied", path="step-00000006")
    assert len(brought.told) == 3
    assert steps(home) == [2, 4, 10]


def attempt_ids(root: Path) -> list[str]:
    return [json.loads(path.read_text())["id"] for path in sorted((root / "r/attempts").glob("*.json"))]


def began(root: Path, number: int, when: str, **more: str) -> None:
    attempts = root / "r/attempts"
    newest = json.loads(max(path for path in attempts.glob("*.json")).read_text())
    record = {**newest, "number": number, "started": when, **more}
    (attempts / f"{number:04d}.json").write_text(json.dumps(record))


@pytest.fixture
def two_attempts_each(home: Path, tmp_path: Path) -> list[str]:
    """Home has the first, third and fourth attempt, away the first and second, which went further; returns their ids in
    the order in which they began."""
    walk(tmp_path / "away", stop=8)
    began(tmp_path / "away", 2, "2030-01-01T00:00:00Z")
    began(home, 2, "2030-01-01T00:00:01Z", id="3" * 32)  # these two saved nothing that is new
    began(home, 3, "2030-01-01T00:00:02Z", id="4" * 32)
    first, third, fourth = attempt_ids(home)
    return [first, attempt_ids(tmp_path / "away")[1], third, fourth]


def test_no_attempt_is_lost_when_it_is_killed_between_two_renames(
    home: Path, tmp_path: Path, two_attempts_each: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, real = set(attempt_ids(home)), durable.replace
    shutil.copytree(home, tmp_path / "whole")
    for count in range(6):
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "whole", home)
        done = []

        def until(source: Path, target: Path, done: list[Path] = done, count: int = count) -> None:
            if len(done) == count:
                raise KeyboardInterrupt  # as good as kill -9: whatever is not done is not done
            done.append(target)
            real(source, target)

        monkeypatch.setattr(durable, "replace", until)
        with pytest.raises(KeyboardInterrupt):
            bring_home(place(home), [tmp_path / "away"])
        monkeypatch.undo()
        assert ours <= set(attempt_ids(home)), done
        bring_home(place(home), [tmp_path / "away"])
        assert attempt_ids(home) == two_attempts_each
        assert [json.loads(path.read_text())["number"] for path in sorted((home / "r/attempts").glob("*.json"))] == [
            1, 2, 3, 4
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "kept"),
    [(None, "lost", "lost"), ("lost", "budget", "budget"), ("budget", "lost", "budget"), ("lost", None, "lost")],
)
def test_of_two_records_of_an_attempt_the_one_that_knows_its_end_counts(
    home: Path, tmp_path: Path, ours: str | None, theirs: str | None, kept: str
) -> None:
    walk(tmp_path / "away", stop=8)
    for root, reason in ((home, ours), (tmp_path / "away", theirs)):
        path = root / "r/attempts/0001.json"
        record = {key: value for key, value in json.loads(path.read_text()).items() if key != "end"}
        path.write_text(json.dumps(record | ({"end": {"reason": reason}} if reason else {})))
    bring_home(place(home), [tmp_path / "away"])
    assert json.loads((home / "r/attempts/0001.json").read_text())["end"]["reason"] == kept


def test_an_attempt_avoids_the_names_of_foreign_files(home: Path, tmp_path: Path, two_attempts_each: list[str]) -> None:
    (home / "r/attempts/0004.json").mkdir()
    (home / "r/attempts/0002.json").rename(home / "r/attempts/0005.json")
    (home / "r/attempts/0002.json").write_text("damaged")
    brought = bring_home(place(home), [tmp_path / "away"])
    messages.only_said(brought.told, messages.says("remote/step-was-copied", step=8, folder=tmp_path / "away/r"))
    walk(home, stop=10)
    kept = {path.name: path for path in (home / "r/attempts").glob("*.json")}
    assert (home / "r/attempts/0004.json").is_dir()
    first, theirs, third, fourth = two_attempts_each
    found = {name: json.loads(path.read_text()).get("id") for name, path in kept.items() if path.is_file()}
    assert {first, theirs, third, fourth} <= set(found.values())
    assert None in found.values(), "the damaged one stands as lost"


def test_a_folder_in_the_place_of_an_attempt_is_no_reason_not_to_train(home: Path) -> None:
    (home / "r/attempts/0002.json").mkdir()
    assert walk(home, stop=6).resumed_from == 4
    assert sorted(os.listdir(home / "r/attempts")) == [
        "0001.events.jsonl", "0001.json", "0002.json", "0003.events.jsonl", "0003.json"
    ]  # fmt: skip
    messages.said(told(home), "folder/folder-is-ignored", file="0002.json")


@pytest.mark.parametrize("what", ["journal.jsonl", "config.json", "run.json", "0002.json"])
def test_a_full_disk_leaves_no_partial_records(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    walk(tmp_path / "away", stop=6)
    (tmp_path / "away/r/config.json").write_text('{"format": 2, "values": {}}')
    checkpoint = read_manifest(place(tmp_path / "away").checkpoint(6))
    before, real = snapshot(home), os.write

    def full(descriptor: int, data) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(what):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with messages.raises(SaveFailed, "remote/step-could-not-be-copied", step=6, folder=tmp_path / "home/r"):
        bring_home(place(home), [tmp_path / "away"])
    if what != "0002.json":  # a fork has no attempts yet
        with messages.raises(SaveFailed, "remote/step-could-not-be-copied", step=6, folder=tmp_path / "forked"):
            fork(place(tmp_path / "away"), checkpoint, place(tmp_path, "forked"))
    monkeypatch.undo()
    assert snapshot(home) == before
    assert not (home / "r/.tmp-coming").exists()
    assert not snapshot(tmp_path / "forked")


def test_a_damaged_config_elsewhere_is_reported_and_ours_stays(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=6)
    (home / "r/config.json").write_text('{"format": 2, "values": {"a": 1}}')
    (tmp_path / "away/r/config.json").write_text('{"values": ' + "[" * 5000 + "]" * 5000 + "}")
    brought = bring_home(place(home), [tmp_path / "away"])
    assert str(tmp_path / "away/r/config.json") in brought.told[0]
    messages.only_said(brought.told[1:], messages.says("remote/step-was-copied", step=6, folder=tmp_path / "away/r"))
    assert stored_config(place(home), [tmp_path / "away"])["values"] == {"a": 1}
    (home / "r/config.json").unlink()
    with messages.raises(CorruptCheckpoint, "remote/a-damaged-config-elsewhere-is-told", path="away/r/config.json"):
        stored_config(place(home), [tmp_path / "away"])
    shutil.copytree(tmp_path / "away", tmp_path / "zz/away")
    (tmp_path / "zz/away/r/config.json").write_text('{"format": 2, "values": {"b": 1}}')
    assert stored_config(place(home), [tmp_path / "away", tmp_path / "zz"])["values"] == {"b": 1}


def test_links_in_an_input_are_followed_at_the_first_level_only(home: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "input"
    (bomb / "below").mkdir(parents=True)
    for number in range(12):
        (bomb / f"link{number}").symlink_to(".")
        (bomb / f"below/link{number}").symlink_to(".")
    (bomb / "mount").symlink_to(tmp_path / "away")
    (bomb / "below/mount").symlink_to(tmp_path / "away")
    assert [found.path for found in copies_of("r", [bomb])] == [bomb / "mount/r"]
    deep = tmp_path / "input/notebooks/owner/slug/working/runs"
    shutil.copytree(home / "r", deep / "r")
    assert [found.path for found in copies_of("r", [bomb])] == [bomb / "mount/r", deep / "r"]


def test_a_run_is_found_beside_a_data_set_of_many_folders(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "MOST_FOLDERS", 40)
    for number in range(100):
        (tmp_path / f"input/data/{number}/deeper").mkdir(parents=True)
    shutil.copytree(home / "r", tmp_path / "input/notebooks/owner/slug/working/runs/r")
    said: list[str] = []
    assert len(copies_of("r", [tmp_path / "input"], said)) == 1
    assert len(said) == 1
    messages.said([said[0]], "remote/has-more-than-folders", folder=tmp_path / "input", folders=40)


def test_a_shortened_lineage_gives_no_answer_for_dropped_entries() -> None:
    manifest = {"attempt": "a0", "step": 1, "digest": "d0", "lineage": []}
    for number in range(1, 1500):
        grown = History.following("u", f"a{number}", manifest).as_json()
        manifest = {**grown, "step": number + 1, "digest": f"d{number}"}
    assert len(manifest["lineage"]) == 1000
    assert manifest["lineage"][-1] == {"attempt": "a1498", "step": 1499, "digest": "d1498"}
    remembered = {"attempt": "a700", "step": 701, "digest": "x"}
    forgotten = {"attempt": "a100", "step": 101, "digest": "d100"}
    other = {"attempt": "b", "step": 1200, "digest": "y", "lineage": []}
    answers = [is_ancestor(one, manifest) for one in (remembered, forgotten, other, {**other, "step": 90})]
    assert answers == [True, None, False, None]


def test_a_damaged_newest_gives_way_to_the_next_of_all_places(home: Path, tmp_path: Path) -> None:
    """What verifies is known when it is copied; until then the manifests say who is the newest."""
    shutil.copytree(tmp_path / "away", tmp_path / "other")
    walk(tmp_path / "away", stop=10)
    (tmp_path / "away/r/checkpoints/step-00000010/walk.safetensors").write_bytes(b"damaged")
    shutil.copytree(tmp_path / "away", tmp_path / "far")
    shutil.rmtree(tmp_path / "far/r/checkpoints/step-00000010")
    shutil.rmtree(tmp_path / "away/r/checkpoints/step-00000008")
    brought = bring_home(place(home), [tmp_path / "away", tmp_path / "far", tmp_path / "other"])
    messages.said([brought.told[-1]], "remote/step-was-copied", step=8, folder=tmp_path / "far/r")
    messages.said(
        brought.told[0],
        "remote/skipped-for-the-newest-readable",
        path="step-00000010/walk.safetensors",
        bytes=7,
        step=6,
    )
    assert walk(home, stop=12).resumed_from == 8


def test_a_checkpoint_elsewhere_is_read_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk(tmp_path / "away", stop=6)
    asked: list[str] = []
    real = FolderRemote.get

    def get(self: FolderRemote, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        asked.extend([name] if self.root == tmp_path / "away/r" else [])
        return real(self, name, start, stop)

    monkeypatch.setattr(FolderRemote, "get", get)
    monkeypatch.setattr(durable, "link_file", lambda *_: False)
    bring_home(place(home), [tmp_path / "away"])
    arrays = [name for name in asked if name.endswith((".safetensors", "state.json"))]
    assert sorted(arrays) == sorted(
        f"checkpoints/step-00000006/{name}" for name in ("rng.safetensors", "state.json", "walk.safetensors")
    )


def files(folder: Path) -> dict[str, os.stat_result]:
    """The data of a checkpoint."""
    return {path.name: path.stat() for path in folder.iterdir() if path.name != "MANIFEST.json"}


def test_data_that_a_session_left_in_the_same_file_system_is_not_copied(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=6)
    bring_home(place(home), [tmp_path / "away"])
    there, here = (files(root / "r/checkpoints/step-00000006") for root in (tmp_path / "away", home))
    assert there.keys() == here.keys()
    assert all(there[name].st_ino == here[name].st_ino for name in there)
    journals = [root / "r/journal.jsonl" for root in (tmp_path / "away", home)]
    assert not journals[0].samefile(journals[1]), "a journal grows in place"
    assert walk(home, stop=8).resumed_from == 6
    shutil.rmtree(tmp_path / "away")
    opened, damaged = CheckpointStore(place(home)).open_newest()
    assert (opened.checkpoint.step, damaged) == (8, [])


@pytest.mark.parametrize("why", ["another file system", "another user", "no hard links", "a link"])
def test_data_that_cannot_have_a_second_name_is_copied(
    why: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(tmp_path / "away", stop=6)
    place_of = tmp_path / "away/r/checkpoints/step-00000006"
    if why == "another user":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    elif why == "another file system":
        monkeypatch.setattr(os, "link", failing(errno.EXDEV))
    elif why == "no hard links":
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    else:
        (place_of / "state.json").rename(tmp_path / "state.json")
        (place_of / "state.json").symlink_to(tmp_path / "state.json")
    told = bring_home(place(home), [tmp_path / "away"]).told
    if why == "a link":
        assert CheckpointStore(place(home)).newest_step() < 6, "no link is followed"
        assert any("state.json" in words for words in told)
        return
    there, here = (files(root / "r/checkpoints/step-00000006") for root in (tmp_path / "away", home))
    assert all(there[name].st_ino != here[name].st_ino for name in there)
    assert walk(home, stop=8).resumed_from == 6


def failing(number: int):
    def link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return link


def test_a_file_that_was_exchanged_while_it_got_a_second_name_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    real = os.link
    monkeypatch.setattr(os, "link", lambda source, target: real(tmp_path / "b", target))
    assert not durable.link_file(tmp_path / "a", tmp_path / "c")
    assert not (tmp_path / "c").exists()
    monkeypatch.undo()
    assert durable.link_file(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").samefile(tmp_path / "a")
    assert not durable.link_file(tmp_path / "b", tmp_path / "c"), "a name that is taken"
    assert (tmp_path / "c").read_text() == "a"
    assert not durable.link_file(tmp_path / "none", tmp_path / "d")


def test_a_run_in_a_folder_remote_is_copied(home: Path, tmp_path: Path) -> None:
    walk(tmp_path / "away", stop=8)
    empty = FolderRemote(tmp_path / "empty")
    brought = bring_home(place(home), [], [PushedRun(each, "r") for each in (empty, FolderRemote(tmp_path / "away"))])
    messages.only_said(brought.told, messages.says("remote/step-was-copied", step=8, folder=tmp_path / "away/r"))
    assert walk(home, stop=10).resumed_from == 8


@pytest.mark.parametrize("data", [b"DATA", b"dat", b"data and more"])
def test_a_file_that_is_not_what_the_manifest_says_is_not_copied(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "away/f").write_bytes(data)
    with pytest.raises(CorruptCheckpoint, match="away/f"):
        Place.at(tmp_path / "away").copy("f", tmp_path / "f", expected=hashing.hash_pieces([b"data"]))
    assert not (tmp_path / "f").exists()


def test_a_copy_is_read_before_anything_moves(home: Path, tmp_path: Path) -> None:
    """Its files are what the manifest says, and it is no checkpoint: another program's, or one that was made up."""
    walk(tmp_path / "away", stop=8)
    forge(tmp_path / "away/r/checkpoints/step-00000008", "state.json", b"[]")
    brought = bring_home(place(home), [tmp_path / "away"])
    assert steps(home) == [2, 4, 6]
    assert "step-00000008" in brought.told[0]
    assert not (home / "r/set-aside").exists() or not list((home / "r/set-aside").iterdir())
    assert walk(home, stop=10).resumed_from == 6


class Away(FolderRemote):
    """A remote that answers some times and then no more."""

    answers = 0

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self.answers -= 1
        if self.answers < 0:
            raise RemoteUnavailable(f"{self.address(name)} did not answer within 30 s.", "timed out")
        yield from super().get(name, start, stop)


def test_a_remote_that_does_not_answer_is_an_error_and_changes_nothing(home: Path, tmp_path: Path) -> None:
    """To go on from what is here would begin a second history."""
    walk(tmp_path / "away", stop=8)
    before, remote, count = snapshot(home), Away(tmp_path / "away"), 0
    while True:
        remote.answers = count
        with contextlib.suppress(RemoteUnavailable):
            bring_home(place(home), [], [PushedRun(remote, "r")])
            break
        assert snapshot(home) == before
        assert not (home / "r/.tmp-coming").exists()
        count += 1
    remote.answers = 4
    shutil.rmtree(home)
    with messages.raises(RemoteUnavailable, "remote/did-not-answer") as caught:
        bring_home(place(home), [], [PushedRun(remote, "r")])
    assert caught.value.reason == "timed out"
    bring_home(place(home), [], [PushedRun(FolderRemote(tmp_path / "away"), "r")])
    assert count >= 10
    assert walk(home, stop=10).resumed_from == 8


def test_events_go_where_their_attempts_record_goes(home: Path, tmp_path: Path, two_attempts_each: list[str]) -> None:
    first, theirs, third, fourth = two_attempts_each
    for root, number, words in ((home, 2, third), (home, 3, fourth), (tmp_path / "away", 2, theirs), (home, 1, first)):
        (root / f"r/attempts/{number:04d}.events.jsonl").write_text(words)
    (home / "r/attempts/0003.events.jsonl").unlink()  # the fourth attempt has written none
    bring_home(place(home), [tmp_path / "away"])
    assert attempt_ids(home) == two_attempts_each
    found = {path.name[:4]: path.read_text() for path in (home / "r/attempts").glob("*.events.jsonl")}
    assert found == {"0001": first, "0002": theirs, "0003": third}
