"""What a run's records say is shown and never acted on: every verb's output of a hostile run, through a checker."""

from __future__ import annotations

import ast
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.things import Thing
from tests.conftest import REPOSITORY

import outlast
from outlast.cli import main
from outlast.terminal import command, lines, measured, measures, shortened, visible
from outlast.tracking import progress as screens
from outlast.tracking.sink import Progress, RunFacts

ESCAPE = "\x1b]0;TITLE\x07\x1b[31mred\x9b2J"
METRICS = {
    "acc[/top1]": 1.5,
    "acc[red]": 1.5,
    ":smile: [bold]x[/bold]": 2.0,
    ESCAPE: 0.5,
    "bidi\u202eevil\u2066": 1.0,
    "line\nerror: forged": 1.0,
    "$\\frac{": 1.0,
    "not a number": float("nan"),
    "infinite": float("-inf"),
}

Ran = Callable[..., tuple[int, str]]


def harmful(text: str) -> list[str]:
    """Characters that a terminal or a reader's eye would act on."""
    return [
        char for char in text if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run whose metrics, records and sentences are full of what a terminal would act on."""
    with outlast.open_run("evil", total_steps=2, save="1 steps", progress="none") as run:
        run.track(s=Thing())
        for _ in run.steps():
            run.log(**METRICS)
            run.tell(f"told {ESCAPE} [/bold]")
    folder = tmp_path / "runs/evil"
    change(folder / "run.json", grade=f"exact{ESCAPE}[/x]", parent={"run": f"p{ESCAPE}[/]", "step": 1})
    record = json.loads((folder / "attempts/0001.json").read_text())
    record["environment"]["name"] = f"local{ESCAPE}[/y]"
    record["started"] = f"now{ESCAPE}[/z]"
    record["end"] |= {"reason": f"failed{ESCAPE}", "error": f"bad{ESCAPE}\nerror: forged [/red]"}
    change(folder / "attempts/0001.json", **record)
    (folder / "journal.jsonl").open("a").write(
        json.dumps(
            {
                "step": 2,
                "huge": 10**400,
                "none": None,
                "list": [1, [2]],
                "text": ESCAPE,
                "yes": True,
                "long": "x" * 10_000,
            }
        )
        + "\n"
    )
    return folder


def change(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Ran:
    def call(*words: str) -> tuple[int, str]:
        code = main(list(words))
        out = capsys.readouterr()
        return code, out.out + out.err

    return call


@pytest.mark.parametrize(
    "verb", ["status", "runs", "checkpoints", "verify", "export", "archive", "resume", "logs", "launch"]
)
def test_no_verb_sends_what_a_record_says_to_the_terminal(hostile: Path, ran: Ran, verb: str) -> None:
    words = [verb] if verb == "runs" else [verb, "evil"]
    code, said = ran(*words)
    assert harmful(said) == [], said
    assert code in (0, 1, 2)
    assert not any(line.startswith("error: forged") for line in said.splitlines())


def test_names_are_shown_as_they_are(hostile: Path, ran: Ran) -> None:
    code, said = ran("status", "evil")
    assert code == 0
    told = said.partition("last metrics: ")[2].replace("\n", " ")
    for name in (
        "acc[/top1] 1.5",
        "acc[red] 1.5",
        ":smile: [bold]x[/bold] 2",
        "not a number nan",
        "infinite -inf",
    ):
        assert name in told, name
    for name in (r"\x1b]0;TITLE\x07\x1b[31mred\x9b2J", r"bidi\u202eevil\u2066", r"line\nerror: forged 1"):
        assert name in told, name
    assert "(10000 characters)" in told
    assert "checkpoint" in said
    assert "acc[/top1] 1.5" in ran("checkpoints", "evil")[1].replace("\n", "")


def test_json_stays_json(hostile: Path, ran: Ran) -> None:
    facts = json.loads(ran("status", "evil", "--json")[1], parse_constant=pytest.fail)
    assert facts["metrics"]["not a number"] == "NaN"
    assert facts["metrics"][ESCAPE] == 0.5
    for line in ran("checkpoints", "evil", "--json")[1].splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_what_is_typed_or_named_by_a_folder_is_shown_too(tmp_path: Path, ran: Ran) -> None:
    for name in (ESCAPE, "[/red]", "a\nerror: forged", "\udcff\u202e"):
        for words in (
            ["status", name], ["train", name], [name], ["resume", name], ["train", "digits", f"--{name}"],
            ["config", "digits", "--train-config", name], ["export", name], ["config", "digits", "--epochs", name],
        ):  # fmt: skip
            code, said = ran(*words)
            assert code == 2, words
            assert harmful(said) == [], said
            assert said.startswith("error: ")
            assert said.count("\nerror:") == 0


def test_errors_are_safe_in_tracebacks_too() -> None:
    assert str(outlast.OutlastError(f"a{ESCAPE}\nb")) == r"a\x1b]0;TITLE\x07\x1b[31mred\x9b2J" + "\nb"


def test_progress_lines() -> None:
    stream = io.StringIO()
    shown = screens.PlainLines(stream, every=0.0)
    shown.started(RunFacts(f"r{ESCAPE}", Path("r"), 1, 0, 3), {})
    metrics = {f"m{ESCAPE}": 10**400, "text": f"a{ESCAPE}", "none": None, "list[/]": [1]}
    shown._next = 0.0
    shown.progressed(Progress(1, 3, None, 1.0, metrics, None, None))
    shown.told("warning", f"w{ESCAPE}\nwarning: forged")
    shown.ended(f"why{ESCAPE}", 3, 3)
    assert harmful(stream.getvalue()) == []
    assert r"m\x1b]0;TITLE\x07\x1b[31mred\x9b2J 1.000e+400 · text a\x1b]0" in stream.getvalue()
    assert "none none · list[/] [1]" in stream.getvalue()
    assert "\nwarning: forged" not in stream.getvalue()
    other = io.StringIO()
    screens.OtherRank(1, other).told("warning", ESCAPE)
    assert harmful(other.getvalue()) == []


def test_the_line_on_a_terminal_has_no_control_characters_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    shown = screens.RichLine(stream)
    shown.started(RunFacts("r", Path("r"), 1, 0, 3), {})
    shown.progressed(Progress(1, 3, None, 1.0, {f"m{ESCAPE}[/red]": 1.0}, None, None))
    shown.told("info", f"told {ESCAPE} [/red]")
    shown.ended("finished", 3, 3)
    shown.closed()
    assert "TITLE\x07" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()
    assert "[/red]" in stream.getvalue()


def test_a_signal_is_named() -> None:
    """A user's own kill is no preemption."""
    stream = io.StringIO()
    shown = screens.PlainLines(stream)
    shown.stopping("preempted", "SIGTERM received")
    shown.ended("preempted", 3, 10)
    assert stream.getvalue() == "outlast: step 3 of 10: stopped (SIGTERM received); start it again to continue\n"


def test_json_lines_survive_any_name() -> None:
    stream = io.StringIO()
    screens.JsonLines(stream).logged({"step": 1, "event": 3.0, ESCAPE: 1.0})
    assert json.loads(stream.getvalue())["event"] == "logged"
    assert harmful(stream.getvalue()) == []


def test_every_verb_prints_through_the_one_place() -> None:
    """`print` and the bare streams are not used by verbs: `terminal.say` is, and tables and console of `cli.show`."""
    for path in sorted((REPOSITORY / "src/outlast/cli").glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Name) and node.id in ("Console", "Table"):
                assert path.name in ("show.py", "offered.py"), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [x] ü 漢字 👩‍🚀 a\u200cb", "plain [x] ü 漢字 👩‍🚀 a\u200cb"),
        ("a\x00\x1b\x7f\x85\x9b", r"a\x00\x1b\x7f\x85\x9b"),
        ("\u202a\u202e\u2066\u200f\u061c\ufeff\u2028", r"\u202a\u202e\u2066\u200f\u061c\ufeff\u2028"),
        ("\udcff\ud800\U000e0041", r"\xff\ud800\U000e0041"),
        ("a\tb\r\n", r"a\tb\r\n"),
        (Path("x\x1b"), r"x\x1b"),
    ],
)
def test_visible(text: object, shown: str) -> None:
    assert visible(text) == shown


def test_words_for_values() -> None:
    assert lines("a\nerror: b\n") == "a\n  error: b"
    assert [measured(value) for value in (1, 0.25, True, None, "x\x1b", 10**400, float("nan"))] == [
        "1", "0.25", "True", "none", r"x\x1b", "1.000e+400", "nan",
    ]  # fmt: skip
    assert measures({"a": 1, "b\n": 2.5}) == r"a 1, b\n 2.5"
    assert shortened("x" * 300).startswith("x" * 150 + "... (300 characters) ...xx")
    assert len(shortened("x" * 10**6)) < 250
    assert shortened(10**5000) == "a number of 5001 digits"
    assert command("outlast", "resume", "a b", Path("it's"), None) == "outlast resume 'a b' 'it'\"'\"'s'"
