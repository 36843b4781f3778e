"""How good a network is: top-1 and top-5, by class and who is taken for whom, what it weighs and how long it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from outlast_recipes.common.training import several_ranks, sum_of_ranks
from outlast_recipes.skeleton.augment import centre
from outlast_recipes.skeleton.layouts import Layout
from outlast_recipes.skeleton.views import Part

BATCH = 128


@torch.no_grad()
def logits_of(model: nn.Module, part: Part, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) of a part, on the centred views."""
    logits, labels = [], []
    for batch in part.batches(BATCH):
        logits.append(model(*centre(batch, frames, device)).float().cpu())
        labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)


def accuracies(model: nn.Module, part: Part, frames: int, device: torch.device) -> tuple[float, float]:
    """Share of clips whose class is the likeliest, and among the five likeliest. Several ranks share the work; all call it."""
    rank, count = (distributed.get_rank(), distributed.get_world_size()) if several_ranks() else (0, 1)
    own = Part(part.store, part.numbers[rank::count])
    right = torch.zeros(2, device=device)
    if len(own):
        logits, labels = logits_of(model, own, frames, device)
        right += torch.tensor([hits(logits, labels, most) for most in (1, 5)], device=device)
    one, five = (sum_of_ranks(right) / max(1, len(part))).tolist()
    return one, five


def hits(logits: Tensor, labels: Tensor, most: int) -> float:
    """How many labels are among the likeliest classes."""
    likeliest = logits.topk(min(most, logits.shape[1]), dim=1).indices
    return float((likeliest == labels[:, None]).any(1).sum())


def confusion(logits: Tensor, labels: Tensor) -> NDArray[np.int64]:
    """(C, C): how many clips of a class (row) were taken for a class (column)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy()


def class_table(counts: NDArray[np.int64], names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class: how many clips, recall, precision, and the class that it is most often taken for."""
    rows = []
    for label, name in enumerate(names):
        total, right, taken = int(counts[label].sum()), int(counts[label, label]), int(counts[:, label].sum())
        wrong = counts[label].copy()
        wrong[label] = 0
        most = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "clips": total,
                "recall": right / total if total else None,
                "precision": right / taken if taken else None,
                "taken for": f"{names[most]} ({wrong[most]})" if wrong[most] else "",
            }
        )
    return rows


def draw_confusion(counts: NDArray[np.int64], names: Sequence[str], path: Path, title: str) -> None:
    """A picture of who is taken for whom, each row as shares of its class."""
    from matplotlib.figure import Figure

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(names) <= 30
    side = max(5.0, 0.38 * len(names)) if few else 11.0
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="taken for", ylabel="is")
    if few:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        for row, column in zip(*np.nonzero(counts), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(picture, label="share of the class", shrink=0.7)
    figure.savefig(path, dpi=120, format="png")


@torch.no_grad()
def latency(model: nn.Module, layout: Layout, frames: int, batch: int = 1, bodies: int = 2, rounds: int = 15) -> float:
    """Seconds that one forward pass takes on the model's device: the median of several, after two that do not count."""
    inputs = example(layout, frames, batch, next(model.parameters()).device, bodies)
    times = []
    for _ in range(rounds + 2):
        begin = time.perf_counter()
        model(*inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])


def example(
    layout: Layout, frames: int, batch: int = 1, device: torch.device | str = "cpu", bodies: int = 2
) -> tuple[Tensor, Tensor]:
    """Random positions (batch, frames, 2, V, 3) and a mask of so many bodies, for measuring and tracing."""
    mask = torch.zeros(batch, frames, 2, dtype=torch.bool, device=device)
    mask[:, :, :bodies] = True
    return torch.randn(batch, frames, 2, layout.joints, 3, device=device) * mask[..., None, None], mask
