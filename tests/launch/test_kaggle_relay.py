"""The relay by command line against the stand-in: session after session, through kills and faults."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import pytest

pytest.importorskip("kagglesdk", reason="the official Kaggle client is not installed")

from tests.standins.kaggle import Fault, Standin

RELAY = ["relay", "walk", "--on", "kaggle", "--accelerator", "cpu", "--experiment-name", "walk", "--ask-every", "0.1"]


def relay(laptop, *flags: str):
    return laptop(*RELAY, *flags)


@pytest.fixture
def twin(laptop) -> bytes:
    done = laptop("train", "walk", "--stop-every", "0", "--experiment-name", "walk", "--checkpoint-dir", "twin")
    assert done.returncode == 0, done.stderr
    return (laptop.folder / "twin/walk/journal.jsonl").read_bytes()


def test_a_relay_goes_on_until_the_run_is_finished(laptop, standin: Standin, twin: bytes) -> None:
    faults = [
        ("GetKernelSessionStatus", "503"),
        ("GetKernelSessionStatus", "html"),
        ("ListKernelSessionOutput", "drop"),
        ("download", "corrupt"),
    ]
    standin.faults += [Fault(method, kind) for method, kind in faults]
    done = relay(laptop)
    assert done.returncode == 0, done.stderr
    assert "session 1: stopped, step 0 -> 3 of 9: about 2 more" in done.stdout
    assert "session 3: succeeded, step 6 -> 9" in done.stdout
    assert done.stdout.splitlines()[-1] == "walk is finished at step 9"
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    assert relay(laptop).stdout == "walk is finished at step 9\n"
    assert len(standin.world.kernels) == 3


def test_a_killed_relay_goes_on_and_pushes_nothing_twice(laptop, standin: Standin, twin: bytes) -> None:
    deadline = time.monotonic() + 200
    for attempt in itertools.count():
        seconds = 3.0 * 1.15**attempt  # long enough at last, however slow the machine is
        process = subprocess.Popen(
            [sys.executable, "-m", "outlast.cli", *RELAY],
            cwd=laptop.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            break
        assert time.monotonic() < deadline
    assert process.returncode == 0
    assert (laptop.folder / "runs/walk/journal.jsonl").read_bytes() == twin
    assert len(standin.world.kernels) == 3
    assert all(len(kernel.versions) == 1 for kernel in standin.world.kernels.values())


def test_a_relay_stops_on_what_another_session_would_only_repeat(laptop, standin: Standin) -> None:
    done = relay(laptop, "--pause", "-1")
    assert done.returncode == 1
    assert "Session 1 ended as failed(1), which another session would only repeat" in done.stderr
    assert len(standin.world.kernels) == 1


def test_a_relay_stops_when_two_sessions_came_no_further(laptop, standin: Standin) -> None:
    standin.world.knobs.session = 2.5  # killed before its first save, and nothing is kept
    done = relay(laptop, "--stop-every", "0", "--pause", "60")
    assert done.returncode == 1
    assert "The last two sessions of walk came no further than step 0" in done.stderr
    assert len(standin.world.kernels) == 2


def test_a_relay_makes_as_many_sessions_as_it_may(laptop, standin: Standin) -> None:
    done = relay(laptop, "--max-sessions", "1")
    assert done.returncode == 1
    assert "walk is at step 3 after 1 sessions and not finished. Run the same command to go on." in done.stderr
    standin.world.gpu_used = 30 * 3600 - 60
    done = laptop("relay", "walk", "--on", "kaggle", "--experiment-name", "walk")
    assert (
        "1 minutes of GPU are left this week, too few for a session. They are given anew Saturday 28 November"
        in done.stderr
    )
