"""The interface of the networks of sign."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from outlast_recipes.sign.heads import Head


class SignNetwork(nn.Module):
    """A network for padded clips: frames are encoded, pooled over time, and classified.

    Its arguments are those of `Batch.inputs`; the last is the clips' lengths (B,).

    Attributes:
        head: classifies what is pooled.
        in_pieces: whether a training on a CPU computes a batch in pieces, whose values stay in its cache.
    """

    head: Head
    in_pieces: ClassVar[bool] = True

    def encoded(self, *inputs: Tensor) -> Tensor:
        """(B, T, C): each frame, as the pooling reads it."""
        raise NotImplementedError

    def pooled(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, C) -> (B, D): each clip."""
        raise NotImplementedError

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of glosses (B, G) and of categories (B, K)."""
        logits: tuple[Tensor, Tensor] = self.head(self.pooled(self.encoded(*inputs), inputs[-1]))
        return logits
