"""Differences between agents: division of labour, specialists, groups, heredity, diversity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from outlast_recipes.emergence.nulls import NOTHING, Finding, Floats, against


def division_of_labour(
    table: NDArray[np.int64], surrogates: int, rng: np.random.Generator, *, least: int = 4
) -> Finding:
    """Information of a meal's kind about its eater: mutual information over the entropy of kinds (Gorelick et al. 2004,
    doi 10.1007/s00265-003-0722-2).

    The null distribution preserves the meals of each individual and of each kind (random contingency tables).

    Args:
        table: counts [individuals, kinds].
        surrogates: number of random tables.
        rng: random generator for the tables.
        least: individuals with fewer meals are omitted.
    """
    table = table[table.sum(1) >= least]
    table = table[:, table.sum(0) > 0]
    if table.shape[0] < 3 or table.shape[1] < 2:
        return NOTHING
    model = stats.random_table(table.sum(1), table.sum(0), seed=rng)
    null = np.array([_shared_information(each) for each in model.rvs(size=surrogates)])
    return against(_shared_information(table), null, len(table))


def _shared_information(table: NDArray[np.int64]) -> float:
    """I(row; column) / H(column)."""
    joint = table / table.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    shared = stats.entropy(rows) + stats.entropy(columns) - stats.entropy(joint.ravel())
    return float(shared / stats.entropy(columns))


def extremeness(traits: Floats) -> Floats:
    """Distance of traits f64[..., n] in 0..1 from the middle: mean of (2t - 1)^2 over the last axis, without NaN."""
    return np.nanmean((2 * traits - 1) ** 2, axis=-1)


def specialists(traits: Floats, shadows: Floats) -> Finding:
    """Whether traits are more extreme than in populations with the same births and deaths but random parents.

    Args:
        traits: traits of the living agents, f64[n].
        shadows: traits of the neutral shadows, f64[S, n]; see `trackers.Shadow`.
    """
    if len(traits) < 4:
        return NOTHING
    return against(float(extremeness(traits)), extremeness(shadows), len(traits))


def clusters(
    points: Floats, surrogates: int, rng: np.random.Generator, *, most: int = 4
) -> tuple[NDArray[np.int64], Finding]:
    """Groups of points f64[n, d], compared with a Gaussian of the same covariance.

    The statistic is the best silhouette of k-means with 2 to `most` groups, also for each surrogate.

    Returns:
        The group of each point (all 0 if none was detected), and the finding.
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
    """Share of children in the group of their parent.

    The null distribution permutes the groups of children within each world, because parents and children eat the food
    of their world.

    Args:
        own: group of each child, i64[n].
        parents: group of its parent, i64[n].
        worlds: its world, i64[n].
        surrogates: number of permutations.
        rng: random generator for the permutations.
    """
    if len(own) < 8 or len(set(own)) < 2:
        return NOTHING
    order = np.argsort(worlds, kind="stable")
    own, parents, worlds = own[order], parents[order], worlds[order]
    null = [np.mean(own[np.lexsort((rng.random(len(own)), worlds))] == parents) for _ in range(surrogates)]
    return against(float(np.mean(own == parents)), np.array(null), len(own))


def behavioural_diversity(chances: Floats) -> float:
    """Mean Jensen-Shannon distance (bits, 0..1) between the action distributions of pairs f64[agents, probes, actions].

    The categorical form of System Neural Diversity (Bettini et al., JMLR 2025). It has no null distribution: compare it
    between runs.
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
    """Mean distance between genomes f64[n, G], relative to the distance that mutations and founders alone give.

    The latter is sqrt(2 G (founders^2 + generations sigma^2)), for standard deviations of a founder's weights and of a
    mutation. The result is NaN if it is 0. A value near or below 1 means drift or common descent. The ratio is
    descriptive, not a test.
    """
    variance = founders**2 + max(float(np.mean(generation)), 0.0) * sigma**2
    expected = math.sqrt(2 * variance * genes.shape[1])
    if len(genes) < 2 or not expected:
        return math.nan
    centred = genes - genes.mean(0)
    return math.sqrt(2 * float((centred**2).sum()) / (len(genes) - 1)) / expected
