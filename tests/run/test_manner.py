"""Which kind of save costs training less: measured, and measured again."""

from __future__ import annotations

from pathlib import Path

import torch

import outlast
from outlast.run.manner import Manner

STEP = 0.1


def loop(manner: Manner, saves: int, *, slower: float, waiting: float, durable: float = 0.05) -> list[bool]:
    """Saves of a training that is slower by so many seconds beside a save, or waits so many for it."""
    kinds = []
    for _ in range(saves):
        for _ in range(5):
            manner.observe_step(STEP, beside=False)
        waits = manner.waits
        kinds.append(waits)
        if not waits:
            manner.observe_step(STEP + slower, beside=True)
        manner.observe_save(waiting if waits else 0.001, durable, waited=waits)
    return kinds


def test_a_save_that_costs_more_beside_training_is_waited_for() -> None:
    kinds = loop(Manner(), 60, slower=0.06, waiting=0.03)
    assert not any(kinds[:3]), "three are measured first"
    assert kinds[3:23] == [True] * 20
    assert kinds.count(False) <= 3 + 60 // 20, "the other kind is measured again now and then"


def test_a_save_that_costs_little_beside_training_goes_on_beside_it() -> None:
    kinds = loop(Manner(), 60, slower=0.03, waiting=0.06)
    assert kinds.count(True) <= 1 + 60 // 20
    assert not any(kinds[4:20])


def test_where_waiting_must_cost_more_it_is_never_tried() -> None:
    assert not any(loop(Manner(), 60, slower=0.003, waiting=5.0, durable=5.0))


def test_when_the_machine_changes_the_kind_changes() -> None:
    manner = Manner()
    loop(manner, 30, slower=0.03, waiting=0.06)
    assert loop(manner, 80, slower=0.2, waiting=0.06)[-15:].count(True) >= 14


def test_nothing_is_chosen_before_a_step_is_known() -> None:
    manner = Manner()
    for _ in range(20):
        manner.observe_step(1.0, beside=True)
        manner.observe_save(0.5, 0.01, waited=False)
    assert not manner.waits


def test_a_save_that_is_waited_for_is_durable_before_the_next_step(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(300_000))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    seen = []
    with outlast.open_run("r", total_steps=4, root=tmp_path, save="1 steps", progress="none") as run:
        run.track(model=torch.nn.ParameterList([weight]), optimizer=optimizer)
        for step in run.steps():
            run._loop.saver._manner.waits = True
            seen.append([each.step for each in run._loop.attempt.store.committed()])
            weight.grad = torch.full_like(weight, step)
            optimizer.step()
    assert seen == [[], [1], [1, 2], [1, 2, 3]]
