"""Splits by group: a subject, a signer or a level is in one subset only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import outlast

Thing = TypeVar("Thing")
Group = TypeVar("Group", int, str)


def split_by_group(
    things: Sequence[Thing],
    trains: Callable[[Thing], bool],
    group: Callable[[Thing], Group],
    validate: Collection[Group] | int | None = None,
    *,
    protocol: str,
    flag: str,
    groups: str = "subjects",
) -> dict[str, list[int]]:
    """Cut things into train, val and test. Validation groups are taken out of the training part; all else is the test.

    Args:
        things: what is split, such as the entries of a store.
        trains: whether a thing belongs to the training part of the protocol, before validation groups are taken out.
        group: the group of a thing: things of one group are never in both train and val.
        validate: the groups to validate on, all of them in the training part; or how many, the last in order; None: a
            tenth of the groups, at least one, and none when there is only one.
        protocol: words that name the split in messages, such as "--split xsub".
        flag: flag that sets `validate`.
        groups: noun of the groups.

    Returns:
        Numbers of things under "train", "val" and "test", ascending.

    Raises:
        outlast.ConfigError: nothing is left to train on, or `validate` names a group that is not trained on.
    """
    training = [number for number, thing in enumerate(things) if trains(thing)]
    known = sorted({group(things[number]) for number in training})
    if not known:
        raise outlast.ConfigError(
            f"The split {protocol} has no training clips: none of the {len(things)} clips is in its training part. "
            "Choose another --split."
        )
    if validate is None:
        validate = min(len(known) - 1, max(1, round(len(known) / 10)))
    count = validate if isinstance(validate, int) else len(validate)
    if count >= len(known):
        raise outlast.ConfigError(
            f"{flag} is {count}, and the training part has {len(known)} {groups} ({', '.join(map(str, known))}): give "
            f"at most {len(known) - 1}."
        )
    chosen = set(known[len(known) - validate :] if isinstance(validate, int) else validate)
    if unknown := sorted(chosen - set(known)):
        raise outlast.ConfigError(
            f"{flag} names {groups} {', '.join(map(str, unknown))}, which are not trained on; the training part has "
            f"{', '.join(map(str, known))}."
        )
    inside = set(training)
    return {
        "train": [number for number in training if group(things[number]) not in chosen],
        "val": [number for number in training if group(things[number]) in chosen],
        "test": [number for number in range(len(things)) if number not in inside],
    }


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """A bounded number of them, at equal distances."""
    return [numbers[at * len(numbers) // count] for at in range(count)] if len(numbers) > count else list(numbers)
