"""What sinks hear of a run: its facts, what is no longer part of it, and where its time went; and that they cost it
nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests import messages
from tests.counting import Counter, attempts

import outlast
from outlast.config import Config, resolve, setting
from outlast.errors import SessionEnded, UsageError
from outlast.folder.layout import RunFolder
from outlast.tracking import read_events, spent_in


class Heard(outlast.Sink):
    """Remembers all events but the progress, in order."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def started(self, facts, config) -> None:
        self.events.append(("started", facts, dict(config)))

    def rewound(self, step) -> None:
        self.events.append(("rewound", step))

    def logged(self, record) -> None:
        self.events.append(("logged", record["step"]))

    def saved(self, save) -> None:
        self.events.append(("saved", save))

    def evaluated(self, step, seconds) -> None:
        self.events.append(("evaluated", step))

    def ended(self, reason, step, total) -> None:
        self.events.append(("ended", reason, step, total))

    def names(self) -> list[str]:
        return [event[0] for event in self.events]


def count(run, *, fail_at: int | None = None) -> None:
    run.track(counter=(counter := Counter()))
    for step in run.steps():
        counter.value += step
        run.log(value=counter.value)
        if step == fail_at:
            raise RuntimeError("the script's own")


class Values(Config):
    rate: float = setting(0.5, "a rate")
    wandb_api_key: str | None = setting("hidden", "a key")


def test_a_sink_receives_the_facts_of_the_run_and_a_config_without_secrets(opened, tmp_path: Path) -> None:
    heard = Heard()
    resolved = resolve(Values, flags={"rate": "0.25"})
    with opened(total_steps=3, sinks=[heard], config=resolved, recipe="mine", grade="statistical") as run:
        count(run)
    _, facts, config = heard.events[0]
    assert (facts.id, facts.folder, facts.attempt) == ("r", tmp_path / "r", 1)
    assert (facts.step, facts.total_steps, facts.resumed_from) == (0, 3, None)
    assert (facts.recipe, facts.grade, len(facts.uid)) == ("mine", "statistical", 32)
    assert config["rate"] == 0.25
    assert "wandb_api_key" not in config
    assert heard.names() == ["started", "logged", "logged", "logged", "saved", "ended"]
    save = heard.events[4][1]
    assert (save.step, save.reason) == (3, "final")
    assert 0 < save.seconds <= save.held
    assert save.size > 0


def test_a_hanging_sink_delays_no_step(opened) -> None:
    class Still(outlast.Sink):
        def __init__(self) -> None:
            self.gate, self.steps = threading.Event(), []

        def logged(self, record) -> None:
            self.gate.wait(60)
            self.steps.append(record["step"])

    sink = Still()
    with opened(total_steps=200, sinks=[sink], save="never") as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(value=step)
        assert sink.steps == [], "all steps are done, and the sink is in its first event"
        sink.gate.set()
    assert sink.steps == list(range(1, 201))


@pytest.mark.parametrize("left", ["killed", "failed"])
def test_rewound_precedes_logged_after_lost_steps(opened, tmp_path: Path, left: str) -> None:
    with pytest.raises(RuntimeError), opened(total_steps=6, save="2 steps") as run:
        count(run, fail_at=5)
    if left == "killed":
        record = tmp_path / "r/attempts/0001.json"
        record.write_text(record.read_text().replace('"end"', '"was"'))
    heard = Heard()
    with opened(total_steps=6, sinks=[heard]) as run:
        saved = run.resumed_from
        count(run)
    assert saved in (2, 4)
    assert heard.events[0][1].resumed_from == saved
    assert heard.events[1] == ("rewound", saved)
    assert heard.events[2] == ("logged", saved + 1)


def test_rewound_is_sent_when_a_run_starts_over(opened) -> None:
    with pytest.raises(RuntimeError), opened(total_steps=6, save="never") as run:
        count(run, fail_at=3)
    heard = Heard()
    with opened(total_steps=6, sinks=[heard]) as run:
        count(run)
    assert heard.events[1] == ("rewound", 0)


def test_after_a_clean_stop_nothing_is_taken_back(opened) -> None:
    with pytest.raises(SessionEnded), opened(total_steps=6) as run:
        run.track(counter=Counter())
        for step in run.steps():
            run.log(value=step)
            if step == 3:
                run.session.request_stop("preempted", "a test asks")
    heard = Heard()
    with opened(total_steps=6, sinks=[heard]) as run:
        count(run)
    assert heard.events[0][1].resumed_from == 3
    assert "rewound" not in heard.names()


def test_lines_after_the_last_save_are_taken_back_when_a_finished_run_continues(opened) -> None:
    with opened(total_steps=2) as run:
        count(run)
        run.log(test=1.0)
    heard = Heard()
    with opened(total_steps=4, sinks=[heard]) as run:
        count(run)
    assert heard.events[1] == ("rewound", 2)


def test_an_attempt_writes_down_when_what_happened(opened, tmp_path: Path) -> None:
    with opened(total_steps=4, save="2 steps") as run:
        run.track(counter=(counter := Counter()))
        run.validate(lambda: {"val": sum(run.evaluate([1, 2]))}, "2 steps")
        for step in run.steps():
            counter.value += step
        with run.artifact("a.txt") as path:
            path.write_text("a")
        run.tell("all is well")
    found = read_events(RunFolder(tmp_path / "r"), 1, attempts(tmp_path)[0]["id"])
    names = [event["event"] for event in found]
    assert names[0] == "begun"
    assert names[-2:] == ["timed", "ended"]
    assert [event["step"] for event in found if event["event"] == "saved"] == [2, 4]
    assert [event["step"] for event in found if event["event"] == "evaluated"] == [2, 4]
    assert [event["name"] for event in found if event["event"] == "artifact"] == ["a.txt"]
    assert "all is well" in [event.get("sentence") for event in found]
    times = [event["time"] for event in found]
    assert times == sorted(times)


def test_the_time_of_a_loop_over_batches_is_told_apart(opened, tmp_path: Path, monkeypatch) -> None:
    clock = Clock(monkeypatch)

    class Data:
        def __len__(self) -> int:
            return 3

        def __iter__(self):
            for index in range(3):
                clock.passes(2.0)
                yield index

        def state_dict(self) -> dict:
            return {}

        def load_state_dict(self, state) -> None:
            pass

    with opened(save="never") as run:
        run.track(counter=(counter := Counter()))
        for _ in run.batches(Data(), epochs=2):
            clock.passes(5.0)
            counter.value += 1
            if run.epoch_end:
                for _ in run.evaluate([1, 2]):
                    clock.passes(1.5)
        clock.passes(4.0)
    spent = spent_in(RunFolder(tmp_path / "r"), 1, attempts(tmp_path)[0]["id"])
    assert spent.data == pytest.approx(12.0, abs=0.5)
    assert spent.training == pytest.approx(30.0, abs=0.5)
    assert spent.evaluation == pytest.approx(6.0, abs=0.5)
    assert spent.other == pytest.approx(4.0, abs=0.5)
    assert spent.starting < 2


def test_a_long_attempt_ends_with_where_its_time_went_and_a_short_one_does_not(
    opened, tmp_path: Path, monkeypatch
) -> None:
    clock = Clock(monkeypatch)
    for name, seconds in (("long", 90.0), ("short", 0.0)):
        with opened(name, total_steps=2, save="never") as run:
            run.track(counter=Counter())
            run.validate(lambda seconds=seconds: clock.passes(seconds), "1 steps")
            for _ in run.steps():
                pass
    told = attempts(tmp_path, "long")[0]["told"]
    messages.said(told[0], "run/a-long-attempt-ends-with-where")
    messages.said(told[1], "run/a-long-attempt-ends-with-where-2")
    assert attempts(tmp_path, "short")[0]["told"] == []


class Clock:
    """time.perf_counter with leaps."""

    def __init__(self, monkeypatch) -> None:
        import time

        self._leaps, real = 0.0, time.perf_counter
        monkeypatch.setattr(time, "perf_counter", lambda: real() + self._leaps)

    def passes(self, seconds: float) -> None:
        self._leaps += seconds


@pytest.mark.parametrize("call", ["log", "tell", "save", "artifact", "evaluate", "after_step"])
def test_a_sink_that_adds_to_its_run_is_refused_and_the_training_is_unharmed(
    opened, tmp_path: Path, call: str, capsys
) -> None:
    calls = {
        "log": lambda: run.log(extra=1.0),
        "tell": lambda: run.tell("more"),
        "save": lambda: run.save(),
        "artifact": lambda: run.artifact("a.txt").__enter__(),
        "evaluate": lambda: list(run.evaluate([1])),
        "after_step": lambda: run.after_step(),
    }
    errors: list[Exception] = []

    class Feeds(outlast.Sink):
        def logged(self, record) -> None:
            try:
                calls[call]()
            except Exception as error:
                errors.append(error)
                raise

    with opened("twin", total_steps=5) as run:
        count(run)
    with opened(total_steps=5, sinks=[Feeds()], progress="plain") as run:
        count(run)
    assert (tmp_path / "r/journal.jsonl").read_bytes() == (tmp_path / "twin/journal.jsonl").read_bytes()
    assert not (tmp_path / "r/artifacts/a.txt").exists()
    assert [path.name for path in (tmp_path / "r/checkpoints").iterdir()] == ["step-00000005"]
    assert {type(error) for error in errors} == {UsageError}
    assert capsys.readouterr().err.count(f"A sink called run.{call}()") == 1
    messages.said(str(errors[0]), "run/a-sink-called", call=call)


class Loggd(outlast.Sink):
    def loggd(self, record) -> None:
        pass

    def log(self) -> None:
        """A helper; no event has a name so near."""

    def save(self) -> None:
        """The helper of an event which the sink has."""

    def saved(self, save) -> None:
        pass

    def _ended(self) -> None:
        pass


def test_a_misspelt_method_of_a_sink_is_reported_with_the_nearest_event(opened, tmp_path: Path) -> None:
    with opened(total_steps=1, sinks=[Loggd(), Heard()]) as run:
        count(run)
    (told,) = attempts(tmp_path)[0]["told"]
    messages.said(told, "run/sink-method-that-no-event-calls", sink="Loggd", method="loggd", event="logged")


class Unnamed(outlast.Sink):
    @property
    def title(self) -> str:
        raise RuntimeError("no title")

    @property
    def logged(self):
        raise RuntimeError("no method")


def test_a_sink_that_cannot_say_its_title_costs_no_training(opened, tmp_path: Path, monkeypatch) -> None:
    with opened(total_steps=3, sinks=[Unnamed()]) as run:
        count(run)
    record = attempts(tmp_path)[0]
    assert record["end"]["reason"] == "finished"
    messages.said(record["told"], "run/sink-without-a-title-failed", sink="Unnamed", event="logged")


def test_what_a_sink_did_not_get_at_the_end_is_in_the_attempts_record(opened, tmp_path: Path, monkeypatch) -> None:
    free = threading.Event()

    class Hangs(outlast.Sink):
        def logged(self, record) -> None:
            free.wait(60)

    monkeypatch.setattr("outlast.tracking.fanout.DEADLINE", 0.1)
    try:
        with opened(total_steps=3, sinks=[Hangs()]) as run:
            count(run)
    finally:
        free.set()
    record = attempts(tmp_path)[0]
    assert record["end"]["reason"] == "finished"
    messages.said(record["told"], "run/sink-not-sent-in-time", sink="Hangs", number=3)
