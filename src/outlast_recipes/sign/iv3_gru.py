"""The original's two GRUs for image features, and what they lack: more than 12 units, both directions, attention.

Own code after the figures in seed-systems.md (004). Sequences are not packed, because an export cannot pack: the second
direction reads each clip reversed within its length, so no state has seen what comes after a clip.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from outlast_recipes.sign.batch import FEATURES
from outlast_recipes.sign.heads import Head
from outlast_recipes.sign.layers import AttentionPooling, masked
from outlast_recipes.sign.network import SignNetwork


class InceptionV3GRU(SignNetwork):
    """Two GRUs over image features.

    Args:
        head: of `units` channels.
        features: of a frame.
        hidden: units of the first and the second GRU.
        bidirectional: whether clips are also read from their ends.
        summary: attention over the second GRU's states, or its last state.
        input_norm: whether the features of each frame are normalised, and dropped out.
        dropout: rate.
    """

    in_pieces = False  # each frame waits for the one before: many clips at a time cost less

    def __init__(
        self,
        head: Head,
        *,
        features: int = FEATURES,
        hidden: tuple[int, int] = (256, 256),
        bidirectional: bool = True,
        summary: Literal["attention", "last"] = "attention",
        input_norm: bool = True,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        first, second = (units(each, bidirectional=bidirectional) for each in hidden)
        self.before = nn.Sequential(nn.LayerNorm(features), nn.Dropout(dropout)) if input_norm else nn.Identity()
        self.first = BothWays(features, hidden[0], bidirectional=bidirectional)
        self.second = BothWays(first, hidden[1], bidirectional=bidirectional)
        self.drop = nn.Dropout(dropout)
        self.pool = AttentionPooling(second) if summary == "attention" else None
        self.head = head

    def encoded(self, *inputs: Tensor) -> Tensor:
        features, lengths = inputs
        x = masked(self.before(features), lengths)
        return self.drop(self.second(self.drop(self.first(x, lengths)), lengths))

    def pooled(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        if self.pool is not None:
            return self.pool(encoded, lengths)
        return self.second.last(encoded, lengths)


class BothWays(nn.Module):
    """A GRU, and a second one that reads each clip from its end.

    Args:
        features: of a frame.
        hidden: units of each direction.
        bidirectional: whether there is the second one.
    """

    def __init__(self, features: int, hidden: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.hidden = hidden
        self.forwards = _gru(features, hidden)
        self.backwards = _gru(features, hidden) if bidirectional else None

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, units), 0 after each clip's length."""
        states = self.forwards(x)[0]
        if self.backwards is not None:
            other = backwards(self.backwards(backwards(x, lengths))[0], lengths)
            states = torch.cat([states, other], 2)
        return masked(states, lengths)

    def last(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, units) -> (B, units): the state of each direction when it has read the clip."""
        at = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.hidden)
        ends = [states[..., : self.hidden].gather(1, at)[:, 0]]
        if self.backwards is not None:
            ends.append(states[:, 0, self.hidden :])
        return torch.cat(ends, 1)


def units(hidden: int, *, bidirectional: bool) -> int:
    """Channels of a GRU of so many units."""
    return hidden * (2 if bidirectional else 1)


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C) with each clip reversed within its length; frames after it are copies of the clip's first."""
    at = (lengths[:, None] - 1 - torch.arange(x.shape[1], device=x.device)).clamp(min=0)
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))


def _gru(features: int, hidden: int) -> nn.GRU:
    """Weights as the original's: Xavier for inputs, orthogonal for states, no bias."""
    made = nn.GRU(features, hidden, batch_first=True)
    for name, parameter in made.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        else:
            (nn.init.xavier_uniform_ if "weight_ih" in name else nn.init.orthogonal_)(parameter)
    return made
