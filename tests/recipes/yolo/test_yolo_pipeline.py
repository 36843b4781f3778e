"""The steps of the pipeline: which commands they are, alone and in order, and how they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

import outlast
from outlast_recipes.yolo import pipeline


def values(*words: str) -> Namespace:
    parser = ArgumentParser()
    pipeline.arguments(parser)
    return parser.parse_args(list(words))


def done(*words: str) -> list[str]:
    return list(pipeline.run(values(*words), lambda _done, _total: None))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would be started; a word "broken" in it fails."""
    started: list[list[str]] = []

    def lines(*words: str, shown: str = "") -> Iterator[str]:
        started.append(list(words[3:] if shown else words))
        if "broken" in words:
            raise outlast.OutlastError("it is broken.")
        yield "done"

    monkeypatch.setattr(pipeline, "_lines", lines)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "file").touch()
    return started


def test_the_steps_are_listed() -> None:
    lines = done("--list")
    assert [int(line.split()[0]) for line in lines] == list(range(11))


ALL = [
    ["doctor", "yolo", "--experiment-name", "one", "--checkpoint-dir", "runs", "--data-root", "set", "--epochs", "3"],
    ["data", "check", "yolo", "set"],
    ["config", "yolo", "--experiment-name", "one", "--checkpoint-dir", "runs", "--data-root", "set", "--epochs", "3"],
    ["train", "yolo", "--experiment-name", "one", "--checkpoint-dir", "runs", "--data-root", "set", "--epochs", "3",
     "--dry-run"],
    ["train", "yolo", "--experiment-name", "one", "--checkpoint-dir", "runs", "--data-root", "set", "--epochs", "3"],
    ["publish", "runs/one", "--to", "store", "--module", "localization"],
    ["status", "one", "--checkpoint-dir", "runs"],
]  # fmt: skip
FLAGS = ["--experiment-name", "one", "--data-path", "set", "--to", "store", "--module", "localization"]


def test_all_steps_in_order_with_their_times(commands: list[list[str]]) -> None:
    lines = done(*FLAGS, "--", "--epochs", "3")
    assert commands == ALL
    assert [line.split("/")[0] for line in lines if line.startswith("--")] == [f"-- {number}" for number in range(11)]
    assert [line.split()[0] for line in lines[-12:]] == [*map(str, range(11)), "all"]
    assert all(line.endswith(" s") for line in lines[-12:])


def test_one_step_and_the_rest(commands: list[list[str]]) -> None:
    done(*FLAGS, "--step", "6")
    assert commands == ALL[1:2]
    commands.clear()
    done(*FLAGS, "--from", "9", "--", "--epochs", "3")
    assert commands == ALL[4:]
    commands.clear()
    experiment = ["--experiment", "configs/experiments/001_loc_baseline.yaml"]
    done(*experiment, "--step", "9", "--on", "kaggle", "--to", "git+dvc", "--store", "s3://b/dvc")
    relay, publish = commands
    assert relay[:6] == ["relay", "yolo", "--on", "kaggle", "--experiment-name", "001_loc_baseline"]
    assert relay[-2:] == ["--train-config", experiment[1]]
    assert publish == ["publish", "runs/001_loc_baseline", "--to", "git+dvc", "--store", "s3://b/dvc"]


def test_data_that_dvc_has_are_pulled(commands: list[list[str]]) -> None:
    Path("far.dvc").write_text("outs: []")
    done("--data-path", "far", "--step", "6")
    assert commands == [["dvc", "pull", "far.dvc"], ["data", "check", "yolo", "far"]]


def test_a_failure_says_how_to_continue(commands: list[list[str]]) -> None:
    with pytest.raises(outlast.OutlastError) as caught:
        done("--experiment-name", "one", "--data-path", "set", "--to", "store", "--module", "broken")
    words = str(caught.value)
    assert "Step 9 (training) failed" in words
    assert "The model is whole in runs/one" in words
    assert "outlast publish runs/one --to store --module broken" in words
    assert words.endswith(
        "outlast pipeline yolo --from 9 --experiment-name one --data-path set --to store --module broken"
    )
    assert [command[0] for command in commands][-2:] == ["train", "publish"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--step", "11"], outlast.ConfigError),
        (["--from", "-1"], outlast.ConfigError),
        (["--step", "0", "--gpus", "99"], outlast.OutlastError),
        (["--step", "6"], outlast.OutlastError),
        (["--step", "3", "--to", "file/store"], outlast.OutlastError),
        (["--step", "4", "--to", "git+dvc", "--git", "nowhere"], outlast.OutlastError),
    ],
)
def test_what_is_refused(commands: list[list[str]], words: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        done(*words)
    assert commands == []


def test_versions_are_said() -> None:
    assert f"outlast {outlast.__version__}" in "\n".join(done("--step", "1"))
    assert any(line.startswith("torch ") for line in done("--step", "2"))


def run_python(code: str) -> Iterator[str]:
    return pipeline._lines(sys.executable, "-c", code)


def test_the_ends_of_a_step() -> None:
    assert list(run_python("print('a'); print('b')")) == ["a", "b"]
    with pytest.raises(outlast.SessionEnded) as ended:
        list(run_python("raise SystemExit(75)"))
    assert ended.value.code == 75
    with pytest.raises(outlast.OutlastError, match=r"ended with 1: it is so$"):
        list(run_python("import sys; print('error: it is so', file=sys.stderr); sys.exit(1)"))
    with pytest.raises(outlast.OutlastError, match="cannot be started"):
        list(pipeline._lines("no-such-command-of-ours"))


TRAINING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("up")
time.sleep(30)
"""


def test_a_termination_reaches_the_training() -> None:
    before = signal.getsignal(signal.SIGTERM)
    lines = run_python(TRAINING)
    assert next(lines) == "up"
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(outlast.SessionEnded):
        list(lines)
    assert signal.getsignal(signal.SIGTERM) is before
