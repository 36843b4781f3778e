"""A session is followed, fetched, cancelled, cleared and deleted as its own run's only, whatever a record says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from outlast.cli import main
from outlast.errors import LaunchError, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.down import down
from outlast.launch.fetch import fetch
from outlast.launch.keeper import write
from outlast.launch.local.provider import LocalProvider
from outlast.launch.records import LaunchRecord, all_launches, session_name
from tests import messages

PRECIOUS = "work/runs/mine/precious.txt"


@pytest.fixture
def root() -> Path:
    """The folder of the sessions, with one of the run mine that is over and not fetched."""
    return session("mine", 1).parent


def session(run: str, number: int, *, left: str = "") -> Path:
    folder = Path("runs/.sessions").absolute() / session_name(run, number)
    for name in ("code", f"work/runs/{left or run}"):
        (folder / name).mkdir(parents=True)
    (folder / f"work/runs/{left or run}/precious.txt").write_text("hours")
    (folder / "log.txt").write_text("")
    (folder / "begun").write_text("")
    write(folder / "session.json", {"command": [], "cwd": ".", "seconds": 600.0, "grace": 1.0})
    write(folder / "keeper.json", {"pid": 2**31 - 1, "began": "long ago"})
    write(folder / "end.json", {"word": "completed", "message": "", "exit": 75, "seconds": 20.0})
    return folder


def on_record(run: str, number: int, state: str, *, name: str = "", handle: str = "") -> LaunchRecord:
    name = name or session_name(run, number)
    folder = RunFolder(Path("runs") / run)
    record = LaunchRecord.begin(
        folder, number, provider="local", name=name, handle={"session": handle or name}, accelerator="this machine"
    )
    record.learn(state=state)
    return record


@pytest.mark.parametrize("name", ["outlast-mine-001", "outlast-evil-001"])
def test_a_record_that_names_the_session_of_another_run_reaches_it_with_no_verb(
    name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = on_record("evil", 1, "fetched", name=name, handle="outlast-mine-001")
    for words in (("down", "evil", "--unfinished"), ("fetch", "evil"), ("cancel", "evil"), ("logs", "evil")):
        assert main(list(words)) == 2
        messages.said(capsys.readouterr().err, "launch/session-of-another-run", run="evil", session="outlast-mine-001")
    with messages.raises(UsageError, "launch/session-of-another-run-2", run="evil", session="outlast-mine-001"):
        fetch(LocalProvider(root), record)
    assert (root / "outlast-mine-001" / PRECIOUS).read_text() == "hours"


def test_a_fetch_clears_only_sessions_of_its_run(root: Path) -> None:
    on_record("evil", 1, "fetched", name="outlast-mine-001")
    session("evil", 2)
    fetched = session("evil", 3)
    on_record("evil", 2, "fetched")
    fetch(LocalProvider(root), on_record("evil", 3, "pushed"))
    assert (root / "outlast-mine-001" / PRECIOUS).exists()
    assert not (root / "outlast-evil-002/work").exists()
    assert (fetched / "work").exists()


def test_the_session_of_a_renamed_run_is_neither_fetched_nor_deleted(root: Path) -> None:
    on_record("mine", 1, "pushed")
    Path("runs/mine").rename("runs/mine-old")
    folder = RunFolder(Path("runs/mine-old"))
    (record,) = all_launches(folder)
    for verb in (lambda: fetch(LocalProvider(root), record), lambda: down(folder, unfinished=True)):
        with pytest.raises(UsageError, match="outlast-mine-001"):
            verb()
    assert all_launches(folder)[0].record["state"] == "pushed"
    assert (root / "outlast-mine-001" / PRECIOUS).exists()


def test_a_session_that_has_left_another_run_only_is_not_on_record_as_fetched(root: Path) -> None:
    session("walk", 1, left="mine")
    record = on_record("walk", 1, "pushed")
    with messages.raises(LaunchError, "launch/left-another-run", session="outlast-walk-001", run="walk", others="mine"):
        fetch(LocalProvider(root), record)
    assert all_launches(record.folder)[0].record["state"] == "pushed"


def test_a_launch_that_was_refused_deletes_no_session_of_its_name(root: Path) -> None:
    on_record("mine", 1, "refused")
    on_record("mine", 2, "fetched")
    session("mine", 2)
    assert down(RunFolder(Path("runs/mine")), unfinished=True) == ["outlast-mine-002"]
    assert (root / "outlast-mine-001" / PRECIOUS).exists()


def test_an_earlier_session_is_deleted_only_after_its_files_were_fetched_or_continued(root: Path) -> None:
    shutil.rmtree(root)
    for number in (1, 2):
        step = session("mine", number) / "work/runs/mine/checkpoints/step-00000006"
        step.mkdir(parents=True)
        (step / "MANIFEST.json").write_text("{}")
    on_record("mine", 1, "lost")
    later = on_record("mine", 2, "fetched")
    with pytest.raises(UsageError, match="outlast-mine-001"):
        down(later.folder, unfinished=True)
    later.learn(after="outlast-mine-001")
    assert down(later.folder, unfinished=True) == ["outlast-mine-001", "outlast-mine-002"]


def test_no_two_runs_have_sessions_of_one_name() -> None:
    long = "skeleton-ntu120-xsub-distilled-seed-number-"
    runs = [f"{long}1", f"{long}2", "Digits.1", "digits-1", "digits.1", "digits_1"]
    names = [session_name(run, 1) for run in runs]
    assert len(set(names)) == len(runs)
    assert max(map(len, names)) <= 50
    assert session_name("digits-1", 3) == "outlast-digits-1-003"
