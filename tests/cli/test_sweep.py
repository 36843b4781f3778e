"""`outlast sweep`: every combination of values, each an ordinary run; stopped, killed and started again."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import messages
from tests.launch.conftest import RECIPE

from outlast.cli import main
from outlast.folder import reading
from outlast.folder.layout import RunFolder
from outlast.launch import sweep
from outlast.launch.sweep import Member, Sweep
from outlast.report import read_run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small recipe, without stops of its own."""
    (tmp_path / "walk").mkdir()
    text = RECIPE.replace("from helper import STEP", "STEP = 0.5").replace("setting(3, ", "setting(0, ")
    (tmp_path / "walk/recipe.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUTLAST_BUDGET", raising=False)
    return tmp_path


def names(*words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The runs that a sweep would train."""
    assert main(["sweep", "walk", *words, "--dry-run", "--json"]) == 0
    return [json.loads(line)["run"] for line in capsys.readouterr().out.splitlines()]


def attempts(name: str) -> int:
    return len(RunFolder(Path("runs") / name).attempt_numbers())


def test_names_say_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert names("--lr", "1e-3,5e-4", "--seed", "0..2", capsys=capsys) == [
        f"walk-lr-{lr}-seed-{seed}" for lr in ("0.001", "0.0005") for seed in range(3)
    ]
    # The same number twice is one run; a flag may be repeated; underscores and `=` are as everywhere.
    one = ["walk-lr-0.001", "walk-lr-1e-05"]
    assert names("--learning_rate=1e-3,.001", "--lr", "0.00001", capsys=capsys) == one
    assert names("--lr=1e-3,1e-5", "--experiment-name", "walk", capsys=capsys) == one
    assert names("--seed", "1,3..4", "--experiment-name=big", capsys=capsys) == [f"big-seed-{n}" for n in (1, 3, 4)]
    assert names("--save-every", "1 epoch, 5m", "--save-every", "10 steps", capsys=capsys) == [
        "walk-save-every-1_epoch_5m", "walk-save-every-10_steps"
    ]  # fmt: skip
    assert names("--seed", "1..2", "--pause=-1,1", capsys=capsys)[:2] == ["walk-seed-1-pause--1", "walk-seed-1-pause-1"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], messages.says("cli/sweep-no-recipe", example="digits")),
        (["walk"], messages.says("cli/sweep-nothing-differs", recipe="walk")),
        (["walk", "--seed", "3"], messages.says("cli/sweep-nothing-differs", recipe="walk")),
        (["walk", "--seed", "4..1"], messages.says("cli/sweep-range", given="4..1")),
        (["walk", "--seed", "0..999999"], messages.says("cli/sweep-range", given="0..999999")),
        (["walk", "--seed", "0..99", "--epochs", "1..99"], messages.says("cli/sweep-too-many", count=9900)),
        (["walk", "--budget", "1h", "--budget", "2h"], messages.says("cli/sweep-never", key="budget")),
        (["walk", "--seed", "0..1", "--resume", "x"], messages.says("cli/sweep-resume", flag="--resume")),
        (["walk", "--seed", "0..1", "--session", "1m"], messages.says("cli/sweep-needs-on", flag="--session")),
        (["walk", "--seed", "0..1", "--wait"], messages.says("cli/sweep-needs-on", flag="--wait")),
        (["walk", "--seed", "0..1", "--jobs", "0"], messages.says("cli/sweep-jobs", jobs=0)),
        (["walk", "--seed", "0..1", "--metric", "x:up"], messages.says("cli/sweep-metric", given="x:up")),
        (["walk", "--seed", "0..1", "--sead", "2"], messages.says("cli/sweep-typo", flag="--seed")),
        (["walk", "--lr", "1e-3,fast"], messages.says("cli/sweep-value", value="fast")),
        (
            ["walk", "--save-every", "1 epoch", "--save-every", "1  epoch"],
            messages.says("cli/sweep-same-name", word="value"),
        ),
        (["walk", "--seed", "0..1", "--experiment-name", "x" * 96], messages.says("cli/sweep-long-name", n=100)),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_typed_wrong(argv: list[str], message: messages.Message, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *argv]) == 2
    messages.said([capsys.readouterr().err.strip()], message)
    assert not Path("runs").exists()


def test_a_sweep_goes_on_where_it_was(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "walk", "--seed", "0..1"]
    assert main([*words, "--stop-every", "3"]) == 75  # the session of the first run ends, so none is begun after it
    out, err = capfd.readouterr()
    messages.said(err, "cli/sweep-not-finished", left=2)
    assert (attempts("walk-seed-0"), attempts("walk-seed-1")) == (1, 0)
    assert [line.split()[2:4] for line in out.splitlines()[-2:]] == [["interrupted", "3"], ["pending", "0"]]
    assert main([*words, "--stop-every", "0"]) == 0
    capfd.readouterr()
    assert (attempts("walk-seed-0"), attempts("walk-seed-1")) == (2, 1)
    assert main(["train", "walk", "--seed", "0", "--experiment-name", "twin"]) == 0
    assert Path("runs/twin/journal.jsonl").read_bytes() == Path("runs/walk-seed-0/journal.jsonl").read_bytes()
    capfd.readouterr()
    assert main([*words, "--metric", "sum:min", "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    sums = [row["metrics"]["sum"] for row in rows]
    assert sums == sorted(read_run(Path("runs") / row["run"]).metrics["sum"] for row in rows)
    assert [(row["status"], row["step"], set(row["values"])) for row in rows] == [("finished", 9, {"seed"})] * 2
    assert (attempts("walk-seed-0"), attempts("walk-seed-1")) == (2, 1)  # nothing was trained again
    assert main([*words, "--metric", "sum"]) == 0
    out, _ = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()[-2:]] == [row["run"] for row in reversed(rows)]
    assert main([*words, "--metric", "accuracy"]) == 0
    messages.said(capfd.readouterr().err, "cli/sweep-no-such-metric", name="accuracy", known="rate, sum")


def test_a_run_that_fails_does_not_stop_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "walk", "--pause", "0,-1,0.01", "--jobs", "3", "--metric", "sum"]) == 1
    out, _ = capfd.readouterr()
    messages.said(
        [next(line for line in out.splitlines() if "exit code" in line)], "cli/sweep-failed", name="walk-pause--1"
    )
    assert "walk-pause-0: outlast: step 9 of 9: finished" in out
    assert {line.split()[0]: line.split()[2] for line in out.splitlines()[-3:]} == {
        "walk-pause-0": "finished", "walk-pause-0.01": "finished", "walk-pause--1": "failed"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_reaches_the_runs_and_ends_the_sweep(number: signal.Signals, code: int) -> None:
    words = [sys.executable, "-m", "outlast", "sweep", "walk", "--seed", "0..3", "--pause", "1", "--jobs", "2"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not all(Path(f"runs/walk-seed-{seed}/attempts/0001.events.jsonl").exists() for seed in (0, 1)):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    reason = "preempted" if number == signal.SIGTERM else "cancelled"
    for seed in (0, 1):
        assert reading.read_json(Path(f"runs/walk-seed-{seed}/attempts/0001.json"))["end"]["reason"] == reason
    assert not Path("runs/walk-seed-2").exists()


def test_a_budget_is_that_of_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    given = started(monkeypatch, {"a": [0], "b": [0], "c": [0]})
    clock = itertools.chain([0.0, 10.0, 30.0], itertools.repeat(96.0))
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=clock.__next__, sleep=time.sleep))
    made = Sweep([Member(name, {}, [name]) for name in "abc"], 1, lambda _: None, seconds=100.0)
    assert made.run() == 75
    assert given == [["a", "--budget=90s"], ["b", "--budget=70s"]]
    monkeypatch.setenv("OUTLAST_BUDGET", "4s")
    assert main(["sweep", "walk", "--seed", "0..1"]) == 75
    assert not Path("runs").exists()


def test_relays_that_found_no_place_are_tried_again_when_one_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member(name, {}, [name]) for name in "abc"]
    for last, code, rest in ((0, 0, 0), (75, 75, 0), (0, 1, 1), (2, 1, 0)):
        given = started(monkeypatch, {"a": [0], "b": [75, 75, last], "c": [rest]}, {"a": 4, "c": 9})
        assert Sweep(members, 2, lambda _: None, relays=True).run() == code
        assert [words[0] for words in given] == ["a", "b", "c", "b", "b"]  # also when nothing runs any more, once


def started(
    monkeypatch: pytest.MonkeyPatch, codes: dict[str, list[int]], looks: Mapping[str, int] | None = None
) -> list[list[str]]:
    """Replace the processes: each ends with the next of its codes, after so many looks; returns what is started."""
    given: list[list[str]] = []

    def start(words: list[str], **_: object) -> object:
        given.append(words[4:])
        seen = [None] * (looks or {}).get(words[4], 1)
        polls = iter([*seen, codes[words[4]].pop(0)])
        return SimpleNamespace(poll=lambda: next(polls), stdout=None, pid=0)

    monkeypatch.setattr(sweep.subprocess, "Popen", start)
    return given


@pytest.mark.slow
def test_a_sweep_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "walk", "--seed", "0..1", "--on", "local", "--session", "1m", "--ask-every", "0.1"]
    assert main([*words, "--max-sessions", "1", "--stop-every", "5"]) == 75
    assert [read_run(Path(f"runs/walk-seed-{seed}")).step for seed in (0, 1)] == [5, 5]
    assert main(words) == 0
    capfd.readouterr()
    assert len(list(Path("runs").glob("walk-seed-*/launches/0002.json"))) == 2
    assert main(["train", "walk", "--seed", "1", "--experiment-name", "twin"]) == 0
    assert Path("runs/twin/journal.jsonl").read_bytes() == Path("runs/walk-seed-1/journal.jsonl").read_bytes()
