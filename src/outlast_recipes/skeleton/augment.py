"""From clips of any length to batches of one length, with the changes that a class does not mind. In batches, on the model's device.

All chance comes from torch's own generators in the training process, which a checkpoint holds: so a resumed epoch sees the same views, whatever
the number of workers. The list is that of SkateFormer (Do and Kim, ECCV 2024) and CTR-GCN (Chen et al., ICCV 2021), with a mirror that negates x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from outlast_recipes.skeleton.layouts import Layout


@dataclass(frozen=True)
class Strength:
    """How far a view may be from its clip; 0 switches a change off.

    Attributes:
        crop: the shortest share of a clip's frames that is looked at.
        turn: radians about each axis.
        scale: share by which each axis may grow or shrink.
        shear: of each axis by each other.
        mirror: chance of left and right being exchanged.
        swap: chance of the two bodies being exchanged.
        drop_axis, drop_joints, drop_time: chance of an axis, a fifth of the joints, or a fifth of the frames being zero.
    """

    crop: float = 0.5
    turn: float = 0.3
    scale: float = 0.2
    shear: float = 0.1
    mirror: float = 0.5
    swap: float = 0.5
    drop_axis: float = 0.0
    drop_joints: float = 0.1
    drop_time: float = 0.1


def collate(clips: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clips (joints (T, M, V, 3), mask (T, M), label) of any lengths as one batch, padded with nothing seen; and the lengths."""
    joints, masks, labels = zip(*clips, strict=True)
    lengths = torch.tensor([len(mask) for mask in masks])
    return (
        pad_sequence(list(joints), batch_first=True),
        pad_sequence(list(masks), batch_first=True),
        lengths,
        torch.tensor(labels),
    )


def resample(joints: Tensor, mask: Tensor, begin: Tensor, length: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Look at frames begin .. begin + length of each clip, `frames` times at equal distances, between two frames by interpolation.

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
    low = at.floor().long().clamp(0, joints.shape[1] - 1)
    high = (low + 1).clamp(max=joints.shape[1] - 1)
    row = torch.arange(len(joints), device=joints.device)[:, None]
    seen_low, seen_high = mask[row, low], mask[row, high]
    weight = (at - low).unsqueeze(-1).expand(seen_low.shape).to(joints.dtype)
    weight = torch.where(seen_low & seen_high, weight, seen_high.to(joints.dtype))[..., None, None]
    nearest = (at - low).unsqueeze(-1) >= 0.5
    seen = torch.where(nearest, seen_high, seen_low)
    return torch.lerp(joints[row, low], joints[row, high], weight) * seen[..., None, None], seen


def centre(joints: Tensor, mask: Tensor, lengths: Tensor, frames: int, share: float = 0.95) -> tuple[Tensor, Tensor]:
    """The view that is evaluated: the middle of every clip."""
    length = (lengths * share).clamp(min=1.0).to(joints.device)
    return resample(joints, mask, (lengths.to(joints.device) - length) / 2, length, frames)


def augmented(
    joints: Tensor, mask: Tensor, lengths: Tensor, frames: int, layout: Layout, strength: Strength
) -> tuple[Tensor, Tensor]:
    """A view of every clip, each changed by chance of its own; bodies keep their place to each other."""
    lengths = lengths.to(joints.device)
    shares = 1 - (1 - strength.crop) * torch.rand(len(joints), device=joints.device)
    length = (lengths * shares).clamp(min=1.0)
    begin = (lengths - length) * torch.rand(len(joints), device=joints.device)
    joints, mask = resample(joints, mask, begin, length, frames)
    joints = torch.einsum("ntmvi,nij->ntmvj", joints, _linear(len(joints), strength, joints))
    if strength.mirror:
        there = _chance(strength.mirror, joints)
        joints = torch.where(there, mirrored(joints, layout), joints)
    if strength.swap:
        there = _chance(strength.swap, joints)
        joints = torch.where(there, joints.flip(2), joints)
        mask = torch.where(there[..., 0, 0], mask.flip(2), mask)
    return _dropped(joints, strength), mask


def mirrored(joints: Tensor, layout: Layout) -> Tensor:
    """Left for right: joints are exchanged, and x is negated."""
    return joints[..., list(layout.mirror), :] * joints.new_tensor([-1.0, 1.0, 1.0])


def _linear(count: int, strength: Strength, like: Tensor) -> Tensor:
    """(N, 3, 3): a turn, a scale and a shear for each clip."""
    around = strength.turn * (2 * torch.rand(count, 3, device=like.device, dtype=like.dtype) - 1)
    cos, sin, zero, one = around.cos(), around.sin(), torch.zeros_like(around[:, 0]), torch.ones_like(around[:, 0])
    turns = [
        [one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0]],
        [cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1]],
        [cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one],
    ]
    x, y, z = (torch.stack(turn, -1).view(count, 3, 3) for turn in turns)
    scale = 1 + strength.scale * (2 * torch.rand(count, 1, 3, device=like.device, dtype=like.dtype) - 1)
    shear = strength.shear * (2 * torch.rand(count, 3, 3, device=like.device, dtype=like.dtype) - 1)
    eye = torch.eye(3, device=like.device, dtype=like.dtype)
    return (x @ y @ z @ (eye + shear * (1 - eye))) * scale


def _dropped(joints: Tensor, strength: Strength) -> Tensor:
    count, frames, _, places, _ = joints.shape
    if strength.drop_axis:
        axis = torch.nn.functional.one_hot(torch.randint(3, (count,), device=joints.device), 3).view(count, 1, 1, 1, 3)
        joints = torch.where(_chance(strength.drop_axis, joints) & axis.bool(), 0.0, joints)
    if strength.drop_joints:
        gone = torch.rand(count, 1, 1, places, 1, device=joints.device) < 0.2
        joints = torch.where(_chance(strength.drop_joints, joints) & gone, 0.0, joints)
    if strength.drop_time:
        begin = (torch.rand(count, 1, device=joints.device) * 0.8 * frames).long()
        at = torch.arange(frames, device=joints.device)
        gone = ((at >= begin) & (at < begin + frames // 5)).view(count, frames, 1, 1, 1)
        joints = torch.where(_chance(strength.drop_time, joints) & gone, 0.0, joints)
    return joints


def _chance(share: float, joints: Tensor) -> Tensor:
    return torch.rand(len(joints), 1, 1, 1, 1, device=joints.device) < share
