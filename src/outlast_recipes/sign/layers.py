"""Layers over padded clips. What they compute for a clip does not depend on the frames after its length.

A clip without frames is read as one frame of zeros, so that no softmax is over nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outlast_recipes.common.dropout import Dropout, ReluDropout, dropped_out

_LOW = -1e9  # a score that softmax turns into 0, and that is finite in float32


def inside(lengths: Tensor, frames: int) -> Tensor:
    """(B, T) bool: which frames belong to the clips of these lengths (B,)."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def masked(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C) with zeros after each clip's length."""
    return x * inside(lengths, x.shape[1])[..., None].to(x.dtype)


def mean_over_time(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C) -> (B, C): the mean over each clip's frames."""
    return masked(x, lengths).sum(1) / lengths.clamp(min=1)[:, None].to(x.dtype)


def max_over_time(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C) -> (B, C): the maximum over each clip's frames; 0 for a clip without frames."""
    highest = x.masked_fill(~inside(lengths, x.shape[1])[..., None], torch.finfo(x.dtype).min).amax(1)
    return torch.where(lengths[:, None] > 0, highest, torch.zeros_like(highest))


class AttentionPooling(nn.Module):
    """(B, T, C) -> (B, C): the mean over each clip's frames, weighted by a learned score of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(channels, channels // 4), nn.Tanh(), nn.Linear(channels // 4, 1, bias=False)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        scores = self.score(x)[..., 0].float().masked_fill(~inside(lengths, x.shape[1]), _LOW)
        return (scores.softmax(1).to(x.dtype)[..., None] * masked(x, lengths)).sum(1)


class SelfAttention(nn.Module):
    """Each frame attends to the frames of its clip.

    Args:
        channels: C.
        heads: of them.
        dropout: rate, of the attention weights.
        rotary: whether queries and keys are rotated by their place (Su et al., RoFormer, 2021).
    """

    def __init__(self, channels: int, heads: int, dropout: float, *, rotary: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.inside = nn.Linear(channels, 3 * channels)
        self.outside = nn.Linear(channels, channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        count, frames, channels = x.shape
        query, key, value = self.inside(x).view(count, frames, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rotary:
            query, key = rotated(query), rotated(key)
        seen = inside(lengths.clamp(min=1), frames)[:, None, None, :]
        if self.training and x.device.type == "cpu":
            mixed = self._mixed_on_cpu(query, key, value, seen)
        else:
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=seen, dropout_p=self.dropout if self.training else 0.0
            )
        return self.outside(mixed.transpose(1, 2).reshape(count, frames, channels))

    def _mixed_on_cpu(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
        """The same with the cheaper dropout, and with the mask added while the scores are computed: in a training on a
        CPU half the time of torch's, which computes it in the same steps there."""
        query, key, value = (each.flatten(0, 1) for each in (query, key, value))
        apart = torch.zeros(len(seen), 1, seen.shape[-1]).masked_fill(~seen[:, 0], _LOW)
        scores = torch.baddbmm(
            apart.repeat_interleave(self.heads, 0).to(query.dtype),
            query,
            key.transpose(1, 2),
            alpha=query.shape[-1] ** -0.5,
        )
        mixed = torch.bmm(dropped_out(scores.softmax(-1), self.dropout), value)
        return mixed.unflatten(0, (-1, self.heads))


def rotated(x: Tensor) -> Tensor:
    """(B, heads, T, D) with the pairs of its channels rotated by angles that grow with the frame."""
    half = x.shape[-1] // 2
    place = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)
    angle = place[:, None] * 100.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half : 2 * half]
    return torch.cat([first * cos - second * sin, first * sin + second * cos, x[..., 2 * half :]], -1)


class DropPath(nn.Module):
    """In training, a branch is left out of some clips and scaled up in the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)


class EncoderLayer(nn.Module):
    """A transformer layer with its norms first. Its activation is ReLU when none is given."""

    def __init__(
        self,
        channels: int,
        heads: int,
        feedforward: int,
        dropout: float,
        *,
        activation: type[nn.Module] | None = None,
        rotary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = SelfAttention(channels, heads, dropout, rotary=rotary)
        between = [ReluDropout(dropout), nn.Identity()] if activation is None else [activation(), Dropout(dropout)]
        self.feed = nn.Sequential(nn.Linear(channels, feedforward), *between, nn.Linear(feedforward, channels))
        self.drop = Dropout(dropout)
        self.path = DropPath(drop_path)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = x + self.path(self.drop(self.attention(self.norm1(x), lengths)))
        return x + self.path(self.drop(self.feed(self.norm2(x))))
