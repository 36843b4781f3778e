"""Values that follow the training set where none is given: batch size, epochs, and the frames and yaw of a view.

A run keeps those that it began with, whatever becomes of the set or of this rule. The rule was chosen by held-out
training subjects; docs/log.md has what was tried.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from outlast_recipes.skeleton.config import Config

BATCHES = (8, 128)  # smallest and largest
EPOCHS = (40, 200)  # fewest and most
LARGE = 40_000  # training clips, as of NTU RGB+D 60, from which both are the largest
FRAMES = (32, 64)  # shortest and longest view
SMALL, YAW = 5_000, 1.0  # fewer clips do not show every action from every side


@dataclass(frozen=True)
class Sized:
    """The values of a training that depend on its set.

    Attributes:
        clips: to train on.
        length: of the median clip, in frames.
        batch_size: clips of an optimizer step.
        epochs: passes over the clips.
        frames: of a view.
        yaw: radians by which a view is turned about the vertical at most, beside its other turns.
    """

    clips: int
    length: int
    batch_size: int
    epochs: int
    frames: int
    yaw: float

    def record(self) -> dict[str, float]:
        """All of them, as a run keeps them."""
        return asdict(self)


def by_set(lengths: Sequence[int]) -> Sized:
    """The rule: the batch grows with the square root of the number of clips and the epochs with its fifth root, so that
    steps grow more slowly than clips. A view is about as long as the median clip, and a small set is turned.

    Args:
        lengths: frames of each training clip; at least one.
    """
    clips, length = len(lengths), round(statistics.median(lengths))
    share = clips / LARGE
    batch = _within(BATCHES, 2 ** round(math.log2(BATCHES[1] * share**0.5)))
    return Sized(
        clips,
        length,
        batch_size=max(2, min(clips, batch)),
        epochs=_within(EPOCHS, 10 * round(EPOCHS[1] * share**0.2 / 10)),
        frames=_within(FRAMES, 8 * math.ceil(length / 8)),
        yaw=YAW if clips < SMALL else 0.0,
    )


def given(config: Config) -> dict[str, float]:
    """The values that are given, by their names in `Sized`."""
    found = {
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        "frames": config.data.frames,
        "yaw": config.augment.yaw,
    }
    return {name: value for name, value in found.items() if value is not None}


def settled(given: Mapping[str, float], found: Sized, begun: Mapping[str, Any] | None = None) -> Sized:
    """What a training uses: a value that is given, else the one that the run began with, else the rule's.

    Args:
        given: as `given` returns, with a teacher's where there is one.
        found: by the rule.
        begun: the record of the run that goes on, if it has one.
    """
    rule = asdict(found)
    kept = {name: (begun or {}).get(name, value) for name, value in rule.items()}
    return Sized(**{**kept, **given})


def explained(given: Mapping[str, float], sized: Sized) -> str:
    """A sentence about the values that were not given; empty when all were."""
    words = {
        "batch_size": (f"batches of {sized.batch_size}", "--batch-size"),
        "epochs": (f"{sized.epochs} epochs", "--epochs"),
        "frames": (f"views of {sized.frames} frames", "--data.frames"),
        "yaw": (f"a yaw of up to {sized.yaw:g} rad", "--augment.yaw"),
    }
    chosen = [pair for name, pair in words.items() if name not in given]
    if not chosen:
        return ""
    values, flags = (_listed([*column]) for column in zip(*chosen, strict=True))
    return (
        f"{sized.clips} training clips with a median of {sized.length} frames: {values}, chosen by their number and "
        f"length; {flags} {'set other values' if len(chosen) > 1 else 'sets another value'}."
    )


def _within(bounds: tuple[int, int], value: float) -> int:
    return int(max(bounds[0], min(bounds[1], value)))


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
