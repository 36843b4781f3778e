"""Records of launches: what one process has learnt is kept when another one learns something."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from outlast.cli import main
from outlast.folder.layout import RunFolder
from outlast.launch.records import LaunchRecord, all_launches
from tests import messages


def test_what_another_process_has_learnt_meanwhile_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    ours = LaunchRecord.begin(
        folder, 1, provider="local", name="outlast-r-001", handle={"session": "outlast-r-001"}, accelerator="cpu"
    )
    (theirs,) = all_launches(folder)
    theirs.learn(state="fetched", step=6)
    ours.learn(seconds=2.5)
    (found,) = all_launches(folder)
    assert ours.record == found.record
    assert [found.record[name] for name in ("state", "step", "seconds")] == ["fetched", 6, 2.5]


def test_a_damaged_record_of_one_run_is_reported_and_stops_no_look_at_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("bad", "old", "walk"):
        name = f"outlast-{run}-001"
        LaunchRecord.begin(
            RunFolder(Path("runs") / run), 1, provider="local", name=name, handle={"session": name}, accelerator="cpu"
        )
    assert main(["status"]) == 0
    Path("runs/bad/launches/0001.json").write_text("{")
    old = Path("runs/old/launches/0001.json")
    old.write_text(json.dumps({key: value for key, value in json.loads(old.read_text()).items() if key != "time"}))
    capsys.readouterr()
    assert main(["status"]) == 0
    told = capsys.readouterr()
    assert "outlast-walk-001" in told.out
    messages.said(told.err, "launch/run-is-left-out", run="bad")
    assert main(["logs"]) == 0
    messages.said(capsys.readouterr().err, "launch/run-is-left-out", run="bad")
    assert main(["logs", "bad"]) != 0
    for run in ("bad", "walk"):
        shutil.rmtree(f"runs/{run}")
    assert main(["status"]) == 0
    assert "outlast-old-001" in capsys.readouterr().out
