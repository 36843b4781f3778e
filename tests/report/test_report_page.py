"""outlast report: what the page holds, its policy, its size; run folders that are hostile, damaged or incomplete."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.report.trained import PNG, State, train

import outlast
from outlast.cli import main
from outlast.errors import UnknownName, UsageError
from outlast.folder.layout import RunFolder
from outlast.report import page, read_run
from outlast.report.markdown import markdown
from outlast.report.pictures import pictures_in
from outlast.report.summary import differing, sessions

UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""SHA-256 of the files of uPlot 1.6.32, as npm has them."""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that failed at step 17, continued after step 10, and finished."""
    train(tmp_path, stop=17)
    return train(tmp_path)


def data_of(path: Path) -> dict:
    text = path.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def test_the_report_of_a_run(folder: RunFolder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder.path.parent)
    (folder.path / "artifacts").mkdir(exist_ok=True)
    (folder.path / "artifacts/confusion.png").write_bytes(PNG)
    assert main(["report", "r", "--checkpoint-dir", "."]) == 0
    target = Path("r_report.html")
    assert messages.said(capsys.readouterr().out, "report/written", path=target, count=1) is None
    data = data_of(target)
    (run,) = data["runs"]
    assert (run["id"], run["status"], run["step"], run["reached"], run["total_steps"]) == ("r", "finished", 30, 30, 30)
    loss, val = run["metrics"]
    assert (loss["latest"], loss["highest"], loss["best"]) == (
        {"step": 30, "value": 0.0333333},
        {"step": 1, "value": 1},
        None,
    )
    assert (val["best"], val["lowest"]) == ("lowest", {"step": 20, "value": 0})
    (curve, points) = run["curves"]
    assert (curve["steps"], curve["of"]) == (list(range(1, 31)), 30)
    assert points == {"name": "val", "of": 3, "steps": [10, 20, 30], "values": [1, 0, 1]}
    first, second = run["attempts"]
    assert (first["reason"], first["step"], first["repeated"], first["error"]) == (
        "failed",
        17,
        7,
        "RuntimeError: the power fails </script>",
    )
    assert (second["resume"], second["reason"], second["repeated"]) == ({"step": 10, "grade": "exact"}, "finished", 0)
    assert second["away"] is not None
    assert run["sessions"] == [
        {"attempt": 1, "from": 0, "to": 10, "resumed": False},
        {"attempt": 2, "from": 10, "to": 30, "resumed": True},
    ]
    assert set(second["spent"]) >= {"training", "saves", "starting", "other"}
    assert dict(map(tuple, second["facts"]))["outlast"] == outlast.__version__
    assert run["pictures"] == [
        {"name": "confusion.png", "kind": "image/png", "uri": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}
    ]


def test_the_page_runs_its_own_scripts_and_nothing_else(folder: RunFolder, tmp_path: Path) -> None:
    made = page.report([folder.path], tmp_path / "x.html")
    text = made.path.read_text()
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1])
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
        for body in re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    ]
    assert len(hashes) == 2
    assert rules["script-src"].split() == hashes
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert rules["style-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    assert {rules[name] for name in ("default-src", "base-uri", "form-action")} == {"'none'"}
    assert rules["img-src"] == rules["media-src"] == "data:"
    assert "connect-src" not in rules
    assert text.count("</script>") == 3  # the error's own is in the data, escaped
    assert not re.search(r"""(?:src|href)=["']?(?!data:)\w""", text.replace('src="x"', ""))
    assert made.size == made.path.stat().st_size


def test_the_library_of_the_charts_is_the_one_that_npm_has() -> None:
    for name, digest in UPLOT.items():
        assert hashlib.sha256(page.asset(name).encode()).hexdigest() == digest, name
    assert "MIT License" in page.asset("uPlot.LICENSE")
    script = page.asset("page.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_data_cannot_leave_its_element() -> None:
    hostile = {"</script>": ["<!--<script>", "\u2028&amp;", float("nan"), float("inf"), "\udc80"]}
    text = page.as_data(hostile)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"</script>": ["<!--<script>", "\u2028&amp;", None, None, "\udc80"]}


def test_pictures_that_do_not_fit_are_named(folder: RunFolder, tmp_path: Path) -> None:
    artifacts = folder.path / "artifacts"
    (artifacts / "deep").mkdir(parents=True, exist_ok=True)
    (artifacts / "deep/film.gif").write_bytes(b"GIF89a" + bytes(2_000_000))
    (artifacts / "small.png").write_bytes(PNG)
    (artifacts / "not.png").write_text("<svg onload=alert(1)>")
    (artifacts / "link.png").symlink_to("/etc/passwd")
    os.mkfifo(artifacts / "pipe.png")
    assert [(each.name, each.kind) for each in pictures_in(artifacts)] == [
        ("small.png", "image/png"),
        ("deep/film.gif", "image/gif"),
    ]
    made = page.report([folder.path], tmp_path / "x.html", largest=500_000)
    assert made.size <= 500_000
    messages.said(made.told[0], "report/picture-does-not-fit", name="r: deep/film.gif", size="2.0")
    assert [each["name"] for each in data_of(made.path)["runs"][0]["pictures"]] == ["small.png"]
    assert (
        data_of(page.report([folder.path], tmp_path / "x.html", largest=5_000_000).path)["runs"][0]["pictures_left_out"]
        == []
    )
    with messages.raises(UsageError, "report/too-large", allowed="0.0"):
        page.report([folder.path], tmp_path / "y.html", largest=1000)
    assert not (tmp_path / "y.html").exists()


def test_a_run_without_a_configuration_differs_in_nothing(tmp_path: Path, capsys) -> None:
    for name in ("a", "b", "script"):
        train(tmp_path, name)
        if name != "script":
            values = {"lr": 0.1 if name == "a" else 0.2, "same": 1}
            (tmp_path / name / "config.json").write_text(json.dumps({"format": 2, "values": values, "origins": {}}))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/run.json").write_text("[1")
    assert main(["report", "--checkpoint-dir", str(tmp_path), "-o", str(tmp_path / "all.html")]) == 0
    assert data_of(tmp_path / "all.html")["differs"] == [{"key": "lr", "values": ["0.1", "0.2", None]}]
    assert "all.html: 3 runs" in capsys.readouterr().out, "the damaged one is not counted"


def test_several_runs_and_the_values_in_which_they_differ(tmp_path: Path, capsys, monkeypatch) -> None:
    for name in ("a", "b"):
        train(tmp_path, name)
        values = {
            "lr": 0.1 if name == "a" else 0.2,
            "same": 1,
            "folder": "/srv/someone/secret/data",
            **({"only": True} if name == "b" else {}),
        }
        (tmp_path / name / "config.json").write_text(
            json.dumps({"format": 2, "values": values, "origins": {"lr": "train /srv/someone/x.yaml:3"}})
        )
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--checkpoint-dir", ".", "-o", "both.html"]) == 0
    data = data_of(Path("both.html"))
    assert [run["id"] for run in data["runs"]] == ["a", "b"]
    assert data["differs"] == [{"key": "lr", "values": ["0.1", "0.2"]}, {"key": "only", "values": [None, "true"]}]
    config = {each["key"]: (each["value"], each["origin"]) for each in data["runs"][0]["config"]}
    assert config["folder"] == ("data", "")
    assert config["lr"] == ("0.1", "train x.yaml:3")
    assert "someone" not in Path("both.html").read_text()
    assert differing(data["runs"][:1] * 2) == []


def test_sessions_are_the_history_that_counts() -> None:
    records = [
        {"number": 1, "trained": True},
        {"number": 2, "trained": True, "resume": {"step": 40}},
        {"number": 3},  # refused before it trained
        {"number": 4, "trained": True, "resume": {"step": 20}},  # from an older checkpoint: 2 left nothing
        {"number": 5, "trained": True, "resume": {"step": 60}},
    ]
    assert [(each["attempt"], each["from"], each["to"]) for each in sessions(records, 90)] == [
        (1, 0, 20),
        (4, 20, 60),
        (5, 60, 90),
    ]
    assert sessions([], 0) == []


def test_a_run_in_any_state_has_a_report(tmp_path: Path) -> None:
    folder = train(tmp_path, stop=17)
    target = tmp_path / "x.html"

    def reported() -> dict:
        return data_of(page.report([folder.path], target).path)["runs"][0]

    assert reported()["status"] == "failed"
    record = json.loads(folder.attempt(1).read_text())
    del record["end"]  # killed
    folder.attempt(1).write_text(json.dumps(record))
    assert (reported()["status"], reported()["attempts"][0]["reason"]) == ("interrupted", "lost")
    assert reported()["attempts"][0]["seconds"] is not None  # from the events
    with folder.journal.open("ab") as file:
        file.write(b'\x00\xff\nhalf\n{"step": 18, "loss": "NaN"}\n{"step": 18, "only": "NaN"}\n{"step": 19, "lo')
    run = reported()
    messages.said(run["notes"], "report/broken-lines", count=2)
    messages.said(run["notes"], "report/no-number", name="only", step=18)
    assert [(each["name"], each["odd"], each["odd_at"]) for each in run["metrics"]] == [
        ("loss", 1, 18),
        ("val", 0, None),
    ]
    folder.config.write_text("[")
    folder.attempt(1).write_text('{"environment": {"name": "x", "limits": [1], "facts": "text"}, "told": ["<b>"]}')
    assert reported()["config"] == []
    folder.attempt(1).write_text("\x00")
    assert reported()["attempts"][0]["number"] == 1
    folder.journal.unlink()
    os.mkfifo(folder.journal)
    assert reported()["curves"] == []
    folder.journal.unlink()
    assert reported()["curves"] == []
    with pytest.raises(UnknownName):
        page.report([tmp_path], target)


def test_many_metrics_and_runs_stay_within_the_size(tmp_path: Path) -> None:
    folder = train(tmp_path)
    chosen = np.random.default_rng(0)
    with folder.journal.open("w") as file:
        for step in range(1, 1500):
            file.write(
                json.dumps({"step": step, **{f"metric/{n}": v for n, v in enumerate(chosen.normal(size=100).tolist())}})
                + "\n"
            )
    made = page.report([folder.path], tmp_path / "x.html")
    assert made.size < page.LARGEST
    assert len(data_of(made.path)["runs"][0]["curves"]) == 100


def test_a_damaged_run_is_left_out_unless_it_was_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        train(tmp_path, name, total=2)
    Path("a/run.json").write_text("{")
    assert main(["report", "--checkpoint-dir", ".", "-o", "x.html"]) == 0
    messages.said(capsys.readouterr().out, "report/damaged-run", name="a")
    assert [run["id"] for run in data_of(Path("x.html"))["runs"]] == ["b"]
    assert main(["report", "a", "b", "--checkpoint-dir", ".", "-o", "y.html"]) == 1
    assert not Path("y.html").exists()


def test_of_many_runs_those_that_trained_last_are_shown_in_full(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(page, "MOST_RUNS", 2)
    for number, name in enumerate("abcd"):
        os.utime(train(tmp_path, name, total=10).journal, (1e9, 1e9 - number if name != "d" else 2e9))
    made = page.report([tmp_path / name for name in "abcd"], tmp_path / "x.html")
    data = data_of(made.path)
    assert [run["id"] for run in data["runs"]] == ["a", "d"]
    assert data["others"] == [
        {
            "id": name,
            "recipe": "(script)",
            "status": "finished",
            "reached": 10,
            "total_steps": 10,
            "earlier_attempts": 1,
        }
        for name in "bc"
    ]
    messages.said(made.told, "report/further-runs", shown=2)


def test_a_run_that_does_not_exist_and_an_empty_folder(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "none"]) == 2
    assert main(["report"]) == 2
    messages.said(capsys.readouterr().err.splitlines()[-1], "report/no-runs")
    assert main(["report", "--max-mb", "0"]) == 2


def test_read_run_needs_nothing_of_the_page(folder: RunFolder) -> None:
    assert read_run(folder.path).status == "finished"


def test_budget_and_quota_of_each_attempt_are_recorded_and_shown(tmp_path: Path) -> None:
    metered = outlast.detect("local")._replace(name="kaggle", quota="GPU")
    for total, budget in ((3, 300.0), (6, None)):
        with outlast.open_run(
            "r", total_steps=total, root=tmp_path, progress="none", budget=budget, environment=metered
        ) as run:
            run.track(state=State())
            for _ in run.steps():
                run.log(loss=1.0)
            first = json.loads((run.folder / "attempts/0001.json").read_text())["session"]
    assert first == {"budget": 300.0, "reserve": None, "quota": "GPU"}
    ends = [json.loads(path.read_text())["end"] for path in sorted((tmp_path / "r/attempts").glob("????.json"))]
    assert all(0 < end["seconds"] < 300 for end in ends)
    found = page.contents([read_run(tmp_path / "r")], {})["runs"][0]["attempts"]
    assert [(each["budget"], each["quota"]) for each in found] == [(300.0, "GPU"), (None, "GPU")]
    assert [each["seconds"] for each in found] == [end["seconds"] for end in ends]
    for number, seconds in ((1, 60.0), (2, 120.0)):
        record = json.loads((tmp_path / f"r/attempts/{number:04}.json").read_text())
        record["end"]["seconds"] = seconds
        (tmp_path / f"r/attempts/{number:04}.json").write_text(json.dumps(record))
    assert "; 3m00s of GPU quota; resume grade exact." in markdown([tmp_path / "r"]), "their sum"


def test_attempts_of_earlier_versions_have_no_budget_and_no_quota(folder: RunFolder) -> None:
    for path in folder.attempts.glob("????.json"):
        record = json.loads(path.read_text())
        del record["session"], record["end"]["seconds"]
        path.write_text(json.dumps(record))
    for each in page.contents([read_run(folder.path)], {})["runs"][0]["attempts"]:
        assert (each["budget"], each["quota"]) == (None, None)
        assert each["seconds"] >= 0
