"""Views of clips: what may change and what may not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from outlast_recipes.common.chance import Chance
from outlast_recipes.skeleton.augment import (
    NUMBERS,
    Batch,
    Strength,
    augmented,
    centre,
    collate,
    mirrored,
    regrown,
    resample,
)
from outlast_recipes.skeleton.layouts import KINECT_2

NOTHING = Strength(
    crop=1.0, turn=0, yaw=0, scale=0, shear=0, mirror=0, swap=0, bones=0, drop_axis=0, drop_joints=0, drop_time=0
)
CPU = torch.device("cpu")


def viewed(clips: Batch, strength: Strength, seed: int = 0, names: str = "abc") -> tuple[torch.Tensor, torch.Tensor]:
    chance = Chance.of(names, seed=seed, view=1, width=NUMBERS + 25)
    ratios = torch.full((3, 2, 25), 1.1)
    return augmented(clips.joints, clips.mask, clips.lengths, 16, KINECT_2, strength, chance, ratios)


def batch(lengths: tuple[int, ...] = (10, 33, 64)) -> Batch:
    chance = torch.Generator().manual_seed(0)
    clips = []
    for number, length in enumerate(lengths):
        mask = torch.ones(length, 2, dtype=torch.bool)
        mask[:, 1] = number == 1
        clips.append((torch.randn(length, 2, 25, 3, generator=chance) * mask[..., None, None], mask, number, number))
    return collate(clips)


def test_a_ramp_stays_a_ramp() -> None:
    ramp = torch.arange(11.0).view(1, 11, 1, 1, 1).expand(1, 11, 2, 1, 3)
    seen = torch.ones(1, 11, 2, dtype=torch.bool)
    joints, mask = resample(ramp, seen, torch.tensor([2.0]), torch.tensor([5.0]), 9)
    torch.testing.assert_close(joints[0, :, 0, 0, 0], torch.linspace(2, 6, 9))
    assert mask.all()
    gap = seen.clone()
    gap[0, 4, 0] = False
    joints, mask = resample(ramp * gap[..., None, None], gap, torch.tensor([2.0]), torch.tensor([5.0]), 9)
    assert mask[0, :, 0].tolist() == [True, True, True, True, False, False, True, True, True] or not mask[0, 4, 0]
    there = joints[0, mask[0, :, 0], 0, 0, 0]
    assert ((there == there.round()) | (there < 3) | (there > 5)).all(), "no value is mixed with what was not seen"


def test_the_middle_and_padding() -> None:
    clips = batch()
    assert clips.labels.tolist() == [0, 1, 2]
    view, seen = centre(clips, 16, CPU)
    assert view.shape == (3, 16, 2, 25, 3)
    assert seen[:, :, 0].all(), "no frame of padding is looked at"
    assert seen[:, 0, 1].tolist() == [False, True, False]
    one = torch.ones(1, 1, 2, dtype=torch.bool)
    view, seen = centre(collate([(torch.ones(1, 2, 25, 3), one[0], 0, 0)]), 8, CPU)
    assert (view == 1).all(), "a clip of one frame, of which NW-UCLA has two"


def test_a_mirror_is_the_same_body_from_the_other_side() -> None:
    joints = torch.randn(2, 4, 2, 25, 3)
    there = mirrored(joints, KINECT_2)
    torch.testing.assert_close(mirrored(there, KINECT_2), joints)
    torch.testing.assert_close(there[..., 4, 0], -joints[..., 8, 0])
    torch.testing.assert_close(there[..., 4, 1:], joints[..., 8, 1:])
    bones = (joints - joints[..., list(KINECT_2.parents), :]).norm(dim=-1)
    torch.testing.assert_close(
        (there - there[..., list(KINECT_2.parents), :]).norm(dim=-1), bones[..., list(KINECT_2.mirror)]
    )


def test_rotations_keep_lengths_and_positions() -> None:
    clips = batch()
    view, seen = viewed(clips, dataclasses.replace(NOTHING, turn=0.5))
    plain, _ = resample(clips.joints, clips.mask, torch.zeros(3), clips.lengths.float(), 16)
    assert not torch.allclose(view, plain, atol=1e-3)
    apart = [(each[:, :, :, None] - each[:, :, :, :, None].transpose(3, 4)).norm(dim=-1) for each in (view, plain)]
    torch.testing.assert_close(*apart, atol=1e-4, rtol=1e-4)
    assert seen.equal(viewed(clips, NOTHING)[1])


def test_dropped_frames_are_masked_and_cause_no_jumps() -> None:
    from outlast_recipes.skeleton.model import streams

    clips = batch()
    still = clips._replace(joints=torch.ones_like(clips.joints))
    view, seen = viewed(still, dataclasses.replace(NOTHING, drop_time=1.0))
    assert (seen[:, :, 0].sum(1) == 13).all(), "a fifth of 16 frames is gone"
    assert (streams(view, seen, KINECT_2, "velocity") == 0).all()


def test_a_yaw_leaves_heights_alone() -> None:
    clips = batch()
    view, _ = viewed(clips, dataclasses.replace(NOTHING, yaw=1.0))
    plain, _ = viewed(clips, NOTHING)
    torch.testing.assert_close(view[..., 1], plain[..., 1])
    torch.testing.assert_close(view.norm(dim=-1), plain.norm(dim=-1))
    assert not torch.allclose(view[..., 0], plain[..., 0], atol=0.1)


def test_bones_grow_and_keep_their_directions() -> None:
    joints = torch.randn(2, 4, 2, 25, 3)
    ratios = torch.rand(2, 2, 25) + 0.5
    grown = regrown(joints, ratios, KINECT_2)
    parents = list(KINECT_2.parents)
    before, after = joints - joints[..., parents, :], grown - grown[..., parents, :]
    torch.testing.assert_close(after, before * ratios[:, None, :, :, None], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grown[..., 20, :], joints[..., 20, :])
    torch.testing.assert_close(regrown(joints, torch.ones(2, 2, 25), KINECT_2), joints)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Strength)])
def test_every_augmentation_has_an_effect_and_depends_on_its_seed(name: str) -> None:
    clips = batch()
    strength = dataclasses.replace(NOTHING, **{name: 0.5 if name in ("crop", "turn", "yaw", "scale", "shear") else 1.0})
    views = [viewed(clips, strength, seed)[0] for seed in (1, 1, 2)]
    assert views[0].equal(views[1])
    plain = viewed(clips, NOTHING)[0]
    assert not torch.allclose(views[0], plain)
    assert name in ("mirror", "swap", "bones") or not views[0].equal(views[2])
    assert views[0].isfinite().all()


def test_a_view_is_the_same_in_any_company_and_another_in_every_round() -> None:
    clips = batch()
    together, _ = viewed(clips, Strength())
    for row in range(3):
        length = int(clips.lengths[row])
        alone = collate([(clips.joints[row, :length], clips.mask[row, :length], row, row)])
        chance = Chance.of("abc"[row], seed=0, view=1, width=NUMBERS + 25)
        ratios = torch.full((1, 2, 25), 1.1)
        view, _ = augmented(alone.joints, alone.mask, alone.lengths, 16, KINECT_2, Strength(), chance, ratios)
        torch.testing.assert_close(view[0], together[row], atol=1e-5, rtol=1e-5)
    rows = [Chance.of("a", seed=seed, view=turn, width=NUMBERS + 25).take(5) for seed, turn in ((0, 1), (0, 2), (1, 1))]
    assert not rows[0].equal(rows[1])
    assert not rows[0].equal(rows[2])
