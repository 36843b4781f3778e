"""What can be seen in a population, each value beside what chance alone gives. "Not detected" is a normal answer.

A metric returns a `Finding`: the value, the mean of its null distribution, the p-value by rank, and how many things it was reckoned from. The
nulls keep what is uninteresting (how long a life was, how often a move is made, how slowly a field changes) and break what is asked about.
`python -m benchmarks.emergence calibration` counts false positives on noise and detections of planted truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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
        n: things it was reckoned from; 0 when there were too few to say anything, and then p is 1.
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


# specialists --------------------------------------------------------------------------------------------------------


def division_of_labour(
    table: NDArray[np.int64], surrogates: int, rng: np.random.Generator, *, least: int = 4
) -> Finding:
    """How much a meal's kind tells of who ate it: mutual information over the entropy of kinds (Gorelick et al. 2004, doi 10.1007/s00265-003-0722-2).

    The null keeps how much each individual ate and how much of each kind was eaten (random contingency tables).

    Args:
        table: counts [individuals, kinds].
        surrogates: random tables.
        rng: for them.
        least: individuals that ate less are left out.
    """
    table = table[table.sum(1) >= least]
    table = table[:, table.sum(0) > 0]
    if table.shape[0] < 3 or table.shape[1] < 2:
        return NOTHING
    model = stats.random_table(table.sum(1), table.sum(0), seed=rng)
    null = np.array([_told(each) for each in model.rvs(size=surrogates)])
    return against(_told(table), null, len(table))


def _told(table: NDArray[np.int64]) -> float:
    """I(row; column) / H(column)."""
    joint = table / table.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    shared = stats.entropy(rows) + stats.entropy(columns) - stats.entropy(joint.ravel())
    return float(shared / stats.entropy(columns))


def extremeness(traits: Floats) -> Floats:
    """How far traits f64[..., n] in 0..1 are from the middle, mean of (2t - 1)^2 over the last axis; NaN are left out."""
    return np.nanmean((2 * traits - 1) ** 2, axis=-1)


def specialists(traits: Floats, shadows: Floats) -> Finding:
    """Whether traits are at the ends more than in populations with the same births and deaths whose parents were drawn by lot.

    Args:
        traits: of the living, f64[n].
        shadows: of the neutral shadows, f64[S, n]; see `trackers.Shadow`.
    """
    if len(traits) < 4:
        return NOTHING
    return against(float(extremeness(traits)), extremeness(shadows), len(traits))


def clusters(
    points: Floats, surrogates: int, rng: np.random.Generator, *, most: int = 4
) -> tuple[NDArray[np.int64], Finding]:
    """Groups of points f64[n, d] that no single Gaussian cloud of the same covariance shows.

    k-means for 2 to `most` groups; the statistic is the best silhouette, and so it is for each surrogate.

    Returns:
        The group of each point (all 0 when nothing was detected), and the finding.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    one: NDArray[np.int64] = np.zeros(len(points), np.int64)
    if len(points) < 4 * most:
        return one, NOTHING
    spread = points.std(0)
    points = points[:, spread > 1e-9] / spread[spread > 1e-9]
    if not points.shape[1]:
        return one, NOTHING

    def best(cloud: Floats) -> tuple[float, NDArray[np.int64]]:
        found = (-1.0, one)
        for count in range(2, most + 1):
            labels = KMeans(count, n_init=2, random_state=0).fit_predict(cloud)
            if len(set(labels)) > 1:
                found = max(found, (float(silhouette_score(cloud, labels)), labels), key=lambda each: each[0])
        return found

    value, labels = best(points)
    covariance = np.atleast_2d(np.cov(points.T))
    null = [
        best(rng.multivariate_normal(np.zeros(points.shape[1]), covariance, len(points), method="eigh"))[0]
        for _ in range(surrogates)
    ]
    finding = against(value, np.array(null), len(points))
    return (labels.astype(np.int64) if finding.detected else one), finding


def heredity(
    own: NDArray[np.int64],
    parents: NDArray[np.int64],
    worlds: NDArray[np.int64],
    surrogates: int,
    rng: np.random.Generator,
) -> Finding:
    """How often a child is in its parent's group; by chance: with the groups of the children of each world exchanged at random.

    Within worlds, because parent and child eat what their world has.

    Args:
        own: group of each child, i64[n].
        parents: group of its parent, i64[n].
        worlds: where it lives, i64[n].
        surrogates: exchanges.
        rng: for them.
    """
    if len(own) < 8 or len(set(own)) < 2:
        return NOTHING
    order = np.argsort(worlds, kind="stable")
    own, parents, worlds = own[order], parents[order], worlds[order]
    null = [np.mean(own[np.lexsort((rng.random(len(own)), worlds))] == parents) for _ in range(surrogates)]
    return against(float(np.mean(own == parents)), np.array(null), len(own))


def behavioural_diversity(chances: Floats) -> float:
    """Mean Jensen-Shannon distance (bits, 0..1) between the action distributions of pairs f64[agents, probes, actions].

    The categorical form of System Neural Diversity (Bettini et al., JMLR 2025); no claim goes with it: compare it between runs.
    """
    count = len(chances)
    if count < 2:
        return 0.0
    own = _entropy(chances)
    total = 0.0
    for first in range(count - 1):
        middle = (chances[first] + chances[first + 1 :]) / 2
        divergence = _entropy(middle) - (own[first] + own[first + 1 :]) / 2
        total += float(np.sqrt(np.maximum(divergence, 0)).mean(1).sum())
    return total / (count * (count - 1) / 2)


def _entropy(chances: Floats) -> Floats:
    return -(chances * np.log2(np.maximum(chances, 1e-12))).sum(-1)


def divergence(genes: Floats, generation: Floats, sigma: float, founders: float = 0.0) -> float:
    """Mean distance between genomes f64[n, G] over what mutation and unlike founders alone give; NaN where neither gives any.

    That is sqrt(2 G (founders^2 + generations sigma^2)), for standard deviations of a founder's weights and of a mutation.

    Near or below 1: drift, or shared descent. It is a ratio to look at, and no test.
    """
    variance = founders**2 + max(float(np.mean(generation)), 0.0) * sigma**2
    expected = math.sqrt(2 * variance * genes.shape[1])
    if len(genes) < 2 or not expected:
        return math.nan
    centred = genes - genes.mean(0)
    return math.sqrt(2 * float((centred**2).sum()) / (len(genes) - 1)) / expected


# who follows whom ---------------------------------------------------------------------------------------------------


def transfer_entropy(source: NDArray[np.int64], target: NDArray[np.int64], symbols: int) -> float:
    """Bits that the source's last symbol tells of the target's next one beyond the target's own last (Schreiber 2000), plug-in."""
    then, before, by = target[1:], target[:-1], source[:-1]
    joint = np.bincount((then * symbols + before) * symbols + by, minlength=symbols**3).reshape(
        symbols, symbols, symbols
    )
    share = joint / joint.sum()
    return float(
        stats.entropy(share.sum(2).ravel(), base=2)
        - stats.entropy(share.sum((0, 2)), base=2)
        - stats.entropy(share.ravel(), base=2)
        + stats.entropy(share.sum(0).ravel(), base=2)
    )


def imitation(
    moves: NDArray[np.int64], pairs: Sequence[tuple[int, int]], surrogates: int, rng: np.random.Generator
) -> Finding:
    """Mean transfer entropy over pairs of columns of moves i64[T, n]; by chance: with sources turned in time by at least a tenth of T.

    T of 512 and more: shorter ones hold too little of 5 x 5 x 5 counts.
    """
    length = len(moves)
    if not pairs or length < 100:
        return NOTHING
    symbols = int(moves.max()) + 1

    def mean(shifts: NDArray[np.int64]) -> float:
        return float(
            np.mean(
                [
                    transfer_entropy(np.roll(moves[:, source], shift), moves[:, target], symbols)
                    for (source, target), shift in zip(pairs, shifts, strict=True)
                ]
            )
        )

    value = mean(np.zeros(len(pairs), np.int64))
    null = np.array([mean(rng.integers(length // 10, length - length // 10, len(pairs))) for _ in range(surrogates)])
    return against(value, null, len(pairs))


def coupled_pairs(
    moves: NDArray[np.int64], pairs: Sequence[tuple[int, int]], surrogates: int, rng: np.random.Generator
) -> list[tuple[tuple[int, int], Finding]]:
    """The pairs that are coupled one by one, with false discoveries held at 5 % over all of them (Benjamini and Hochberg)."""
    each = [(pair, imitation(moves, [pair], surrogates, rng)) for pair in pairs]
    if not each:
        return []
    kept = stats.false_discovery_control([finding.p for _, finding in each]) <= LEVEL
    return [found for found, keep in zip(each, kept, strict=True) if keep]


# the field ----------------------------------------------------------------------------------------------------------


def field_tells(field: Floats, present: NDArray[np.bool_], surrogates: int, rng: np.random.Generator) -> Finding:
    """Bits that a cell's field tells of whether something is there; by chance: with the field moved by random offsets over the borders.

    Args:
        field: f64[W, H, H], one channel.
        present: bool[W, H, H], such as food or agents.
        surrogates: offsets.
        rng: for them.
    """
    if present.sum() < 5 or np.ptp(field) < 1e-9:
        return NOTHING
    edges = np.unique(np.quantile(field, [0.25, 0.5, 0.75]))
    level = np.digitize(field, edges)
    side = field.shape[1]

    def shifted() -> NDArray[np.int64]:
        offsets = rng.integers(0, side, (len(level), 2))
        return np.stack([np.roll(each, tuple(by), (0, 1)) for each, by in zip(level, offsets, strict=True)])

    def bits(level: NDArray[np.int64]) -> float:
        table = np.bincount((level * 2 + present).ravel(), minlength=8).reshape(-1, 2) / level.size
        parts = (table.ravel(), table.sum(0), table.sum(1))
        whole, there, levels = (float(stats.entropy(part, base=2)) for part in parts)
        return there + levels - whole

    return against(bits(level), np.array([bits(shifted()) for _ in range(surrogates)]), int(present.sum()))


# time ---------------------------------------------------------------------------------------------------------------


def change_point(series: Floats, rng: np.random.Generator, *, surrogates: int = 400) -> tuple[int, Finding]:
    """Where a series changed its course, and whether it did: CUSUM of its first differences, held against block bootstraps of them.

    Works on differences, because almost everything in a population drifts, and a drift is no event. Blocks keep how differences follow one another.

    Returns:
        The index after which the course is another, and the finding.
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


# over seeds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, and from how many runs."""

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
