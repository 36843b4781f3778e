"""A certificate: the steps that finish a mission, which anyone can check without a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import outlast
from outlast_recipes.dungeon.mission import Edge, MissionGraph
from outlast_recipes.dungeon.rules import NOTHING, Holding, Rules, pair, together, visit


class Step(NamedTuple):
    """Go from a room to another; with `key`, a small key is spent on the lock between them."""

    source: str
    target: str
    key: bool = False


Certificate = tuple[Step, ...]


class Decision(NamedTuple):
    """What cannot be undone: a passage without a way back, or one with a lock on which a small key is spent."""

    edge: Edge
    key: bool


def check_certificate(graph: MissionGraph, certificate: Iterable[Step]) -> None:
    """Follow the steps by the rules.

    Raises:
        outlast.DataError: a step that a player cannot take, or an end that is no goal.
    """
    rules = Rules(graph)
    room, held = graph.start, visit(NOTHING, (graph.start,))
    for number, step in enumerate(certificate, 1):
        where = f"Step {number} of the certificate, {step.source} -> {step.target},"
        edge = next((edge for edge in graph.leaving.get(step.source, ()) if edge.target == step.target), None)
        if step.source != room or edge is None:
            raise outlast.DataError(f"{where} is not a passage from the room {room}, where the player is.")
        if step.key:
            if pair(edge) not in rules.locks or pair(edge) in held.opened:
                raise outlast.DataError(f"{where} spends a small key, and there is no lock to open.")
            if rules.keys(held) < 1:
                raise outlast.DataError(f"{where} spends a small key, and the player has none.")
            held = Holding(held.visited, held.opened | {pair(edge)})
        closed = rules.reason(edge, held)
        if closed is not None:
            raise outlast.DataError(f"{where} is closed to the player (label {closed}).")
        room, held = step.target, visit(held, (step.target,))
    if room not in graph.goals:
        raise outlast.DataError(f"The certificate ends in the room {room}, which is not a goal (label t).")


def walked(rules: Rules, decisions: Sequence[Decision]) -> Certificate:
    """The steps to a goal, given the decisions that lead to one: a short walk, but not always the shortest one."""
    skipped: frozenset[str] = frozenset()
    best = _walk(rules, decisions, skipped)
    if best is None:
        raise AssertionError("the search found a way that cannot be walked")
    for room in sorted(rules.useful):  # what this room gives may not be needed
        shorter = _walk(rules, decisions, skipped | {room})
        if shorter is not None and len(shorter) <= len(best):
            best, skipped = shorter, skipped | {room}
    return best


def _walk(rules: Rules, decisions: Sequence[Decision], skipped: AbstractSet[str]) -> Certificate | None:
    walk = _Walker(rules)
    goals = frozenset(rules.graph.goals)
    for decision in (*decisions, None):
        while not walk.held.visited & goals and walk.nearest(rules.useful - walk.held.visited - skipped):
            pass
        if walk.held.visited & goals:
            break
        if decision is None:
            if not walk.nearest(goals):
                return None
        elif not walk.nearest({decision.edge.source}) or not walk.take(decision.edge, key=decision.key):
            return None
    first = next((number for number, step in enumerate(walk.steps, 1) if step.target in goals), 0)
    return tuple(walk.steps[:first])


class _Walker:
    """A player who walks through open passages, as far as one can come back, and takes others when told to."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.room = rules.graph.start
        self.held = visit(NOTHING, (self.room,))
        self.steps: list[Step] = []

    def nearest(self, rooms: AbstractSet[str]) -> bool:
        """Go to the nearest of these rooms. Returns whether there is one from which one can come back."""
        near = together(self.rules, self.room, self.held)
        came: dict[str, Step | None] = {self.room: None}
        queue = [self.room]
        for room in queue:
            if room in rooms:
                path: list[Step] = []
                step = came[room]
                while step is not None:
                    path.append(step)
                    step = came[step.source]
                for step in reversed(path):
                    self._enter(step)
                return True
            for edge in self.rules.graph.leaving[room]:
                if edge.target in near and edge.target not in came and self.rules.reason(edge, self.held) is None:
                    came[edge.target] = Step(room, edge.target)
                    queue.append(edge.target)
        return False

    def take(self, edge: Edge, *, key: bool) -> bool:
        """Take a passage from this room. Returns whether it is open, or a small key opens it."""
        if key:
            if self.rules.keys(self.held) < 1 or pair(edge) in self.held.opened:
                return False
            self.held = Holding(self.held.visited, self.held.opened | {pair(edge)})
        if self.rules.reason(edge, self.held) is not None:
            return False
        self._enter(Step(edge.source, edge.target, key))
        return True

    def _enter(self, step: Step) -> None:
        self.steps.append(step)
        self.room, self.held = step.target, visit(self.held, (step.target,))
