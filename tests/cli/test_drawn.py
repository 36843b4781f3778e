"""Tables that are drawn without rich look as rich draws them; what does not fit is left to it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from outlast.cli import show

ROWS = [
    ("run-1", show.word("finished"), "1", "6.5 kB"),
    ("run-22", show.word("running", "on kaggle"), "22,000", ""),
    ("rün 走", show.word("failed"), "3", "名"),
    ("", Text("x"), "", "1.0 GB"),
]


def table() -> show.Rows:
    made = show.table("run", "status", "step", "size", right=("step", "size"))
    for row in ROWS:
        made.add_row(*row)
    return made


def by_rich(rows: show.Rows, width: int = 120, **more: object) -> str:
    out = io.StringIO()
    Console(file=out, highlight=False, markup=False, emoji=False, width=width, **more).print(rows)  # type: ignore[arg-type]
    return out.getvalue()


def test_lines_are_those_of_rich() -> None:
    lines = table().lines(120, lambda text, _: text)
    assert lines is not None
    assert "".join(f"{line}\n" for line in lines) == by_rich(table())


def test_a_table_without_a_head() -> None:
    rows = table()
    rows.show_header = False
    lines = rows.lines(120, lambda text, _: text)
    assert lines is not None
    assert "".join(f"{line}\n" for line in lines) == by_rich(rows)


def test_statuses_are_painted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(force_terminal=True, color_system="standard", width=120, highlight=False)
    monkeypatch.setattr(show, "console", lambda: terminal)
    show.draw(table())
    out = capsys.readouterr().out
    assert "\x1b[32mfinished\x1b[0m" in out
    assert "\x1b[1mrun\x1b[0m" in out
    monkeypatch.setattr(show, "console", lambda: Console(force_terminal=True, no_color=True, width=120))
    show.draw(table())
    assert "\x1b[32m" not in capsys.readouterr().out


def test_what_does_not_fit_is_wrapped_by_rich(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert table().lines(20, lambda text, _: text) is None
    monkeypatch.setattr(show, "console", lambda: Console(width=20, highlight=False))
    show.draw(table())
    assert capsys.readouterr().out == by_rich(table(), 20)


@pytest.mark.parametrize("text", ["two\nlines", "a\ttab"])
def test_texts_of_several_lines_are_left_to_rich(text: str) -> None:
    rows = table()
    rows.add_row(Text(text), "", "", "")
    assert rows.lines(120, lambda words, _: words) is None
