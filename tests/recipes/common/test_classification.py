"""Metrics of classification."""

from __future__ import annotations

from pathlib import Path

import torch

from outlast_recipes.common.classification import (
    class_lines,
    class_table,
    confusion_matrix,
    correct,
    plot_confusion_matrix,
    topk_accuracy,
)


def test_the_tables_of_an_evaluation() -> None:
    logits = torch.tensor([[3.0, 1, 0], [0, 2, 1], [0, 3, 1], [0, 1, 2.0]])
    labels = torch.tensor([0, 1, 2, 2])
    counts = confusion_matrix(logits, labels)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert (correct(logits, labels, 1), correct(logits, labels, 2), correct(logits, labels, 5)) == (3, 4, 4)
    rows = class_table(counts, ["a", "b", "c"])
    assert [(row["recall"], row["precision"], row["confused with"]) for row in rows] == [
        (1.0, 1.0, ""),
        (1.0, 0.5, ""),
        (0.5, 1.0, "b (1)"),
    ]
    (line,) = [line for line in class_lines(rows) if line.startswith("c ")]
    assert line.split() == ["c", "2", "50.0%", "100.0%", "b", "(1)"]


def test_topk_accuracy_counts_all_samples_of_all_ranks() -> None:
    logits = torch.tensor([[3.0, 1, 0], [0, 2, 1], [0, 3, 1], [0, 1, 2.0]])
    labels = torch.tensor([0, 1, 2, 0])
    cpu = torch.device("cpu")
    assert topk_accuracy((logits, labels), 4, cpu, ks=(1, 2)) == [0.5, 0.75]
    assert topk_accuracy((logits, labels), 8, cpu) == [0.25, 0.5], "this rank has half of the samples"
    assert topk_accuracy(None, 0, cpu) == [0.0, 0.0]


def test_a_confusion_matrix_is_drawn_for_few_and_for_many_classes(tmp_path: Path) -> None:
    for classes in (3, 31):
        path = tmp_path / f"{classes}.png"
        matrix = confusion_matrix(torch.eye(classes), torch.arange(classes))
        plot_confusion_matrix(matrix, [f"class {number}" for number in range(classes)], path, "title")
        assert path.read_bytes().startswith(b"\x89PNG")
