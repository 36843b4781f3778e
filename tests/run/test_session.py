"""When to stop: budget, limit, reserve, signals, notices."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
import timeit
from pathlib import Path

import pytest
from tests import messages

from outlast.distributed import workers
from outlast.environment import Environment, Limits, base, detect, kaggle
from outlast.errors import UsageError
from outlast.run import session as sessions
from outlast.run import signals
from outlast.run.session import Session


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(sessions, "_clock", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def environment(seconds: float | None = None, **more) -> Environment:
    return Environment("test", Limits(seconds, 2**30, 1), **more)


def test_no_end(clock: Clock) -> None:
    session = Session(environment())
    clock.now += 1e9
    assert not session.should_stop()
    assert session.seconds_left is None


def test_the_limit_counts_from_when_it_was_read(clock: Clock) -> None:
    """A framework is imported in between, which takes seconds."""
    session = Session(environment(100.0, detected=base.clock() - 30))
    assert 68 <= session.seconds_left <= 69
    assert 1069 <= session.ends <= 1070
    assert Session(environment(100.0)).seconds_left == 99
    assert Session(environment(100.0, detected=base.clock() + 30)).seconds_left == 99, "never more than was read"


def test_a_detected_limit_says_when_it_was_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUTLAST_SESSION_ENDS", f"{time.time() + 100:.3f}")
    before = base.clock()
    found = detect(root=tmp_path)
    assert before <= found.detected <= base.clock()


def test_a_budget_ends_with_its_reserve(clock: Clock) -> None:
    session = Session(environment(), budget=100)
    assert session.reserve == 1.0
    clock.now += 98.9
    assert not session.should_stop()
    clock.now += 0.2
    assert session.should_stop()
    assert session.reason == "budget"


def test_the_reserve_grows_with_the_state_and_with_slow_saves(clock: Clock) -> None:
    session = Session(environment(), budget=1000)
    session.observe_state(5 * 10**9, 0)
    assert session.reserve == 1 + 2 * 100
    session.observe_state(5 * 10**9, 0, save_seconds=300)
    assert session.reserve == 601
    assert session.seconds_left == 399


def test_no_step_is_begun_that_would_run_over(clock: Clock) -> None:
    session = Session(environment(), budget=100)
    session.observe_step(30)
    session.observe_step(2)
    assert session.seconds_left == 100 - 1 - 30


def test_kaggles_limit_keeps_kaggles_reserve(clock: Clock) -> None:
    session = Session(environment(12 * 3600, reserve=kaggle.reserve))
    assert session.seconds_left == 12 * 3600 - 15 * 60
    session.observe_state(10**9, 9 * 10**9)
    assert session.limit_reserve == 3 * 60 + 2 * 60 * 10
    assert session.seconds_left == 12 * 3600 - 1380


def test_the_nearer_end_counts(clock: Clock) -> None:
    assert Session(environment(1000), budget=100).seconds_left == 99
    assert Session(environment(50), budget=100).seconds_left == 49


def test_a_reserve_of_ones_own_does_not_cost_the_outputs(clock: Clock) -> None:
    assert Session(environment(1000), budget=500, reserve=10).seconds_left == 490
    assert Session(environment(1000, reserve=kaggle.reserve), reserve=10).seconds_left == 100


def test_a_budget_that_is_all_reserve_is_refused() -> None:
    with messages.raises(UsageError, "run/budget-of-leaves-no-time-2", seconds=1, reserve="1.0"):
        Session(environment(), budget=1)
    with messages.raises(UsageError, "run/budget-of-leaves-no-time", seconds=60):
        Session(environment(), budget=60, reserve=60)


def test_asking_costs_less_than_a_microsecond() -> None:
    """The issue's own bound; five times it, so that a busy machine does not fail the test. benchmarks/ has the
    figure."""
    session = Session(environment(1e9), budget=1e9)
    cost = min(timeit.repeat(session.should_stop, number=20_000, repeat=5)) / 20_000
    assert cost < 5e-6


def test_the_clock_counts_sleep_where_it_can() -> None:
    assert abs(sessions.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


@pytest.mark.parametrize(
    ("name", "reason"), [("SIGTERM", "preempted"), ("SIGHUP", "preempted"), ("SIGINT", "cancelled")]
)
def test_signals_ask_for_a_stop(name: str, reason: str) -> None:
    told = []
    before = signal.getsignal(getattr(signal, name))
    session = Session(environment(), on_stop=lambda *facts: told.append(facts))
    session.listen()
    session.listen()
    try:
        os.kill(os.getpid(), getattr(signal, name))
        assert session.should_stop()
        assert session.reason == reason
        assert len(told) == 1
    finally:
        session.close()
    assert signal.getsignal(getattr(signal, name)) is before


def test_a_second_interrupt_is_at_once() -> None:
    session = Session(environment())
    session.listen()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        session.close()


def test_in_another_thread_no_handler_is_set() -> None:
    session = Session(environment())
    before = signal.getsignal(signal.SIGTERM)
    told = []
    thread = threading.Thread(target=lambda: told.extend(session.listen()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(told) == 1
    messages.said(told[0], "run/outside-the-main-thread-sigterm")
    session.close()


def test_a_second_interrupt_ends_a_session_that_was_stopping_already() -> None:
    session = Session(environment())
    session.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert session.reason == "preempted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        session.close()


def test_signals_that_the_parent_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    session = Session(environment())
    try:
        session.listen()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        session.close()
        signal.signal(signal.SIGINT, before)


def test_a_forked_worker_lives_long_enough_for_the_last_step(monkeypatch) -> None:
    monkeypatch.setattr(workers, "GRACE", 1)
    session = Session(environment())
    session.listen()
    try:
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        time.sleep(0.1)
        os.kill(child, signal.SIGINT)  # Ctrl-C reaches the whole group; the parent decides
        time.sleep(0.1)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGTERM)
        time.sleep(0.3)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGALRM
        assert session.reason is None
    finally:
        session.close()


def test_a_platforms_notice_stops() -> None:
    gone = threading.Event()

    def notice(stop: threading.Event) -> str | None:
        gone.wait(5)
        return "the machine is taken back"

    session = Session(environment(notice=notice))
    session.listen()
    assert not session.should_stop()
    gone.set()
    deadline = time.monotonic() + 5
    while not session.should_stop() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert session.reason == "preempted"
    assert session.explanation == "the machine is taken back"
    session.close()


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_the_warnings_of_batch_systems_stop_like_sigterm(name: str) -> None:
    number = getattr(signal, name)
    session = Session(environment())
    assert session.listen() == []
    try:
        os.kill(os.getpid(), number)
        assert session.should_stop()
        assert (session.reason, session.explanation, session.signal) == ("preempted", f"{name} received", name)
    finally:
        session.close()
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_programs_own_handler_of_a_warning_is_kept_and_told_once(monkeypatch) -> None:
    monkeypatch.setattr(signals, "_told", set())
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append("program"))
    session = Session(environment())
    try:
        (told,) = session.listen()
        assert session.listen() == []
        assert told.startswith("SIGUSR1 is handled by this program (" + __name__ + ".test_a_programs_own")
        messages.said(told, "run/run-session-request-stop", name="preempted", name2="SIGUSR1 received")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard == ["program"]
        assert not session.should_stop()
    finally:
        session.close()
        signal.signal(signal.SIGUSR1, before)


def test_faulthandlers_signal_is_left_to_it(monkeypatch, tmp_path) -> None:
    """It installs its handler below Python, whose getsignal() says SIG_DFL."""
    monkeypatch.setattr(signals, "_told", set())
    session = Session(environment())
    with (tmp_path / "dump").open("w") as dump:
        faulthandler.register(signal.SIGUSR2, file=dump)
        try:
            (told,) = session.listen()
            messages.said([told], "run/sigusr-is-handled-by-this-program")
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not session.should_stop()
        finally:
            session.close()
            faulthandler.unregister(signal.SIGUSR2)
    assert "test_faulthandlers_signal" in (tmp_path / "dump").read_text()


def test_a_programs_own_handler_of_sigterm_is_reported_and_comes_back(monkeypatch) -> None:
    monkeypatch.setattr(signals, "_told", set())

    def own(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, own)
    session = Session(environment())
    try:
        (told,) = session.listen()
        messages.said([told], "run/sigterm-is-handled-by-this-program")
        os.kill(os.getpid(), signal.SIGTERM)
        assert session.signal == "SIGTERM"
        session.close()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        session.close()
        signal.signal(signal.SIGTERM, before)


def test_two_sessions_both_hear_and_may_end_in_any_order() -> None:
    before = signal.getsignal(signal.SIGTERM)
    first, second = Session(environment()), Session(environment())
    first.listen()
    second.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (first.signal, second.signal) == ("SIGTERM", "SIGTERM")
        first.close()
        assert signal.getsignal(signal.SIGTERM) is not before, "the second one still trains"
    finally:
        first.close()
        second.close()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_session_that_ends_in_another_thread_leaves_no_deaf_process() -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        session = Session(environment())
        session.listen()
        thread = threading.Thread(target=session.close)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_step_with_a_stopped_process_is_not_timed(clock: Clock) -> None:
    session = Session(environment(), budget=100_000)
    session.listen()
    try:
        assert session.observe_step(2)
        os.kill(os.getpid(), signal.SIGCONT)  # what a shell's fg, or a scheduler's resume, sends
        assert not session.observe_step(3600)
        assert session.seconds_left == 100_000 - 1 - 2
        assert session.observe_step(3)
    finally:
        session.close()


def test_the_clock_of_the_wall_may_jump(monkeypatch) -> None:
    session = Session(environment(), budget=100)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not session.should_stop()


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGXCPU", "SIGTERM"])
def test_a_data_worker_survives_a_warning_signal(name: str, monkeypatch) -> None:
    """A worker of another start method than fork inherits no handler of ours; `shield` sets them."""
    monkeypatch.setattr(workers, "GRACE", 1)
    shielded, tell = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
        workers.shield()
        os.write(tell, b".")
        time.sleep(30)
        os._exit(0)
    os.close(tell)
    assert os.read(shielded, 1) == b"."
    os.close(shielded)
    os.kill(child, getattr(signal, name))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGALRM
