"""Long journals in an archive and a picture: few lines are read, rarely logged metrics are found, and it is said."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests import messages

import outlast
from outlast.report import draw_curves
from outlast.report import history as module
from outlast.report.archive import archive
from outlast.report.history import history
from outlast.tracking import CsvView, latest


class Weights:
    """Something that an export can be made of."""

    def state_dict(self) -> dict[str, object]:
        return {"w": np.zeros(3)}

    def load_state_dict(self, state: dict[str, object]) -> None: ...


@pytest.fixture
def journal(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(module, "SMALL_LINES", 10_000)
    path = tmp_path / "journal.jsonl"
    lines = []
    for step in range(1, 24_001):
        lines.append(f'{{"step": {step}, "loss": {1 / step!r}}}\n')
        if step % 200 == 0:
            lines.append(f'{{"step": {step}, "val": {step / 8!r}}}\n')
    lines.append('{"step": 24000, "once": 1.5}\n{"step": 24001, "lo')
    path.write_text("".join(lines))
    return path


def test_a_long_journal_is_thinned_evenly_and_rare_metrics_are_kept(journal: Path, monkeypatch) -> None:
    read = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: read.append(size) or real(descriptor, size, at))
    monkeypatch.setattr(module, "CHOSEN", 400)
    found = history(journal, latest(journal))
    steps = [record["step"] for record in found.records]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1], found.records[-1]) == (1, 24_000, {"step": 24_000, "once": 1.5})
    assert max(b - a for a, b in itertools.pairwise(steps)) < 24_000 / 400 * 1.5
    assert [(r["step"], r["val"]) for r in found.records if "val" in r] == [(s, s / 8) for s in range(200, 24_001, 200)]
    assert len({(r["step"], *r) for r in found.records}) == len(found.records)
    assert found.of == 24_000
    messages.said(found.thinned, "report/about-lines", lines="24,000")
    assert len(read) < 2500
    assert len(found.series["loss"][0]) > 380


def test_a_journal_without_line_ends_is_not_looked_through(journal: Path, monkeypatch) -> None:
    """Good lines, then zeros: of 64 GB only what the budget allows is read, and it is said."""
    read = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: read.append(size) or real(descriptor, size, at))
    monkeypatch.setattr(module, "READ_BUDGET", 80 * 2**20)
    known = latest(journal)
    os.truncate(journal, 64 * 2**30)
    found = history(journal, known)
    assert sum(read) <= 80 * 2**20 + 2**20
    assert found.records[0]["step"] == 1
    messages.said(found.thinned, "report/not-looked-through-to-its-end")


def test_a_short_one_is_whole(journal: Path, tmp_path: Path) -> None:
    lines = journal.read_text().splitlines(keepends=True)[:2000]
    journal.write_text("".join(lines))
    found = history(journal, latest(journal))
    assert (len(found.records), found.of, found.thinned) == (2000, None, "")
    assert history(tmp_path / "none", latest(tmp_path / "none")).records == []


def test_lines_that_are_wide_or_damaged(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SMALL_LINES", 100)
    path = tmp_path / "journal.jsonl"
    wide = "".join(f', "m{number}": {number}.5' for number in range(500))
    path.write_text("".join(f'{{"step": {step}{wide}}}\n' if step % 7 else "garbage\n" for step in range(1, 500)))
    found = history(path, latest(path))
    assert all(len(record) == 501 for record in found.records)
    assert len(found.records) > 300
    path.write_text("x" * 100_000)
    assert history(path, latest(path)).records == []


def test_the_archive_and_the_picture_say_so(tmp_path: Path, journal: Path, monkeypatch) -> None:
    with outlast.open_run("r", total_steps=2, root=tmp_path, progress="none") as run:
        run.track(model=Weights())
        for step in run.steps():
            run.log(loss=1.0 / step)
    (tmp_path / "r/journal.jsonl").write_bytes(journal.read_bytes())
    monkeypatch.setattr(module, "CHOSEN", 200)
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda self, text, **_: drawn.append(text))
    made = archive(tmp_path / "r", tmp_path / "a.zip")
    assert "training_history.txt" in made.names
    messages.said(made.told[0], "report/all-lines-writes-every-line")
    assert drawn[0].startswith("r · thinned: ")
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        rows = json.loads(packed.read("training_history.json"))
        assert f"these are {len(rows):,} of about 24,000 lines" in packed.read("training_history.txt").decode()
    made = archive(tmp_path / "r", tmp_path / "a.zip", all_lines=True)
    assert (made.told, "training_history.txt" in made.names) == ([], False)
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert len(json.loads(packed.read("training_history.json"))) == 24_121
    monkeypatch.setattr("outlast.report.curves.MOST_METRICS", 2)
    draw_curves(tmp_path / "r", tmp_path / "c.png")
    assert "the first 2 of 3 metrics" in drawn[-1]


def test_what_was_logged_once_is_listed_beside_the_curves(opened, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    with opened(total_steps=3) as run:
        run.track(model=Weights())
        for step in run.steps():
            run.log(loss=1.0 / step)
            if step == 3:
                run.log(**{f"test_{number:02}": number / 8 for number in range(16)})
    written: list[str] = []
    titles: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, text, **_: written.append(text))
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, text, **_: titles.append(text))
    draw_curves(tmp_path / "r", tmp_path / "c.png")
    assert titles == ["loss 0.3333", "logged once"]
    assert written[0].splitlines() == [*(f"test_{n:02}  {n / 8:.4g}" for n in range(14)), "and 2 more"]


def test_a_journal_of_lone_surrogates_is_archived_drawn_and_viewed(opened, tmp_path: Path) -> None:
    """Half of a character, as a JSON escape: Python reads it, and UTF-8 cannot hold it."""
    pytest.importorskip("matplotlib")
    with opened(total_steps=2) as run:
        run.track(model=Weights())
        for step in run.steps():
            run.log(loss=step)
    path = tmp_path / "r/journal.jsonl"
    path.write_text('{"step": 1, "\\ud800": 1.5}\n{"step": 2, "\\ud800": 2.5, "note": "\\udfff"}\n')
    made = archive(tmp_path / "r", tmp_path / "a.zip")
    assert "training_curves.png" in made.names
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        rows = json.loads(packed.read("training_history.json"))
    assert rows == [{"step": 1, "\ud800": 1.5}, {"step": 2, "\ud800": 2.5, "note": "\udfff"}]
    view = CsvView(tmp_path / "a.csv", path)
    view.started(None, None)
    view.closed()
    assert (tmp_path / "a.csv").read_text().splitlines()[0].split(",")[2:] == ["\\ud800", "note"]
