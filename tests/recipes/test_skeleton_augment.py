"""Views of clips: what may change and what may not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from outlast_recipes.skeleton.augment import Strength, augmented, centre, collate, mirrored, resample
from outlast_recipes.skeleton.layouts import KINECT_2

NOTHING = Strength(crop=1.0, turn=0, scale=0, shear=0, mirror=0, swap=0, drop_axis=0, drop_joints=0, drop_time=0)


def batch(lengths: tuple[int, ...] = (10, 33, 64)) -> tuple[torch.Tensor, ...]:
    chance = torch.Generator().manual_seed(0)
    clips = []
    for number, length in enumerate(lengths):
        mask = torch.ones(length, 2, dtype=torch.bool)
        mask[:, 1] = number == 1
        clips.append((torch.randn(length, 2, 25, 3, generator=chance) * mask[..., None, None], mask, number))
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
    joints, mask, lengths, labels = batch()
    assert labels.tolist() == [0, 1, 2]
    view, seen = centre(joints, mask, lengths, 16)
    assert view.shape == (3, 16, 2, 25, 3)
    assert seen[:, :, 0].all(), "no frame of padding is looked at"
    assert seen[:, 0, 1].tolist() == [False, True, False]
    one = torch.ones(1, 1, 2, dtype=torch.bool)
    view, seen = centre(torch.ones(1, 1, 2, 25, 3), one, torch.tensor([1]), 8)
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


def test_turns_keep_lengths_and_bodies_keep_their_place() -> None:
    joints, mask, lengths, _ = batch()
    torch.manual_seed(0)
    view, seen = augmented(joints, mask, lengths, 16, KINECT_2, dataclasses.replace(NOTHING, turn=0.5))
    plain, _ = resample(joints, mask, torch.zeros(3), lengths.float(), 16)
    assert not torch.allclose(view, plain, atol=1e-3)
    apart = [(each[:, :, :, None] - each[:, :, :, :, None].transpose(3, 4)).norm(dim=-1) for each in (view, plain)]
    torch.testing.assert_close(*apart, atol=1e-4, rtol=1e-4)
    assert seen.equal(augmented(joints, mask, lengths, 16, KINECT_2, NOTHING)[1])


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Strength)])
def test_every_change_changes_something_and_comes_again_from_its_seed(name: str) -> None:
    joints, mask, lengths, _ = batch()
    strength = dataclasses.replace(NOTHING, **{name: 0.5 if name in ("crop", "turn", "scale", "shear") else 1.0})
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(augmented(joints, mask, lengths, 16, KINECT_2, strength)[0])
    assert views[0].equal(views[1])
    plain = augmented(joints, mask, lengths, 16, KINECT_2, NOTHING)[0]
    assert not torch.allclose(views[0], plain)
    assert name in ("mirror", "swap") or not views[0].equal(views[2])
    assert views[0].isfinite().all()
