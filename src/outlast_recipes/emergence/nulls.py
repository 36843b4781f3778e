"""A value compared with a null distribution. "Not detected" is a normal answer.

A null distribution keeps what is uninteresting (how long a life was, how often a move is made, how slowly a field
changes) and breaks what is asked about. `python -m benchmarks.emergence calibration` counts false positives on noise
and detections of planted truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
LEVEL = 0.05
"""A finding is a detection when its p-value is at most this."""


@dataclass(frozen=True)
class Finding:
    """A value and what chance gives.

    Attributes:
        value: the statistic.
        null: its mean under the null hypothesis.
        p: share of null values that are as large, the value itself counted among them.
        n: things it was estimated from; 0 when there were too few to say anything, and then p is 1.
    """

    value: float
    null: float
    p: float
    n: int

    @property
    def detected(self) -> bool:
        """Whether it is more than chance."""
        return self.p <= LEVEL

    def __str__(self) -> str:
        if not self.n:
            return "too little to tell"
        words = f"detected (p = {self.p:.3f})" if self.detected else f"not detected (p = {self.p:.2f})"
        return f"{self.value:.4g}, by chance {self.null:.4g}: {words}, n = {self.n}"


NOTHING = Finding(math.nan, math.nan, 1.0, 0)


def against(value: float, null: Floats, n: int) -> Finding:
    """A finding by rank: ties count against it, so a value that the null always has is never found."""
    return Finding(float(value), float(np.mean(null)), float((1 + np.sum(null >= value)) / (1 + len(null))), n)
