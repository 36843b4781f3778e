"""`outlast report --md` and `--png`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import messages
from tests.report.trained import PNG, train

from outlast.cli import main
from outlast.report import curves as drawing
from outlast.report.markdown import escaped, markdown


def test_a_summary_for_a_pull_request(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    train(tmp_path, "a", stop=17)
    train(tmp_path, "a")
    train(tmp_path, "b", total=20)
    for name, value in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name / "config.json").write_text(json.dumps({"values": {"lr": value, "who": "@all #12 <b>|x|"}}))
    assert main(["report", "a", "b", "--md", "--checkpoint-dir", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| run | status | step | attempts | time | loss | val |"
    assert table[1] == "|---|---|---|---|---|---|---|"
    assert [cell.strip() for cell in table[2].split("|")[1:5]] == ["a", "finished", "30 of 30", "2"]
    assert [cell.strip() for cell in table[2].split("|")[6:8]] == ["0.03333", "0 (best, step 20)"]
    assert table[4:] == ["| value | a | b |", "|---|---|---|", "| lr | 0.1 | 0.2 |"]
    messages.said(lines, "report/attempts-in-words", run="a", reasons="1 failed, 1 finished", repeated=7)
    assert main(["report", "a", "--md", "--checkpoint-dir", ".", "-o", "a.md"]) == 0
    assert "30 of 30" in Path("a.md").read_text()


def test_text_of_a_run_is_no_markdown() -> None:
    assert escaped("a_b|c\n<img>") == "a\\_b\\|c \\<img\\>"
    assert escaped("@all #1 http://x") == "@<!-- -->all #<!-- -->1 http:<!-- -->//x"
    assert escaped("[x](y) `z` *w*") == "\\[x\\](y) \\`z\\` \\*w\\*"


def test_the_picture_has_the_peak_of_a_long_journal(tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("matplotlib")
    folder = train(tmp_path)
    with folder.journal.open("w") as file:
        for step in range(1, 9001):
            file.write(json.dumps({"step": step, "loss": 99.0 if step == 4567 else 1 / step}) + "\n")
    drawn = []
    real = drawing._spread
    monkeypatch.setattr(drawing, "_spread", lambda values: drawn.append(values) or real(values))
    target = tmp_path / "x.png"
    assert main(["report", "r", "--png", "--checkpoint-dir", str(tmp_path), "-o", str(target)]) == 0
    assert target.read_bytes()[:8] == PNG[:8]
    assert max(drawn[0]) == 99
    assert len(drawn[0]) < 2500
    messages.said(capsys.readouterr().out, "report/picture-is-thinned", path=target, count=1)


def test_one_picture_of_one_run(tmp_path: Path, capsys) -> None:
    train(tmp_path, "a", total=2)
    train(tmp_path, "b", total=2)
    assert main(["report", "--png", "--checkpoint-dir", str(tmp_path)]) == 2
    messages.said(capsys.readouterr().err, "report/one-picture", count=2)
    assert main(["report", "a", "--png", "--md", "--checkpoint-dir", str(tmp_path)]) == 2
    messages.said(capsys.readouterr().err.strip(), "report/md-or-png")


def test_the_summary_of_a_run_without_metrics(tmp_path: Path) -> None:
    folder = train(tmp_path, total=2)
    folder.journal.write_text("")
    assert "| r | finished | 2 of 2 | 1 |" in markdown([folder.path])
