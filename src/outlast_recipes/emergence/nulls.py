"""A value compared with a null distribution. "Not detected" is a normal answer.

A null distribution preserves what is not in question (the length of a life, the frequency of a move, the speed at which
a field changes) and destroys the relation in question. `python -m benchmarks.emergence calibration` counts false
positives on noise, and detections of relations that were put into the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
LEVEL = 0.05
"""The largest p-value of a detection."""


@dataclass(frozen=True)
class Finding:
    """A value, compared with its null distribution.

    Attributes:
        value: the statistic.
        null: its mean under the null hypothesis.
        p: share of null values that are at least as large; the value itself is counted as one of them.
        n: sample size; 0 if it is too small for an estimate, and then p is 1.
    """

    value: float
    null: float
    p: float
    n: int

    @property
    def detected(self) -> bool:
        """Whether the value is significant."""
        return self.p <= LEVEL

    def __str__(self) -> str:
        if not self.n:
            return "too few samples"
        words = f"detected (p = {self.p:.3f})" if self.detected else f"not detected (p = {self.p:.2f})"
        return f"{self.value:.4g}, by chance {self.null:.4g}: {words}, n = {self.n}"


NOTHING = Finding(math.nan, math.nan, 1.0, 0)


def against(value: float, null: Floats, n: int) -> Finding:
    """A finding by rank. Ties count as larger, so a value that equals all null values is never significant."""
    return Finding(float(value), float(np.mean(null)), float((1 + np.sum(null >= value)) / (1 + len(null))), n)
