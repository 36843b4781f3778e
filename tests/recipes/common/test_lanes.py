"""Pieces in threads: every one once, in order, alone on its core, and nothing that runs on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from outlast_recipes.common import lanes
from outlast_recipes.common.lanes import Lanes, Scratch


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_number_once_and_in_order(threads: int) -> None:
    done: list[int] = []

    def work(number: int, _: Scratch) -> int:
        time.sleep(0.002 * (number % 3))
        done.append(number)
        return -number

    assert Lanes()(work, 20) == [-number for number in range(20)]
    assert sorted(done) == list(range(20))
    assert Lanes()(work, 0) == []


def test_a_lane_has_one_core_and_scratch_of_its_own(threads: int) -> None:
    together = threading.Barrier(threads)

    def work(number: int, scratch: Scratch) -> tuple[int, int, int, bool]:
        together.wait(10)
        buffer = scratch("name", 2, 3)
        assert scratch("name", 2, 3) is buffer
        assert scratch("name", 3, 2) is not buffer
        return threading.get_ident(), id(buffer), torch.get_num_threads(), torch.is_grad_enabled()

    own = Lanes()
    found = own(work, threads)
    assert len({thread for thread, *_ in found}) == len({buffer for _, buffer, *_ in found}) == threads
    assert {(count, grad) for _, _, count, grad in found} == {(1, threads == 1)}
    assert torch.get_num_threads() == threads
    at_once: list[int] = []
    other = threading.Thread(target=lambda: at_once.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert at_once == [threads], "a thread that begins later"


def test_inference_mode_reaches_the_lanes(threads: int) -> None:
    with torch.inference_mode():
        found = Lanes()(lambda number, _: torch.ones(2) * number, 4)
        assert all(one.is_inference() for one in found)
        Lanes()(lambda number, _: found[number].add_(1), 4)
    assert [float(one[0]) for one in found] == [1, 2, 3, 4]
    assert not any(one.is_inference() for one in Lanes()(lambda *_: torch.ones(1), 4))


def test_what_a_piece_raises_is_raised_when_nothing_runs(threads: int) -> None:
    running = [0]

    def work(number: int, _: Scratch) -> None:
        if number == 3:
            raise ArithmeticError("piece 3")
        running[0] += 1
        time.sleep(0.02)
        running[0] -= 1

    with pytest.raises(ArithmeticError, match="piece 3"):
        Lanes()(work, 50)
    assert running == [0]
    assert Lanes()(lambda number, _: number, 4) == [0, 1, 2, 3], "the threads are still there"


def test_a_forked_process_has_threads_of_its_own(threads: int) -> None:
    assert Lanes()(lambda number, _: number, 5) == list(range(5))
    child = os.fork()
    if child == 0:
        os._exit(23 if not lanes._pools else 24)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 23


def test_an_interrupt_ends_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C raises in the thread that waits: it goes on once the pieces that run are done, and no other begins."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    begun: list[int] = []

    def work(number: int, _: Scratch) -> None:
        begun.append(number)
        time.sleep(0.05)

    waited, calls = lanes.wait, []

    def interrupted(running: list) -> None:
        calls.append(len(running))
        if len(calls) == 1:
            raise KeyboardInterrupt
        waited(running)

    try:
        Lanes()(lambda *_: None, 2)  # the threads are there
        monkeypatch.setattr(lanes, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Lanes()(work, 100)
        count = len(begun)
        time.sleep(0.15)
        assert count == len(begun) < 10
        assert calls == [2, 2]
    finally:
        torch.set_num_threads(before)
