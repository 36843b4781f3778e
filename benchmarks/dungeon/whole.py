"""Whole dungeons of several room samplers, and mission graphs beside those of the originals.

Each dungeon is checked twice: its certificate by the recipe's rules, and its tiles by the brute-force walk of the
tests, which shares no code with the recipe.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tests.recipes.dungeon import brute

import outlast
from outlast_recipes.dungeon.certificate import check_certificate
from outlast_recipes.dungeon.dungeon import Dungeon, conditions
from outlast_recipes.dungeon.dungeon_file import to_json
from outlast_recipes.dungeon.generate import Sampler, generate
from outlast_recipes.dungeon.grammar import MOST_ROOMS, grow, most_keys
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.rules import Holding, Pair, Rules, pair
from outlast_recipes.dungeon.solver import locks_that_matter
from outlast_recipes.dungeon.tiles import STAIR, doors_of

LOCKS = frozenset({"k", "K", "I", "S", "S1", "b"})
BINS = 5
"""Of the histograms that are compared: there are nine originals."""


def dungeons(samplers: Mapping[str, Sampler], number: int, *, rooms: int = 20, keys: int = 3) -> list[dict[str, Any]]:
    """A row for each sampler: `number` dungeons, of the seeds from 0.

    Seconds are those of the processor, so that other programs beside this one do not count.
    """
    found = []
    for name, sampler in samplers.items():
        sampler.sample([], 0)
        made, seconds = [], []
        for seed in range(number):
            begin = time.process_time()
            made.append(generate(sampler, rooms, keys, seed))
            seconds.append(time.process_time() - begin)
        matter = [locks_that_matter(each.graph) for each in made]
        found.append(
            {
                "rooms_by": name,
                "dungeons": number,
                "solved_by_certificate": statistics.mean(map(_certified, made)),
                "solved_by_brute_force": statistics.mean(
                    brute.tiles_can_be_finished(json.loads(to_json(each))) for each in made
                ),
                "locks_that_matter": sum(one for one, _ in matter) / sum(all_ for _, all_ in matter),
                "as_asked": statistics.mean(_as_asked(each, rooms, keys) for each in made),
                "tiles_repaired_a_room": statistics.mean(each.about["repaired_tiles"] for each in made) / rooms,
                "median_seconds": statistics.median(seconds),
                "largest_seconds": max(seconds),
            }
        )
    return found


def missions(originals: Sequence[MissionGraph], each: int) -> dict[str, dict[str, float]]:
    """How far missions by grammar are from the originals: Jensen-Shannon divergences of their statistics, 0 to 1.

    Args:
        originals: mission graphs.
        each: missions that are grown for each original, with its rooms and small keys as far as the grammar has them.

    Returns:
        Name of a statistic -> its divergence, and that of as many grown missions as there are originals from all
        grown ones (mean of 200 draws), which is what chance alone makes. And both means.
    """
    asked = [(min(len(graph.nodes), MOST_ROOMS), len(graph.having("k"))) for graph in originals]
    grown = [grow(rooms, min(keys, most_keys(rooms)), 0.6, seed) for rooms, keys in asked for seed in range(each)]
    random = np.random.default_rng(0)
    found = {}
    for name, statistic in STATISTICS.items():
        real, ours = (np.array([statistic(graph) for graph in graphs]) for graphs in (originals, grown))
        edges = np.histogram_bin_edges(np.concatenate([real, ours]), BINS)
        chance = [_divergence(random.choice(ours, len(real)), ours, edges) for _ in range(200)]
        found[name] = {
            "divergence": _divergence(real, ours, edges),
            "by_chance": float(np.mean(chance)),
            "originals": float(real.mean()),
            "grown": float(ours.mean()),
        }
    return found


def _locks(graph: MissionGraph) -> float:
    return sum(bool(labels & LOCKS) for labels in graph.pairs.values()) / len(graph.nodes)


def shortest_walk(graph: MissionGraph) -> int:
    """Passages on the shortest walk from the start to a goal, by trying all. A certificate may be longer: it spends the
    fewest keys, and takes what it needs as soon as it can.

    Raises:
        RuntimeError: there is none.
    """
    rules, goals = Rules(graph), frozenset(graph.goals)
    begin = graph.start, frozenset({graph.start}) & rules.useful, frozenset[Pair]()
    steps = {begin: 0}
    queue = deque([begin])
    while queue:
        state = room, visited, opened = queue.popleft()
        if room in goals:
            return steps[state]
        held = Holding(visited, opened)
        for edge in graph.leaving[room]:
            reason, after = rules.reason(edge, held), held
            if reason == "k" and rules.keys(held) > 0:
                after = Holding(visited, opened | {pair(edge)})
                reason = rules.reason(edge, after)
            following = edge.target, visited | (rules.useful & {edge.target}), after.opened
            if reason is None and following not in steps:
                steps[following] = steps[state] + 1
                queue.append(following)
    raise RuntimeError("A mission graph cannot be finished.")


def _path(graph: MissionGraph) -> float:
    return shortest_walk(graph) / len(graph.nodes)


def _leniency(graph: MissionGraph) -> float:
    return sum(not labels & {"e", "m", "b"} for labels in graph.nodes.values()) / len(graph.nodes)


STATISTICS: dict[str, Callable[[MissionGraph], float]] = {
    "rooms": lambda graph: float(len(graph.nodes)),
    "small keys": lambda graph: float(len(graph.having("k"))),
    "locks a room": _locks,
    "steps a room": _path,
    "rooms without monsters": _leniency,
}


def _divergence(one: np.ndarray, other: np.ndarray, edges: np.ndarray) -> float:
    """Jensen-Shannon divergence of two sets of numbers as histograms, with logarithms of base 2."""
    p, q = (np.histogram(values, edges)[0] / len(values) for values in (one, other))
    middle = (p + q) / 2
    return float(sum((part[part > 0] * np.log2(part[part > 0] / middle[part > 0])).sum() for part in (p, q)) / 2)


def _certified(dungeon: Dungeon) -> bool:
    try:
        check_certificate(dungeon.graph, dungeon.certificate)
    except outlast.DataError:
        return False
    return True


def _as_asked(dungeon: Dungeon, rooms: int, keys: int) -> bool:
    return (
        len(dungeon.rooms) == rooms
        and len(dungeon.graph.having("k")) == keys
        and all(
            (doors_of(dungeon.rooms[name]), int((dungeon.rooms[name] == STAIR).sum())) == (each.doors, each.stairs)
            for name, each in conditions(dungeon.graph, dungeon.layout).items()
        )
    )
