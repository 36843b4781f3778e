"""A trained network without its data: the meaning of its outputs is saved in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import outlast
from outlast_recipes.common.facts import FixedFacts
from outlast_recipes.sign.batch import SignData
from outlast_recipes.sign.build import build
from outlast_recipes.sign.network import SignNetwork


class Labels(FixedFacts):
    """The glosses and categories of a run.

    Attributes:
        glosses: names.
        categories: names.
        category_of: category of each gloss; -1 for one that belongs to none.
        data: hash of the clips and labels.
        generated: whether the clips were generated for a smoke test.
    """

    WORDS: ClassVar = {
        "glosses": "glosses",
        "categories": "categories",
        "category_of": "the categories of the glosses",
        "data": "data (their hash)",
    }

    def __init__(
        self,
        glosses: Sequence[str],
        categories: Sequence[str],
        category_of: Sequence[int],
        data: str,
        generated: bool,  # noqa: FBT001 - as it is saved
    ) -> None:
        self.glosses, self.categories, self.category_of = list(glosses), list(categories), list(category_of)
        self.data, self.generated = data, generated

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `FixedFacts`; a gloss that belonged to no category when the run was begun still belongs to none.

        Before the table of names was asked, so did each gloss without a clip.
        """
        self.category_of = as_before(state["category_of"], self.category_of)
        super().load_state_dict(state)

    @classmethod
    def of(cls, data: SignData) -> Labels:
        """Those of a run on these data."""
        return cls(data.glosses, data.categories, data.category_of, data.hash, data.generated)


def as_before(was: Sequence[int], now: Sequence[int]) -> list[int]:
    """The categories `now`, but -1 for each gloss that had none in a run."""
    if len(was) != len(now):
        return [*now]
    return [-1 if before == -1 else category for before, category in zip(was, now, strict=True)]


def restored(saved: outlast.SavedCheckpoint, part: str | None = None) -> tuple[SignNetwork, Labels]:
    """The network of a checkpoint, ready to be used, and what its outputs mean.

    Raises:
        outlast.OutlastError: the weights that were best on validation are asked for before there was a validation, or
            the weights do not fit the network that the run's config describes.
    """
    if part == "best" and not saved.part("choice")["epoch"]:
        raise outlast.OutlastError(
            f"{saved.run_id} has no best weights at step {saved.step}: no epoch had ended, or the run has no "
            "validation clips. Give --part ema or model."
        )
    labels = Labels(**saved.part("labels"))
    network = build(saved.config.network, labels.category_of, len(labels.categories))
    saved.load_into(network, part)
    return network.eval(), labels
