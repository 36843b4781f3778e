"""A trained network without its data: the meaning of its outputs is saved in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

import outlast
from outlast_recipes.common.facts import FixedFacts
from outlast_recipes.skeleton.build import build
from outlast_recipes.skeleton.layouts import LAYOUTS


class Labels(FixedFacts):
    """The labels and the layout of a run, saved with the network, so that it can be used without its data.

    Attributes:
        layout: of the joints.
        classes: names.
        data: hash of the store.
        teacher: hash of a teacher's logits, or empty.
        computed: how blocks are computed on a CPU (`compiled.how`), or empty. A session with another way goes on, and
            its resume is said not to be exact.
    """

    WORDS: ClassVar = {
        "layout": "joints",
        "classes": "classes",
        "data": "data (their hash)",
        "teacher": "teacher logits (their hash)",
    }

    def __init__(self, layout: str, classes: Sequence[str], data: str, teacher: str, computed: str = "") -> None:
        self.layout, self.classes, self.data, self.teacher = layout, list(classes), data, teacher
        self.computed = computed


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
    network = build(opened_run.config, len(labels.classes), LAYOUTS[labels.layout])
    opened_run.load_into(network, part)
    return network.eval(), labels
