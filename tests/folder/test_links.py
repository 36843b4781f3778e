"""Links and special files in a run folder: nothing outside is changed, deleted, locked or packed, and nothing waits."""

from __future__ import annotations

import json
import os
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import messages
from tests.folders import Walk, manifest_of, place, seal, steps, told, walk

import outlast
from outlast.checkpoint import CheckpointStore, open_checkpoint, read_manifest
from outlast.errors import CorruptCheckpoint, OutlastError, UnsafeFolder
from outlast.folder import copying, durable, lock
from outlast.folder.attempt import AttemptRecord
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock, holder
from outlast.launch.records import all_launches
from outlast.report import read_run
from outlast.report.archive import archive


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "victim"
    (folder / "sub").mkdir(parents=True)
    (folder / "thesis.txt").write_text("precious" * 500)
    (folder / "sub/b.txt").write_text("precious")
    return folder


@pytest.fixture(autouse=True)
def canary(request: pytest.FixtureRequest):
    """Whatever a test does, the victim stays as it was."""
    if "victim" not in request.fixturenames:
        yield
        return
    victim = request.getfixturevalue("victim")
    before = {path: path.read_bytes() if path.is_file() else None for path in sorted(victim.rglob("*"))}
    yield
    assert {path: path.read_bytes() if path.is_file() else None for path in sorted(victim.rglob("*"))} == before


@pytest.fixture
def run(tmp_path: Path) -> Path:
    walk(tmp_path, stop=4)
    return tmp_path / "r"


def test_a_link_named_like_a_checkpoint_costs_nothing_elsewhere(tmp_path: Path, run: Path, victim: Path) -> None:
    """cases/folders/01."""
    (run / "checkpoints/step-00000099").symlink_to(victim)
    (run / "checkpoints/step-00000006").symlink_to(victim)
    assert walk(tmp_path, stop=8).resumed_from == 4
    messages.said(told(tmp_path), "folder/link-is-ignored", path="step-00000099")
    assert (run / "checkpoints/step-00000099").is_symlink()
    assert not (run / "checkpoints/step-00000006").is_symlink(), "the name is a checkpoint's now"
    assert 8 in steps(tmp_path)


def test_nor_does_one_that_holds_a_manifest(tmp_path: Path, run: Path) -> None:
    shutil.copytree(run / "checkpoints/step-00000004", tmp_path / "elsewhere")
    (run / "checkpoints/step-00000098").symlink_to(tmp_path / "elsewhere")
    assert walk(tmp_path, stop=6).resumed_from == 4
    with messages.raises(
        CorruptCheckpoint, "folder/is-link-and-no-folder", folder=tmp_path / "r/checkpoints/step-00000098"
    ):
        read_manifest(run / "checkpoints/step-00000098")
    assert len(os.listdir(tmp_path / "elsewhere")) == 4


@pytest.mark.parametrize(
    "name", ["checkpoints", "attempts", "launches", "set-aside", "artifacts", "checkpoints/shared"]
)
@pytest.mark.parametrize("there", [True, False], ids=["", "dangling"])
def test_a_link_in_the_place_of_a_folder_is_refused(
    tmp_path: Path, run: Path, victim: Path, name: str, there: bool
) -> None:
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(victim if there else tmp_path / "nothing")
    with messages.raises(UnsafeFolder, "folder/is-link-where-folder-of-outlast", path=run / name):
        walk(tmp_path, stop=6)
    assert not (tmp_path / "nothing").exists()
    assert all_launches(RunFolder(run)) == []
    assert read_run(run).status in ("interrupted", "pending")


@pytest.mark.parametrize("name", ["run.json", "config.json", "journal.jsonl", "lock", "ranks"])
@pytest.mark.parametrize("there", [True, False], ids=["", "dangling"])
def test_a_link_in_the_place_of_a_file_is_refused(
    tmp_path: Path, run: Path, victim: Path, name: str, there: bool
) -> None:
    """cases/folders/04."""
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim / "thesis.txt" if there else tmp_path / "nothing")
    message = "folder/link-was-not-opened" if name in ("lock", "ranks") else "folder/is-a-link"
    with messages.raises(UnsafeFolder, message, name=name):
        walk(tmp_path, stop=6)
    assert not (tmp_path / "nothing").exists()


KINDS: dict[str, Callable[[Path], None]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "socket": lambda path: bind(path),
    "link": lambda path: path.symlink_to("/dev/zero"),
}


def bind(path: Path) -> None:
    where = os.getcwd()
    os.chdir(path.parent)  # a socket's path may be short only
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(where)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "lock", "ranks", "config.json"])
def test_special_files_are_refused_and_never_waited_for(tmp_path: Path, run: Path, name: str, kind: str) -> None:
    (run / name).unlink(missing_ok=True)
    KINDS[kind](run / name)
    with pytest.raises(UnsafeFolder):
        walk(tmp_path, stop=6)
    assert holder(run / "lock") is None
    if name in ("run.json", "journal.jsonl"):
        with pytest.raises(OutlastError, match=name):
            _ = read_run(run).metrics


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["MANIFEST.json", "state.json", "walk.safetensors"])
def test_in_a_checkpoint_they_are_damage(tmp_path: Path, run: Path, name: str, kind: str) -> None:
    (run / "checkpoints/step-00000004" / name).unlink()
    KINDS[kind](run / "checkpoints/step-00000004" / name)
    assert walk(tmp_path, stop=6).resumed_from == 2
    assert "set aside" in told(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_in_an_attempts_place_they_are_left_alone(tmp_path: Path, run: Path, kind: str) -> None:
    KINDS[kind](run / "attempts/0007.json")
    walk(tmp_path, stop=6)
    assert sorted(os.listdir(run / "attempts")) == [
        "0001.events.jsonl", "0001.json", "0002.events.jsonl", "0002.json", "0007.json"
    ]  # fmt: skip
    assert len(read_run(run).attempts) == 2


def test_what_temporary_names_point_to_is_not_written(tmp_path: Path, run: Path, victim: Path) -> None:
    checkpoint = run / "checkpoints/step-00000006"
    (run / "attempts/.tmp-0002.json").symlink_to(victim / "thesis.txt")
    (run / ".tmp-journal.jsonl").symlink_to(victim)
    (run / ".tmp-coming").symlink_to(victim)
    checkpoint.mkdir()
    (checkpoint / "deep").symlink_to(victim)
    walk(tmp_path, stop=6)
    os.link(victim / "thesis.txt", run / ".tmp-run.json")  # a second name of a file elsewhere
    durable.write_json(run / "run.json", json.loads((run / "run.json").read_text()))
    walk(tmp_path, stop=8)


def test_a_deep_folder_in_a_checkpoints_place_is_swept(tmp_path: Path, run: Path) -> None:
    where = os.getcwd()
    os.chdir(run / "checkpoints")
    os.mkdir("step-00000009")
    os.chdir("step-00000009")
    for _ in range(1200):
        os.mkdir("a")
        os.chdir("a")
    os.chdir(where)
    assert read_run(run).stored_bytes > 0
    walk(tmp_path, stop=6)
    assert steps(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize("name", ["lock", "journal.jsonl"])
def test_a_second_name_of_a_file_elsewhere_is_not_written_through(
    tmp_path: Path, run: Path, victim: Path, name: str
) -> None:
    """As `cp -al` makes it for a backup; or somebody who means harm."""
    if name == "lock":
        (run / name).unlink()
        os.link(victim / "thesis.txt", run / name)
        walk(tmp_path, stop=6)
        assert (run / name).stat().st_nlink == 1
        assert json.loads((run / name).read_text())["released"] is True
        return
    os.link(run / name, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    walk(tmp_path, stop=6)
    assert (tmp_path / "backup").read_bytes() == before
    assert len((run / name).read_text().splitlines()) == 6


def test_a_lock_with_two_names_still_has_one_owner(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    os.link(tmp_path / "lock", tmp_path / "backup")
    mine, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    mine.take("attempt 1")
    with messages.raises(OutlastError, "folder/being-written-by-attempt", attempt=1):
        other.take("attempt 2")
    assert (tmp_path / "backup").read_bytes() == b""
    mine.release()
    assert other.take("attempt 2") is None
    other.release()


def test_a_run_folder_that_is_a_link_is_the_users_business(tmp_path: Path, run: Path) -> None:
    run.rename(tmp_path / "other-disk")
    run.symlink_to(tmp_path / "other-disk")
    assert walk(tmp_path, stop=6).resumed_from == 4
    (tmp_path / "roots").symlink_to(tmp_path)
    assert walk(tmp_path / "roots", stop=8).resumed_from == 6


def test_shared_as_a_link_is_not_read_or_swept(tmp_path: Path, run: Path, victim: Path) -> None:
    checkpoint = run / "checkpoints/step-00000004"
    manifest = manifest_of(checkpoint)
    entry = manifest["files"].pop("walk.safetensors")
    manifest["files"]["walk.shared.safetensors"] = {**entry, "part": "walk", "shared": "0" * 32}
    seal(checkpoint, manifest)
    (run / "checkpoints/shared").symlink_to(victim)
    with messages.raises(CorruptCheckpoint, "folder/is-link-and-no-folder", folder=tmp_path / "r/checkpoints/shared"):
        open_checkpoint(checkpoint, mend=True)
    CheckpointStore(RunFolder(run)).sweep()


def test_archive_packs_nothing_from_outside_and_keeps_its_own_files(tmp_path: Path, victim: Path) -> None:
    """cases/folders/05."""
    with outlast.open_run("a", total_steps=2, root=tmp_path, progress="none") as run:
        run.track(model=Walk())
        for _ in run.steps():
            run.log(loss=1.0)
        for name in ("config.json", "Model_final.safetensors", "plots/a.png"):
            with run.artifact(name) as path:
                path.write_text("mine")
    artifacts = tmp_path / "a/artifacts"
    (artifacts / "plot.png").symlink_to(victim / "thesis.txt")
    (artifacts / "folder").symlink_to(victim)
    os.mkfifo(artifacts / "fifo")
    (artifacts / "a\\..\\b.txt").write_text("")
    (artifacts / "old.txt").write_text("")
    os.utime(artifacts / "old.txt", (0, 0))
    made = archive(tmp_path / "a", tmp_path / "a.zip")
    packed = zipfile.ZipFile(tmp_path / "a.zip")
    assert sorted(packed.namelist()) == sorted(made.names)
    assert set(made.names) >= {"artifacts/config.json", "artifacts/Model_final.safetensors", "plots/a.png", "old.txt"}
    assert packed.read("config.json") == b"{}\n"
    assert packed.read("artifacts/config.json") == b"mine"
    assert json.loads(packed.read("artifacts/config.json.manifest.json"))["name"] == "config.json"
    assert "plots/a.png.manifest.json" in made.names
    assert "config.json.manifest.json" not in made.names
    assert not [name for name in made.names if "plot.png" in name or "fifo" in name or "\\" in name or "thesis" in name]
    messages.said(made.told, "report/archive-leaves-out-a-link", name="plot.png")
    messages.said(made.told, "report/archive-leaves-out-a-link", name="folder")
    messages.said(made.told, "report/archive-leaves-out-a-special-file", name="fifo")
    messages.said(made.told, "report/archive-puts-elsewhere", name="config.json", place="artifacts/config.json")
    messages.said(made.told, "report/archive-leaves-out-a-name")


def test_artifacts_that_are_copied_go_around_links(tmp_path: Path, victim: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("x/a.txt", "thesis.txt", "sub/b.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("new")
    (source / "link").symlink_to(victim / "thesis.txt")
    target.mkdir()
    (target / "sub").symlink_to(victim / "sub")
    (target / "thesis.txt").symlink_to(victim / "thesis.txt")
    left = copying.copy_tree(source, target)
    assert left == [f"sub/b.txt was not copied: {target / 'sub'} is a link."]
    assert (target / "x/a.txt").read_text() == (target / "thesis.txt").read_text() == "new"
    assert not (target / "link").exists()


def test_a_read_only_folder_can_be_looked_at(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission to write is needed: not even the lock is opened for it."""
    asked, real = [], os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *more, **named: (asked.append(flags), real(path, flags, *more, **named))[1]
    )
    mine = Lock(run / "lock")
    mine.take("attempt 9")
    asked.clear()
    assert (holder(run / "lock") or {})["attempt"] == "attempt 9"
    read_run(run)
    assert asked
    assert not [flags for flags in asked if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]
    mine.release()


def test_an_attempts_record_is_written_whatever_its_texts_hold(tmp_path: Path) -> None:
    attempt = AttemptRecord.begin(place(tmp_path), "1", {})
    attempt.tell("could not read " + os.fsdecode(b"bad\xff.png"))
    attempt.end("failed", 1, 2, "UnicodeError: " + os.fsdecode(b"\xff"))
    record = json.loads((tmp_path / "r/attempts/0001.json").read_text())
    assert record["told"] == ["could not read bad\\udcff.png"]
    assert record["end"]["error"] == "UnicodeError: \\udcff"
    assert lock.holder(tmp_path / "r/lock") is None
