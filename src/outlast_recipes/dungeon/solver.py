"""Whether a mission can be finished: an exact search.

The state is what the player has (`rules.Holding`) and the room. Rooms between which a player can go in both directions
are one: visiting all of them takes nothing away. What remains are decisions that cannot be undone: a key spent, and a
passage without a way back. The search tries all of them, so None means that there is no solution.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import outlast
from outlast_recipes.dungeon.certificate import Certificate, Decision, walked
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.rules import NOTHING, Holding, Rules, pair, together, visit

MOST_STATES = 100_000
"""A search that needs more is given up with an error: the answer would be a guess."""


class _State(NamedTuple):
    """The rooms that a player can visit and come back from, and what the player has after visiting all of them."""

    rooms: frozenset[str]
    held: Holding


def solve(graph: MissionGraph) -> Certificate | None:
    """The steps from the start to a goal, or None if there are none.

    The number of spent keys and of passages without a way back is the smallest one. Rooms that give something are
    visited only if a later step needs it.

    Raises:
        outlast.DataError: the graph has no start, no goal, or needs more than MOST_STATES states.
    """
    search = _Search(graph)
    for state in search.states():
        if search.ends(state):
            return walked(search.rules, search.decided(state))
    return None


def can_get_stuck(graph: MissionGraph) -> bool:
    """Whether a player can waste keys, or take passages without a way back, so that no goal can be reached any more.

    The answer holds for every player if each passage asks for the same in both directions. Otherwise it holds for
    those who do everything in reach before they take a passage without a way back.

    Raises:
        outlast.DataError: as `solve`.
    """
    search = _Search(graph)
    states = list(search.states())
    good = {state for state in states if search.ends(state)}
    before: dict[_State, list[_State]] = {}
    for state in states:
        for following in search.following[state]:
            before.setdefault(following, []).append(state)
    queue = deque(good)
    while queue:
        for earlier in before.get(queue.popleft(), ()):
            if earlier not in good:
                good.add(earlier)
                queue.append(earlier)
    return len(good) < len(states)


def locks_that_matter(graph: MissionGraph) -> tuple[int, int]:
    """How many of the locks (k, K, I, S, b) matter: without a way to open this one, the mission cannot be finished.

    Returns:
        Locks that matter, and all locks.
    """
    locks = [rooms for rooms, labels in graph.pairs.items() if labels & {"k", "K", "I", "S", "S1", "b"}]
    shut = (
        dataclasses.replace(graph, edges=tuple(edge for edge in graph.edges if pair(edge) != rooms)) for rooms in locks
    )
    return sum(solve(without) is None for without in shut), len(locks)


def keys_that_matter(graph: MissionGraph) -> tuple[int, int]:
    """How many of the small keys matter: without this one, the mission cannot be finished. And all of them."""
    rooms = graph.having("k")
    lacking = (
        dataclasses.replace(graph, nodes={**graph.nodes, room: (graph.nodes[room] - {"k"}) | {"e"}}) for room in rooms
    )
    return sum(solve(without) is None for without in lacking), len(rooms)


class _Search:
    def __init__(self, graph: MissionGraph) -> None:
        if not graph.goals:
            raise outlast.DataError("The mission graph has no room labelled t (goal). Label at least one room t.")
        self.rules = Rules(graph)
        self.goals = frozenset(graph.goals)
        self.following: dict[_State, list[_State]] = {}
        self._came: dict[_State, tuple[_State, Decision] | None] = {}

    def states(self) -> Iterator[_State]:
        """All states that a player can get into before a goal, those of fewest decisions first."""
        begin = _settled(self.rules, self.rules.graph.start, NOTHING)
        self._came[begin] = None
        queue = deque([begin])
        while queue:
            state = queue.popleft()
            yield state
            self.following[state] = []
            if self.ends(state):
                continue
            for decision in self._decisions(state):
                after = _settled(self.rules, decision.edge.target, _spent(state.held, decision))
                self.following[state].append(after)
                if after not in self._came:
                    if len(self._came) >= MOST_STATES:
                        raise outlast.DataError(
                            f"The mission graph needs more than {MOST_STATES:,} states to be decided. Give one with "
                            "fewer locks."
                        )
                    self._came[after] = (state, decision)
                    queue.append(after)

    def ends(self, state: _State) -> bool:
        return not state.held.visited.isdisjoint(self.goals)

    def _decisions(self, state: _State) -> Iterator[Decision]:
        key = self.rules.keys(state.held) > 0
        for room in sorted(state.rooms):
            for edge in self.rules.graph.leaving[room]:
                reason = self.rules.reason(edge, state.held)
                if (reason is None and edge.target not in state.rooms) or (key and reason == "k"):
                    yield Decision(edge, reason == "k")

    def decided(self, state: _State) -> list[Decision]:
        """The decisions that lead to a state, in their order."""
        found = []
        last = self._came[state]
        while last is not None:
            found.append(last[1])
            last = self._came[last[0]]
        return found[::-1]


def _spent(held: Holding, decision: Decision) -> Holding:
    """What a player has after a decision."""
    return Holding(held.visited, held.opened | {pair(decision.edge)}) if decision.key else held


def _settled(rules: Rules, room: str, held: Holding) -> _State:
    """The state after visiting all rooms that one can come back from; what they give may open more."""
    while True:
        rooms = together(rules, room, held)
        after = visit(held, rooms)
        if after == held:
            return _State(rooms, held)
        held = after
