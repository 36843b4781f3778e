"""Rows of whole dungeons, and divergences of mission graphs."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.dungeon import whole

from outlast_recipes.dungeon.corpus import load_corpus
from outlast_recipes.dungeon.grammar import grow
from outlast_recipes.dungeon.mission import Edge, MissionGraph
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.solver import solve


def test_dungeons_are_checked_and_timed() -> None:
    (row,) = whole.dungeons({"patterns": PatternSampler()}, 2, rooms=8, keys=1)
    assert (row["rooms_by"], row["dungeons"]) == ("patterns", 2)
    assert row["solved_by_certificate"] == row["solved_by_brute_force"] == row["as_asked"] == 1
    assert 0 < row["locks_that_matter"] <= 1
    assert row["tiles_repaired_a_room"] == 0
    assert 0 < row["median_seconds"] <= row["largest_seconds"]


def test_a_dungeon_that_is_not_walked_to_its_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.brute, "tiles_can_be_finished", lambda record: record["about"]["seed"] == 0)
    (row,) = whole.dungeons({"patterns": PatternSampler()}, 2, rooms=6, keys=1)
    assert row["solved_by_brute_force"] == 0.5


def test_statistics_of_missions_are_compared() -> None:
    found = whole.missions(list(load_corpus(None).graphs.values()), 1)
    assert set(found) == set(whole.STATISTICS)
    assert found["rooms"]["divergence"] == pytest.approx(0), "as many rooms as the originals have"
    assert all(0 <= each["divergence"] <= 1 for each in found.values())
    graph = grow(12, 2, 0.6, 0)
    assert whole.STATISTICS["rooms"](graph) == 12
    assert whole.STATISTICS["small keys"](graph) == 2
    assert whole.STATISTICS["steps a room"](graph) == whole.shortest_walk(graph) / 12
    edges = np.array([0.0, 1, 2, 3])
    one, other = np.array([0.5, 0.5, 1.5]), np.array([2.5])
    assert whole._divergence(one, one, edges) == 0
    assert whole._divergence(one, other, edges) == pytest.approx(1)
    half = whole._divergence(np.array([0.5, 1.5]), np.array([0.5]), edges)
    assert half == pytest.approx((0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25) + np.log2(1 / 0.75)) / 2)


def test_the_shortest_walk_is_found() -> None:
    """Behind one lock is a long way, behind the other a short one; the keys are at both sides of the start."""
    nodes = {"0": "s", "1": "k", "2": "", "3": "k", "4": "", "5": "", "6": "t"}
    passages = [("0", "1", ""), ("1", "2", ""), ("2", "3", ""), ("0", "4", "k"), ("4", "5", ""), ("5", "6", ""),
                ("0", "6", "k")]  # fmt: skip
    both = [each for one, other, label in passages for each in ((one, other, label), (other, one, label))]
    graph = MissionGraph(
        {name: frozenset(labels) for name, labels in nodes.items()},
        tuple(Edge(one, other, frozenset(label)) for one, other, label in both),
    )
    assert whole.shortest_walk(graph) == 3  # to 1, back, and through the lock of 6
    for seed in range(10):
        grown = grow(20, 3, 0.6, seed)
        assert whole.shortest_walk(grown) <= len(solve(grown) or ())
    shut = MissionGraph({"0": frozenset("s"), "1": frozenset("t")}, (Edge("0", "1", frozenset("k")),))
    with pytest.raises(RuntimeError, match="cannot be finished"):
        whole.shortest_walk(shut)
