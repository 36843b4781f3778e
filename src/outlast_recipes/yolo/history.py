"""The table of a training: a row for each epoch. It is tracked, so that each epoch is in it once after any resume."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


class History:
    """Means of what was logged in each epoch, and the metrics of its validation.

    Attributes:
        rows: epoch -> name -> value, in the order of the epochs.
    """

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self._counts: dict[str, int] = {}

    def add(self, epoch: int, step: int, values: Mapping[str, Any]) -> None:
        """Take values of a step into the means of its epoch; of the learning rate ("lr") the last one counts."""
        if epoch not in self.rows:
            self._counts = {}
        row = self.rows.setdefault(epoch, {})
        row["step"] = step
        for name, value in values.items():
            number = float(value.detach() if isinstance(value, torch.Tensor) else value)
            if name == "lr" or not math.isfinite(number):
                row[name] = number
                continue
            count = self._counts[name] = self._counts.get(name, 0) + 1
            row[name] = row.get(name, 0.0) + (number - row.get(name, 0.0)) / count

    def validated(self, epoch: int, step: int, metrics: Mapping[str, Any]) -> None:
        """Take the metrics of the validation after an epoch."""
        self.rows.setdefault(epoch, {}).update({name: float(value) for name, value in metrics.items()}, step=step)

    def write(self, target: Path) -> None:
        """Write the table as CSV: epoch and step first."""
        names = dict.fromkeys(["epoch", "step", *(name for row in self.rows.values() for name in row)])
        with target.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(
                {"epoch": epoch, **row, "step": int(row["step"])} for epoch, row in sorted(self.rows.items())
            )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": {str(epoch): dict(row) for epoch, row in self.rows.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = {int(epoch): dict(row) for epoch, row in state["rows"].items()}
        self._counts = dict(state["counts"])
