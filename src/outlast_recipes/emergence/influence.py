"""Measures of influence: of moves on the moves of other agents, and of the field on foraging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from outlast_recipes.emergence.nulls import LEVEL, NOTHING, Finding, Floats, against


def transfer_entropy(source: NDArray[np.int64], target: NDArray[np.int64], symbols: int) -> float:
    """Transfer entropy in bits (Schreiber 2000), plug-in estimate.

    It is the information of the source's last symbol about the target's next one, beyond the target's own last symbol.
    """
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
    """Mean transfer entropy over pairs of columns of moves i64[T, n].

    The null distribution rotates the sources in time by at least a tenth of T. T must be at least 512; shorter series
    have too few samples for 5 x 5 x 5 counts.
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
    """The pairs that are coupled, with a false discovery rate of 5 % over all pairs (Benjamini and Hochberg)."""
    each = [(pair, imitation(moves, [pair], surrogates, rng)) for pair in pairs]
    if not each:
        return []
    kept = stats.false_discovery_control([finding.p for _, finding in each]) <= LEVEL
    return [found for found, keep in zip(each, kept, strict=True) if keep]


def field_effect(field: Floats, present: NDArray[np.bool_], surrogates: int, rng: np.random.Generator) -> Finding:
    """Information in bits of a cell's field about whether something is in the cell.

    The null distribution shifts the field by random offsets, with wrap-around.

    Args:
        field: f64[W, H, H], one channel.
        present: bool[W, H, H], such as food or agents.
        surrogates: number of offsets.
        rng: random generator for the offsets.
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
