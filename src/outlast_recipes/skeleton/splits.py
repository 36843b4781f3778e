"""Training, validation and test subjects. Validation subjects are taken out of training, so no subject is in both of
these parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import outlast
from outlast_recipes.common.splits import split_by_group
from outlast_recipes.skeleton import ntu
from outlast_recipes.skeleton.store import Entry

Parts = Mapping[str, list[int]]


@dataclass(frozen=True)
class Protocol:
    """A published split: which clips are for training; all others are the test."""

    words: str
    trains: Callable[[Entry], bool]


PROTOCOLS = {
    "xsub": Protocol("cross-subject: the published training subjects", lambda clip: clip.subject in ntu.TRAIN_120),
    "xview": Protocol("cross-view: cameras 2 and 3", lambda clip: clip.camera in ntu.TRAIN_CAMERAS),
    "xset": Protocol("cross-set-up: set-ups with even numbers", lambda clip: clip.setup % 2 == 0),
    "cameras": Protocol("NW-UCLA: cameras 1 and 2", lambda clip: clip.camera in (1, 2)),
}


def split(
    entries: list[Entry],
    protocol: str,
    *,
    train_subjects: Collection[int] = (),
    validate: Collection[int] | int | None = 0,
) -> Parts:
    """Cut clips into train, val and test.

    Args:
        entries: all clips.
        protocol: xsub, xview, xset, cameras, or subjects.
        train_subjects: the training subjects, with "subjects".
        validate: the subjects to choose by, out of those of the training part; or how many of them, the last in order;
            None: a tenth.

    Returns:
        Numbers of clips under "train", "val" and "test".

    Raises:
        outlast.ConfigError: no such protocol, subjects for one that has its own, nobody to train on, or nobody left.
    """
    if protocol == "subjects":
        if not train_subjects:
            raise outlast.ConfigError("--split subjects needs --train-subjects, such as --train-subjects 1,3,5,7,9.")
        trains = Protocol("the given subjects", lambda clip: clip.subject in train_subjects).trains
    elif protocol in PROTOCOLS and train_subjects:
        raise outlast.ConfigError(
            f"--train-subjects is given, and --split is {protocol}, which defines the training clips itself. Add "
            "--split subjects, or leave out --train-subjects."
        )
    elif protocol in PROTOCOLS:
        trains = PROTOCOLS[protocol].trains
    else:
        raise outlast.ConfigError(f"--split is {protocol!r}; expected {', '.join(PROTOCOLS)} or subjects.")
    return split_by_group(
        entries,
        trains,
        lambda clip: clip.subject,
        validate,
        protocol=f"--split {protocol}",
        flag="--data.validate-subjects",
    )
