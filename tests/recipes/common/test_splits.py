"""Splits by group."""

from __future__ import annotations

import pytest

import outlast
from outlast_recipes.common.splits import split_by_group
from tests import messages

CLIPS = [(signer, clip) for signer in range(10) for clip in range(2)]


def split(validate, *, trained=range(8)) -> dict[str, list[int]]:
    return split_by_group(
        CLIPS,
        lambda clip: clip[0] in trained,
        lambda clip: clip[0],
        validate,
        protocol="--split signers",
        flag="--data.validate-signers",
        groups="signers",
    )


@pytest.mark.parametrize(("validate", "expected"), [(2, {6, 7}), ((0, 3), {0, 3}), (None, {7}), (0, set())])
def test_validation_groups_are_taken_out_of_training(validate, expected: set[int]) -> None:
    parts = split(validate)
    signers = {part: {CLIPS[number][0] for number in numbers} for part, numbers in parts.items()}
    assert signers == {"train": set(range(8)) - expected, "val": expected, "test": {8, 9}}
    assert sorted(number for numbers in parts.values() for number in numbers) == list(range(20))


def test_one_group_is_trained_on_and_none_is_left_to_validate() -> None:
    assert split(None, trained=[3])["val"] == []


@pytest.mark.parametrize(
    ("validate", "trained", "message"),
    [
        (
            8,
            range(8),
            messages.says(
                "clips/too-many-to-validate",
                flag="--data.validate-signers",
                value=8,
                groups="8 signers (0, 1, 2, 3, 4, 5, 6, 7)",
                most=7,
            ),
        ),
        (
            (9,),
            range(8),
            messages.says(
                "clips/validate-names-others",
                flag="--data.validate-signers",
                groups="signers",
                others="9",
                known="0, 1, 2, 3, 4, 5, 6, 7",
            ),
        ),
        (0, (), messages.says("clips/no-training-clips", split="signers", clips=20)),
    ],
)
def test_a_split_without_training_groups_is_refused(validate, trained, message: messages.Message) -> None:
    with messages.raises(outlast.ConfigError, message):
        split(validate, trained=trained)
