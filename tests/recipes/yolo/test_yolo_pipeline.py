"""The steps of the pipeline: which commands they are, alone and in order, and how they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import outlast
from outlast_recipes.yolo import pipeline, stepping
from outlast_recipes.yolo.config import YoloConfig
from tests import messages
from tests.recipes import pictures


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

    monkeypatch.setattr(pipeline, "lines_of", lines)
    monkeypatch.setattr(stepping, "lines_of", lines)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "file").touch()
    return started


def test_the_steps_are_listed() -> None:
    lines = done("--list")
    assert [int(line.split()[0]) for line in lines] == list(range(11))


ALL = [
    ["doctor", "yolo", "--experiment-name", "one", "--checkpoint-dir", "runs", "--data-root", "set", "--epochs", "3",
     "--publish.to", "store"],
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
    commands.clear()
    done("--step", "9", "--experiment-name", "one", "--checkpoint-dir", "elsewhere", "--to", "store")
    assert commands[0][:6] == ["train", "yolo", "--experiment-name", "one", "--checkpoint-dir", "elsewhere"]
    assert commands[1] == ["publish", "elsewhere/one", "--to", "store"]
    commands.clear()
    done("--step", "4", "--on", "kaggle", "--to", "git+dvc", "--store", "s3://b/dvc", "--git", "https://host/r")
    words = ["--publish.to", "git+dvc", "--publish.store", "s3://b/dvc", "--publish.git", "https://host/r"]
    assert commands == [["doctor", *words]]


def test_with_sessions_elsewhere_they_check_their_machine_and_this_one_publishes(commands: list[list[str]]) -> None:
    lines = done(*FLAGS, "--on", "kaggle", "--", "--accelerator", "t4x2")
    assert [line.split()[1] for line in lines if line.startswith("-- ")] == ["3/10", "4/10", "9/10", "10/10"]
    assert [command[0] for command in commands] == ["doctor", "relay", "publish", "status"]
    assert commands[0] == ["doctor", "--publish.to", "store"]
    assert commands[1][-2:] == ["--accelerator", "t4x2"]
    told = next(number for number, line in enumerate(lines) if "outlast publish runs/one --to store" in line)
    doctor, relay, *_ = (number for number, line in enumerate(lines) if line == "done")
    assert doctor < told < relay, "before anything is submitted"
    assert "nothing for it is sent" in lines[told]


@pytest.mark.parametrize(("begun", "more"), [(False, []), (True, ["--quick"])])
def test_what_a_session_does_before_it_trains(commands: list[list[str]], begun: bool, more: list[str]) -> None:
    flags = ["--experiment-name=one", "--data-root=set", "--budget=60s"]
    lines = list(pipeline.before(YoloConfig(data_root=Path("set")), flags, begun))
    assert commands == [
        ["doctor", "yolo", *flags], ["data", "check", "yolo", "set", *more], ["config", "yolo", *flags]
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[-8:]] == ["0", "1", "2", "5", "6", "7", "8", "all"]
    with pytest.raises(outlast.OutlastError, match=r"^Step 6 \(data\) failed .*it is broken\.$"):
        list(pipeline.before(YoloConfig(data_root=Path("broken")), flags, begun))


def test_data_that_dvc_has_are_pulled(commands: list[list[str]]) -> None:
    Path("far.dvc").write_text("outs: []")
    done("--data-path", "far", "--step", "6")
    assert commands == [["dvc", "pull", "far.dvc"], ["data", "check", "yolo", "far"]]


def test_the_data_may_be_the_working_folder(commands: list[list[str]]) -> None:
    done("--data-path", ".", "--step", "6")
    assert commands == [["data", "check", "yolo", "."]]


def test_a_failure_says_how_to_continue(commands: list[list[str]]) -> None:
    with pytest.raises(outlast.OutlastError) as caught:
        done("--experiment-name", "one", "--data-path", "set", "--to", "store", "--module", "broken")
    words = str(caught.value)
    publish = "outlast publish runs/one --to store --module broken"
    messages.said([words], "yolo/step-failed", step=9, name="training", run="runs/one", publish=publish)
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
        (["--step", "9", "--gpus", "2", "--on", "kaggle"], outlast.ConfigError),
        (["--step", "5", "--on", "kaggle"], outlast.ConfigError),
        (["--step", "6"], outlast.OutlastError),
        (["--", "--experiment-name", "another"], outlast.ConfigError),
        (["--", "--data_root=another"], outlast.ConfigError),
        (["--step", "3", "--to", "file/store"], outlast.OutlastError),
        (["--step", "4", "--to", "git+dvc", "--git", "nowhere"], outlast.OutlastError),
    ],
)
def test_what_is_refused(commands: list[list[str]], words: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        done(*words)
    assert commands == []


def test_a_store_on_a_full_disk_is_found_before_the_training(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert any("GiB are free" in line for line in done("--step", "3", "--to", "store"))
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda _path: Namespace(free=2**20))
    with messages.raises(outlast.OutlastError, "yolo/store-is-full", step=3, store="store", free="1.0"):
        done("--step", "3", "--to", "store")
    assert commands == []


def test_versions_are_said() -> None:
    assert f"outlast {outlast.__version__}" in "\n".join(done("--step", "1"))
    assert any(line.startswith("torch ") for line in done("--step", "2"))


def run_python(code: str) -> Generator[str]:
    return stepping.lines_of(sys.executable, "-c", code)


def test_the_ends_of_a_step() -> None:
    assert list(run_python("print('a'); print('b')")) == ["a", "b"]
    with pytest.raises(outlast.SessionEnded) as ended:
        list(run_python("raise SystemExit(75)"))
    assert ended.value.code == 75
    with messages.raises(outlast.OutlastError, "yolo/step-ended-with", code=1, error="it is so"):
        list(run_python("import sys; print('error: it is so', file=sys.stderr); sys.exit(1)"))
    with messages.raises(outlast.OutlastError, "yolo/step-was-killed", signal="SIGKILL", said="up"):
        list(run_python("import os; print('up', flush=True); os.kill(os.getpid(), 9)"))
    with messages.raises(outlast.OutlastError, "yolo/step-cannot-be-started", command="no-such-command-of-ours"):
        list(stepping.lines_of("no-such-command-of-ours"))


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


def test_a_step_that_does_not_know_of_signals_is_stopped_and_done_again() -> None:
    lines = run_python("import time; print('up', flush=True); time.sleep(30)")
    assert next(lines) == "up"
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(outlast.SessionEnded) as ended:
        list(lines)
    assert ended.value.reason == "preempted"


def test_a_step_whose_lines_nobody_reads_ends() -> None:
    lines = run_python("for number in range(10**9): print(number)")
    assert next(lines) == "0"
    lines.close()


def test_a_step_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(run_python("import os; print('RANK' in os.environ, 'WORLD_SIZE' in os.environ)")) == ["False False"]


def test_a_step_imports_nothing_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    assert list(run_python("import json; print(json.dumps(1))")) == ["1"]


@pytest.mark.slow  # eight processes that import torch
def test_a_pipeline_in_sessions_elsewhere_from_data_to_publication(tmp_path: Path, outlast_cli) -> None:
    pictures.folder(tmp_path / "set", keypoints=True)
    words = ["--experiment-name", "plates", "--data-path", "set", "--on", "local", "--to", "store", "--"]
    words += [f"--{key.replace('_', '-')}={value}" for key, value in pictures.TINY.items() if key != "epochs"]
    for epochs, more in (("1", []), ("3", ["--from", "9"])):
        done = outlast_cli("pipeline", "yolo", *more, *words, "--epochs", epochs, "--ask-every", "0.2", timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is visible at" in done.stdout
    logs = [path.read_text() for path in sorted((tmp_path / "runs/.sessions").glob("*/log.txt"))]
    for number, log in enumerate(logs):
        steps = [int(line.split()[1].split("/")[0]) for line in log.splitlines() if line.startswith("-- ")]
        assert steps == [0, 1, 2, 5, 6, 7, 8]
        assert ("continues after step 4 of 12" in log) is (number == 1)
        assert log.splitlines()[-1] == "run plates is finished"
    table = (tmp_path / "runs/plates/artifacts/train/results.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [["1", "4"], ["2", "8"], ["3", "12"]]
    assert len(list((tmp_path / "store/publications").iterdir())) == 2
