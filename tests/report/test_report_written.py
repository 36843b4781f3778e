"""Where `outlast report` writes, which runs are in it, and what it leaves out of texts of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests import messages
from tests.report.trained import train

from outlast.cli import main
from outlast.config.paths import sentence_without_folders
from outlast.folder.layout import RunFolder
from outlast.report import draw_curves, read_run
from outlast.report.board import Board, Runs
from outlast.report.page import contents
from outlast.tracking.events import lasted


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return train(Path("runs"), total=12)


def damage(root: Path, name: str) -> None:
    train(root, name, total=2)
    (root / name / "run.json").write_text("{")


@pytest.mark.parametrize(
    ("kind", "name", "endings", "example"),
    [
        ([], "r.png", ".html or .htm", "r_report.html"),
        ([], "-", ".html or .htm", "r_report.html"),
        ([], "train.py", ".html or .htm", "r_report.html"),
        (["--md"], "r.png", ".md or .markdown or .txt", "report.md"),
        (["--png"], "r.html", ".png or .svg or .pdf", "r_curves.png"),
        (["--png"], "r.PNG.txt", ".png or .svg or .pdf", "r_curves.png"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    folder: RunFolder, kind: list[str], name: str, endings: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("train.py").write_text("mine")
    assert main(["report", "r", *kind, "-o", name]) == 2
    messages.said(capsys.readouterr().err, "report/another-ending", name=name, endings=endings, example=example)
    assert sorted(path.name for path in Path().iterdir()) == ["runs", "train.py"]
    assert Path("train.py").read_text() == "mine"


@pytest.mark.parametrize(("kind", "name"), [([], "a.HTM"), (["--md"], "a.md"), (["--png"], "a.SVG")])
def test_the_folder_of_the_file_is_made(folder: RunFolder, kind: list[str], name: str) -> None:
    if name.endswith("SVG"):
        pytest.importorskip("matplotlib")
    assert main(["report", "r", *kind, "-o", f"deep/er/{name}"]) == 0
    assert Path("deep/er", name).stat().st_size > 100


def test_runs_that_cannot_be_read_are_named_and_not_counted(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(Path("runs"), "bad")
    capsys.readouterr()
    assert main(["report", "--md", "-o", "a.md"]) == 0
    done = capsys.readouterr()
    assert done.out == "a.md: 1 run\n"
    assert done.err.startswith("warning: bad is left out: runs/bad/run.json is not valid JSON")
    assert main(["report"]) == 0
    assert "\nruns_report.html: 1 run, " in capsys.readouterr().out
    assert "bad is left out: runs/bad/run.json is not valid JSON" in Path("runs_report.html").read_text()
    assert main(["runs"]) == 0
    done = capsys.readouterr()
    assert done.err.startswith("warning: bad is left out: runs/bad/run.json is not valid JSON")
    assert [line.split()[0] for line in done.out.splitlines()] == ["run", "r"]
    assert main(["report", "bad", "--md"]) == 1
    assert main(["report", "bad"]) == 1


def test_of_many_runs_that_cannot_be_read_some_are_named(folder: RunFolder) -> None:
    for number in range(23):
        place = Path(f"runs/x{number:02}")
        place.mkdir()
        (place / "run.json").write_text("{")
    runs = Runs(Path("runs").absolute())
    runs.look()
    told = runs.contents([])["left_out"]
    assert told[0].startswith("x00 is left out: run.json is not valid JSON")
    assert told[20:] == ["3 more are left out."]
    (Path("runs/x00/run.json")).write_bytes(folder.run.read_bytes())
    runs = Runs(Path("runs").absolute())
    runs.look()
    assert runs.contents([])["left_out"][0].startswith("x01 ")


def test_numbers_near_the_largest_are_drawn(folder: RunFolder) -> None:
    pytest.importorskip("matplotlib")
    lines = [
        {"step": step, "up": value, "tiny": 5e-324 * 10 ** (step * 10)} for step, value in enumerate((1e308, -1e308))
    ]
    folder.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert draw_curves(folder.path, Path("a.png")).stat().st_size > 1000


def test_the_values_of_metrics_logged_once_take_no_row_of_their_own_height(folder: RunFolder) -> None:
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    lines = [{"step": step, "a": step, "b": step, "c": step} for step in range(5)] + [{"step": 5, "once": 1}]
    folder.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    width, height = Image.open(draw_curves(folder.path, Path("a.png"))).size
    assert (width, height) == (1872, 450)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_journal_that_cannot_be_read_is_said(
    folder: RunFolder, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.journal.unlink()
    if kind == "folder":
        folder.journal.mkdir()
    elif kind == "pipe":
        os.mkfifo(folder.journal)
    else:
        folder.journal.symlink_to("/dev/zero")
    (run,) = contents([read_run(folder.path.absolute())], {})["runs"]
    assert run["notes"][0].startswith("The journal cannot be read, so there are no curves: journal.jsonl is a ")
    assert main(["report", "r", "--png"]) == 1
    assert "logged nothing" not in capsys.readouterr().err
    folder.journal.rmdir() if kind == "folder" else folder.journal.unlink()
    assert contents([read_run(folder.path)], {})["runs"][0]["notes"] == []


def test_an_attempt_without_an_end_took_what_its_events_say_at_least(folder: RunFolder) -> None:
    path = folder.attempts / "0001.json"
    record = json.loads(path.read_text())
    (attempt,) = contents([read_run(folder.path)], {})["runs"][0]["attempts"]
    assert (attempt["seconds"], attempt["least"]) == (record["end"]["seconds"], False)
    del record["end"]
    path.write_text(json.dumps(record))
    events = [json.loads(line) for line in folder.events(1).read_text().splitlines()]
    events = [event for event in events if event["event"] not in ("ended", "timed")]
    events[-1]["time"] = events[0]["time"] + 12.5
    folder.events(1).write_text("".join(json.dumps(event) + "\n" for event in events))
    (attempt,) = contents([read_run(folder.path)], {})["runs"][0]["attempts"]
    assert (attempt["reason"], attempt["seconds"], attempt["least"]) == ("lost", 12.5, True)
    assert lasted(folder, 1, "0" * 32) is None
    assert lasted(folder, 1, None) is None
    for wrong in (1e308, -1e308):
        events[-1]["time"] = wrong
        folder.events(1).write_text("".join(json.dumps(event) + "\n" for event in events))
        assert (lasted(folder, 1, record["id"]) or 0.0) < 12.5, "a time that is none is not counted"
        assert main(["report", "r", "--md"]) == 0
    folder.events(1).unlink()
    (attempt,) = contents([read_run(folder.path)], {})["runs"][0]["attempts"]
    assert (attempt["seconds"], attempt["least"]) == (None, False)


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("look at them with: tensorboard --logdir /srv/me/a/runs", "look at them with: tensorboard --logdir runs"),
        ("tensorboard --logdir '/srv/me/my scripts/runs'", "tensorboard --logdir 'runs'"),
        ("--backend-store-uri sqlite:////srv/me/runs/mlflow.db", "--backend-store-uri mlflow.db"),
        ("[Errno 2] No such file: '/srv/me/x.csv'", "[Errno 2] No such file: 'x.csv'"),
        ("wandb sync /srv/me/wandb/offline-run-*", "wandb sync offline-run-*"),
        ("(see /var/log/x.txt) --to=/srv/me/y", "(see x.txt) --to=y"),
        ("C:\\Users\\me\\x.txt is missing", "x.txt is missing"),
        ("3 MB/s, 1/2 of a/b, ./x/y, <b>t</b>", "3 MB/s, 1/2 of a/b, ./x/y, <b>t</b>"),
        ("pushed to gs://b/r and https://example.org/x", "pushed to gs://b/r and https://example.org/x"),
    ],
)
def test_a_sentence_of_a_run_names_no_folder_of_its_machine(sentence: str, shown: str, folder: RunFolder) -> None:
    assert sentence_without_folders(sentence) == shown
    path = folder.attempts / "0001.json"
    record = json.loads(path.read_text())
    record |= {"told": [sentence], "changes": [sentence], "end": record["end"] | {"error": sentence}}
    path.write_text(json.dumps(record))
    (attempt,) = contents([read_run(folder.path)], {})["runs"][0]["attempts"]
    assert (attempt["told"], attempt["changes"], attempt["error"]) == ([shown], [shown], shown)


def test_the_board_of_a_run_folder_says_so(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Board, "serve_forever", lambda self: None)
    assert main(["board", "--root", "runs/r"]) == 0
    messages.said(capsys.readouterr().out, "report/board-of-a-run", name="runs/r", root="--root runs")
    assert main(["board", "--root", "runs"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_run_that_has_no_attempt_yet_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is written before that of its first attempt; it may also have been refused in between."""
    monkeypatch.chdir(tmp_path)
    made = train(Path("runs"), total=2)
    for path in made.path.rglob("*"):
        if path.is_file() and path.name != "run.json":
            path.unlink()
    runs = Runs(Path("runs"))
    runs.look()
    for found in (contents([read_run(made.path)], {}), runs.contents([])):
        (run,) = found["runs"]
        assert (run["status"], run["attempts"], run["reached"]) == ("pending", [], 0)
    for kind in ([], ["--md"]):
        assert main(["report", "r", *kind]) == 0
    assert main(["status", "r"]) == 0
