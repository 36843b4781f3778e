"""Learning rate, momentum and gathered batches by place, beside the formulas that they are known by."""

from __future__ import annotations

import math
from typing import Any

import pytest

from outlast.config import resolve
from outlast.errors import ConfigError
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.detector import Place
from outlast_recipes.yolo.schedule import Schedule, about_updates, gathered, share_of_peak, weight_decay
from tests import messages


def config(**values: str) -> YoloConfig:
    return resolve(YoloConfig, flags={name.replace("__", "."): value for name, value in values.items()}).config


def at(values: YoloConfig, step: int, *, bias: bool = False) -> tuple[dict[str, Any], Schedule]:
    """A group after the batch `step` of 5 epochs of 10 batches."""
    group: dict[str, Any] = {"lr": 0.0, "momentum": 0.0}
    schedule = Schedule(values, Place(step, (step - 1) // 10 + 1, 5, 10))
    schedule.apply(group, {"lr": 0.1, "weight_decay": 0.5}, bias=bias)
    return group, schedule


def test_cosine_and_linear() -> None:
    cosine, linear = config().training, config(training__lr_scheduler="linear").training
    for epoch in range(1, 101):
        share = (epoch - 1) / 100
        assert share_of_peak(cosine, epoch, 100) == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)
        assert share_of_peak(linear, epoch, 100) == pytest.approx(1 - 0.99 * share)
    assert share_of_peak(config(training__lr_scheduler="constant").training, 77, 100) == 1


def test_cosine_with_restarts_restarts() -> None:
    values = config(training__lr_scheduler="cosine_with_restarts", training__restart_epochs="4", training__final_lr="0")
    shares = [share_of_peak(values.training, epoch, 100) for epoch in range(1, 10)]
    assert shares == pytest.approx([1, 0.853553, 0.5, 0.146447] * 2 + [1], abs=1e-6)


def test_restarts_need_their_length_and_a_length_needs_restarts() -> None:
    with pytest.raises(ConfigError, match="restart-epochs"):
        config(training__lr_scheduler="cosine_with_restarts")
    with pytest.raises(ConfigError, match="restart_epochs"):
        config(training__restart_epochs="5")


def test_the_warm_up_rises_to_the_schedule() -> None:
    values = config(
        training__warmup_epochs="1", training__warmup_bias_lr="0.2", training__momentum="0.9", batch_size="16"
    )
    first, schedule = at(values, 1)
    assert (first["lr"], first["momentum"], first["weight_decay"], schedule.gather) == (0.0, 0.8, 0.5, 1)
    assert at(values, 1, bias=True)[0]["lr"] == 0.2
    middle, schedule = at(values, 6)
    assert (middle["lr"], middle["momentum"]) == pytest.approx((0.05, 0.85))
    assert schedule.gather == 2  # between 1 and 64 / 16
    done, schedule = at(values, 11)
    share = share_of_peak(values.training, 2, 5)
    assert (done["lr"], done["momentum"], schedule.gather) == pytest.approx((0.1 * share, 0.9, 4))
    assert at(values, 11, bias=True)[0]["lr"] == done["lr"]


def test_without_a_warm_up_the_schedule_begins_at_once() -> None:
    group, schedule = at(config(training__warmup_epochs="0"), 1)
    assert (group["lr"], group["momentum"], schedule.gather) == (0.1, 0.937, 4)


def test_a_short_run_gathers_no_more_batches_than_it_has() -> None:
    schedule = Schedule(config(training__warmup_epochs="0", batch_size="1"), Place(1, 1, 2, 3))
    assert schedule.gather == 6


@pytest.mark.parametrize(
    ("batch", "per_epoch", "gather", "decay", "message"),
    [
        ("64", 10, 1, 5e-4, None),
        ("16", 10, 4, 5e-4, messages.says("yolo/updates", batches=4, batch=16)),
        ("12", 10, 5, 5e-4 * 60 / 64, messages.says("yolo/updates-decay", batches=5, decay=0.000469, images=60)),
        ("128", 10, 1, 1e-3, messages.says("yolo/updates-large-batch", batch=128, decay=0.001)),
        ("4", 3, 16, 5e-4, messages.says("yolo/updates-few", batches=16, batch=4, epoch=3)),
        ("4", 1, 16, 5e-4, messages.says("yolo/updates-one", batches=16, batch=4)),
    ],
)
def test_what_the_nominal_batch_makes_of_a_batch_size(
    batch: str, per_epoch: int, gather: int, decay: float, message: messages.Message | None
) -> None:
    """As ultralytics' trainer: accumulate = max(round(nbs / batch), 1); decay *= batch * accumulate / nbs."""
    values = config(batch_size=batch)
    assert (gathered(values), weight_decay(values)) == (gather, pytest.approx(decay))
    words = about_updates(values, per_epoch)
    if message is None:
        assert words == ""
    else:
        messages.said([words], message)


def test_without_weight_decay_none_is_scaled() -> None:
    messages.said([about_updates(config(batch_size="12", training__weight_decay="0"), 10)], "yolo/updates-no-decay")
