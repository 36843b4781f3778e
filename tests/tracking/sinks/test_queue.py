"""A sink in a thread of its own: it costs the loop nothing, keeps its order, loses only what may be lost, and says what
it lost."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from tests import messages

from outlast.tracking.sink import SaveFacts, Sink
from outlast.tracking.sinks import Queue


class Gated(Sink):
    """Hears nothing until its gate is opened; remembers what it heard, and in which thread."""

    def __init__(self, *, open_: bool = False) -> None:
        self.gate = threading.Event()
        self.heard: list[object] = []
        self.times: list[float] = []
        self.threads: set[str] = set()
        if open_:
            self.gate.set()

    def _hear(self, *facts: object) -> None:
        self.gate.wait(30)
        self.heard.append(facts)
        self.times.append(self.time)
        self.threads.add(threading.current_thread().name)

    def logged(self, record) -> None:
        self._hear("logged", record["step"])

    def progressed(self, progress) -> None:
        self._hear("progressed", progress)

    def saved(self, save) -> None:
        self._hear("saved", save.step)

    def artifact(self, name, path) -> None:
        self._hear("artifact", name)

    def stopping(self, reason, sentence) -> None:
        self._hear("stopping", reason)

    def ended(self, reason, step, total) -> None:
        self._hear("ended", reason)

    def closed(self) -> None:
        self._hear("closed")


def over(queue: Queue, seconds: float = 20.0) -> list[str]:
    """Close a queue; returns what the user is told in the end."""
    queue.close()
    queue.finish(time.monotonic() + seconds)
    return list(queue.complaints)


def saved(step: int) -> SaveFacts:
    return SaveFacts(step, "steps", 0.1, 10)


def test_events_come_in_order_in_another_thread_with_the_time_at_which_they_happened() -> None:
    sink = Gated()
    queue, before = Queue(sink), time.time()
    for step in range(5):
        queue.put("logged", {"step": step})
    after = time.time()
    queue.put("ended", "finished", 5, 5)
    sink.gate.set()
    assert over(queue) == []
    assert sink.heard == [*(("logged", step) for step in range(5)), ("ended", "finished"), ("closed",)]
    assert all(before <= at <= after for at in sink.times[:5])
    assert sink.threads == {"outlast-sink-Gated"}


def test_a_sink_that_is_far_behind_loses_the_oldest_lines_and_nothing_else() -> None:
    sink = Gated()
    queue = Queue(sink, most=10)
    queue.put("artifact", "first", Path("first"))
    for step in range(100):
        queue.put("logged", {"step": step})
        queue.put("saved", saved(step))
    messages.said(queue.complaints[0], "tracking/events-behind", events=10)
    queue.put("ended", "finished", 100, 100)
    sink.gate.set()
    told = over(queue)
    assert [step for what, *step in sink.heard if what == "saved"] == [[step] for step in range(100)]
    assert [step for what, *step in sink.heard if what == "logged"] == [[step] for step in range(90, 100)]
    assert sink.heard[0] == ("artifact", "first")
    assert sink.heard[-2:] == [("ended", "finished"), ("closed",)]
    assert queue.dropped == 90
    assert len(told) == 2
    messages.said(told[-1], "tracking/gated-did-not-get-every-event", dropped=90)


def test_of_the_progress_that_waits_only_the_newest_is_kept() -> None:
    sink = Gated()
    queue = Queue(sink, most=5)
    queue.put("artifact", "busy", Path("busy"))
    for step in range(100):
        queue.put("progressed", step)
    sink.gate.set()
    assert over(queue) == []
    assert [event for event in sink.heard if event[0] == "progressed"] == [("progressed", 99)]
    assert queue.dropped == 0


class Flaky(Sink):
    """Fails so many times, then works."""

    def __init__(self, failures: float, error: BaseException | None = None) -> None:
        self.failures, self.calls, self.steps = failures, 0, []
        self.error = error or ConnectionError("down")

    def logged(self, record) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        self.steps.append(record["step"])


@pytest.mark.parametrize("error", [ConnectionError("down"), SystemExit(3), KeyboardInterrupt()])
def test_an_event_that_failed_is_sent_again_and_none_is_lost(error: BaseException) -> None:
    sink = Flaky(3, error)
    queue = Queue(sink, pause=0.001)
    for step in range(3):
        queue.put("logged", {"step": step})
    wait_for(lambda: len(sink.steps) == 3)
    told = over(queue)
    assert sink.steps == [0, 1, 2]
    assert (queue.errors, queue.failed) == (3, 0)
    assert len(told) == 2
    messages.said([told[0]], "tracking/sink-failed", sink="Flaky", event="logged", error=messages.ANY)
    messages.said(told[1], "tracking/got-every-event")


class Hiccup(Gated):
    """Fails at the first of each event."""

    def _hear(self, *facts: object) -> None:
        super()._hear(*facts)
        if self.heard.count(facts) == 1:
            raise ConnectionError("down")


def test_while_closing_an_event_that_is_never_dropped_is_sent_again() -> None:
    sink = Hiccup()
    queue = Queue(sink)
    queue.put("logged", {"step": 0})
    queue.put("logged", {"step": 1})
    queue.put("saved", saved(1))
    queue.put("ended", "finished", 1, 1)
    queue.close()
    sink.gate.set()
    queue.finish(time.monotonic() + 20)
    assert [sink.heard.count(event) for event in (("saved", 1), ("ended", "finished"), ("closed",))] == [2, 2, 2]
    assert sink.heard.count(("logged", 1)) == 1, "a droppable one is not worth the time"
    assert queue.unsent == 0


def test_an_event_that_always_fails_is_given_up_and_the_next_one_comes() -> None:
    sink = Flaky(5)
    queue = Queue(sink, pause=0.001)
    queue.put("logged", {"step": 0})
    queue.put("logged", {"step": 1})
    wait_for(lambda: sink.steps)
    assert sink.steps == [1]
    told = over(queue)
    assert (queue.errors, queue.failed) == (5, 1)
    messages.said(told[-1], "tracking/flaky-did-not-get-every-event", failed=1)


def test_the_pauses_grow_and_closing_ends_them() -> None:
    pauses: list[float] = []
    sink = Flaky(float("inf"))
    queue = Queue(sink, pause=1.0)
    wait = queue._closing.wait

    def waited(seconds: float) -> bool:
        pauses.append(seconds)
        return wait(0 if len(pauses) < 8 else 60)

    queue._closing.wait = waited
    for step in range(4):
        queue.put("logged", {"step": step})
    wait_for(lambda: len(pauses) == 8)
    told = over(queue)
    assert pauses[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert queue.failed == 4
    messages.said(told[-1], "tracking/flaky-did-not-get-every-event", failed=4)


def test_a_sink_that_hangs_is_left_behind_at_the_deadline() -> None:
    sink = Gated()
    queue = Queue(sink)
    for step in range(7):
        queue.put("logged", {"step": step})
    begun = time.monotonic()
    told = over(queue, 0.2)
    assert time.monotonic() - begun < 10
    messages.said(told[-1], "tracking/not-sent-in-time", number=8)  # seven lines and the end
    sink.gate.set()
    queue._thread.join(20)
    assert len(sink.heard) == 1  # the one it hung in; nothing comes after the end


def test_a_stop_that_a_signal_handler_sends_takes_no_lock_and_comes_first() -> None:
    sink = Gated()
    queue = Queue(sink)
    queue.put("artifact", "busy", Path("busy"))
    wait_for(lambda: queue._current is not None)
    queue.put("logged", {"step": 1})
    with queue._lock:  # as if the signal came in the middle of `put`
        queue.interrupt("stopping", "preempted", "SIGTERM")
    sink.gate.set()
    assert over(queue) == []
    assert sink.heard[1:3] == [("stopping", "preempted"), ("logged", 1)]


def test_events_without_a_sink_are_not_kept() -> None:
    queue = Queue(Sink())
    queue.put("logged", {"step": 1})
    assert not queue._waiting
    assert queue._thread is None


def test_where_no_thread_can_be_had_the_events_are_counted_as_not_sent(monkeypatch) -> None:
    def start(_thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    queue = Queue(Gated(open_=True))
    queue.put("logged", {"step": 1})
    messages.said(over(queue)[-1], "tracking/not-sent-in-time", number=2)


@pytest.mark.parametrize("error", [None, RuntimeError("in the child")])
def test_a_child_that_a_sink_forks_ends_where_it_comes_back(tmp_path: Path, error: BaseException | None) -> None:
    class Forks(Sink):
        child = 0

        def logged(self, record) -> None:
            if record["step"] == 1:
                self.child = os.fork()
                if error and not self.child:
                    raise error
            with (tmp_path / "heard").open("a") as file:
                file.write(f"{'parent' if self.child else 'child'} {record['step']}\n")

    sink = Forks()
    queue = Queue(sink)
    for step in (1, 2):
        queue.put("logged", {"step": step})
    assert over(queue) == []
    assert os.waitstatus_to_exitcode(os.waitpid(sink.child, 0)[1]) == (1 if error else 0)
    heard = (tmp_path / "heard").read_text().splitlines()
    assert sorted(heard) == [*([] if error else ["child 1"]), "parent 1", "parent 2"]


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


SCRIPT = """
import os, sys, time
from pathlib import Path
import outlast
from outlast.environment import Environment, Limits

class Slow(outlast.Sink):
    def _write(self, *words):
        time.sleep({pause})
        with open({out!r}, "a") as file:
            file.write(" ".join(map(str, [os.getpid() == PARENT, *words])) + "\\n")
    def started(self, facts, config): self._write("started", facts.id)
    def logged(self, record): self._write("logged", record["step"])
    def ended(self, reason, step, total): self._write("ended", reason, step)
    def closed(self): self._write("closed")

class Counter:
    value = 0
    def state_dict(self): return {{"value": self.value}}
    def load_state_dict(self, state): self.value = state["value"]

PARENT = os.getpid()
here = Environment("local", Limits(seconds=None, ram=2**34, cores=2))
options = dict(total_steps=5, root={root!r}, progress="none", environment=here, save="never", sinks=[Slow()])
{body}
"""


def run_script(tmp_path: Path, body: str, pause: float = 0.0, timeout: float = 60) -> tuple[list[str], str]:
    """Lines that the sink wrote, and what the process printed."""
    out = tmp_path / "heard.txt"
    script = SCRIPT.format(out=str(out), root=str(tmp_path), pause=pause, body=textwrap.dedent(body))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return out.read_text().splitlines() if out.exists() else [], done.stderr


WHOLE = ["True started r", *(f"True logged {step}" for step in range(1, 6)), "True ended finished 5", "True closed"]


def test_a_script_without_a_with_block_loses_nothing_and_ends(tmp_path: Path) -> None:
    body = """
    run = outlast.open_run("r", **options)
    run.track(counter=Counter())
    for step in run.steps():
        run.log(x=step)
    """
    assert run_script(tmp_path, body, pause=0.02)[0] == WHOLE


def test_a_forked_child_sends_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    body = """
    with outlast.open_run("r", **options) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(x=step)
            if step == 3 and os.fork() == 0:
                run.tell("from the child")
                sys.exit(0)
    os.wait()
    """
    assert run_script(tmp_path, body)[0] == WHOLE


def test_a_hung_sink_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    body = """
    import outlast.tracking.fanout

    outlast.tracking.fanout.DEADLINE = 0.5
    options["progress"] = "plain"
    with outlast.open_run("r", **options) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(x=step)
    """
    heard, shown = run_script(tmp_path, body, pause=30, timeout=25)
    assert heard == []
    messages.said(shown, "tracking/not-sent-in-time-2")


class Opens(Sink):
    """Fails at its first event so many times; then it takes all."""

    def __init__(self, failures: float) -> None:
        self.failures, self.calls, self.heard = failures, 0, []

    def started(self, facts, config) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("down")
        self.heard.append("started")

    def logged(self, record) -> None:
        self.heard.append(record["step"])

    def ended(self, reason, step, total) -> None:
        self.heard.append("ended")


def test_the_first_event_is_tried_until_the_sink_takes_it_and_the_others_wait() -> None:
    sink = Opens(12)
    queue = Queue(sink, pause=0.001)
    queue._closing.wait = lambda seconds: pauses.append(seconds)
    pauses: list[float] = []
    queue.put("started", None, {})
    for step in range(3):
        queue.put("logged", {"step": step})
    wait_for(lambda: len(sink.heard) == 4)
    told = over(queue)
    assert sink.heard == ["started", 0, 1, 2]
    assert pauses == [0.001 * 2**trial for trial in range(12)]
    assert (queue.errors, queue.failed, queue.dropped, queue.unsent) == (12, 0, 0, 0)
    messages.said(told[-1], "tracking/opens-got-every-event", errors=12)


def test_a_sink_that_never_starts_gets_nothing_else_and_one_more_try_at_the_end() -> None:
    sink = Opens(float("inf"))
    queue = Queue(sink, pause=60.0)
    queue.put("started", None, {})
    for step in range(3):
        queue.put("logged", {"step": step})
    queue.put("ended", "finished", 3, 3)
    wait_for(lambda: sink.calls == 1)
    begun = time.monotonic()
    told = over(queue)
    assert time.monotonic() - begun < 10
    assert (sink.calls, sink.heard) == (2, [])
    assert (queue.failed, queue.unsent) == (1, 4)
    messages.said(told[-1], "tracking/opens-did-not-start", failed=1, number=4)


def test_the_last_try_may_succeed() -> None:
    sink = Opens(1)
    queue = Queue(sink, pause=60.0)
    queue.put("started", None, {})
    queue.put("logged", {"step": 1})
    wait_for(lambda: sink.calls == 1)
    over(queue)
    assert sink.heard == ["started", 1]
