"""Sessions on this machine: their limit is kept, they outlive whoever started them, and nothing else is ever killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outlast.errors import LaunchError, UsageError
from outlast.launch.keeper import write
from outlast.launch.local.provider import LocalProvider
from outlast.launch.local.session import claim
from outlast.launch.process import identity, kill_group, lives
from outlast.launch.provider import Terms
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.relay import Bounds, Pace, relay
from outlast.launch.start import launch
from outlast.launch.watch import follow, state_of
from outlast.launch.work import RecipeWork
from tests import messages
from tests.launch import recipes

HANDLE = {"session": "outlast-x-001"}


def prepared(**flags: str) -> RecipeWork:
    return recipes.work("walk", **flags)


def session(provider: LocalProvider, code: str, seconds: float = 60.0, grace: float = 1.0) -> Path:
    """A session that runs some code instead of a training."""
    folder = provider.root / "outlast-x-001"
    (folder / "code").mkdir(parents=True)
    (folder / "work").mkdir()
    command = [sys.executable, "-c", code]
    write(folder / "session.json", {"command": command, "cwd": str(folder), "seconds": seconds, "grace": grace})
    return folder


def begin(folder: Path) -> int:
    return subprocess.run([sys.executable, "-m", "outlast.launch.local.session", str(folder)], check=False).returncode


def until_over(provider: LocalProvider, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while not (state := provider.state(HANDLE)).over:
        assert time.monotonic() < end
        time.sleep(0.05)
    return state


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop", flush=True))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(child.pid, flush=True)
time.sleep(300); time.sleep(300)
"""


def test_a_session_is_asked_to_stop_and_killed_at_its_limit_with_all_its_processes(provider: LocalProvider) -> None:
    folder = session(provider, STUBBORN, seconds=4.0, grace=2.0)
    assert begin(folder) == 0
    state = until_over(provider)
    assert (state.word, state.exit) == ("timed-out", 128 + signal.SIGKILL)
    assert 3.9 <= state.seconds < 15
    child, asked = [line.text for line in provider.log(HANDLE)]
    assert asked == "asked to stop"
    assert identity(int(child)) == ""


def test_a_session_that_is_cancelled_has_no_more_time_than_its_limit(provider: LocalProvider) -> None:
    folder = session(provider, STUBBORN, seconds=3.0, grace=0.2)
    assert begin(folder) == 0
    provider.cancel(HANDLE)
    state = until_over(provider)
    assert state.word == "cancelled"
    assert state.seconds < 15, "and not the 30 s that a training has to save where there is time"


def test_the_exit_code_that_a_training_wrote_counts_if_its_process_is_killed(provider: LocalProvider) -> None:
    code = "import time; open('exit', 'w').write('75'); time.sleep(300)"
    assert begin(session(provider, code, seconds=2.0, grace=0.5)) == 0
    assert (until_over(provider).word, provider.state(HANDLE).exit) == ("completed", 75)


@pytest.mark.parametrize(
    ("code", "word"), [("raise SystemExit(3)", "failed"), ("import os; os.kill(os.getpid(), 9)", "lost")]
)
def test_how_a_session_ends(provider: LocalProvider, code: str, word: str) -> None:
    assert begin(session(provider, code)) == 0
    assert until_over(provider).word == word


def test_a_session_inherits_nothing_that_is_meant_for_another_training(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTLAST_RESUME_FROM", "another")
    monkeypatch.setenv("OUTLAST_SESSION_ENDS", "1")
    monkeypatch.setenv("OF_THE_USER", "1")
    monkeypatch.setenv("OUTLAST_DRIVE_REFRESH_TOKEN", "of the remote")
    monkeypatch.setenv("OUTLAST_GIT_TOKEN", "of the publication")
    code = """
import os
print([name for name in sorted(os.environ) if name.startswith("OUTLAST_") or name == "OF_THE_USER"])
print(float(os.environ["OUTLAST_SESSION_ENDS"]))
"""
    before = time.time()
    assert begin(session(provider, code, seconds=60.0, grace=1.0)) == 0
    until_over(provider)
    names, ends = [line.text for line in provider.log(HANDLE)]
    credentials = ["OUTLAST_DRIVE_REFRESH_TOKEN", "OUTLAST_GIT_TOKEN"]
    assert names == str(["OF_THE_USER", credentials[0], credentials[1], "OUTLAST_INPUTS", "OUTLAST_SESSION_ENDS"])
    assert before + 59 <= float(ends) <= time.time() + 59


def test_what_a_session_leaves_is_there_when_it_is_over(provider: LocalProvider) -> None:
    code = "import pathlib, time; pathlib.Path('work/half').write_text('x'); time.sleep(300)"
    folder = session(provider, code)
    assert begin(folder) == 0
    end = time.monotonic() + 30
    while not (folder / "work/half").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert list(provider.outputs(HANDLE)) == [], "it may be in the middle of a file"
    provider.cancel(HANDLE)
    assert until_over(provider).word == "cancelled"
    assert [output.name for output in provider.outputs(HANDLE)] == ["half"]


def test_a_session_begins_once(provider: LocalProvider) -> None:
    folder = session(provider, "print('here', flush=True)")
    assert [begin(folder) for _ in range(3)] == [0, 1, 1]
    until_over(provider)
    assert [line.text for line in provider.log(HANDLE)] == ["here"]


def test_a_session_that_counts_as_never_started_does_not_start_later(provider: LocalProvider) -> None:
    folder = session(provider, "print('here', flush=True)")
    assert provider.state(HANDLE).word == "queued"
    long_ago = time.time() - 3600
    os.utime(folder / "session.json", (long_ago, long_ago))
    assert provider.state(HANDLE).word == "lost"
    assert begin(folder) == 1
    assert not claim(folder)


def test_a_training_whose_keeper_was_killed_still_runs_until_its_limit(provider: LocalProvider) -> None:
    folder = session(provider, "import time; time.sleep(300)", seconds=6.0)
    assert begin(folder) == 0
    end = time.monotonic() + 30
    while not (folder / "training.json").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    keeper, training = (json.loads((folder / f"{name}.json").read_text()) for name in ("keeper", "training"))
    os.kill(keeper["pid"], signal.SIGKILL)
    while lives(keeper["pid"], keeper["began"]):
        time.sleep(0.02)
    assert provider.state(HANDLE).word == "running"
    assert until_over(provider).word == "lost"
    end = time.monotonic() + 10
    while lives(training["pid"], training["began"]):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_only_the_process_that_was_recorded_is_killed(provider: LocalProvider) -> None:
    """Numbers of processes are given again, and a record may come from anywhere."""
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    try:
        kill_group(victim.pid, "another start")
        kill_group(victim.pid, "")
        folder = session(provider, "")
        claim(folder)
        for name in ("keeper", "training"):
            write(folder / f"{name}.json", {"pid": victim.pid, "began": "another start"})
        assert provider.delete(HANDLE) == ["outlast-x-001"]
        assert victim.poll() is None
        kill_group(victim.pid, identity(victim.pid))
        assert victim.wait(10) == -signal.SIGKILL
    finally:
        victim.kill()
        victim.wait()


def relaying(pause: str) -> list[str]:
    """A relay in a process of its own, whose one session does not stop by itself; a step sleeps for `pause` seconds."""
    words = ["relay", "walk", "--on", "local", "--session", "2m", "--stop-every", "0", "--pause", pause]
    return [sys.executable, "-m", "outlast.cli", *words]


def test_a_relay_that_was_killed_finds_the_session_that_still_runs(provider: LocalProvider, tmp_path: Path) -> None:
    command = relaying("0.5")
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in first.stdout:
        if "is running" in line:
            break
    first.kill()
    first.communicate()
    told: list[str] = []
    relay(provider, lambda: prepared(), Terms(options={"session": 120.0}), tell=told.append, pace=Pace(ask=0.1))
    messages.said([told[0]], "launch/session-outlast-walk-is-on-record", session=1)
    messages.said([told[-1]], "launch/walk-is-finished-at-step", step=9)
    assert [path.name for path in provider.root.iterdir()] == ["outlast-walk-001"]


def test_ctrl_c_ends_the_relay_and_not_the_session(provider: LocalProvider, tmp_path: Path) -> None:
    command = relaying("0.3")
    looking = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in looking.stdout:
        if "is running" in line:
            break
    os.killpg(looking.pid, signal.SIGINT)  # as a terminal does, to all of its processes
    _, words = looking.communicate(timeout=60)
    assert looking.returncode == 130
    messages.said(words, "launch/end-it-with-outlast-cancel-walk")
    (record,) = all_launches(prepared().folder)
    list(follow(provider, record, pause=0.1))
    assert state_of(provider, record) == "succeeded"


def test_no_secret_is_written_down(provider: LocalProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-secret-1")
    own = prepared()
    monkeypatch.setenv("OUTLAST_ROOT", str(tmp_path / "elsewhere"))  # a session has its own folder
    record = launch(provider, own, Terms(options={"session": 120.0}))
    list(follow(provider, record, pause=0.1))
    assert state_of(provider, record) == "stopped"
    texts = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert not any(b"planted-secret-1" in text for text in texts)
    assert not (tmp_path / "elsewhere").exists()


def test_old_sessions_are_deleted_after_they_are_fetched(provider: LocalProvider) -> None:
    relay(provider, lambda: prepared(), Terms(), bounds=Bounds(keep=1), tell=lambda _: None, pace=Pace(ask=0.1))
    assert [path.name for path in provider.root.iterdir()] == ["outlast-walk-003"]
    assert [each.record["state"] for each in all_launches(prepared().folder)] == ["deleted", "deleted", "fetched"]


def test_a_relay_that_made_as_many_sessions_as_it_may_says_how_many_and_that_they_are_too_short(
    provider: LocalProvider,
) -> None:
    said = []
    for number in (1, 2):
        told: list[str] = []
        bounds = Bounds(sessions=1)
        assert not relay(
            provider, prepared, Terms(options={"session": 120.0}), bounds=bounds, tell=told.append, pace=Pace(ask=0.1)
        )
        said.append(told[-1])
        (warning,) = [sentence for sentence in told if sentence.startswith("warning: ")]
        messages.said([warning], "launch/session-trained-little", number=number)
    messages.only_said(
        said,
        messages.says("launch/relay-not-finished", step=3, session=1),
        messages.says("launch/relay-not-finished-of-several", step=6, sessions=2, own=1),
    )
    assert not (provider.root / "outlast-walk-001/work").exists()


def test_a_relay_whose_sessions_were_too_short_continues_with_longer_ones(provider: LocalProvider) -> None:
    def relaying(seconds: float) -> bool:
        terms, bounds = Terms(options={"session": seconds}), Bounds(sessions=3)
        return relay(provider, prepared, terms, bounds=bounds, tell=lambda _: None, pace=Pace(ask=0.05))

    for sessions in (2, 2):  # what was refused is refused again
        with messages.raises(LaunchError, "launch/no-progress-too-short", step=0, flag="--session"):
            relaying(0.5)
        assert len(all_launches(prepared().folder)) == sessions
    assert relaying(120.0)


def test_a_finished_run_of_which_more_is_asked_continues(provider: LocalProvider, tmp_path: Path) -> None:
    recipe = (tmp_path / "walk/recipe.py").read_text()
    setting = 'total: int = outlast.setting(1, "steps", on_resume="free")\n    pause: float'
    (tmp_path / "walk/recipe.py").write_text(
        recipe.replace("pause: float", setting).replace("run.steps(9)", "run.steps(config.total)")
    )
    for total in ("1", "2"):
        told: list[str] = []
        relay(provider, lambda total=total: prepared(total=total), Terms(), tell=told.append, pace=Pace(ask=0.1))
        messages.said([told[-1]], "launch/walk-is-finished-at-step", step=total)
    assert len(all_launches(prepared().folder)) == 2


def test_bounds_on_uncounted_hours_are_refused(provider: LocalProvider) -> None:
    waiting = "--wait, which waits for hours"
    for bounds, flag in ((Bounds(gpu_hours=1.0), "--max-gpu-hours"), (Bounds(wait=True), waiting)):
        with messages.raises(UsageError, "launch/no-gpu-hours-counted", flag=flag):
            relay(provider, lambda: prepared(), Terms(), bounds=bounds, tell=lambda _: None)


def test_a_run_continues_at_another_provider_only_after_a_fetch(provider: LocalProvider) -> None:
    folder = prepared().folder
    LaunchRecord.begin(
        folder, 1, provider="kaggle", name="outlast-walk-001", handle={"slug": "outlast-walk-001"}, accelerator="cpu"
    )
    all_launches(folder)[0].learn(state="pushed")
    with messages.raises(UsageError, "launch/provider-kaggle"):
        launch(provider, prepared(), Terms())
    with messages.raises(UsageError, "launch/provider-kaggle-2"):
        relay(provider, lambda: prepared(), Terms(), tell=lambda _: None)
