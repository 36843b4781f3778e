"""One run, two places: what is launched is not trained here, and what a fetch brings home is told, kept and cleaned."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore
from outlast.cli import main
from outlast.errors import RunBusy
from outlast.folder.layout import RunFolder
from outlast.launch import start
from outlast.launch.fetch import AnotherHistory, fetch
from outlast.launch.keeper import write
from outlast.launch.local.provider import LocalProvider, connect
from outlast.launch.process import identity
from outlast.launch.provider import Terms
from outlast.launch.records import LaunchRecord, all_launches, check_closed, launching
from tests import messages
from tests.launch import recipes
from tests.launch.conftest import RECIPE

RUN = ("--recipe", "walk")


@pytest.fixture
def provider(tmp_path: Path) -> LocalProvider:
    (tmp_path / "walk").mkdir()
    text = RECIPE.replace("from helper import STEP", "STEP = 0.5").replace("train=train", 'train=train, metric="sum"')
    (tmp_path / "walk/recipe.py").write_text(text)
    return connect(Path("runs"))


def train(root: str, *flags: str) -> int:
    """Three more steps of the run q below a folder."""
    words = ["walk", "--experiment-name", "q", "--checkpoint-dir", root, "--save-every", "1 steps", "--keep-last", "2"]
    return main(["train", *words, *flags])


def session(provider: LocalProvider, root: str, number: int = 1, *, over: bool = True) -> LaunchRecord:
    """A session as if it had trained the run below that folder."""
    name = f"outlast-q-{number:03d}"
    folder = provider.root / name
    (folder / "code").mkdir(parents=True)
    shutil.copytree(Path(root) / "q", folder / "work/runs/q")
    (folder / "log.txt").write_text("a line\n")
    (folder / "begun").write_text("")
    write(folder / "session.json", {"command": [], "cwd": ".", "seconds": 600.0, "grace": 1.0})
    write(folder / "keeper.json", {"pid": os.getpid(), "began": identity(os.getpid())})
    if over:
        write(folder / "end.json", {"word": "completed", "message": "", "exit": 75, "seconds": 20.0})
    record = LaunchRecord.begin(
        RunFolder(Path("runs/q")), number, provider="local", name=name, handle={"session": name},
        accelerator="this machine", state="pushed",
    )  # fmt: skip
    record.learn(state="pushed")
    return record


def steps(root: str = "runs") -> list[int]:
    return [each.step for each in CheckpointStore(RunFolder(Path(root) / "q")).committed()]


def attempts() -> int:
    return len(RunFolder(Path("runs/q")).attempt_numbers())


@pytest.mark.parametrize(
    "words",
    [
        ("resume", "q", *RUN),
        ("train", "walk", "--experiment-name", "q"),
        ("train", "walk", "--experiment-name", "q", "--dry-run"),
        ("train", "walk", "--resume", "runs/q/checkpoints/step-00000003"),
    ],
)
def test_a_run_that_is_launched_is_not_trained_here(
    provider: LocalProvider, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("runs") == 75
    session(provider, "runs", over=False)
    capsys.readouterr()
    assert main([*words]) == 1
    said = capsys.readouterr().err
    for command in ("logs q -f", "cancel q", "fetch q"):
        assert f"`outlast {command}`" in said
    assert "runs/q/launches/0001.json" in said
    assert (attempts(), steps()[-1]) == (1, 3)


def test_another_run_from_its_checkpoint_is_trained(provider: LocalProvider) -> None:
    assert train("runs") == 75
    session(provider, "runs", over=False)
    checkpoint = "runs/q/checkpoints/step-00000003"
    assert main(["train", "walk", "--resume", checkpoint, "--experiment-name", "other"]) == 75


def test_a_run_that_is_being_launched_is_not_trained_here(provider: LocalProvider) -> None:
    assert train("runs") == 75
    folder = RunFolder(Path("runs/q"))
    with launching(folder, "a relay"), messages.raises(RunBusy, "launch/being-launched"):
        check_closed(folder)
    check_closed(folder)


@pytest.mark.parametrize("over", [False, True])
def test_status_says_what_runs_elsewhere(
    provider: LocalProvider, over: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("runs") == 75
    session(provider, "runs", over=over)
    capsys.readouterr()
    assert main(["status", "q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("interrupted run q" if over else "running run q")
    assert lines[1].startswith(f"outlast-q-001 on local is {'stopped' if over else 'running'}; ")
    offered = [line for line in lines if line.startswith(("Next: ", "To end it: ", "Go on with: "))]
    running = ["Next: outlast logs q -f", "To end it: outlast cancel q"]
    assert offered == (["Next: outlast fetch q"] if over else running)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["q", "walk", "on", "local"]
    assert main(["doctor", "walk", "--experiment-name", "q"]) == 1
    assert "`outlast fetch q`" in " ".join(capsys.readouterr().out.split())


def test_another_history_is_reported_kept_and_not_continued(
    provider: LocalProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("runs") == 75
    shutil.copytree("runs/q", "elsewhere/q")
    assert train("elsewhere") == 75
    assert train("runs", "--lr", "0.5") == 75
    record = session(provider, "elsewhere")
    capsys.readouterr()
    assert main(["fetch", "q"]) == 1
    said = capsys.readouterr().err
    messages.said(said, "launch/another-history", session="outlast-q-001", step=6)
    assert "runs/.fetched-outlast-q-001" in said
    assert steps("runs/.fetched-outlast-q-001/runs")[-1] == 6
    (record,) = all_launches(record.folder)
    assert (record.record["state"], record.record["reached"], "step" in record.record) == ("rejected", 6, False)
    assert main(["status", "q"]) == 0
    out = capsys.readouterr().out
    assert next(line for line in out.splitlines() if "outlast-q-001" in line).split()[-3:] == ["not", "taken", "(6)"]
    messages.said(out, "launch/next-resume")
    run = recipes.work("walk", experiment_name="q")
    source = start._continues(provider, run, lambda _: None)
    assert (source.name, source.step) == ("", 6)
    with pytest.raises(AnotherHistory):
        fetch(provider, record)
    assert train("runs") == 0


def test_a_fetch_keeps_what_the_run_keeps_and_clears_older_sessions(
    provider: LocalProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sessions, each of which left the two newest and the best; then one that finishes."""
    codes = [train("far")]
    first = session(provider, "far", 1)
    fetch(provider, first)
    assert (provider.root / first.name / "work").exists(), "the next session continues from it"
    codes.append(train("far"))
    second = session(provider, "far", 2)
    fetch(provider, second)
    lines = [json.loads(line) for line in Path("runs/q/journal.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["sum"])["step"]
    assert steps() == sorted({best, 5, 6})
    assert sorted(path.name for path in (provider.root / first.name).iterdir()) == [
        "begun", "end.json", "keeper.json", "log.txt", "session.json",
    ]  # fmt: skip
    assert [line.text for line in provider.log(first.handle)] == ["a line"]
    assert provider.state(first.handle) == provider.state(second.handle)
    codes.append(train("far"))
    third = session(provider, "far", 3)
    fetch(provider, third)
    assert codes == [75, 75, 0]
    assert not list(provider.root.glob("*/work")), "a finished run needs none of them"
    assert fetch(provider, third) == ["outlast-q-003 was fetched before, and this machine has no more files of it."]
    assert all_launches(third.folder)[-1].record["state"] == "fetched"


def test_a_config_that_does_not_say_what_is_kept_deletes_nothing(provider: LocalProvider) -> None:
    assert train("far") == 75
    record = session(provider, "far")
    config = provider.root / record.name / "work/runs/q/config.json"
    about = json.loads(config.read_text())
    config.write_text(json.dumps({**about, "values": {**about["values"], "keep_last": "many"}}))
    told = fetch(provider, record)
    messages.said(told, "launch/keep-last-is-no-number", value="'many'")
    assert steps()[-1] == 3


@pytest.mark.parametrize("verb", ["cancel", "logs", "fetch", "down"])
def test_a_run_that_is_not_there_and_one_that_was_never_launched(
    provider: LocalProvider, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("runs") == 75
    capsys.readouterr()
    assert main([verb, "qq"]) == 2
    messages.said(capsys.readouterr().err, "launch/unknown-run-of-some", run="qq")
    assert main([verb, "q"]) == 2
    messages.said(capsys.readouterr().err, "launch/never-launched", run="q")


def test_the_last_two_sessions_may_be_repeated_with_other_options(provider: LocalProvider) -> None:
    run = recipes.work("walk", experiment_name="q")
    short, long = Terms(options={"session": 20.0}), Terms(options={"session": 60.0})
    request = start.request_for(provider, run, short)
    _, record = start._begin(provider, run, request, start.Source())
    assert start.repeats(provider, run, short, record)
    assert not start.repeats(provider, run, long, record)
    other = recipes.work("walk", experiment_name="q", pause="1")
    assert not start.repeats(provider, other, short, record)
    Path("walk/helper.py").write_text("STEP = 1.0\n")
    assert not start.repeats(provider, run, short, record)
