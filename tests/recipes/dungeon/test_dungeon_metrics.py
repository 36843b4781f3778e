"""Metrics of generated rooms, against plain loops and known cases."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

import outlast
from outlast_recipes.dungeon.corpus import load_corpus, split, stack
from outlast_recipes.dungeon.metrics import (
    EPSILON,
    diversity,
    measure,
    nearest,
    pattern_divergence,
    with_mirror_images,
)
from outlast_recipes.dungeon.tiles import FLOOR, MONSTER
from tests import messages


def rooms(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 10, (number, 16, 11), np.uint8)


def by_loops(first: np.ndarray, second: np.ndarray, size: int, weight: float) -> float:
    def counted(many: np.ndarray) -> Counter[bytes]:
        return Counter(
            room[row : row + size, column : column + size].tobytes()
            for room in many
            for row in range(17 - size)
            for column in range(12 - size)
        )

    def one_way(p: Counter[bytes], q: Counter[bytes]) -> float:
        def probability(counts: Counter[bytes], pattern: bytes) -> float:
            return (counts[pattern] + EPSILON) / ((counts.total() + EPSILON) * (1 + EPSILON))

        return sum(probability(p, each) * math.log(probability(p, each) / probability(q, each)) for each in p)

    p, q = counted(first), counted(second)
    return weight * one_way(p, q) + (1 - weight) * one_way(q, p)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_the_divergence_is_that_of_the_paper(size: int, weight: float) -> None:
    first, second = stack(load_corpus(None).rooms)[:20], stack(load_corpus(None).rooms)[20:50]
    found = pattern_divergence(first, second, size, weight=weight)
    assert found == pytest.approx(by_loops(first, second, size, weight))
    assert found > 0
    assert pattern_divergence(first, first, size) == 0
    assert pattern_divergence(first, second, size) == pytest.approx(pattern_divergence(second, first, size))


def test_larger_patterns_tell_more_apart() -> None:
    real = stack(load_corpus(None).rooms)
    mixed = np.random.default_rng(1).permuted(real.reshape(len(real), -1), axis=1).reshape(real.shape)
    found = [pattern_divergence(mixed, real, size) for size in (1, 2, 3, 4)]
    assert found[0] == pytest.approx(0), "the same tiles"
    assert found == sorted(found)


def test_the_nearest_room() -> None:
    train = rooms(150)
    changed = train[[5, 140]].copy()
    changed[0, 3, 3] += 1
    changed[1, :2] += 1
    assert nearest(np.concatenate([changed, train[:1]]), train) == pytest.approx([1 / 176, 22 / 176, 0])
    assert nearest(train, train).tolist() == [0] * 150


def test_diversity_is_the_mean_of_all_pairs() -> None:
    some = rooms(7)
    expected = np.mean([(one != other).mean() for one, other in itertools.combinations(some, 2)])
    assert diversity(some) == pytest.approx(expected)
    assert diversity(np.repeat(some[:1], 3, 0)) == 0


def test_mirrored_copies_are_copies() -> None:
    train, _, test = (stack(part) for part in split(load_corpus(None)))
    assert len(with_mirror_images(train)) == 4 * len(train)
    generated = np.concatenate([train[:3, ::-1], train[3:4, :, ::-1], test[:6]])
    found = measure(generated, train, test)
    assert (found.copies, found.novel) == (pytest.approx(0.4), pytest.approx(0.6))
    assert (found.rooms, found.valid, found.strict, found.novel_valid) == (10, 1, 1, pytest.approx(0.6))
    assert 0 < found.distance < found.diversity


def test_valid_and_novel_are_counted_together() -> None:
    train, _, test = (stack(part) for part in split(load_corpus(None)))
    broken = test[:4].copy()
    broken[:, 0, 0] = FLOOR
    found = measure(np.concatenate([train[:2], test[:2], broken]), train, test)
    assert (found.valid, found.novel, found.novel_valid) == (0.5, 0.75, 0.25)


def test_one_tile_is_enough_to_be_novel() -> None:
    train = stack(load_corpus(None).rooms)
    one = train[:2].copy()
    one[0, 6, 5] = MONSTER if one[0, 6, 5] != MONSTER else FLOOR
    found = measure(one, train, train)
    assert (found.novel, found.new_inside) == (0.5, 0.5)


def test_a_known_room_with_other_doors_is_novel_but_not_new_inside() -> None:
    train = stack(load_corpus(None).rooms)
    other = train[:2].copy()
    other[:, 0, 0] = FLOOR
    found = measure(other, train, train)
    assert (found.novel, found.new_inside) == (1, 0)


def test_empty_sets_are_refused() -> None:
    none = rooms(0)
    for call in (
        lambda: pattern_divergence(none, rooms(2), 2),
        lambda: nearest(rooms(2), none),
        lambda: measure(none, rooms(2), rooms(2)),
    ):
        with messages.raises(outlast.DataError, "dungeon/metrics-of-nothing"):
            call()
    with messages.raises(outlast.DataError, "dungeon/diversity-of-one", number=1):
        diversity(rooms(1))
