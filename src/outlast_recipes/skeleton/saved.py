"""A trained network without its data: the meaning of its outputs is saved in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

import outlast
from outlast_recipes.common.facts import FixedFacts
from outlast_recipes.skeleton.build import build
from outlast_recipes.skeleton.config import Config
from outlast_recipes.skeleton.layouts import LAYOUTS
from outlast_recipes.skeleton.sizing import given


class Labels(FixedFacts):
    """The labels and the layout of a run, saved with the network, so that it can be used without its data.

    Attributes:
        layout: of the joints.
        classes: names.
        data: hash of the store.
        teacher: hash of a teacher's logits, or empty.
        computed: how blocks are computed on a CPU (`compiled.how`), or empty. A session with another way goes on, and
            its resume is said not to be exact.
        sized: the values that followed the training set when the run began (`sizing`); None in a run of a version that
            recorded none.
    """

    WORDS: ClassVar = {
        "layout": "joints",
        "classes": "classes",
        "data": "data (their hash)",
        "teacher": "teacher logits (their hash)",
    }

    def __init__(
        self,
        layout: str,
        classes: Sequence[str],
        data: str,
        teacher: str,
        computed: str = "",
        sized: Mapping[str, Any] | None = None,
    ) -> None:
        self.layout, self.classes, self.data, self.teacher = layout, list(classes), data, teacher
        self.computed, self.sized = computed, sized

    def state_dict(self) -> dict[str, Any]:
        """All attributes; a run of a version that did not record `sized` goes on without it."""
        return {key: value for key, value in super().state_dict().items() if key != "sized" or value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `FixedFacts`, and the values that the run began with are kept."""
        super().load_state_dict(state)
        self.sized = state.get("sized")

    def frames(self, config: Config) -> int:
        """The frames of a view of the run that has these labels and this config."""
        return int({**(self.sized or {}), **given(config)}["frames"])

    def yaw(self, config: Config) -> float:
        """By how many radians its views were turned about the vertical at most, beside other turns."""
        return float({**(self.sized or {}), **given(config)}["yaw"])


def restored(opened_run: outlast.SavedCheckpoint, part: str | None = None) -> tuple[nn.Module, Labels]:
    """The network of a checkpoint, ready to be used, and what its numbers mean.

    Raises:
        outlast.OutlastError: the weights that were best on validation are asked for before there was a validation, or
            the weights do not fit the network that the run's config describes.
    """
    if part == "best" and not opened_run.part("choice")["epoch"]:
        raise outlast.OutlastError(
            f"{opened_run.run_id} has no best weights at step {opened_run.step}: no epoch had ended, or the run has "
            "no validation clips (--data.validate-subjects). Give --part ema or model."
        )
    labels = Labels(**opened_run.part("labels"))
    frames = labels.frames(opened_run.config)
    network = build(opened_run.config, len(labels.classes), LAYOUTS[labels.layout], frames)
    opened_run.load_into(network, part)
    return network.eval(), labels
