"""The model that is saved, started and looped over; imports torch and nothing else, so that a start can be timed."""

from __future__ import annotations

from typing import Any

import torch

LAYERS = 12


def network(nbytes: int, layers: int = LAYERS) -> tuple[Any, Any]:
    """A model whose parameters and Adam moments take about so many bytes."""
    width = int((nbytes / 12 / layers) ** 0.5) // 16 * 16
    blocks = [
        layer
        for _ in range(layers)
        for layer in (torch.nn.Linear(width, width), torch.nn.LayerNorm(width), torch.nn.ReLU())
    ]
    model = torch.nn.Sequential(*blocks)
    return model, torch.optim.AdamW(model.parameters())


def train(model: Any, optimizer: Any, rows: int = 64) -> float:
    """One step."""
    loss = model(torch.ones(rows, model[0].in_features)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
