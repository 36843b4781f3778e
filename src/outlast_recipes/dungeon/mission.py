"""A mission graph: the rooms of a dungeon, what is in them, and what each passage asks of the player.

The labels are those of the graphs of The Legend of Zelda in the Video Game Level Corpus (zelda.json there).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import outlast

NODE_LABELS = {
    "s": "start",
    "t": "goal",
    "e": "monsters",
    "m": "mini-boss",
    "b": "boss",
    "p": "puzzle",
    "k": "small key",
    "K": "boss key",
    "I": "key item",
    "i": "minor item",
    "S": "switch",
    "S1": "second switch",
}
EDGE_LABELS = {
    "k": "locked by a small key",
    "K": "locked by the boss key",
    "I": "locked by the key item",
    "S": "locked by a switch",
    "S1": "locked by the second switch",
    "b": "a wall to be bombed",
    "l": "a shutter, which opens when everything in the room is done",
    "s": "a window: one sees through it, and cannot pass",
}


class Edge(NamedTuple):
    """A passage from one room to another, in this direction only; the way back is an edge of its own."""

    source: str
    target: str
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MissionGraph:
    """Rooms and passages.

    Attributes:
        nodes: room -> its labels, each a key of NODE_LABELS. A room without labels is empty.
        edges: passages, at most one from a room to another, with keys of EDGE_LABELS. A label of a passage that goes
            both ways stands on both edges, and the lock is one.
        bombs: whether the player brings bombs. Otherwise the first minor item is bombs.

    Raises:
        outlast.DataError: an unknown label or room, a passage from a room to itself, or one that occurs twice.
    """

    nodes: Mapping[str, frozenset[str]]
    edges: tuple[Edge, ...]
    bombs: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(Edge(*edge) for edge in self.edges))
        for node, labels in self.nodes.items():
            _known(labels, NODE_LABELS, f"the room {node}")
        seen: set[tuple[str, str]] = set()
        for source, target, labels in self.edges:
            for node in (source, target):
                if node not in self.nodes:
                    raise outlast.DataError(
                        f"The passage {source} -> {target} names the room {node}, which the mission graph does not "
                        "have. Add the room, or remove the passage."
                    )
            if source == target:
                raise outlast.DataError(f"The room {source} has a passage to itself. Remove it.")
            if (source, target) in seen:
                raise outlast.DataError(f"The passage {source} -> {target} occurs twice. Keep one of them.")
            seen.add((source, target))
            _known(labels, EDGE_LABELS, f"the passage {source} -> {target}")

    @property
    def start(self) -> str:
        """The room where the player begins.

        Raises:
            outlast.DataError: there is no such room, or more than one.
        """
        found = self.having("s")
        if len(found) != 1:
            raise outlast.DataError(
                f"The mission graph has {len(found)} rooms labelled s (start); expected one. Label one room s."
            )
        return found[0]

    @property
    def goals(self) -> tuple[str, ...]:
        """The rooms that end the dungeon; the player needs to reach one of them."""
        return self.having("t")

    def having(self, label: str) -> tuple[str, ...]:
        """The rooms with a label, in the order of `nodes`."""
        return tuple(node for node, labels in self.nodes.items() if label in labels)

    @functools.cached_property
    def leaving(self) -> Mapping[str, tuple[Edge, ...]]:
        """Room -> the passages that leave it."""
        found: dict[str, list[Edge]] = {node: [] for node in self.nodes}
        for edge in self.edges:
            found[edge.source].append(edge)
        return {node: tuple(edges) for node, edges in found.items()}

    @functools.cached_property
    def arriving(self) -> Mapping[str, tuple[Edge, ...]]:
        """Room -> the passages that lead to it."""
        found: dict[str, list[Edge]] = {node: [] for node in self.nodes}
        for edge in self.edges:
            found[edge.target].append(edge)
        return {node: tuple(edges) for node, edges in found.items()}

    @functools.cached_property
    def pairs(self) -> Mapping[frozenset[str], frozenset[str]]:
        """Both rooms of a passage -> the labels of its edges, of both directions."""
        found: dict[frozenset[str], frozenset[str]] = {}
        for source, target, labels in self.edges:
            pair = frozenset((source, target))
            found[pair] = found.get(pair, frozenset()) | labels
        return found


def _known(labels: frozenset[str], known: Mapping[str, str], where: str) -> None:
    for label in sorted(labels):
        if label not in known:
            raise outlast.DataError(
                f"The label {label!r} of {where} is unknown; expected one of {', '.join(known)}. Correct the label."
            )
