"""Several requests at a time: how many, in which order their results come, and what an error stops."""

from __future__ import annotations

import threading
import time

import pytest

from outlast.remote.parallel import AT_ONCE, in_parallel


class Work:
    """Counts what runs at a time; an item is how long it takes, and a negative one fails after that."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.begun: list[float] = []
        self.ended: list[float] = []

    def __call__(self, item: float) -> float:
        with self.lock:
            self.begun.append(item)
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(abs(item))
        with self.lock:
            self.running -= 1
            self.ended.append(item)
        if item < 0:
            raise ValueError(item)
        return item


def test_results_come_in_order_and_a_bounded_number_runs() -> None:
    work, items = Work(), [0.05, 0.0, 0.03, 0.0, 0.02, 0.01, 0.0, 0.0]
    assert list(in_parallel(work, items)) == items
    assert work.ended != items, "they ran beside each other"
    assert 1 < work.most <= AT_ONCE == 4
    assert list(in_parallel(work, [])) == []


def test_one_at_a_time_is_the_callers_thread() -> None:
    assert set(in_parallel(lambda _: threading.get_ident(), range(5), at_once=1)) == {threading.get_ident()}
    assert threading.get_ident() not in set(in_parallel(lambda _: threading.get_ident(), range(5)))


def test_items_are_taken_when_a_thread_is_free() -> None:
    taken, release = [], threading.Event()

    def items():
        for number in range(9):
            taken.append(number)
            yield number

    found = in_parallel(lambda item: release.wait(10) and item, items(), at_once=2)
    threading.Timer(0.05, lambda: (seen.extend(taken), release.set())).start()
    seen: list[int] = []
    assert list(found) == list(range(9))
    assert seen == [0, 1, 2], "two run, and the next one waits for them"


def test_the_first_error_stops_what_has_not_begun_and_waits_for_the_rest() -> None:
    work = Work()
    with pytest.raises(ValueError, match="-0.01"):
        list(in_parallel(work, [0.02, -0.01, 0.06, 0.05, *[0.0] * 20]))
    assert work.running == 0, "nothing goes on after the error"
    assert len(work.begun) <= 5
    assert 0.06 in work.ended


def test_an_interrupt_does_not_wait() -> None:
    release = threading.Event()

    def items():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(lambda _: release.wait(60), items()))
    release.set()


def test_bytes_at_a_time_are_bounded() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal running, most
        with lock:
            running += size
            most = max(most, running if running != 25 else 0)
        time.sleep(0.01)
        with lock:
            running -= size

    list(in_parallel(work, [6, 4, 5, 25, 1, 9, 10], size=lambda item: item, most=10))
    assert most == 10, "only what is larger itself goes beyond, alone"
