"""What a player may do in a mission graph: the rules that the solver, the check of a certificate and the game share.

Whoever is in a room does everything there: fights, solves the puzzle, takes what lies there. So what a player has is
given by the rooms that were visited and the locks that small keys opened.

- A shutter opens when everything in its room is done. If its room has nothing to do and the other side has no shutter,
  it never opens: the passage leads one way.
- A lock between two rooms is one lock and takes one key, whichever side it is opened from.
- A graph whose passages have switches and whose rooms have none is read as if each puzzle were a switch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from outlast_recipes.dungeon.mission import Edge, MissionGraph

TO_DO = frozenset("embpkKIiS") | {"S1"}
"""Labels of a room that give a player something to do there."""

Pair = frozenset[str]


@dataclass(frozen=True)
class Holding:
    """What a player has: the rooms visited, and the locks that small keys opened."""

    visited: frozenset[str]
    opened: frozenset[Pair]


def pair(edge: Edge) -> Pair:
    """Both rooms of a passage."""
    return frozenset((edge.source, edge.target))


class Rules:
    """The rules for one graph.

    Attributes:
        gives: label -> the rooms where a player gets it.
        locks: those that small keys open.
        useful: the rooms that give something which a passage asks for.
    """

    def __init__(self, graph: MissionGraph) -> None:
        self.graph = graph
        self.gives = {label: frozenset(graph.having(label)) for label in ("k", "K", "I", "i", "S", "S1", "p")}
        for label in ("S", "S1"):
            self.gives[label] = self.gives[label] or self.gives["S"] or self.gives["p"]
        self.locks = frozenset(pair(edge) for edge in graph.edges if "k" in edge.labels)
        shutters = {edge[:2] for edge in graph.edges if "l" in edge.labels}
        self._shutters = {frozenset(ends) for ends in shutters if ends[::-1] in shutters}
        self.useful = frozenset().union(*(self.gives[label] for label in self._used()))

    def keys(self, held: Holding) -> int:
        """Small keys in the hand."""
        return len(self.gives["k"] & held.visited) - len(held.opened)

    def reason(self, edge: Edge, held: Holding) -> str | None:
        """The label that closes a passage to a player, or None if it is open. `k`: a small key would open it."""
        reason = None
        for label in edge.labels:
            if not self._passes(label, edge, held):
                reason = label
                if label != "k":  # a key is no help where another label closes the passage as well
                    break
        return reason

    def _passes(self, label: str, edge: Edge, held: Holding) -> bool:
        if label == "k":
            return pair(edge) in held.opened
        if label == "b":
            return self.graph.bombs or bool(self.gives["i"] & held.visited)
        if label in ("K", "I", "S", "S1"):
            return bool(self.gives[label] & held.visited)
        return label == "l" and (bool(self.graph.nodes[edge.source] & TO_DO) or pair(edge) in self._shutters)

    def _used(self) -> frozenset[str]:
        """The labels of rooms that some passage asks for."""
        asked = frozenset().union(*(edge.labels for edge in self.graph.edges))
        return (asked & {"k", "K", "I", "S", "S1"}) | (frozenset() if self.graph.bombs or "b" not in asked else {"i"})


def visit(held: Holding, rooms: Iterable[str]) -> Holding:
    """The same player after these rooms."""
    return Holding(held.visited.union(rooms), held.opened)


NOTHING = Holding(frozenset(), frozenset())


def together(rules: Rules, room: str, held: Holding) -> frozenset[str]:
    """The rooms that one can go to from a room, and come back from, with what one has."""
    return _reached(rules, room, held, back=False) & _reached(rules, room, held, back=True)


def _reached(rules: Rules, room: str, held: Holding, *, back: bool) -> frozenset[str]:
    passages = rules.graph.arriving if back else rules.graph.leaving
    found, queue = {room}, [room]
    while queue:
        for edge in passages[queue.pop()]:
            other = edge.source if back else edge.target
            if other not in found and rules.reason(edge, held) is None:
                found.add(other)
                queue.append(other)
    return frozenset(found)
