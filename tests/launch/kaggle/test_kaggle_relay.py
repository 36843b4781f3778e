"""The relay by command line against the stand-in: session after session, through kills and faults."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from outlast.cli.copy import copy
from tests import messages, processes
from tests.conftest import REPOSITORY
from tests.launch.helpers import RELAY, relay
from tests.launch.soak import soak
from tests.standins.kaggle import Fault, Standin, world


@pytest.fixture
def twin(laptop) -> bytes:
    done = laptop("train", "walk", "--stop-every", "0", "--experiment-name", "walk", "--checkpoint-dir", "twin")
    assert done.returncode == 0, done.stderr
    return (laptop.folder / "twin/walk/journal.jsonl").read_bytes()


def test_a_relay_continues_until_the_run_is_finished(laptop, standin: Standin, twin: bytes) -> None:
    faults = [
        ("GetKernelSessionStatus", "503"),
        ("GetKernelSessionStatus", "html"),
        ("ListKernelSessionOutput", "drop"),
        ("download", "corrupt"),
        ("SaveKernel", "drop after"),
    ]
    standin.faults += [Fault(method, kind) for method, kind in faults]
    done = relay(laptop)
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "kaggle/push-unknown-connection-broke")
    messages.said(done.stdout, "launch/lost-answer-and-record", error=messages.ANY, session=1)
    messages.said(done.stdout, "kaggle/relay-session-stopped", session=1, step=3, total=9, more=2)
    messages.said(done.stdout, "kaggle/relay-session-succeeded", session=3, step=9)
    assert done.stdout.splitlines()[-1] == "walk is finished at step 9"
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    assert relay(laptop).stdout == "walk is finished at step 9\n"
    assert len(standin.world.kernels) == 3


@pytest.mark.long
def test_a_killed_relay_continues_and_pushes_nothing_twice(laptop, standin: Standin, twin: bytes) -> None:
    deadline = time.monotonic() + 200
    for attempt in itertools.count():
        seconds = 3.0 * 1.15**attempt  # long enough at last, however slow the machine is
        process = processes.start([sys.executable, "-m", "outlast.cli", *RELAY], cwd=laptop.folder, template="launch")
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:  # and so it was killed
            pass
        else:
            break
        assert time.monotonic() < deadline
    assert process.returncode == 0
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    assert len(standin.world.kernels) == 3
    assert all(len(kernel.versions) == 1 for kernel in standin.world.kernels.values())


def test_a_relay_stops_if_another_session_would_end_in_the_same_way(laptop, standin: Standin) -> None:
    done = relay(laptop, "--pause", "-1")
    assert done.returncode == 1
    messages.said(done.stderr, "cli/session-would-fail-again", session=1, state="failed(1)", step=0)
    assert len(standin.world.kernels) == 1


def test_a_relay_stops_when_two_sessions_came_no_further(laptop, standin: Standin) -> None:
    standin.world.knobs.session = 2.5  # killed before its first save, and nothing is kept
    done = relay(laptop, "--stop-every", "0", "--pause", "60")
    assert done.returncode == 1
    messages.said(done.stderr, "cli/no-progress", step=0)
    assert len(standin.world.kernels) == 2


def test_a_relay_makes_as_many_sessions_as_it_may(laptop, standin: Standin) -> None:
    done = relay(laptop, "--max-sessions", "1")
    assert done.returncode == 75
    messages.said(done.stdout, "launch/relay-not-finished", step=3, session=1)
    standin.world.gpu_used = 30 * 3600 - 60
    done = laptop("relay", "walk", "--on", "kaggle", "--experiment-name", "walk")
    assert done.returncode == 75
    messages.said(done.stderr, "cli/quota-too-small", minute=1, on="Saturday 28 November, 00:00")


@pytest.mark.parametrize("number", [1, 3, pytest.param(0, marks=pytest.mark.slow)])
def test_a_relay_killed_at_a_write_of_its_records_pushes_nothing_twice(
    number: int, laptop, standin: Standin, twin: bytes, tmp_path: Path
) -> None:
    """0: at every one of the first 18 writes, before and after, one death after the other."""
    deaths = (
        [(number, False), (number, True)] if number else [(n, after) for n in range(2, 19) for after in (False, True)]
    )
    asked = tmp_path / "asked.json"
    for at, after in [*deaths, (1000, False)]:
        flags = {"experiment_name": "walk", "stop_every": "3"}
        asked.write_text(json.dumps({"recipe": "walk", "flags": flags, "die": at, "after": after}))
        command = [sys.executable, "-m", "tests.launch.relaying", str(asked)]
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}
        done = processes.run(command, cwd=laptop.folder, env=environment, template="launch")
        assert done.returncode in (0, -9), done.stderr
    assert done.returncode == 0, done
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    assert all(len(kernel.versions) == 1 for kernel in standin.world.kernels.values())
    assert len([session for session in standin.world.sessions() if session.log]) == 3


@pytest.mark.long
def test_three_sessions_of_a_real_recipe_whose_outputs_the_limit_would_take(laptop, standin: Standin) -> None:
    """The self-stop comes before the limit, at which everything is lost; the end is that of one long run.

    After 120 of the 360 steps a session only waits for its end, so that three are needed on any machine.
    """
    copy("digits", laptop.folder / "slow")
    training = laptop.folder / "slow/training.py"
    body = "        if config.data.augment:\n"
    wait = "        TAKEN.append(run.step)\n        time.sleep(0.5 if len(TAKEN) > 120 and WAITS else 0)\n"
    head = 'import os\nimport time\n\nTAKEN, WAITS = [], "KAGGLE_KERNEL_RUN_TYPE" in os.environ\n'
    text = training.read_text().replace(body, wait + body)
    training.write_text(text.replace("import copy\n", f"import copy\n{head}", 1))
    small = ["--data.samples", "288", "--batch-size", "8", "--model.width", "4"]
    flags = ["--epochs", "10", *small, "--num-workers", "0"]
    begun = time.time()
    train = [sys.executable, "-m", "outlast.cli", "train", "slow", *flags, "--checkpoint-dir", "twin"]
    subprocess.run(train, cwd=laptop.folder, check=True, capture_output=True, timeout=400)  # starts as a session does
    twin = laptop.folder / "twin/slow"
    starting = (twin / "run.json").stat().st_mtime - begun
    budget = min(1.5 * starting + 6, 50)
    standin.world.knobs.session = 60.0
    standin.world.knobs.keep_at_limit = False
    words = ["--on", "kaggle", "--accelerator", "cpu", "--budget", f"{budget:.1f}s", "--ask-every", "0.2", *flags]
    done = laptop("relay", "slow", *words, timeout=400)
    assert done.returncode == 0, done.stderr
    assert len(standin.world.kernels) >= 3, done.stdout
    ours = laptop.folder / "runs/slow"
    assert (ours / "journal.jsonl").read_bytes() == (twin / "journal.jsonl").read_bytes()
    newest = [max(root.glob("checkpoints/step-*")) for root in (twin, ours)]
    names = sorted(path.name for path in newest[0].iterdir() if path.suffix == ".safetensors")
    assert names
    for name in [*names, "state.json"]:
        assert (newest[0] / name).read_bytes() == (newest[1] / name).read_bytes(), name


def test_obstacles_to_a_push(laptop, standin: Standin, twin: bytes, monkeypatch) -> None:
    """A throttle, and places that others take."""
    standin.faults.append(Fault("SaveKernel", "429", retry_after=0.1))
    standin.world.knobs.cpu_sessions = 0
    push = standin.world.push

    def freed(user: str, request: dict) -> dict:
        answer = push(user, request)
        standin.world.knobs.cpu_sessions = 5
        return answer

    full = relay(laptop)
    assert full.returncode == 75
    messages.said(full.stderr, "kaggle/relay-found-no-place", count=0)
    standin.faults.append(Fault("SaveKernel", "429", retry_after=0.1))
    monkeypatch.setattr(standin.world, "push", freed)
    done = relay(laptop, "--wait")
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "kaggle/push-refused-waiting")
    messages.said(done.stdout, "launch/slots-in-use-waiting")
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin


def test_gpu_hours_bound_sessions_and_old_ones_are_deleted(laptop, standin: Standin, twin: bytes) -> None:
    words = ["relay", "walk", "--on", "kaggle", "--experiment-name", "walk", "--ask-every", "0.1"]
    refused = laptop(*words, "--max-gpu-hours", "0.5")
    messages.said(refused.stderr, "cli/gpu-hours-used-up", run="walk", had="0.0", allowed="0.5", step=0)
    done = laptop(*words, "--keep", "1", "--max-gpu-hours", "2")
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "kaggle/relay-forecast", more=2, day=1)
    assert list(standin.world.kernels) == [("ada", "outlast-walk-003")]
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    states = [json.loads(path.read_text()) for path in sorted(laptop.folder.glob("runs/walk/launches/*.json"))]
    assert [state["state"] for state in states] == ["deleted", "deleted", "fetched"]
    assert all(state["seconds"] > 0 for state in states)
    assert standin.world.pushed == 3


def test_a_relay_waits_for_the_hours_of_next_week(laptop, standin: Standin, twin: bytes) -> None:
    standin.world.gpu_used = 30 * 3600.0 - 60
    anew = threading.Timer(4.0, lambda: setattr(standin.world, "gpu_used", 0.0))
    anew.start()
    refresh = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
    standin.world.refresh = refresh.strftime("%Y-%m-%dT%H:%M:%SZ")
    done = laptop("relay", "walk", "--on", "kaggle", "--experiment-name", "walk", "--ask-every", "0.2", "--wait")
    anew.join()
    assert done.returncode == 0, done.stderr
    messages.said(done.stdout, "launch/quota-too-small-waiting", minute=1, on=f"{refresh:%A %d %B, %H:%M}")
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin


def test_a_run_moves_from_one_provider_to_another(laptop, standin: Standin, twin: bytes) -> None:
    local = ("relay", "walk", "--on", "local", "--session", "2m", "--experiment-name", "walk")
    done = laptop(*local, "--max-sessions", "1")
    messages.said(done.stdout, "launch/relay-not-finished", step=3, session=1)
    done = relay(laptop, "--max-sessions", "1")
    messages.said(done.stdout, "kaggle/step-is-sent", step=3, run="walk", path="step-3")
    messages.said(done.stdout, "launch/relay-not-finished-of-several", step=6, sessions=2, own=1)
    done = laptop(*local)
    assert done.returncode == 0, done
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    records = [json.loads(path.read_text()) for path in sorted(laptop.folder.glob("runs/walk/launches/*.json"))]
    assert [record["provider"] for record in records] == ["local", "kaggle", "local"]
    done = laptop("down", "walk")
    assert done.returncode == 0, done
    assert standin.world.kernels == {}
    assert standin.world.datasets == {}
    assert list((laptop.folder / "runs/.sessions").iterdir()) == []


def test_out_of_memory_and_cancelled_end_a_relay(laptop, standin: Standin) -> None:
    standin.world.knobs.memory_marker = "outlast-files.json"  # every session leaves it, so every one dies of memory
    done = relay(laptop)
    assert done.returncode == 1
    messages.said(done.stderr, "cli/session-would-fail-again", session=1, state="out-of-memory", step=3)
    standin.world.knobs.memory_marker = "nothing"
    words = [sys.executable, "-m", "outlast.cli", *RELAY, "--pause", "30"]
    process = processes.start(words, cwd=laptop.folder, template="launch")
    deadline = time.monotonic() + 60
    while not any(session.status == "RUNNING" for session in standin.world.sessions()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for session in standin.world.sessions():
        session.cancelled.set()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    messages.said(said, "cli/session-cancelled", session=2, step=3)
    done = relay(laptop)
    assert done.returncode == 0, done.stderr
    twin_of_one = relay(laptop, "--seed", "42")
    assert twin_of_one.stdout == "walk is finished at step 9\n"


def test_a_retired_machine_shape_is_refused_with_kaggles_message(laptop, standin: Standin, monkeypatch) -> None:
    monkeypatch.delitem(world.SHAPES, "TpuV5E8")
    done = laptop("relay", "walk", "--on", "kaggle", "--accelerator", "tpu", "--ask-every", "0.1")
    assert done.returncode == 1
    messages.said(done.stderr, "kaggle/machine-shape-unavailable")
    assert "invalid choice: 'p100'" in laptop("launch", "walk", "--on", "kaggle", "--accelerator", "p100").stderr


@pytest.mark.slow
def test_a_soak(tmp_path: Path) -> None:
    assert soak(tmp_path, sessions=8, seed=1) >= 8


def test_a_relay_trains_the_stages_of_a_chain(laptop, standin: Standin) -> None:
    pair = Path(__file__).parents[2] / "recipe/pair"
    shutil.copytree(pair, laptop.folder / "pair", ignore=shutil.ignore_patterns("__pycache__"))
    words = ("--on", "kaggle", "--experiment-name", "chain", "--device", "cpu", "--ask-every", "0.1")
    done = laptop("relay", "./pair", *words, "--stop-at", "walk:3", timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(standin.world.kernels) == 3, "one session of the first stage, two of the second"
    twin = laptop("train", "./pair", "--experiment-name", "chain", "--device", "cpu", "--checkpoint-dir", "twin")
    assert twin.returncode == 0, twin.stderr
    for name in ("chain.mean/journal.jsonl", "chain.walk/checkpoints/step-00000006/state.json"):
        assert (laptop.folder / "runs" / name).read_bytes() == (laptop.folder / "twin" / name).read_bytes()


def test_the_gpu_hours_of_a_chain_are_those_of_all_its_stages(laptop, standin: Standin) -> None:
    pair = Path(__file__).parents[2] / "recipe/pair"
    shutil.copytree(pair, laptop.folder / "pair", ignore=shutil.ignore_patterns("__pycache__"))
    words = ("relay", "./pair", "--on", "kaggle", "--experiment-name", "chain", "--device", "cpu", "--ask-every", "0.1")
    assert laptop(*words, "--max-sessions", "1").returncode == 75
    record = laptop.folder / "runs/chain.mean/launches/0001.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 2 * 3600}))
    done = laptop(*words, "--max-gpu-hours", "2")
    assert done.returncode == 1
    messages.said(done.stderr, "cli/gpu-hours-used-up", run="chain.walk", had="2.0", allowed="2", step=0)
    assert len(standin.world.kernels) == 1
