"""LAST: a light transformer that shifts, for skeletons.

Two bodies share all weights and meet at the end, symmetrically. A block mixes joints by routing (ASJ), then time by
shifting every channel by an offset that it learns (AST) and a depthwise convolution; the last block of a stage attends
over time on tokens pooled over joints (TLA). On a CPU in float32 `fast` computes the blocks, to the same result.

Own design after domains.md A.5. Ideas it is on: shifts as spatial and temporal convolution (Cheng et al.,
Shift-GCN, CVPR 2020; Lin et al., TSM, ICCV 2019), learned fractional offsets (Jeon and Kim, CVPR 2017), adaptive
topology (Shi et al., 2s-AGCN, CVPR 2019; Chen et al., CTR-GCN, ICCV 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outlast_recipes.skeleton import fast
from outlast_recipes.skeleton.config import Routing, Shift, Streams
from outlast_recipes.skeleton.layouts import Layout

REACH = 4.0  # frames that a channel may be shifted by, either way
SPREAD = 3.0  # of the offsets at the start: many scales, never a no-op
KEY = 8  # channels of a joint's query and key
TIME_HEADS, TIME_WIDTH = 4, 8  # of attention over time


@dataclass(frozen=True)
class Size:
    """Channels and blocks of the three stages, and heads of the joint routing."""

    channels: tuple[int, int, int]
    depths: tuple[int, int, int]
    heads: int
    drop_path: float


SIZES = {
    "nano": Size((32, 64, 96), (1, 1, 1), 8, 0.0),
    "tiny": Size((32, 64, 112), (1, 1, 2), 8, 0.05),
    "small": Size((48, 96, 144), (1, 2, 2), 8, 0.05),
    "base": Size((64, 128, 192), (2, 3, 3), 8, 0.1),
    "large": Size((96, 192, 352), (2, 4, 4), 16, 0.2),
}


class TemporalShift(nn.Module):
    """AST: channel c at frame t is read at t + 4 tanh(theta_c), between two frames by linear interpolation; ends are
    repeated.

    `scales` keeps the offsets that the adaptive ones begin with; `tsm` moves an eighth of the channels by one frame
    each way.
    """

    def __init__(self, channels: int, kind: Shift) -> None:
        super().__init__()
        begin = torch.linspace(-SPREAD, SPREAD, channels)[
            torch.arange(channels).mul(channels // 2 + 1).remainder(channels)
        ]
        if kind == "tsm":
            begin = torch.zeros(channels)
            begin[: channels // 8], begin[channels // 8 : channels // 4] = -1.0, 1.0
        theta = torch.atanh(begin / REACH)
        if kind == "adaptive":
            self.theta = nn.Parameter(theta)
        else:
            self.register_buffer("theta", theta)

    def taps(self) -> Tensor:
        """The shift as a convolution over frames, each channel by itself: (C, 1, 2 * 4 + 1, 1)."""
        offset = REACH * torch.tanh(self.theta.float())
        low = offset.detach().floor().clamp(max=REACH - 1)  # tanh of a large number is 1
        share = (offset - low).unsqueeze(1)
        at, places = low.long() + int(REACH), 2 * int(REACH) + 1
        taps = F.one_hot(at, places) * (1 - share) + F.one_hot(at + 1, places) * share
        return taps.view(-1, 1, places, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> the same."""
        frames = x.shape[2]
        offset = REACH * torch.tanh(self.theta.float())
        low = offset.detach().floor()
        share = (offset - low).to(x.dtype).view(1, -1, 1, 1)
        at = torch.arange(frames, device=x.device).view(1, -1) + low.long().view(-1, 1)
        return torch.lerp(_at(x, at), _at(x, at + 1), share)


def _at(x: Tensor, frames: Tensor) -> Tensor:
    """Every channel of (N, C, T, V) at its own frames (C, T)."""
    index = frames.clamp(0, x.shape[2] - 1).view(1, *frames.shape, 1).expand(x.shape)
    return x.gather(2, index)


class JointRouting(nn.Module):
    """ASJ: every head mixes joints by a learned matrix, begun as itself, parent, children or mirror, plus attention
    from pooled features.

    The softmax is in float32: in half precision it gives NaN on clips that stand still.
    """

    def __init__(self, channels: int, heads: int, layout: Layout, kind: Routing) -> None:
        super().__init__()
        self.heads = heads
        prior = anatomy(layout)
        begin = torch.stack([prior[head % len(prior)] for head in range(heads)])
        self.routes = nn.Parameter(begin + 0.02 * torch.randn_like(begin))
        self.adaptive = kind == "adaptive"
        if self.adaptive:
            self.queries = nn.Conv1d(channels, 2 * heads * KEY, 1)
            self.strength = nn.Parameter(torch.full((heads, 1, 1), 0.1))

    def routes_of(self, pooled: Tensor) -> Tensor:
        """The matrices of samples, from their features averaged over frames: (N, V, C) -> (N, heads, V, V)."""
        count, joints, _ = pooled.shape
        if not self.adaptive:
            return self.routes.expand(count, -1, -1, -1)
        found = F.linear(pooled, self.queries.weight[:, :, 0], self.queries.bias)
        query, key = found.view(count, joints, 2, self.heads, KEY).permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(KEY)
        return torch.addcmul(self.routes, self.strength, scores.softmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> the same."""
        count, channels, frames, joints = x.shape
        parts = x.reshape(count, self.heads, channels // self.heads * frames, joints)
        return torch.einsum("nhcw,nhvw->nhcv", parts, self.routes_of(x.mean(2).transpose(1, 2)).to(x.dtype)).reshape(
            x.shape
        )


def anatomy(layout: Layout) -> Tensor:
    """(4, V, V): where a joint reads from: itself, its parent, the mean of its children (itself when it has none), its
    mirror."""
    joints = layout.joints
    child = torch.zeros(joints, joints)
    for joint, parent in enumerate(layout.parents):
        if joint != parent:
            child[parent, joint] = 1.0
    leaves = child.sum(1) == 0
    child[leaves, leaves] = 1.0
    eye = torch.eye(joints)
    return torch.stack([eye, eye[list(layout.parents)], child / child.sum(1, keepdim=True), eye[list(layout.mirror)]])


class TemporalMix(nn.Module):
    """Widen, convolve every channel in time by itself, narrow; the stride is in the convolution."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.GELU(),
            nn.Conv2d(wide, wide, (5, 1), (stride, 1), (2, 0), groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.GELU(),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.layers(x)
        return mixed


class TimeAttention(nn.Module):
    """TLA: every frame, pooled over joints, attends to every other one, with a learned bias by their distance."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        inner = TIME_HEADS * TIME_WIDTH
        self.norm = nn.LayerNorm(channels)
        self.inside = nn.Linear(channels, 3 * inner)
        self.outside = nn.Linear(inner, channels)
        self.bias = nn.Parameter(0.02 * torch.randn(TIME_HEADS, 2 * frames - 1))
        self.scale = nn.Parameter(
            torch.full((channels,), 0.1)
        )  # small and not zero: nothing is without a gradient at the first step
        self.frames = frames

    def biases(self, frames: int) -> Tensor:
        """By the distance of so many frames from each other: (heads, frames, frames), in float32."""
        apart = torch.arange(frames, device=self.bias.device)
        distance = (apart[:, None] - apart[None, :]).clamp(1 - self.frames, self.frames - 1)
        return self.bias[:, distance + self.frames - 1].float()

    def added(self, pooled: Tensor) -> Tensor:
        """What is added to all joints of a frame: x averaged over joints (N, T, C) -> the same."""
        count, frames, _ = pooled.shape
        tokens = self.norm(pooled)
        query, key, value = self.inside(tokens).view(count, frames, 3, TIME_HEADS, TIME_WIDTH).permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(TIME_WIDTH) + self.biases(frames)
        mixed = (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)  # the softmax is in float32
        found: Tensor = self.scale * self.outside(mixed)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return x + self.added(x.mean(3).transpose(1, 2)).transpose(1, 2).unsqueeze(3)


class DropPath(nn.Module):
    """Leaves out a whole branch of some samples while training (Huang et al., 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def kept(self, x: Tensor) -> Tensor | None:
        """What samples are multiplied by, (N, 1, 1, 1); None where nothing is left out."""
        if not self.training or self.share == 0.0:
            return None
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.share
        return kept.to(x.dtype) / (1.0 - self.share)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept(x)
        return x if kept is None else x * kept


class Block(nn.Module):
    """Joints, then time: x + GELU(BN(W ASJ(x + E))), then down(x) + FFN(AST(x)), and at a stage's end TLA."""

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int,
        *,
        heads: int,
        layout: Layout,
        shift: Shift,
        routing: Routing,
        attention: int | None,
        drop: float,
    ) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(1, channels, 1, layout.joints))
        self.joints = nn.Identity() if routing == "off" else JointRouting(channels, heads, layout, routing)
        self.after_joints = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.GELU()
        )
        self.shift = nn.Identity() if shift == "off" else TemporalShift(channels, shift)
        self.mix = TemporalMix(channels, out, stride)
        same = channels == out and stride == 1
        self.down = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(channels, out, 1, (stride, 1), bias=False), nn.BatchNorm2d(out))
        )
        self.attention = nn.Identity() if attention is None else TimeAttention(out, attention)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.after_joints(self.joints(x + self.place)))
        x = self.down(x) + self.drop(self.mix(self.shift(x)))
        found: Tensor = self.attention(x)
        return found

    def routes(self, pooled: Tensor) -> Tensor | None:
        """x averaged over frames (N, V, C) -> (N, heads, V, V), by which the joints of x + E are mixed."""
        if not isinstance(self.joints, JointRouting):
            return None
        return self.joints.routes_of(pooled + self.place[0, :, 0].t())

    def taps(self) -> Tensor | None:
        return self.shift.taps() if isinstance(self.shift, TemporalShift) else None


def streams(joints: Tensor, mask: Tensor, layout: Layout, kind: Streams = "fused") -> Tensor:
    """The input features of positions: joints, bones (a joint less its parent) and velocities (next frame less this
    one).

    Args:
        joints: (N, T, M, V, 3) metres, zero where the mask is.
        mask: (N, T, M) whether a body is there.
        layout: of the joints.
        kind: all three as nine channels, or one of them as three.

    Returns:
        (N, M, channels, T, V).
    """
    seen = mask[..., None, None].to(joints.dtype)
    bone = joints - joints[..., list(layout.parents), :]
    both = seen[:, 1:] * seen[:, :-1]
    velocity = F.pad((joints[:, 1:] - joints[:, :-1]) * both, (0, 0, 0, 0, 0, 0, 0, 1))
    kinds = {"joint": joints * seen, "bone": bone * seen, "velocity": velocity}
    chosen = list(kinds.values()) if kind == "fused" else [kinds[kind]]
    return torch.cat(chosen, -1).permute(0, 2, 4, 1, 3)


class Last(nn.Module):
    """The network.

    Args:
        size: one of SIZES.
        classes: number of classes.
        layout: of the joints.
        frames: T of the clips it is trained on; a multiple of 4.
        kind: what it sees.
        shift, routing, attention: its parts, to be switched off one by one.
        bodies: how many of the two bodies it looks at.
        dropout: share of the last features to drop.
        drop_path: of the deepest block; the size's own when None.
    """

    def __init__(
        self,
        size: Size,
        classes: int,
        layout: Layout,
        *,
        frames: int = 64,
        kind: Streams = "fused",
        shift: Shift = "adaptive",
        routing: Routing = "adaptive",
        attention: bool = True,
        bodies: int = 2,
        dropout: float = 0.1,
        drop_path: float | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.kind, self.bodies = layout, kind, bodies
        channels = 9 if kind == "fused" else 3
        self.before = nn.BatchNorm1d(channels * layout.joints)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, size.channels[0], 1, bias=False), nn.BatchNorm2d(size.channels[0]), nn.GELU()
        )
        deepest = size.drop_path if drop_path is None else drop_path
        self.blocks = nn.ModuleList()
        wide, total = size.channels[0], sum(size.depths)
        for stage, (out, depth) in enumerate(zip(size.channels, size.depths, strict=True)):
            for number in range(depth):
                first, last = number == 0, number == depth - 1
                block = Block(
                    wide,
                    out,
                    2 if first and stage else 1,
                    heads=size.heads,
                    layout=layout,
                    shift=shift,
                    routing=routing,
                    attention=frames // 2**stage if attention and last else None,
                    drop=deepest * len(self.blocks) / max(1, total - 1),
                )
                self.blocks.append(block)
                wide = out
        self.norm = nn.LayerNorm(2 * wide)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * wide, classes)

    def forward(self, joints: Tensor, mask: Tensor) -> Tensor:
        """Positions (N, T, M, V, 3) and mask (N, T, M) -> logits (N, classes)."""
        return self.classified(*self.features(joints, mask))

    def classified(self, features: Tensor, present: Tensor) -> Tensor:
        """Features and mask to logits (N, classes)."""
        pooled = features.mean((3, 4))
        share = present.to(pooled.dtype).unsqueeze(-1)
        mean = (pooled * share).sum(1) / share.sum(1).clamp(min=1.0)
        highest = pooled.masked_fill(~present.unsqueeze(-1), -torch.inf).amax(1)
        highest = torch.where(present.any(1, keepdim=True), highest, torch.zeros_like(highest))
        logits: Tensor = self.head(self.dropout(self.norm(torch.cat([mean, highest], -1))))
        return logits

    def features(self, joints: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(N, M, C, T/4, V) before pooling, and (N, M) which bodies are there at all."""
        joints, mask = joints[:, :, : self.bodies], mask[:, :, : self.bodies]
        x = streams(joints, mask, self.layout, self.kind)
        count, bodies, channels, frames, places = x.shape
        x = x.reshape(count * bodies, channels, frames, places)
        present = mask.any(1)
        chosen = None if torch.compiler.is_compiling() else present.flatten().nonzero()[:, 0]
        if chosen is not None and 0 < len(chosen) < len(x):
            x = x[chosen]  # most second bodies are absent: they cost nothing, and norms do not count them
        else:
            chosen = None  # an exported graph computes all bodies and masks the absent ones at the end
        way = fast.way(self, x)
        x = fast.inferred(self, x) if way == "inference" else self._through(x, way)
        if chosen is not None:
            x = x.new_zeros(count * bodies, *x.shape[1:]).index_copy(0, chosen, x)
        return x.unflatten(0, (count, bodies)), present

    def _through(self, x: Tensor, way: fast.Way) -> Tensor:
        """(N, channels, T, V) -> (N, C, T/4, V)."""
        channels, places = x.shape[1], x.shape[3]
        flat = x.permute(0, 1, 3, 2).flatten(1, 2)
        x = self.before(flat).unflatten(1, (channels, places)).transpose(2, 3)
        if way == "training":
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        if way == "modules":
            for block in self.blocks:
                x = block(x)
            return x
        pooled = fast.pooled(x)
        for block in self.blocks:
            x, pooled = fast.trained(block, x, pooled)
        return x
