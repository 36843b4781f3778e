"""Screens are called in the training thread, sinks in threads of their own; a failure of either ends nothing."""

from __future__ import annotations

import threading

import pytest
from tests import messages

from outlast.tracking import Fanout, Sink
from outlast.tracking.sink import hears, without_secrets


class Listener(Sink):
    def __init__(self, failures: int = 0, error: BaseException | None = None) -> None:
        self.heard: list[tuple] = []
        self.threads: set[str] = set()
        self.failures, self.error = failures, error or RuntimeError("down")

    def logged(self, record) -> None:
        self._hear("logged", record["step"])

    def stopping(self, reason, sentence) -> None:
        self._hear("stopping", reason)

    def told(self, level, sentence) -> None:
        self.heard.append((level, sentence))

    def closed(self) -> None:
        self._hear("closed")

    def _hear(self, *facts) -> None:
        self.threads.add(threading.current_thread().name)
        if self.failures:
            self.failures -= 1
            raise self.error
        self.heard.append(facts)


def lines(listener: Listener) -> list[tuple]:
    return [facts for facts in listener.heard if facts[0] in ("logged", "stopping", "closed")]


def test_a_screen_is_called_here_and_a_sink_elsewhere_and_both_hear_all() -> None:
    screen, sink, added = Listener(), Listener(), Listener()
    fanout = Fanout([screen], [sink])
    fanout.add(added)
    for step in (1, 2):
        fanout.send("logged", {"step": step})
    fanout.close()
    for each in (screen, sink, added):
        assert lines(each) == [("logged", 1), ("logged", 2), ("closed",)]
    assert screen.threads == {threading.current_thread().name}
    assert threading.current_thread().name not in sink.threads | added.threads


@pytest.mark.parametrize("error", [RuntimeError("down"), SystemExit(3)])
def test_a_failing_screen_is_reported_once_and_at_the_end(error: BaseException) -> None:
    bad, good = Listener(2, error), Listener()
    fanout = Fanout([bad, good])
    for step in (1, 2, 3):
        fanout.send("logged", {"step": step})
    fanout.close()
    assert lines(bad) == [("logged", 3), ("closed",)]
    warnings = [facts[1] for facts in good.heard if facts[0] == "warning"]
    assert len(warnings) == 2
    words = f"{type(error).__name__}: {error}"
    messages.said(warnings[0], "tracking/listener-failed", name="logged", error=words)
    messages.said(warnings[1], "tracking/listener-failed-times-the-journal", failed=2)


def test_ctrl_c_in_a_screen_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        Fanout([Listener(1, KeyboardInterrupt())]).send("logged", {"step": 1})


def test_a_failing_sink_is_reported_in_the_training_thread() -> None:
    told: list[tuple[str, str, str]] = []
    fanout = Fanout([], [Listener(1)])
    fanout.tell = lambda level, sentence: told.append((level, sentence, threading.current_thread().name))
    fanout.send("logged", {"step": 1})
    fanout.close()
    assert [(level, thread) for level, _, thread in told] == [("warning", threading.current_thread().name)] * 2
    messages.said(told[0][1], "tracking/listener-failed-2", name="logged")


def test_a_stop_reaches_screens_at_once_and_never_raises() -> None:
    screen, bad, sink = Listener(), Listener(1), Listener()
    fanout = Fanout([bad, screen], [sink])
    fanout.send("logged", {"step": 0})
    fanout.interrupt("stopping", "preempted", "SIGTERM received")
    assert ("stopping", "preempted") in screen.heard
    fanout.close()
    assert ("stopping", "preempted") in sink.heard


def test_an_event_calls_the_method_of_its_name() -> None:
    assert hears(Listener(), "logged")
    assert not hears(Listener(), "saved")
    assert Fanout([], [Listener()]).listens("logged")
    assert not Fanout([Sink()], [Sink()]).listens("logged")


def test_text_that_is_named_like_a_secret_stays_here() -> None:
    values = {"lr": 0.1, "wandb.api_key": "k", "hf_token": "t", "password": "p", "max_tokens": 512, "keypoints": "hand"}
    assert without_secrets(values) == {"lr": 0.1, "max_tokens": 512, "keypoints": "hand"}
