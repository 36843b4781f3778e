"""Convolutions and batch norms of a network on a CPU, with channels last and in pieces that stay in its cache.

Tensors are (N, T, V, C): samples, frames, places, channels, contiguous. On one core a GELU of a piece of 3 MB runs
three times as fast as one of 100 MB, whose every number comes from memory, and oneDNN's 1x1 convolution reaches twice
what `torch.matmul` does on an AMD (docs/log.md). What is added up over pieces is added in their order, so that the
result depends on the shape alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIECE = 819_200  # numbers of the widest tensor of a piece: 3.3 MB


def pieces(samples: int, numbers: int) -> list[slice]:
    """Samples in pieces.

    Args:
        samples: how many.
        numbers: of one sample in its widest tensor.
    """
    size = max(1, PIECE // numbers)
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]


def image(x: Tensor) -> Tensor:
    """(N, T, V, C) as torch names it: (N, C, T, V), the same memory."""
    return x.permute(0, 3, 1, 2)


def rows(x: Tensor) -> Tensor:
    """(N, C, T, V) as (N, T, V, C), contiguous; the same memory where it lies so."""
    return x.permute(0, 2, 3, 1).contiguous()


def _frames(x: Tensor) -> Tensor:
    """Every frame as an image of its own: torch leaves a 1x1 convolution of few images and one thread to a slower
    library."""
    count, frames, places, channels = x.shape
    return x.view(count * frames, 1, places, channels).permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution: (N, T, V, C) with a weight (D, C, 1, 1) -> (N, T, V, D)."""
    return F.conv2d(_frames(x), weight, bias).permute(0, 2, 3, 1).reshape(*x.shape[:3], -1)


def pointwise_backward(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `pointwise` of its input and its weight."""
    towards, of_weight, _ = torch.ops.aten.convolution_backward(
        _frames(gradient), _frames(x), weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    return towards.permute(0, 2, 3, 1).reshape(x.shape), of_weight


def in_time(x: Tensor, weight: Tensor, stride: int = 1, bias: Tensor | None = None, *, padded: bool = True) -> Tensor:
    """A convolution over frames, each channel by itself: (N, T, V, C) with a weight (C, 1, K, 1)."""
    padding = (weight.shape[2] // 2 if padded else 0, 0)
    return rows(F.conv2d(image(x), weight, bias, (stride, 1), padding, groups=weight.shape[0]))


def in_time_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int = 1, *, padded: bool = True
) -> tuple[Tensor, Tensor]:
    """Gradients of `in_time` of its input and its weight."""
    padding = [weight.shape[2] // 2 if padded else 0, 0]
    towards, of_weight, _ = torch.ops.aten.convolution_backward(
        image(gradient), image(x), weight, None, [stride, 1], padding, [1, 1], False, [0, 0], weight.shape[0],
        [True, True, False],
    )  # fmt: skip
    return rows(towards), of_weight


def folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution without one and the norm behind it, as inference needs them."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


class Moments:
    """Mean and variance of each channel of all pieces.

    They are taken of every piece and merged (Chan, Golub and LeVeque, 1983).
    """

    def __init__(self, pieces: int) -> None:
        self._counts = [0] * pieces
        self._found: list[Any] = [None] * pieces

    @classmethod
    def found(cls, counts: Sequence[int], means: Tensor, variances: Tensor) -> Moments:
        """Those that were taken elsewhere.

        Args:
            counts: a channel's numbers in each piece.
            means, variances: of each piece, (pieces, channels).
        """
        known = cls(len(counts))
        known._counts, known._found = list(counts), list(zip(means, variances, strict=True))
        return known

    def of(self, number: int, piece: Tensor) -> Tensor:
        """The piece itself, once its moments are noted."""
        self._counts[number] = piece.numel() // piece.shape[-1]
        self._found[number] = torch.batch_norm_update_stats(image(piece), None, None, 0.0)
        return piece

    def merged(self) -> tuple[int, Tensor, Tensor]:
        """The count of a channel, mean, and variance (of the population)."""
        count = sum(self._counts)
        share = torch.tensor(self._counts, dtype=torch.float64).view(-1, 1) / count
        means, variances = (torch.stack(found).double() for found in zip(*self._found, strict=True))
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        return count, mean.float(), variance.float()


@dataclasses.dataclass
class Normed:
    """A batch norm by the statistics of a batch.

    Attributes:
        weight: of the norm.
        count: of a channel's numbers in the batch.
        mean, inverse: of the batch: mean, and one over the deviation.
        scale, shift: the norm is x * scale + shift.
    """

    weight: Tensor
    eps: float
    count: int
    mean: Tensor
    inverse: Tensor
    scale: Tensor
    shift: Tensor
    sums: dict[int, tuple[Tensor, Tensor]] = dataclasses.field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def of(cls, norm: nn.BatchNorm2d, moments: Moments) -> Normed:
        """As the module would norm this batch in training; its running statistics are brought up to date."""
        count, mean, variance = moments.merged()
        if count < 2:  # torch's own words
            raise ValueError(f"Expected more than 1 value per channel when training, got {count}")
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        inverse = (variance + norm.eps).rsqrt()
        scale = norm.weight * inverse
        return cls(norm.weight, norm.eps, count, mean, inverse, scale, norm.bias - mean * scale)

    def __call__(self, piece: Tensor, out: Tensor) -> Tensor:
        return torch.addcmul(self.shift, piece, self.scale, out=out)

    def add(self, number: int, gradient: Tensor, piece: Tensor) -> None:
        """The first pass of the backward: add up a piece's gradients."""
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            image(gradient), image(piece), self.weight, None, None, self.mean, self.inverse, True, self.eps,
            [False, True, True],
        )  # fmt: skip
        self.sums[number] = of_weight, of_bias

    def summed(self) -> tuple[Tensor, Tensor]:
        """Gradients of weight and bias, once all pieces were added; `towards` needs them."""
        weight, bias = zip(*(self.sums[number] for number in sorted(self.sums)), strict=True)
        return self.given(added(weight), added(bias))

    def given(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of weight and bias: the input's is level + x * slope + gradient * scale."""
        self.slope = -self.scale * self.inverse * weight / self.count
        self.level = -self.scale * bias / self.count - self.slope * self.mean
        return weight, bias

    def towards(self, gradient: Tensor, piece: Tensor, out: Tensor) -> Tensor:
        """The second pass: the gradient of the norm's input."""
        return torch.addcmul(self.level, piece, self.slope, out=out).addcmul_(gradient, self.scale)


def added(parts: Sequence[Tensor]) -> Tensor:
    """The sum of the parts of all pieces."""
    return torch.stack(list(parts)).sum(0)
