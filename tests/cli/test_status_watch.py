"""outlast status --watch: all runs of a folder, local and launched."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from tests import messages
from tests.report.trained import train

from outlast.cli import main, watching
from outlast.cli.watching import AllRuns
from outlast.report import watch as module
from outlast.report.watch import Watch


def screen(runs: AllRuns, width: int, height: int = 30) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(watching._screen(runs, height, width))
    return console.file.getvalue()


def test_without_a_terminal_it_prints_each_run_once_and_ends(tmp_path: Path, capsys) -> None:
    train(tmp_path, "a", total=12)
    train(tmp_path, "b", stop=17)
    assert main(["status", "--watch", "--checkpoint-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    messages.said(out, "status/watch-line", run="a", status="finished", step="12 of 12")
    messages.said(out, "status/watch-line", run="b", status="failed", step="17 of 30")
    assert len(out.splitlines()) == 2


def test_a_terminal_that_cannot_move_its_cursor_gets_lines_too(tmp_path: Path, capsys, monkeypatch) -> None:
    train(tmp_path, "a", total=12)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    monkeypatch.setattr(watching.show, "console", lambda: dumb)
    assert main(["status", "--watch", "--checkpoint-dir", str(tmp_path)]) == 0
    messages.said(capsys.readouterr().out, "status/watch-line", run="a", status="finished", step="12 of 12")
    assert not dumb.file.getvalue()


def test_only_runs_that_changed_are_read(tmp_path: Path, monkeypatch) -> None:
    first, second = train(tmp_path, "a", total=12), train(tmp_path, "b", total=12)
    read = []
    real = module.read_run
    monkeypatch.setattr(module, "read_run", lambda path: read.append(path.name) or real(path))
    watch = Watch(tmp_path)
    assert watch.look() == {"a", "b"}
    read.clear()
    assert watch.look() == set()
    assert read == []
    with first.journal.open("a") as file:
        file.write('{"step": 13, "loss": 0.25}\n')
    assert (watch.look(), read) == ({"a"}, ["a"])
    assert (watch.runs["a"].step, watch.runs["a"].metrics["loss"]) == (13, 0.25)
    second.run.write_text("damaged")
    assert watch.look() == set()  # it stays as it was
    for path in sorted(second.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert watch.look() == {"b"}
    assert list(watch.runs) == ["a"]


def test_speed_and_time_to_go(tmp_path: Path, monkeypatch) -> None:
    folder = train(tmp_path, "a", total=1000, stop=17)
    record = json.loads(folder.attempt(1).read_text())
    del record["end"]
    folder.attempt(1).write_text(json.dumps(record))
    monkeypatch.setattr("outlast.report.runs.lock.holder", lambda path: {"pid": 1})
    now = [1000.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    runs = AllRuns(tmp_path)
    runs.look()
    assert runs.is_anything_running
    with folder.journal.open("a") as file:
        file.write('{"step": 217, "loss": 0.25}\n')
    now[0] += 10
    runs.look()
    name, status, where, step, total, rate, left, metrics, ago = runs.row("a")
    assert (name, str(status), where, step, total, rate, left) == ("a", "running", "local", "217", "1000", "20", "39s")
    assert "loss 0.25" in metrics
    assert ago.endswith("s")
    text = screen(runs, 140)
    assert "1 running here" in text
    assert "39s" in text
    monkeypatch.setattr("outlast.report.runs.lock.holder", lambda path: None)  # killed: no file has changed
    assert runs.look() == {"a"}
    assert str(runs.row("a")[1]) == "interrupted"
    assert not runs.is_anything_running


def test_the_screen_fits_the_terminal(tmp_path: Path) -> None:
    for name in "abcdef":
        folder = train(tmp_path, name, total=2)
        folder.journal.write_text(json.dumps({"step": 2, "a long name of a metric " * 9: 1.0, "\x1b[31m": 2}) + "\n")
        os.utime(folder.journal, (time.time(), ord(name)))
    runs = AllRuns(tmp_path)
    runs.look()
    assert runs.names() == list("fedcba")  # the one that logged last is first
    text = screen(runs, 120, height=8)
    assert len(text.splitlines()) <= 8
    assert "2 more runs" in text
    assert "\x1b" not in text
    narrow = screen(runs, 60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert "steps/s" not in narrow
    assert "There are no runs yet." in screen(AllRuns(tmp_path / "none"), 80)


def test_a_launch_that_is_open_is_shown_with_its_state(tmp_path: Path, monkeypatch) -> None:
    folder = train(tmp_path, "a", total=12)
    folder.launches.mkdir()
    record = {
        "format": 2,
        "number": 1,
        "state": "pushed",
        "provider": "local",
        "name": "outlast-a-001",
        "handle": {},
        "accelerator": "none",
    }
    (folder.launches / "0001.json").write_text(json.dumps(record))
    asked = []
    monkeypatch.setattr("outlast.launch.watch.state_of", lambda provider, launch: asked.append(launch.name) or "queued")
    monkeypatch.setattr(watching.providers, "of", lambda launch, patience: None)
    runs = AllRuns(tmp_path)
    assert runs.look() == {"a"}
    assert runs.look() == set()
    assert asked == ["outlast-a-001"]  # and not at each look
    assert [str(cell) for cell in runs.row("a")[1:3]] == ["queued", "local"]
    assert runs.is_anything_running
    (folder.launches / "0001.json").write_text(json.dumps(record | {"state": "fetched"}))
    assert runs.look() == {"a"}
    assert not runs.is_anything_running


@pytest.mark.parametrize("interval", ["0", "-1"])
def test_an_interval_is_positive(interval: str, tmp_path: Path) -> None:
    assert main(["status", "--watch", "--interval", interval, "--checkpoint-dir", str(tmp_path)]) == 2
