"""PartConvFormer: an encoder for each part of the body, then convolutions over time and attention.

Own design after domains.md E.4. Ideas it is on: hands, face and body encoded apart (Boháček and Hrúz, SPOTER, 2022;
Pu et al., Siformer, 2024), depthwise convolutions between attention layers as the winners of Google's isolated sign
language contest used them, ECA (Wang et al., 2020), gated units (Dauphin et al., 2017), RoPE (Su et al., 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outlast_recipes.common.dropout import Dropout
from outlast_recipes.sign.batch import FACE, LEFT, POSE, RIGHT
from outlast_recipes.sign.bones import OF_HAND, OF_POSE, bends, directions, in_palm
from outlast_recipes.sign.heads import Head
from outlast_recipes.sign.layers import AttentionPooling, DropPath, EncoderLayer, inside, masked, mean_over_time
from outlast_recipes.sign.network import SignNetwork

KERNELS = (11, 17)  # frames of the convolutions, before each attention layer
CONVOLUTIONS = 3  # before each attention layer
HEADS = 4
VALUES = 9  # of a keypoint: place, place in its part, two velocities, seen


class PartConvFormer(SignNetwork):
    """Encoders of parts, convolutions over time, attention.

    Args:
        head: of `2 * width` channels.
        width: channels, shared equally by pose, left hand, right hand and face.
        dropout: rate.
        drop_path: rate of the deepest block.
        shapes: whether directions of bones and angles between them are read, and hands in the frame of their palms.
    """

    def __init__(
        self, head: Head, *, width: int = 256, dropout: float = 0.2, drop_path: float = 0.1, shapes: bool = True
    ) -> None:
        super().__init__()
        own = width // 4
        self.pose = PartEncoder(OF_POSE, own, bones=OF_POSE if shapes else None)
        self.hand = PartEncoder((0,) * 21, own, bones=OF_HAND if shapes else None, palm=shapes)
        self.face = PartEncoder((0,) * 11, own)
        self.side = nn.Parameter(0.02 * torch.randn(2, own))
        self.before = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        depth = len(KERNELS) * (CONVOLUTIONS + 1)
        rates = iter(torch.linspace(0, drop_path, depth).tolist())
        blocks: list[nn.Module] = []
        for kernel in KERNELS:
            blocks += [ConvBlock(width, kernel, dropout / 2, next(rates)) for _ in range(CONVOLUTIONS)]
            blocks.append(
                EncoderLayer(
                    width, HEADS, 2 * width, dropout / 2, activation=nn.GELU, rotary=True, drop_path=next(rates)
                )
            )
        self.blocks = nn.ModuleList(blocks)
        self.pool = AttentionPooling(width)
        self.norm = nn.LayerNorm(2 * width)
        self.head = head

    def encoded(self, *inputs: Tensor) -> Tensor:
        points, seen, lengths = inputs
        seen = seen & inside(lengths, seen.shape[1])[..., None]
        left = points[:, :, LEFT] * points.new_tensor([-1.0, 1.0])  # as if it were a right hand
        parts = [
            self.pose(points[:, :, POSE], seen[:, :, POSE]),
            self.hand(left, seen[:, :, LEFT]) + self.side[0],
            self.hand(points[:, :, RIGHT], seen[:, :, RIGHT]) + self.side[1],
            self.face(points[:, :, FACE], seen[:, :, FACE]),
        ]
        x = self.before(torch.cat(parts, 2))
        for block in self.blocks:
            x = block(x, lengths)
        return x

    def pooled(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        return self.norm(torch.cat([self.pool(encoded, lengths), mean_over_time(encoded, lengths)], 1))


class PartEncoder(nn.Module):
    """The keypoints of one part of the body in one frame -> channels. A part of which nothing is seen has an embedding
    of its own.

    Args:
        parents: for each of V points, the one that its place is also given from.
        channels: C.
        bones: for each point, where its bone begins; None: directions of bones and angles
            between them are not read.
        palm: whether the part is a hand that is also read in the frame of its palm.
    """

    def __init__(
        self, parents: tuple[int, ...], channels: int, *, bones: tuple[int, ...] | None = None, palm: bool = False
    ) -> None:
        super().__init__()
        self.parents, self.bones, self.palm = parents, bones, palm
        read = VALUES + (4 if bones else 0) + (2 if palm else 0)
        self.layers = nn.Sequential(
            nn.Linear(len(parents) * read, 2 * channels),
            nn.LayerNorm(2 * channels),
            nn.GELU(),
            nn.Linear(2 * channels, channels),
        )
        self.missing = nn.Parameter(0.02 * torch.randn(channels))

    def forward(self, points: Tensor, seen: Tensor) -> Tensor:
        """Points (B, T, V, 2) and seen (B, T, V) -> (B, T, C)."""
        known = values(points, seen, self.parents)
        if self.bones:
            pointed = directions(points, seen, self.bones)
            known = torch.cat([known, pointed, bends(pointed, self.bones)], -1)
        if self.palm:
            known = torch.cat([known, in_palm(known[..., 2:4], seen)], -1)
        x = self.layers(known.flatten(2))
        return torch.where(seen.any(2, keepdim=True), x, self.missing.to(x.dtype))


def values(points: Tensor, seen: Tensor, parents: tuple[int, ...]) -> Tensor:
    """What is known of each keypoint.

    Args:
        points: (B, T, V, 2), 0 where not seen.
        seen: (B, T, V).
        parents: the point that each point's place is also given from: the wrist of a hand, the nose of a face.

    Returns:
        (B, T, V, 9): place; place from the parent, in units of its mean length over the clip; change since one and two
        frames ago; seen. 0 where one of the two points was not seen.
    """
    both = (seen & seen[:, :, list(parents)])[..., None]
    local = torch.where(both, points - points[:, :, list(parents)], 0.0)
    size = local.square().sum(-1).add(1e-12).sqrt().mul(both[..., 0]).sum((1, 2)) / both.sum((1, 2, 3)).clamp(min=1)
    local = local / size.clamp(min=1e-3)[:, None, None, None]
    changes = []
    for lag in (1, 2):
        before, was = (F.pad(x, (0, 0) * (x.dim() - 2) + (lag, 0))[:, : x.shape[1]] for x in (points, seen[..., None]))
        changes.append(torch.where(seen[..., None] & was, points - before, 0.0))
    return torch.cat([points, local, *changes, seen[..., None].to(points.dtype)], -1)


class ConvBlock(nn.Module):
    """Gated, convolved over time channel by channel, weighted by channel, added.

    Args:
        channels: C.
        kernel: frames, odd.
        dropout: rate.
        drop_path: rate.
    """

    def __init__(self, channels: int, kernel: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gated = nn.Linear(channels, 2 * channels)
        self.over_time = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.after = nn.LayerNorm(channels)
        self.weigh = nn.Conv1d(1, 1, 5, padding=2, bias=False)
        self.outside = nn.Linear(channels, channels)
        self.drop, self.path = Dropout(dropout), DropPath(drop_path)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = masked(F.glu(self.gated(self.norm(x)), -1), lengths)
        y = F.silu(self.after(self._convolved(y)))
        weight = self.weigh(mean_over_time(y, lengths)[:, None])[:, 0].sigmoid()
        return x + self.path(self.drop(self.outside(y * weight[:, None])))

    def _convolved(self, y: Tensor) -> Tensor:
        """(B, T, C) over time.

        In a training on a CPU it is a convolution of pictures of one row: their channels may come last, so nothing is
        copied, which takes half the time. It stays in float32: in bfloat16, oneDNN 3.12 hangs at some shapes.
        """
        layer = self.over_time
        if not (self.training and y.device.type == "cpu"):
            return layer(y.transpose(1, 2)).transpose(1, 2)
        picture, padding = y.float()[:, None].permute(0, 3, 1, 2), (0, layer.kernel_size[0] // 2)
        with torch.autocast("cpu", enabled=False):
            convolved = F.conv2d(picture, layer.weight[:, :, None], layer.bias, padding=padding, groups=layer.groups)
        return convolved.permute(0, 2, 3, 1)[:, 0]
