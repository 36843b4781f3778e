"""The baselines of LAST, written after their papers: ST-GCN, a network of CTR-GCN's class, and the
architecture of seeds/000.

All take positions (N, T, M, V, 3) and mask (N, T, M) and give logits (N, classes), from the same streams as LAST.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from outlast_recipes.skeleton.layouts import Layout
from outlast_recipes.skeleton.model import Streams, streams

STAGES = ((64, 1), (64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
"""Channels and stride in time of the ten blocks that ST-GCN and CTR-GCN have."""


def graph(layout: Layout) -> Tensor:
    """(3, V, V): a joint itself, those further in, those further out; columns add up to one."""
    inward = torch.zeros(layout.joints, layout.joints)
    for joint, parent in enumerate(layout.parents):
        if joint != parent:
            inward[parent, joint] = 1.0
    eye = torch.eye(layout.joints)
    return torch.stack([each / each.sum(0, keepdim=True).clamp(min=1.0) for each in (eye, inward, inward.T)])


class Skeletons(nn.Module):
    """The frame that the three share: norm, blocks on each body, means over joints, frames and the bodies that are
    there."""

    def __init__(
        self, blocks: nn.Module, out: int, classes: int, layout: Layout, kind: Streams, dropout: float
    ) -> None:
        super().__init__()
        self.layout, self.kind = layout, kind
        self.channels = 9 if kind == "fused" else 3
        self.before: nn.Module = nn.BatchNorm1d(self.channels * layout.joints)
        self.blocks, self.dropout, self.head = blocks, nn.Dropout(dropout), nn.Linear(out, classes)

    def forward(self, joints: Tensor, mask: Tensor) -> Tensor:
        x = streams(joints, mask, self.layout, self.kind)
        count, bodies, channels, frames, places = x.shape
        present = mask.any(1)
        chosen = present.flatten().nonzero()[:, 0] if present.any() else torch.arange(count * bodies, device=x.device)
        x = x.reshape(count * bodies, channels, frames, places)[chosen]
        flat = x.permute(0, 1, 3, 2).reshape(len(x), channels * places, frames)
        x = self.before(flat).view(len(x), channels, places, frames).transpose(2, 3)
        found = self.blocks(x).mean((2, 3))
        pooled = found.new_zeros(count * bodies, found.shape[1]).index_copy(0, chosen, found).view(count, bodies, -1)
        return self.head(self.dropout(pooled.sum(1) / present.sum(1, keepdim=True).clamp(min=1)))


def _down(channels: int, out: int, stride: int) -> nn.Module:
    if channels == out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, (stride, 1)), nn.BatchNorm2d(out))


class _StBlock(nn.Module):
    """Graph convolution over three groups of neighbours, then nine frames (Yan, Xiong and Lin, AAAI 2018)."""

    def __init__(self, channels: int, out: int, stride: int, layout: Layout, *, first: bool) -> None:
        super().__init__()
        self.register_buffer("graph", graph(layout))
        self.importance = nn.Parameter(torch.ones(3, layout.joints, layout.joints))
        self.wide = nn.Conv2d(channels, 3 * out, 1)
        self.time = nn.Sequential(
            nn.BatchNorm2d(out), nn.ReLU(), nn.Conv2d(out, out, (9, 1), (stride, 1), (4, 0)), nn.BatchNorm2d(out)
        )
        self.down = None if first else _down(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.wide(x).unflatten(1, (3, -1))
        mixed = torch.einsum("nkctv,kvw->nctw", parts, self.graph * self.importance)
        return torch.relu(self.time(mixed) + (0 if self.down is None else self.down(x)))


def st_gcn(classes: int, layout: Layout, kind: Streams = "fused", dropout: float = 0.0) -> Skeletons:
    """About 3.1 M parameters."""
    return _ten(_StBlock, classes, layout, kind, dropout)


class _Refined(nn.Module):
    """One graph for each channel: a shared one, refined by differences of joints (Chen et al., ICCV 2021)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        narrow = 8 if channels in (3, 9) else channels // 8
        self.left, self.right = nn.Conv2d(channels, narrow, 1), nn.Conv2d(channels, narrow, 1)
        self.values, self.refine = nn.Conv2d(channels, out, 1), nn.Conv2d(narrow, out, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The addition of each channel to the shared graph (N, C, V, V), and the features on it (N, C, T, V)."""
        apart = self.left(x).mean(2).unsqueeze(-1) - self.right(x).mean(2).unsqueeze(-2)
        return self.refine(apart.tanh()), self.values(x)


class _ManyScales(nn.Module):
    """Four branches in time: two dilations, the largest of three, and no reach at all."""

    def __init__(self, out: int, stride: int) -> None:
        super().__init__()
        quarter = out // 4

        def narrow(step: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(out, quarter, 1, (step, 1)), nn.BatchNorm2d(quarter)]

        def reach(wide: int) -> nn.Module:
            far = nn.Conv2d(quarter, quarter, (5, 1), (stride, 1), (2 * wide, 0), (wide, 1))
            return nn.Sequential(*narrow(), nn.ReLU(), far, nn.BatchNorm2d(quarter))

        highest = nn.Sequential(
            *narrow(), nn.ReLU(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(quarter)
        )
        self.branches = nn.ModuleList([reach(1), reach(2), highest, nn.Sequential(*narrow(stride))])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class _CtrBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, layout: Layout, *, first: bool) -> None:
        super().__init__()
        self.graph = nn.Parameter(graph(layout))
        self.strength = nn.Parameter(
            torch.full((1,), 0.1)
        )  # begun at 0 in the paper's code, where nothing behind it learns at first
        self.refined = nn.ModuleList(_Refined(channels, out) for _ in range(3))
        self.norm, self.inner = nn.BatchNorm2d(out), _down(channels, out, 1)
        self.time = _ManyScales(out, stride)
        self.down = None if first else _down(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor | int = 0
        for part, shared in zip(self.refined, self.graph, strict=True):
            own, values = part(x)
            mixed = mixed + torch.einsum("ncuv,nctv->nctu", self.strength * own + shared, values)
        y = torch.relu(self.norm(mixed) + self.inner(x))
        return torch.relu(self.time(y) + (0 if self.down is None else self.down(x)))


def ctr_gcn(classes: int, layout: Layout, kind: Streams = "fused", dropout: float = 0.0) -> Skeletons:
    """About 1.46 M parameters."""
    return _ten(_CtrBlock, classes, layout, kind, dropout)


def _ten(block: type[nn.Module], classes: int, layout: Layout, kind: Streams, dropout: float) -> Skeletons:
    channels, blocks = (9 if kind == "fused" else 3), []
    for number, (out, stride) in enumerate(STAGES):
        blocks.append(block(channels, out, stride, layout, first=number == 0))
        channels = out
    return Skeletons(nn.Sequential(*blocks), channels, classes, layout, kind, dropout)


SEED = (64, 64, 128, 128, 256)


class _SeedGraph(nn.Module):
    """Three graphs: fixed, learned, and by likeness of the sample's joints."""

    def __init__(self, channels: int, out: int, layout: Layout) -> None:
        super().__init__()
        near = torch.eye(layout.joints)
        for joint, parent in enumerate(layout.parents):
            near[joint, parent] = near[parent, joint] = 1.0
        share = near.sum(1).rsqrt()
        self.register_buffer("fixed", share[:, None] * near * share[None, :])
        self.learned = nn.Parameter(torch.eye(layout.joints) + 0.01 * torch.randn(layout.joints, layout.joints))
        self.each = nn.ModuleList(nn.Conv2d(channels, out, 1) for _ in range(3))
        self.embed = nn.Conv2d(channels, max(4, out // 4), 1)
        self.norm = nn.BatchNorm2d(out)
        self.down = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The original took row sums to the power -1/2 with no guard: NaN once one is not positive.
        share = self.learned.sum(1).clamp(min=1e-3).rsqrt()
        learned = share[:, None] * self.learned * share[None, :]
        place = nn.functional.normalize(self.embed(x.mean(2, keepdim=True))[:, :, 0], dim=1)
        alike = torch.einsum("ncv,ncw->nvw", place, place).softmax(-1)
        mixed = torch.einsum("nctw,vw->nctv", self.each[0](x), self.fixed)
        mixed = mixed + torch.einsum("nctw,vw->nctv", self.each[1](x), learned)
        mixed = mixed + torch.einsum("nctw,nvw->nctv", self.each[2](x), alike)
        return torch.relu(self.norm(mixed) + self.down(x))


class _SeedAttention(nn.Module):
    """Linear attention along time, joint by joint."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inside, self.outside = heads, nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inside(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        query, key = nn.functional.elu(query) + 1, nn.functional.elu(key) + 1
        context = torch.einsum("nvthd,nvthe->nvhde", key, value)
        total = torch.einsum("nvthd,nvhd->nvth", query, key.sum(2)).unsqueeze(-1) + 1e-6
        mixed = torch.einsum("nvthd,nvhde->nvthe", query, context) / total
        return self.dropout(self.outside(mixed.flatten(-2)))


class _SeedBlock(nn.Module):
    def __init__(self, channels: int, out: int, layout: Layout, heads: int) -> None:
        super().__init__()
        self.graph, self.attention = _SeedGraph(channels, out, layout), _SeedAttention(out, heads)
        self.norm, self.dropout = nn.LayerNorm(out), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.graph(x)
        few = x.shape[1] // 16  # an eighth of the channels moves, half of it each way
        later = torch.cat([x[:, :few, :1], x[:, :few, :-1]], 2)
        sooner = torch.cat([x[:, few : 2 * few, 1:], x[:, few : 2 * few, -1:]], 2)
        tokens = torch.cat([later, sooner, x[:, 2 * few :]], 1).permute(0, 3, 2, 1)
        tokens = self.norm(tokens + self.attention(tokens))
        return self.dropout(tokens).permute(0, 3, 2, 1)


class _SeedBlocks(nn.Sequential):
    def __init__(self, channels: int, layout: Layout) -> None:
        stem = [nn.Conv2d(channels, SEED[0], 1), nn.BatchNorm2d(SEED[0]), nn.ReLU()]
        pairs = itertools.pairwise(SEED)
        super().__init__(*stem, *(_SeedBlock(each, out, layout, 8) for each, out in pairs))


def last_seed(classes: int, layout: Layout, kind: Streams = "joint", dropout: float = 0.3) -> Skeletons:
    """The base model of seeds/000: 689,100 parameters for 120 classes of positions alone."""
    network = Skeletons(_SeedBlocks(9 if kind == "fused" else 3, layout), SEED[-1], classes, layout, kind, dropout)
    network.before = nn.Identity()
    return network


NETWORKS = {"st_gcn": st_gcn, "ctr_gcn": ctr_gcn, "last_seed": last_seed}
