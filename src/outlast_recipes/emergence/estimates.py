"""Statistics of series over time, and of values over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from outlast_recipes.emergence.nulls import NOTHING, Finding, Floats, against


def change_point(series: Floats, rng: np.random.Generator, *, surrogates: int = 400) -> tuple[int, Finding]:
    """The change point of a series, and its significance: CUSUM of its first differences, compared with block
    bootstraps of them.

    It uses differences, because almost every value of a population drifts, and a drift is no event. Blocks preserve the
    autocorrelation of the differences.

    Returns:
        The index after which the trend changes, and the finding.
    """
    steps = np.diff(series[np.isfinite(series)])
    count = len(steps)
    if count < 20 or np.ptp(steps) < 1e-12:
        return 0, NOTHING
    centred = steps - steps.mean()
    length = max(2, round(2 * count ** (1 / 3)))

    def course(steps: Floats) -> Floats:
        return np.abs((steps - steps.mean(-1, keepdims=True)).cumsum(-1))

    starts = rng.integers(0, count, (surrogates, -(-count // length)))
    rows = (starts[..., None] + np.arange(length)).reshape(surrogates, -1)[:, :count] % count
    found = course(centred)
    return int(found.argmax()) + 1, against(float(found.max()), course(centred[rows]).max(-1), count)


@dataclass(frozen=True)
class Interval:
    """An estimate, its 95 % interval, and the number of runs."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def over_seeds(values: Sequence[float], statistic: Callable[..., Floats] | None = None) -> Interval:
    """The interquartile mean of runs with a bootstrapped 95 % interval (Agarwal et al. 2021, arXiv 2108.13264)."""
    each = np.asarray(values, float)
    measure = statistic or (lambda x, axis=-1: stats.trim_mean(x, 0.25, axis=axis))
    value = float(measure(each, axis=-1))
    if len(each) < 3 or np.ptp(each) < 1e-12:
        return Interval(value, float(each.min()), float(each.max()), len(each))
    found = stats.bootstrap((each,), measure, method="percentile", n_resamples=4000, rng=np.random.default_rng(0))
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high), len(each))


def effect_size(treated: Sequence[float], control: Sequence[float]) -> float:
    """Cohen's d of paired runs: the mean difference over the standard deviation of the differences."""
    apart = np.asarray(treated, float) - np.asarray(control, float)
    deviation = apart.std(ddof=1) if len(apart) > 1 else 0.0
    return float(apart.mean() / deviation) if deviation else math.inf * np.sign(apart.mean()) if apart.mean() else 0.0
