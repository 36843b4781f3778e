"""The journal, exact under crash; the CSV view; the progress line."""

from __future__ import annotations

import io
import json
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests import messages

from outlast.tracking import CsvView, Journal, Progress, RunFacts, SaveFacts, Sink, read
from outlast.tracking.progress import JsonLines, PlainLines, RichLine, choose, describe


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def test_lines_are_numbers_of_any_framework(journal: Journal) -> None:
    values = {
        "a": 1,
        "b": 0.1,
        "c": np.float32(2),
        "e": np.int64(4),
        "f": True,
    }
    journal.append(1, values, epoch=2)
    journal.seal()
    journal.flush()
    assert read(journal.path) == [{"step": 1, "epoch": 2, "a": 1, "b": 0.1, "c": 2.0, "e": 4.0, "f": 1.0}]


def test_a_metric_may_be_a_tensor_of_one_number(journal: Journal) -> None:
    torch = pytest.importorskip("torch")
    assert journal.append(1, {"d": torch.tensor(3.0, requires_grad=True), "x": torch.zeros(2, 2)}) == {"d": 3.0}
    messages.said(journal.complaints[0], "tracking/is-tensor-of-shape", metric="x", number="2, 2")


def test_what_is_no_finite_number_survives(journal: Journal) -> None:
    journal.append(1, {"nan": math.nan, "inf": -math.inf})
    journal.seal()
    journal.flush()
    line = json.loads(journal.path.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert line == {"step": 1, "nan": "NaN", "inf": "-Infinity"}
    assert math.isnan(read(journal.path)[0]["nan"])


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, 1.0),
        ("1e-3", 0.001),
        ("cosine", "cosine"),
        ("x" * 500, "x" * 200),
        ("nan", math.nan),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (2**70, float(2**70)),
        (2**60 + 1, 2**60 + 1),
        (np.float32(0.5), 0.5),
        (np.array([[2]]), 2.0),
        (Fraction(1, 4), 0.25),
        (os.fsdecode(b"\xff"), "\\udcff"),
    ],
)
def test_what_a_metric_may_be(journal: Journal, value: object, kept: object) -> None:
    written = journal.append(1, {"x": value, "y": 1})
    journal.seal()
    journal.flush()
    (line,) = read(journal.path)
    if kept is not None:  # readers have nothing to show of it
        assert line.pop("x") == (pytest.approx(kept, rel=0, nan_ok=True) if isinstance(kept, float) else kept)
    assert line == {"step": 1, "y": 1}
    assert json.loads(journal.path.read_text())["x"] == written["x"]
    assert not journal.complaints


class Rude:
    def item(self) -> float:
        raise KeyError("no")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros(3), messages.says("tracking/metric-of-a-shape", name="x", shape=3)),
        ([1], messages.says("tracking/metric-of-a-type", name="x", type="list")),
        ({"a": 1}, messages.says("tracking/metric-of-a-type", name="x", type="dict")),
        (1j, messages.says("tracking/metric-of-a-type", name="x", type="complex")),
        (Rude(), messages.says("tracking/metric-of-a-type", name="x", type="Rude")),
    ],
)
def test_what_cannot_be_a_metric_is_left_out_and_told_once(journal: Journal, value: object, words) -> None:
    assert journal.append(1, {"x": value, "y": 1}) == journal.append(2, {"x": value, "y": 1}) == {"y": 1}
    (complaint,) = journal.complaints
    messages.said([complaint], words)


def test_names_that_the_journal_uses_itself(journal: Journal) -> None:
    for step in (1, 2):
        assert journal.append(step, {"epoch": 0.25, "step": "a", "metric/epoch": 1, 5: 2}, epoch=3) == {
            "metric/epoch": 0.25,
            "metric/step": "a",
            "5": 2,
        }
    journal.seal()
    journal.flush()
    assert read(journal.path)[1] == {"step": 2, "epoch": 3, "metric/epoch": 0.25, "metric/step": "a", "5": 2}
    assert journal.complaints == [
        "A metric named 'epoch' is kept as 'metric/epoch': the journal writes the epoch itself.",
        "A metric named 'step' is kept as 'metric/step': the journal writes the step itself.",
    ]


def test_it_is_cut_back_to_a_mark(journal: Journal) -> None:
    journal.append(1, {"x": 1})
    journal.seal()
    journal.flush()
    mark, before = journal.seal(), journal.path.read_bytes()
    journal.append(2, {"x": 2})
    journal.seal()
    journal.flush()
    with journal.path.open("ab") as file:
        file.write(b'{"step": 3, "x')  # a torn last line
    again = Journal(journal.path)
    assert again.rewind(mark, 1) is None
    assert again.path.read_bytes() == before
    again.append(2, {"x": 5})
    again.seal()
    again.flush()
    assert [record["x"] for record in read(again.path)] == [1, 5]
    assert again.rewind(None, 0) is None
    assert again.path.read_bytes() == b""


def test_a_damaged_one_keeps_what_can_be_read(journal: Journal) -> None:
    for step in (1, 2, 3, 4):
        journal.append(step, {"x": step})
    journal.seal()
    journal.flush()
    mark = journal.seal()
    lines = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text(lines[0] + "garbage\n" + lines[2] + lines[3])
    again = Journal(journal.path)
    messages.said(again.rewind(mark, 3) or "", "tracking/journal-does-not-match", file="journal.jsonl", step=3, kept=3)
    assert [record["step"] for record in read(again.path)] == [1, 3]


def test_a_failed_flush_loses_no_line(journal: Journal, monkeypatch) -> None:
    journal.append(1, {"x": 1})
    journal.seal()
    journal.flush()
    journal.append(2, {"x": 2})
    real = os.write

    def half(descriptor: int, data) -> int:
        real(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    journal.seal()
    with pytest.raises(OSError, match="No space"):
        journal.flush()
    monkeypatch.undo()
    journal.append(3, {"x": 3})
    journal.seal()
    journal.flush()
    assert [record["x"] for record in read(journal.path)] == [1, 2, 3]


def test_csv_grows_columns_and_survives_a_resume(tmp_path: Path, journal: Journal) -> None:
    view = CsvView(tmp_path / "logs/train.csv", journal.path)
    for step, metrics in ((1, {"loss": 1.5}), (2, {"loss": 1.0, "val": 0.5})):
        view.logged({"step": step, "epoch": 1} | journal.append(step, metrics, epoch=1))
    journal.seal()
    journal.flush()
    view.epoch_ended(1)
    assert (tmp_path / "logs/train.csv").read_text() == "step,epoch,loss,val\n1,1,1.5,\n2,1,1.0,0.5\n"
    again = CsvView(tmp_path / "logs/train.csv", journal.path)
    again.logged({"step": 3, "epoch": 2, "loss": 0.5})
    again.closed()
    assert (tmp_path / "logs/train.csv").read_text().splitlines()[-1] == "3,2,0.5,"
    again.logged({"step": 4, "epoch": 2, "loss": 0.25})
    again.closed()
    assert (tmp_path / "logs/train.csv").read_text().splitlines()[0] == "step,epoch,loss,val"
    assert len((tmp_path / "logs/train.csv").read_text().splitlines()) == 5


PROGRESS = Progress(
    step=250, total=1000, epoch=3, rate=12.5, metrics={"loss": 0.12345}, seconds_left=41400, next_save=120
)


def test_the_progress_line() -> None:
    assert (
        describe(PROGRESS)
        == "step 250/1000 (epoch 3) · 12.5 steps/s · loss 0.1235 · 1m00s to go · session 11h30m · save in 2m00s"
    )
    assert describe(Progress(1, None, None, 0.0, {"x": "NaN"}, None, None)) == "step 1 · x NaN"
    assert "4.0 s/step" in describe(Progress(1, None, None, 0.25, {}, None, None))


def events(sink: Sink) -> None:
    sink.started(RunFacts("r", Path("r"), 2, 10, 1000), {})
    sink.logged({"step": 11, "loss": 0.5})
    sink.progressed(PROGRESS)
    sink.saved(SaveFacts(11, "time", 0.5, 2_000_000))
    sink.told("warning", "look out")
    sink.ended("budget", 11, 1000)
    sink.closed()


def test_plain_lines() -> None:
    stream = io.StringIO()
    sink = PlainLines(stream, every=0)
    sink._next = 0
    events(sink)
    assert stream.getvalue().splitlines() == [
        "outlast: run r, attempt 2 continues after step 10 of 1000",
        "saved step 11 (time, 2.0 MB in 0.50 s)",
        "warning: look out",
        "outlast: step 11 of 1000: the session's time is up; start it again to continue",
    ]


def test_plain_lines_about_progress_are_rare() -> None:
    stream = io.StringIO()
    sink = PlainLines(stream, every=1000)
    for _ in range(5):
        sink.progressed(PROGRESS)
    assert stream.getvalue().count("step 250") == 1


def test_json_lines() -> None:
    stream = io.StringIO()
    events(JsonLines(stream))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["started", "logged", "progressed", "saved", "told", "ended"]
    assert lines[1] == {"event": "logged", "step": 11, "loss": 0.5}


def test_a_terminal_gets_a_line_that_is_drawn_again() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    sink = choose("auto", stream)
    assert isinstance(sink, RichLine)
    events(sink)
    assert "saved step 11" in stream.getvalue()
    assert isinstance(choose("auto", io.StringIO()), PlainLines)
    assert not isinstance(choose("auto", io.StringIO()), RichLine)
