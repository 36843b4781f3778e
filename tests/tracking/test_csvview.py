"""The CSV view of a long journal: continued where it agrees, written anew where it does not, and never held in
memory."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import pytest

from outlast.tracking import CsvView, Journal, SaveFacts, csvview, reading


class Pair:
    """A journal and its view."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self.begin()

    @property
    def csv(self) -> Path:
        return self.folder / "train.csv"

    def begin(self) -> None:
        self.view = CsvView(self.csv, self.journal.path)

    def log(self, step: int, **metrics) -> None:
        self.view.logged({"step": step} | self.journal.append(step, metrics))

    def save(self) -> dict:
        mark = self.journal.mark()
        self.journal.flush()
        self.view.saved(SaveFacts(1, "time", 0.1, 1))
        return mark

    def text(self) -> str:
        return self.csv.read_text()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def whole(pair: Pair) -> str:
    """What a view says that is written anew."""
    path = pair.folder / "anew.csv"
    path.unlink(missing_ok=True)
    CsvView(path, pair.journal.path).closed()
    return path.read_text()


def test_a_resume_cuts_it_back_and_continues(pair: Pair, monkeypatch) -> None:
    monkeypatch.setattr(csvview, "COMPARED_BYTES", 200)
    for step in range(1, 301):
        pair.log(step, loss=1 / step)
    mark = pair.save()
    for step in range(301, 501):
        pair.log(step, loss=2.0)
    pair.save()
    with pair.csv.open("a") as file:
        file.write("501,,2")  # torn
    pair.journal.rewind(mark, 300)
    pair.begin()
    monkeypatch.setattr(reading, "records", None)  # nothing is read from the front
    pair.log(301, loss=math.nan)
    pair.save()
    pair.log(302, loss=3.0)
    pair.save()
    monkeypatch.undo()
    assert pair.text().splitlines()[299:] == [f"299,,{1 / 299!r}", f"300,,{1 / 300!r}", "301,,NaN", "302,,3.0"]
    assert pair.text() == whole(pair)
    pair.begin()
    pair.view.closed()
    assert pair.text() == whole(pair)


@pytest.mark.parametrize("change", ["deleted", "edited", "other columns", "other", "empty"])
def test_a_csv_that_does_not_match_is_rewritten(pair: Pair, change: str) -> None:
    for step in (1, 2, 3):
        pair.log(step, loss=step / 4)
    pair.save()
    text = pair.text()
    changed = {
        "edited": text.replace("0.5", "0.6"),
        "other columns": text.replace("loss", "lost"),
        "other": "a,b\n1,2\n",
        "empty": "",
    }
    pair.csv.unlink() if change == "deleted" else pair.csv.write_text(changed[change])
    pair.begin()
    pair.log(4, loss=1.0)
    pair.view.closed()
    assert pair.text() == text + "4,,1.0\n"


def test_one_that_is_deleted_while_it_is_written_comes_back_whole(pair: Pair) -> None:
    pair.log(1, loss=1.0)
    pair.save()
    pair.log(2, loss=2.0)
    pair.view.epoch_ended(1)  # not in the journal yet
    pair.csv.unlink()
    pair.log(3, loss=3.0)
    pair.view.epoch_ended(2)
    pair.journal.seal()
    pair.journal.flush()
    pair.view.closed()
    assert pair.text() == "step,epoch,loss\n1,,1.0\n2,,2.0\n3,,3.0\n"


def test_text_with_commas_quotes_and_line_ends_survives_a_new_column(pair: Pair) -> None:
    pair.log(1, note='a, "b"\nc')
    pair.save()
    before = whole(pair)
    assert pair.text() == before
    pair.log(2, loss=1.0)
    pair.save()
    assert pair.text() == whole(pair)


def test_rows_do_not_pile_up(pair: Pair, monkeypatch) -> None:
    monkeypatch.setattr(csvview, "WAITING_LINES", 100)
    tracemalloc.start()
    for step in range(1, 5001):
        pair.log(step, loss=float(step))
        assert len(pair.view._waiting) < 100
    pair.journal.seal()
    pair.journal.flush()
    pair.log(5001, val=1.0)
    tracemalloc.reset_peak()
    begun = tracemalloc.get_traced_memory()[0]
    pair.save()
    assert tracemalloc.get_traced_memory()[1] - begun < 1_500_000  # 1,000 rows at a time
    tracemalloc.stop()
    assert pair.text() == whole(pair)


def test_a_disk_that_was_full_for_a_while_costs_no_row(pair: Pair, monkeypatch) -> None:
    pair.log(1, loss=1.0)
    pair.save()
    real = Path.open

    def full(path: Path, mode: str = "r", **options):
        if mode == "ab" and path == pair.csv:
            with real(path, mode) as file:
                file.write(b"2,,0.")  # half a row
            raise OSError(28, "No space left on device")
        return real(path, mode, **options)

    pair.log(2, loss=0.5)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            pair.save()
    pair.log(3, loss=0.25)
    pair.save()
    pair.view.closed()
    assert pair.text() == whole(pair) == "step,epoch,loss\n1,,1.0\n2,,0.5\n3,,0.25\n"
