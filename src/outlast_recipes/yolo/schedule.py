"""Learning rate, momentum and gathered batches as functions of the place in the training. Nothing here is state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from outlast_recipes.yolo.config import Training, YoloConfig
from outlast_recipes.yolo.detector import Place


def share_of_peak(training: Training, epoch: int, epochs: int) -> float:
    """Share of the peak learning rate in an epoch, after the warm-up.

    Args:
        training: the schedule.
        epoch: from 1.
        epochs: of the whole training.
    """
    if training.lr_scheduler == "constant":
        return 1.0
    done, length = epoch - 1, epochs
    if training.lr_scheduler == "linear":
        return (1 - done / length) * (1 - training.final_lr) + training.final_lr
    if training.restart_epochs is not None:
        done, length = done % training.restart_epochs, training.restart_epochs
    return (1 - math.cos(done * math.pi / length)) / 2 * (training.final_lr - 1) + 1


def gathered(config: YoloConfig) -> int:
    """Batches whose gradients are added for an update of the weights, after the warm-up: ultralytics' `accumulate`."""
    return max(round(config.training.nominal_batch / config.batch_size), 1)


def weight_decay(config: YoloConfig) -> float:
    """Weight decay of an update, in the ratio of its images to the nominal batch, as ultralytics scales it."""
    images = config.batch_size * gathered(config)
    return config.training.weight_decay * images / config.training.nominal_batch


def about_updates(config: YoloConfig, per_epoch: int) -> str:
    """What the nominal batch makes of the batch size and the weight decay; empty if each batch is one.

    Args:
        config: values of the run.
        per_epoch: batches of an epoch.
    """
    batch, gather, nominal = config.batch_size, gathered(config), config.training.nominal_batch
    images, each = batch * gather, f"--training.nominal-batch {batch}"
    if images == batch == nominal:
        return ""
    how = f"after each {gather} batches of {batch}" if gather > 1 else f"after each batch of {batch}"
    words = f"The weights are updated {how}; --training.nominal-batch is {nominal} images."
    if images != nominal and config.training.weight_decay:
        words += (
            f" As in ultralytics, weight decay is {weight_decay(config):.3g} instead of "
            f"{config.training.weight_decay:g}, in the ratio of {images} to {nominal} images; {each} keeps it."
        )
    if gather > per_epoch:
        count = f"{per_epoch} batch{'es' if per_epoch > 1 else ''}"
        words += f" An epoch has {count}, so some epochs have no update; {each} updates after each batch."
    return words


class Schedule:
    """The values of an optimizer for a batch: a warm-up in straight lines, then the schedule by epochs.

    Attributes:
        momentum: of the optimizers that have one.
        gather: batches whose gradients are added for an update.
    """

    def __init__(self, config: YoloConfig, place: Place) -> None:
        training = config.training
        gather = min(gathered(config), place.per_epoch * place.epochs)
        self._bias = training.warmup_bias_lr
        self._share = share_of_peak(training, place.epoch, place.epochs)
        self._warm = round(min(training.warmup_epochs, max(place.epochs - 1, 0)) * place.per_epoch)
        self._done = place.step - 1
        self.momentum = self._between(training.warmup_momentum, training.momentum)
        self.gather = max(1, round(self._between(1, gather)))

    def _between(self, first: float, last: float) -> float:
        if not self._warm:
            return last
        return float(np.interp(self._done, [0, self._warm], [first, last]))

    def apply(self, group: dict[str, Any], peak: Mapping[str, float], *, bias: bool) -> None:
        """Set the values of a parameter group.

        Args:
            group: the group of an optimizer.
            peak: the group's "lr" and "weight_decay" at the peak of the schedule.
            bias: whether it is a group of biases, whose rate falls in the warm-up.
        """
        group["lr"] = self._between(self._bias if bias else 0.0, peak["lr"] * self._share)
        group["weight_decay"] = peak["weight_decay"]
        if "momentum" in group:
            group["momentum"] = self.momentum
