"""outlast sync, as typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import messages
from tests.tracking.sinks.runs import points, train
from tests.tracking.sinks.test_tracker_feed import Kept

from outlast.cli import sync
from outlast.errors import TrackerFailed, UsageError
from outlast.folder.layout import RunFolder
from outlast.tracking.sinks.feed import Feed


def test_what_is_typed_wrong(outlast_cli, opened, tmp_path: Path) -> None:
    train(opened, 3)
    done = outlast_cli("sync", str(tmp_path / "r"), "--to", "neptune")
    assert done.returncode == 2
    messages.said(done.stderr, "cli/sync-to-what", name="neptune")
    assert outlast_cli("sync", "nothing", "--to", "tensorboard").returncode == 2


def test_sync_sends_a_run_and_says_what_was_sent(outlast_cli, opened, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'outlast[tensorboard]'")
    train(opened, 6)
    done = outlast_cli("sync", str(tmp_path / "r"), "--to", "tensorboard", "--folder", "all")
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "cli/sync-sent", run="r", lines=7)
    from tests.tracking.sinks.test_tensorboard import shown

    assert shown(tmp_path / "all/r") == points(tmp_path)
    again = outlast_cli("sync", str(tmp_path / "r"), "--to", "tensorboard", "--folder", "all")
    messages.said(again.stdout, "cli/sync-nothing-to-send", run="r")


def test_the_key_sinks_shows_a_recipe_s_run_and_is_kept_by_a_resume(outlast_cli, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'outlast[tensorboard]'")
    done = outlast_cli("train", "digits", "--epochs", "1", "--data.samples", "200", "--sinks", "tensorboard")
    assert done.returncode == 0, done.stderr
    outlast_cli("resume", "digits", "--epochs", "2")
    outlast_cli("sync", "digits", "--to", "tensorboard")  # what a busy machine had no time for
    from tests.tracking.sinks.test_tensorboard import shown

    found, journal = shown(tmp_path / "runs/digits/tensorboard"), points(tmp_path / "runs", "digits")
    assert {tag: [step for step, _ in each] for tag, each in found.items()} == {
        tag: [step for step, _ in each] for tag, each in journal.items()
    }
    assert '"sinks": [' in (tmp_path / "runs/digits/config.json").read_text()
    assert outlast_cli("train", "digits", "--sinks", "neptune").returncode == 2


def test_a_run_that_another_process_sends_and_a_tracker_that_fails(opened, tmp_path: Path, monkeypatch) -> None:
    train(opened, 6)
    kept = Kept(broken=1)
    monkeypatch.setattr(sync, "client_of", lambda name, options: kept)
    words = [str(tmp_path / "r"), "--to", "wandb"]
    with messages.raises(TrackerFailed, "cli/sync-tracker-failed", run="r", error="ConnectionError: no route"):
        sync.run(words)
    other = Feed(RunFolder(tmp_path / "r"), "wandb", Kept())
    assert other.take()
    with messages.raises(UsageError, "cli/sync-sent-by-another", run="r"):
        sync.run(words)
    other.close()
    assert sync.run(words) == 0
    assert kept.points() == points(tmp_path)
    assert kept.ends == [("finished", 6)]


def test_what_continues_after_a_failure_names_the_folder_as_well(opened, tmp_path: Path, monkeypatch) -> None:
    train(opened, 6)
    monkeypatch.setattr(sync, "client_of", lambda name, options: Kept(broken=1))
    words = [str(tmp_path / "r"), "--to", "tensorboard", "--folder", str(tmp_path / "a folder")]
    with messages.raises(TrackerFailed, "cli/sync-tracker-failed-in-a-folder", run="r", folder="a folder"):
        sync.run(words)
