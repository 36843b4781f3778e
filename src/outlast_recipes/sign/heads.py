"""From the features of a clip to gloss and category."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_NONE = -1e9  # logit of a category without glosses


class Head(nn.Module):
    """Logits of gloss and category.

    Without `apart` a category's probability is the sum of the probabilities of its glosses, by the log-sum-exp of their
    logits. There are no weights that could contradict the glosses, and the category's loss trains them.

    Args:
        channels: C.
        category_of: category of each gloss; -1 for a gloss that belongs to none.
        categories: number of them.
        dropout: rate.
        hidden: units of a layer between; None: none.
        apart: whether the category has weights of its own, as in the original.
    """

    def __init__(
        self,
        channels: int,
        category_of: Sequence[int],
        categories: int,
        dropout: float,
        *,
        hidden: int | None = None,
        apart: bool = False,
    ) -> None:
        super().__init__()
        self.gloss = _classifier(channels, len(category_of), dropout, hidden)
        self.category = _classifier(channels, categories, dropout, hidden) if apart else None
        members = torch.tensor(category_of)[None, :] == torch.arange(categories)[:, None]
        self.register_buffer("members", members)  # (categories, glosses)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) -> logits of glosses (B, G) and of categories (B, K), in float32."""
        gloss = self.gloss(x).float()
        if self.category is not None:
            return gloss, self.category(x).float()
        return gloss, gloss[:, None, :].masked_fill(~self.members, _NONE).logsumexp(-1)


def _classifier(channels: int, classes: int, dropout: float, hidden: int | None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    if hidden is not None:
        layers += [nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden or channels, classes))
