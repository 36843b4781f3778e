"""Where the time of an attempt went: it adds up, and says what to do only when that would gain something."""

from __future__ import annotations

import pytest

from outlast.tracking import Stopwatch, TimeSpent
from outlast.tracking import timing as module


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def test_the_seconds_add_up(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    watch = Stopwatch()
    clock.now = 103.0
    watch.begin()

    def takes(seconds: float) -> float:
        clock.now += seconds
        return seconds

    assert watch.waits_for_data(lambda: takes(10.0)) == 10.0
    with watch.evaluating(inside=True) as took:
        takes(7.0)
    assert took() == 7.0
    with pytest.raises(KeyError), watch.evaluating(inside=False):
        takes(1.0)
        raise KeyError
    watch.steps, watch.saves, watch.holds = 59.0, 4.0, 2.0
    clock.now = 170.0
    assert watch.held == 6.0
    spent = watch.spent()
    assert spent == TimeSpent(starting=3.0, training=40.0, data=10.0, evaluation=8.0, saves=6.0, other=3.0)
    assert spent.total == 70.0


def test_before_the_loop_all_of_it_is_the_start_and_unseen_data_are_training(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    watch = Stopwatch()
    clock.now = 105.0
    assert watch.spent() == TimeSpent(starting=5.0)
    watch.begin()
    watch.steps = 2.0
    clock.now = 107.0
    spent = watch.spent()
    assert (spent.training, spent.data, spent.other) == (2.0, None, 0.0)
    assert "data" not in spent.sentences()[0]


def test_a_loop_that_takes_its_batches_itself_is_measured_at_the_loader(monkeypatch) -> None:
    class Loader:
        waited = 3.0

    clock, loader = Clock(monkeypatch), Loader()
    watch = Stopwatch()
    watch.begin()
    watch.watch_loaders([object(), loader])
    loader.waited, watch.steps, clock.now = 5.0, 8.0, 108.0
    assert watch.spent() == TimeSpent(training=6.0, data=2.0)


@pytest.mark.parametrize(
    ("spent", "named"),
    [
        (TimeSpent(training=80.0, data=20.0), ["--num-workers"]),
        (TimeSpent(training=60.0, data=0.0, evaluation=40.0), ["every="]),
        (TimeSpent(training=90.0, saves=10.0), ["--save-every"]),
        (TimeSpent(starting=50.0, training=50.0), ["starting"]),
        (TimeSpent(training=100.0, data=1.0, evaluation=1.0, saves=1.0, starting=1.0), []),
        (TimeSpent(starting=30.0, training=10.0, data=20.0, evaluation=30.0, saves=10.0), ["every=", "starting"]),
        (TimeSpent(training=5.0, data=45.0), []),  # too short to say
    ],
)
def test_advice_names_what_takes_most_and_what_to_do(spent: TimeSpent, named: list[str]) -> None:
    first, *advice = spent.sentences()
    assert len(advice) == len(named)
    assert all(any(word in sentence for sentence in advice) for word in named)
    assert "training" in first


def test_an_attempt_without_time_says_nothing() -> None:
    assert TimeSpent().sentences() == []
