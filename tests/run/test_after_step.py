"""A loop that outlast does not run: after_step does what steps() does."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.counting import Counter, attempts
from tests.folders import committed, inside

import outlast
from outlast.errors import SessionEnded, UsageError
from outlast.terminal import number
from outlast.tracking import read


class Trainer:
    """A framework with callbacks and an epoch loop of its own."""

    def __init__(self, counter: Counter, epochs: int, length: int, callback: object) -> None:
        self.counter, self.epochs, self.length, self.callback = counter, epochs, length, callback
        self.step, self.stop = 0, False

    def fit(self) -> None:
        self.callback.on_begin(self)
        while self.step < self.epochs * self.length and not self.stop:
            self.step += 1
            self.counter.value += self.step
            self.callback.on_step_end(self, loss=1 / self.step, last=self.step % self.length == 0)


class Callback:
    """What a user writes for such a framework."""

    def __init__(self, run: outlast.Run) -> None:
        self.run = run

    def on_begin(self, trainer: Trainer) -> None:
        self.run.track(counter=trainer.counter)
        self.run.begin(total_steps=trainer.epochs * trainer.length)
        trainer.step = self.run.step

    def on_step_end(self, trainer: Trainer, loss: float, last: bool) -> None:
        trainer.stop = self.run.after_step(trainer.step, epoch_ended=last, loss=loss, value=trainer.counter.value)


def train(opened, stop_at: int | None = None, **options) -> tuple[outlast.Run, Counter]:
    counter = Counter()
    with opened(**options) as run:

        class Stopping(Callback):
            def on_step_end(self, trainer: Trainer, **facts) -> None:
                if trainer.step == stop_at:
                    run.session.request_stop("preempted", "a test asks")
                super().on_step_end(trainer, **facts)

        Trainer(counter, 4, 5, Stopping(run)).fit()
    return run, counter


def test_a_callback_of_fifteen_lines_is_exact(opened, tmp_path: Path) -> None:
    _, twin = train(opened, root=tmp_path / "twin")
    with pytest.raises(SessionEnded) as caught:
        train(opened, stop_at=7, root=tmp_path / "cut", save="never")
    assert caught.value.code == 75
    run, counter = train(opened, root=tmp_path / "cut")
    assert run.resumed_from == 7
    assert counter.value == twin.value == sum(range(21))
    one, two = (tmp_path / name / "r/journal.jsonl" for name in ("twin", "cut"))
    assert one.read_bytes() == two.read_bytes()
    assert len(read(one)) == 20
    assert [(a["end"]["reason"], a["end"]["step"]) for a in attempts(tmp_path / "cut")] == [
        ("preempted", 7),
        ("finished", 20),
    ]


@pytest.mark.parametrize(
    ("save", "saved"),
    [
        ("1 epoch", {5: "epoch", 10: "epoch", 15: "epoch", 20: "final"}),
        ("2 epochs", {10: "epoch", 20: "final"}),
        ("6 steps", {6: "steps", 12: "steps", 18: "steps", 20: "final"}),
        ("never", {20: "final"}),
    ],
)
def test_the_save_policy_holds(save: str, saved: dict, opened) -> None:
    run, _ = train(opened, save=save, keep=outlast.Retention(last=99), background=False)
    assert {c.step: c.reason for c in committed(run.folder)} == saved


def test_epochs_are_counted_over_sessions(opened) -> None:
    with pytest.raises(SessionEnded):
        train(opened, stop_at=8, save="2 epochs", background=False)
    run, _ = train(opened, save="2 epochs", keep=outlast.Retention(last=99), background=False)
    assert [c.step for c in committed(run.folder)] == [8, 10, 20]


def test_by_time_by_best_and_when_asked(opened, monkeypatch) -> None:
    monkeypatch.setattr("outlast.run.schedule.BEST_SHARE", 0.0)
    keep = outlast.Retention(last=99, best=1, metric="val")
    with opened(total_steps=9, save="0.2s", keep=keep, background=False) as run:
        run.track(counter=Counter())
        run.begin()
        for step in range(1, 10):
            if step == 6:
                time.sleep(0.25)
            if step == 8:
                run.save()
            assert run.after_step(val=[1, 0, 5, 0, 0, 0, 0, 0, 0][step - 1]) is (step == 9)
    assert {c.step: c.reason for c in committed(run.folder)} == {
        1: "best",
        3: "best",
        6: "time",
        7: "asked",
        9: "final",
    }


def test_a_pytree_is_offered_in_every_step(opened) -> None:
    with messages.raises(UsageError, "run/step-ended-without-run-offer", step=3), opened(total_steps=9) as run:
        state = run.restore({"x": np.zeros(2)})
        run.begin()
        for step in range(1, 4):
            if step != 3:
                run.offer(state)
            run.after_step(step)


def test_lines_that_were_logged_before_it_belong_to_the_step(opened) -> None:
    with opened() as run:
        run.track(counter=Counter())
        run.begin()
        for step in (1, 2):
            run.log(step=step, loss=step)
            assert not run.after_step(lr=0.1)
        assert run.step == 2
    assert read(run.folder / "journal.jsonl") == [
        {"step": 1, "loss": 1},
        {"step": 1, "lr": 0.1},
        {"step": 2, "loss": 2},
        {"step": 2, "lr": 0.1},
    ]


def test_the_step_that_an_attempt_continues_is_counted_already(opened) -> None:
    with pytest.raises(SessionEnded):
        train(opened, stop_at=5)
    with opened() as run:
        run.track(counter=Counter())
        run.begin(total_steps=20)
        with messages.raises(UsageError, "run/after-step-counts-it-already", step=5):
            run.after_step(5)
        run.after_step()
        assert run.step == 6


def test_misuse_is_a_sentence(opened) -> None:
    with opened("a", total_steps=3) as run:
        run.track(counter=Counter())
        with messages.raises(UsageError, "run/before-run-begin"):
            run.after_step()
        next(run.steps())
        with messages.raises(UsageError, "run/inside-steps-or-batches"):
            run.after_step()
    with opened("b", total_steps=30) as run:
        run.track(counter=Counter())
        run.begin()
        run.after_step(5)
        for wrong, words in (
            (5, messages.says("run/after-step-counts-it-already", step=5)),
            (4, messages.says("run/step-already-run-never-goes", call="after_step", given=4, step=5)),
            (True, messages.says("run/expected-the-whole-number", call="after_step", given=True)),
            ("6", messages.says("run/expected-the-whole-number", call="after_step", given="'6'")),
        ):
            with messages.raises(UsageError, words):
                run.after_step(wrong)
        for wrong in ("yes", 0, -1, 1.5):
            with messages.raises(UsageError, "run/expected-true-or-the-epoch", given=f"{wrong!r}"):
                run.after_step(epoch_ended=wrong)
        assert run.step == 5
        run.after_step(epoch_ended=7)
        assert (run.step, inside(run).position) == (6, (7, 0))


def test_a_loop_without_epoch_ends_is_saved_by_time_with_a_message(opened, monkeypatch) -> None:
    clock, ahead = time.perf_counter, 0
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + ahead)
    with opened(save="1 epoch", background=False) as run:
        run.track(counter=Counter())
        run.begin(total_steps=120)
        for step in range(1, 121):
            if step == 60:
                ahead = 16 * 60
            run.after_step(step)
    assert {c.step: c.reason for c in committed(run.folder)} == {60: "time", 120: "final"}
    (told,) = [words for words in attempts(run.folder.parent)[0]["told"] if "epoch_ended" in words]
    messages.said([told], "run/save-is-by-epochs-alone", first=100)


def test_a_loop_with_long_epochs_gets_no_message(opened) -> None:
    with opened(save="1 epoch", background=False) as run:
        run.track(counter=Counter())
        run.begin(total_steps=120)
        for step in range(1, 121):
            run.after_step(step, epoch_ended=step == 110)
    assert [(c.step, c.reason) for c in committed(run.folder)] == [(110, "epoch"), (120, "final")]
    assert not [words for words in attempts(run.folder.parent)[0].get("told", ()) if "epoch_ended" in words]


@pytest.mark.parametrize("step", [2**62 + 1, 10**30, 10**5000], ids=["2**62 + 1", "10**30", "10**5000"])
def test_a_step_that_no_record_holds_is_refused(opened, step: int) -> None:
    with opened(total_steps=3) as run:
        run.track(counter=Counter())
        run.begin()
        with messages.raises(UsageError, "run/expected-the-whole-number", call="after_step", given=number(step)):
            run.after_step(step)
        with messages.raises(UsageError, "run/expected-the-whole-number", call="save", given=number(step)):
            run.save(step=step)
        with messages.raises(UsageError, "run/expected-true-or-the-epoch", given=number(step)):
            run.after_step(1, epoch_ended=step)
        run.log(step=step, x=1)
        assert run.step == 0
        assert run.after_step(3)
    with opened(total_steps=4) as run:
        assert run.resumed_from == 3
