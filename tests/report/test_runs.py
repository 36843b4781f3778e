"""What `status` and `runs` read of a long run: the newest, and the journal's end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests import messages

import outlast
from outlast.checkpoint import CheckpointStore, Retention, Snapshot, manifest, open_checkpoint
from outlast.checkpoint.history import History
from outlast.cli import main
from outlast.folder import durable, reading
from outlast.folder.layout import RunFolder
from outlast.report import read_run, runs


class State:
    def state_dict(self) -> dict[str, object]:
        return {"a": 1}

    def load_state_dict(self, state: dict[str, object]) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with 61 checkpoints and 41 attempts, of which the last four were refused before they trained."""
    with outlast.open_run("r", total_steps=2, root=tmp_path, save="1 steps", progress="none") as run:
        run.track(state=State())
        for step in run.steps():
            run.log(**({"loss": 1 / step} if step == 2 else {"loss": 1.0, "val": 0.5}))
    folder = RunFolder(tmp_path / "r")
    opened = open_checkpoint(folder.checkpoint(2))
    manifest = opened.checkpoint.manifest
    store = CheckpointStore(folder, Retention(last=100))
    store.history = History.following(manifest["run"], manifest["attempt"], None)
    for step in range(3, 62):
        store.commit(
            Snapshot.of(step, "steps", opened.parts, opened.state.as_json() | {"step": step}, {"loss": 1 / step})
        )
    record = reading.read_json(folder.attempt(1))
    for number in range(2, 42):
        durable.write_json(folder.attempt(number), record | {"number": number, "trained": number < 38})
    return folder


def test_unneeded_files_are_not_read(folder: RunFolder, monkeypatch) -> None:
    manifests, records = [], []
    real, real_record = manifest.parse_manifest, runs.read_record
    monkeypatch.setattr(manifest, "parse_manifest", lambda *facts: manifests.append(facts) or real(*facts))
    monkeypatch.setattr(runs, "read_record", lambda *facts: records.append(facts) or real_record(*facts))
    info = read_run(folder.path)
    assert (info.status, info.step, info.total_steps, len(info.numbers)) == ("finished", 61, 2, 41)
    assert len(manifests) == 1
    assert len(records) == 5
    assert info.metrics == {"loss": 0.5, "val": 0.5}
    assert [each.step for each in info.last_checkpoints(3)] == [59, 60, 61]
    assert info.checkpoint_count == 61
    assert len(manifests) <= 5
    there = sum(path.stat().st_size for path in folder.checkpoints.rglob("*") if path.is_file())
    assert info.stored_bytes == there


def test_status_shows_the_newest_and_says_how_many_there_are(folder: RunFolder, capsys) -> None:
    (folder.set_aside / "step-00000001-1").mkdir(parents=True)
    assert main(["status", str(folder.path)]) == 0
    out = capsys.readouterr().out
    messages.said(out, "cli/more-checkpoints", count=41)
    messages.said(out, "cli/more-attempts", count=21)
    assert "step-00000042" in out
    assert not re.search(r"step-00000041\s", out)
    messages.said(out, "cli/set-aside", count=1)
    messages.said(out, "cli/last-metrics", metrics="loss 0.5, val 0.5")
    messages.unsaid(out, "cli/journal-not-looked-at-further-back")
    assert main(["status", str(folder.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (len(shown["checkpoints"]), len(shown["attempts"]), shown["metrics_whole"]) == (61, 41, True)


def test_a_finished_run_without_checkpoints_has_the_step_of_its_end(tmp_path: Path, capsys) -> None:
    with outlast.open_run("r", total_steps=9, root=tmp_path, save="1 steps", progress="none") as run:
        run.track(state=State())
        for step in run.steps():
            run.log(loss=1.0)
            if step == 4:
                break
    assert read_run(tmp_path / "r").status == "finished"
    assert read_run(tmp_path / "r").step == 4
    shutil.rmtree(tmp_path / "r/checkpoints")
    assert read_run(tmp_path / "r").step == 4


def test_how_far_back_the_journal_was_read_is_said(folder: RunFolder, capsys, monkeypatch) -> None:
    with folder.journal.open("ab") as file:
        file.writelines(b'{"step": %d, "loss": 0.25}\n' % step for step in range(62, 5000))
    monkeypatch.setattr("outlast.tracking.reading.BLOCK", 512)
    monkeypatch.setattr("outlast.report.runs.latest", lambda path, mark: outlast.tracking.latest(path, mark, 1000))
    assert main(["status", str(folder.path)]) == 0
    out = capsys.readouterr().out
    messages.said(out, "cli/last-metrics", metrics="loss 0.25, val 0.5")
    messages.said(out, "cli/journal-not-looked-at-further-back", step=re.compile(r"4\d*"))


def test_of_very_many_checkpoints_the_newest_and_the_damaged_are_listed(folder: RunFolder, capsys, monkeypatch) -> None:
    monkeypatch.setattr("outlast.cli.checkpoints.SHOWN_ROWS", 10)
    (folder.checkpoint(5) / "MANIFEST.json").write_text("{")
    assert main(["checkpoints", str(folder.path), "--quick"]) == 1
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if "not hashed" in line]) == 10
    assert "DAMAGED" in out
    messages.said(out, "report/before-these-json-gives", before=50)
