"""When a recipe validates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from outlast_recipes.common.validation import check_every, validates


def steps(every: str, total: int = 10, per_epoch: int = 4) -> list[int]:
    """The steps that validate, of a run with so many steps in an epoch."""
    found = []
    for step in range(1, total + 1):
        ends = step % per_epoch == 0
        run = SimpleNamespace(step=step, total_steps=total, epoch_end=ends, epoch=(step - 1) // per_epoch + 1)
        if validates(run, every):  # type: ignore[arg-type]
            found.append(step)
    return found


def test_epochs_steps_and_the_end() -> None:
    assert steps("1 epoch") == [4, 8, 10]
    assert steps("2 epochs") == [8, 10]
    assert steps("3 steps") == [3, 6, 9, 10]
    assert steps("500 steps") == [10]


@pytest.mark.parametrize("text", ["0 epochs", "10m", "500", "", "1 epoch, 5 steps"])
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(ValueError, match="expected epochs or steps"):
        check_every(text)
