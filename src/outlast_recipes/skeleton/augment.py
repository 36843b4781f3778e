"""From clips of any length to batches of one length, with the changes that a class does not mind. In batches, on the
model's device.

A view is a function of (seed, round, clip): all its chance is one row of numbers from a counter-based generator. So the
same view comes again on any device, among any other clips, with any number of workers or ranks, after any resume, and
in a student's training for a teacher's logits.

The list is that of SkateFormer (Do and Kim, ECCV 2024) and CTR-GCN (Chen et al., ICCV 2021), with a mirror that negates
x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from outlast_recipes.common.chance import Chance
from outlast_recipes.common.interpolation import interpolated
from outlast_recipes.skeleton.layouts import Layout

SHARE = 0.2  # of the joints, or of the frames, that are dropped together
NUMBERS = 32  # of chance that every view takes; the joints' own numbers follow


@dataclass(frozen=True)
class Strength:
    """The strength of each augmentation; 0 switches it off.

    Attributes:
        crop: the shortest share of a clip's frames that is looked at.
        turn: radians about each axis.
        yaw: radians more about the vertical, as if the camera stood elsewhere.
        scale: share by which each axis may grow or shrink.
        shear: of each axis by each other.
        mirror: chance of left and right being exchanged.
        swap: chance of two bodies being exchanged, where there are two.
        bones: chance of the bones becoming as long as those of another clip of the class.
        drop_axis, drop_joints, drop_time: chance of an axis, a fifth of the joints, or a fifth of the frames being
            zero.
    """

    crop: float = 0.5
    turn: float = 0.3
    yaw: float = 0.0
    scale: float = 0.2
    shear: float = 0.1
    mirror: float = 0.5
    swap: float = 0.5
    bones: float = 0.2
    drop_axis: float = 0.0
    drop_joints: float = 0.1
    drop_time: float = 0.1


class Batch(NamedTuple):
    """Clips padded to one length with nothing seen.

    Attributes:
        joints: (N, T, M, V, 3) metres.
        mask: (N, T, M).
        lengths: (N,) frames of each clip.
        labels: (N,).
        numbers: (N,) of the clips in their store.
    """

    joints: Tensor
    mask: Tensor
    lengths: Tensor
    labels: Tensor
    numbers: Tensor


def collate(clips: Sequence[tuple[Tensor, Tensor, int, int]]) -> Batch:
    """Clips (joints (T, M, V, 3), mask (T, M), label, number) of any lengths as one batch."""
    joints, masks, labels, numbers = zip(*clips, strict=True)
    return Batch(
        pad_sequence(list(joints), batch_first=True),
        pad_sequence(list(masks), batch_first=True),
        torch.tensor([len(mask) for mask in masks]),
        torch.tensor(labels),
        torch.tensor(numbers),
    )


def resample(joints: Tensor, mask: Tensor, begin: Tensor, length: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Look at frames begin .. begin + length of each clip, `frames` times at equal distances, between two frames by
    interpolation.

    Args:
        joints: (N, T, M, V, 3).
        mask: (N, T, M).
        begin, length: (N,) frames, not necessarily whole.
        frames: of the result.

    Returns:
        (N, frames, M, V, 3) and (N, frames, M). Where a body is seen on one side only, that side is taken.
    """
    share = torch.linspace(0, 1, frames, device=joints.device)
    at = begin[:, None] + (length[:, None] - 1).clamp(min=0) * share
    return interpolated(joints, mask, at)


def centre(batch: Batch, frames: int, device: torch.device, share: float = 0.95) -> tuple[Tensor, Tensor]:
    """The view that is evaluated: the middle of every clip."""
    lengths = batch.lengths.to(device)
    length = (lengths * share).clamp(min=1.0)
    return resample(batch.joints.to(device), batch.mask.to(device), (lengths - length) / 2, length, frames)


def augmented(
    joints: Tensor,
    mask: Tensor,
    lengths: Tensor,
    frames: int,
    layout: Layout,
    strength: Strength,
    chance: Chance,
    ratios: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A view of every clip, each changed by chance of its own; bodies keep their place to each other.

    Args:
        joints: (N, T, M, V, 3) metres.
        mask: (N, T, M).
        lengths: (N,) frames.
        frames: of the view.
        layout: of the joints.
        strength: how far.
        chance: a row for each clip, on the same device.
        ratios: (N, M, V) by which each bone would grow to be another clip's; None leaves bones alone.

    Returns:
        (N, frames, M, V, 3) and (N, frames, M).
    """
    length = (lengths * (1 - (1 - strength.crop) * chance.take()[:, 0])).clamp(min=1.0)
    begin = (lengths - length) * chance.take()[:, 0]
    joints, mask = resample(joints, mask, begin, length, frames)
    applied = _happens(chance, strength.bones)
    if ratios is not None and strength.bones:
        joints = torch.where(applied, regrown(joints, ratios, layout), joints)
    joints = torch.einsum("ntmvi,nij->ntmvj", joints, _linear(chance, strength))
    applied = _happens(chance, strength.mirror)
    joints = torch.where(applied, mirrored(joints, layout), joints)
    both = mask.any(1).all(1).view(-1, 1, 1, 1, 1)  # a lone body stays first, where a network of one body looks
    applied = _happens(chance, strength.swap) & both
    joints = torch.where(applied, joints.flip(2), joints)
    mask = torch.where(applied[..., 0, 0], mask.flip(2), mask)
    joints, mask = _dropped(joints, mask, strength, chance)
    return joints * mask[..., None, None], mask


def mirrored(joints: Tensor, layout: Layout) -> Tensor:
    """Left for right: joints are exchanged, and x is negated."""
    return joints[..., list(layout.mirror), :] * joints.new_tensor([-1.0, 1.0, 1.0])


def regrown(joints: Tensor, ratios: Tensor, layout: Layout) -> Tensor:
    """Every bone longer or shorter by a ratio, its direction kept; the root stays where it is.

    Args:
        joints: (N, T, M, V, 3).
        ratios: (N, M, V), of the bone that ends in each joint.
        layout: of the joints.
    """
    bones = joints - joints[..., list(layout.parents), :]
    grown = bones * (ratios - 1.0)[:, None, :, :, None]
    return joints + torch.einsum("vw,ntmwc->ntmvc", _paths(layout).to(joints), grown)


def _paths(layout: Layout) -> Tensor:
    """(V, V): 1 where the second joint's bone lies on the way from the root to the first."""
    paths = torch.eye(layout.joints)
    for joint in range(layout.joints):
        place = joint
        while layout.parents[place] != place:
            place = layout.parents[place]
            paths[joint, place] = 1.0
    return paths


def _linear(chance: Chance, strength: Strength) -> Tensor:
    """(N, 3, 3): a turn, a scale and a shear for each clip."""
    around = strength.turn * (2 * chance.take(3) - 1)
    upright = around.new_tensor([0.0, 1.0, 0.0])
    around = around + strength.yaw * (2 * chance.take() - 1) * upright
    cos, sin, zero, one = around.cos(), around.sin(), torch.zeros_like(around[:, 0]), torch.ones_like(around[:, 0])
    turns = [
        [one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0]],
        [cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1]],
        [cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one],
    ]
    x, y, z = (torch.stack(turn, -1).view(-1, 3, 3) for turn in turns)
    scale = 1 + strength.scale * (2 * chance.take(3)[:, None] - 1)
    shear = strength.shear * (2 * chance.take(9).view(-1, 3, 3) - 1)
    eye = torch.eye(3, device=shear.device)
    return (x @ y @ z @ (eye + shear * (1 - eye))) * scale


def _dropped(joints: Tensor, mask: Tensor, strength: Strength, chance: Chance) -> tuple[Tensor, Tensor]:
    """Dropped frames count as not seen, so that nobody jumps to the origin and back."""
    count, frames, _, places, _ = joints.shape
    applied, which = _happens(chance, strength.drop_axis), (3 * chance.take()).long().clamp(max=2)
    axis = torch.nn.functional.one_hot(which[:, 0], 3).view(count, 1, 1, 1, 3)
    joints = torch.where(applied & axis.bool(), 0.0, joints)
    applied, begin = _happens(chance, strength.drop_time), ((1 - SHARE) * frames * chance.take()).long()
    at = torch.arange(frames, device=joints.device)
    gone = ((at >= begin) & (at < begin + round(SHARE * frames))).view(count, frames, 1)
    mask = mask & ~(applied[..., 0, 0] & gone)
    applied, gone = _happens(chance, strength.drop_joints), chance.take(places).view(count, 1, 1, places, 1) < SHARE
    return torch.where(applied & gone, 0.0, joints), mask


def _happens(chance: Chance, share: float) -> Tensor:
    return chance.take().view(-1, 1, 1, 1, 1) < share
