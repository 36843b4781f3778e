"""Classification metrics: top-k accuracy, the confusion matrix, and a table of classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outlast_recipes.common.ranks import sum_of_ranks


def correct(logits: Tensor, labels: Tensor, k: int) -> int:
    """The number of labels (N,) among the k largest logits (N, C)."""
    largest = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return int((largest == labels[:, None]).any(1).sum())


def topk_accuracy(
    outputs: tuple[Tensor, Tensor] | None, total: int, device: torch.device, ks: Sequence[int] = (1, 5)
) -> list[float]:
    """Top-k accuracy over all ranks; all of them call it.

    Args:
        outputs: this rank's logits (N, C) and labels (N,); None when it has none.
        total: samples of all ranks.
        device: device on which ranks exchange numbers.
        ks: for which k.

    Returns:
        For each k the share of samples whose label is among the k largest logits; 0 when there are no samples.
    """
    counts = torch.zeros(len(ks), device=device)
    if outputs is not None:
        counts += torch.tensor([float(correct(*outputs, k)) for k in ks], device=device)
    accuracies: list[float] = (sum_of_ranks(counts) / max(1, total)).tolist()
    return accuracies


def confusion_matrix(logits: Tensor, labels: Tensor) -> NDArray[np.int64]:
    """(C, C): how many samples of a class (row) were predicted as a class (column)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).numpy()


def class_table(matrix: NDArray[np.int64], names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class its samples, recall, precision, and the class that it is most often confused with.

    Args:
        matrix: (C, C), see `confusion_matrix`.
        names: names of the C classes.
    """
    rows = []
    for label, name in enumerate(names):
        total, right, predicted = int(matrix[label].sum()), int(matrix[label, label]), int(matrix[:, label].sum())
        wrong = matrix[label].copy()
        wrong[label] = 0
        most = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "clips": total,
                "recall": right / total if total else None,
                "precision": right / predicted if predicted else None,
                "confused with": f"{names[most]} ({wrong[most]})" if wrong[most] else "",
            }
        )
    return rows


def class_lines(rows: Iterable[dict[str, Any]]) -> Iterable[str]:
    """A class table as lines for the terminal."""
    yield f"{'class':32}{'clips':>7}{'recall':>9}{'precision':>11}  most often confused with"
    for row in rows:
        recall, precision = (f"{row[name]:.1%}" if row[name] is not None else "-" for name in ("recall", "precision"))
        yield f"{row['class'][:31]:32}{row['clips']:>7}{recall:>9}{precision:>11}  {row['confused with']}"


def plot_confusion_matrix(matrix: NDArray[np.int64], names: Sequence[str], path: Path, title: str) -> None:
    """Draw a confusion matrix as PNG, each row as shares of its class; up to 30 classes are named and counted in it."""
    from matplotlib.figure import Figure

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = len(names) <= 30
    side = max(5.0, 0.38 * len(names)) if named else 11.0
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted class", ylabel="class")
    if named:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        for row, column in zip(*np.nonzero(matrix), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(picture, label="share of the class", shrink=0.7)
    figure.savefig(path, dpi=120, format="png")
