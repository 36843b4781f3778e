"""A mission graph while it grows. Each rewriting keeps it solvable; `grammar` decides which one is next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from outlast_recipes.dungeon.mission import Edge, MissionGraph

MOST_DOORS = 4
GIVES = {"k": "k", "K": "K", "I": "I", "b": "i", "S": "S"}
"""Label of a lock -> label of the room that gives what opens it."""


@dataclass
class Passage:
    """A passage, which asks for the same in both directions.

    Attributes:
        near: the room from which it was made; it is reached before `far`.
        far: the other room.
        lock: a key of GIVES, or "".
        giver: the room that has what opens it, if it has a lock.
        ring: whether there is another way around it.
        shutters: the rooms on whose side it has a shutter.
    """

    near: int
    far: int
    lock: str = ""
    giver: int = -1
    ring: bool = False
    shutters: frozenset[int] = frozenset()


class Draft:
    """Rooms by number (0 is the start, 1 the boss, 2 the goal) with their labels, and passages."""

    def __init__(self) -> None:
        self.labels: list[set[str]] = [{"s"}, {"b"}, {"t"}]
        self.passages = [Passage(0, 1), Passage(1, 2, shutters=frozenset({1}))]

    def of(self, room: int) -> Iterator[Passage]:
        """The passages of a room."""
        return (passage for passage in self.passages if room in (passage.near, passage.far))

    def space(self, room: int) -> int:
        """How many more passages a room may have. The boss and the goal have no side passages, and the player comes
        into the start through a door of its own."""
        if room in (1, 2):
            return 0
        return MOST_DOORS - (room == 0) - sum(1 for _ in self.of(room))

    def attach(self, room: int, labels: Iterable[str] = (), lock: str = "", giver: int = -1) -> int:
        """A new room beside a room. Returns its number."""
        self.labels.append(set(labels))
        self.passages.append(Passage(room, len(self.labels) - 1, lock, giver))
        return len(self.labels) - 1

    def extend(self, passage: Passage, *, lock_first: bool) -> int:
        """A new room in the middle of a passage, whose lock is then before or behind it. Returns its number."""
        self.labels.append(set())
        new = len(self.labels) - 1
        behind = Passage(new, passage.far, shutters=frozenset({new} if passage.near in passage.shutters else ()))
        if not lock_first:
            behind.lock, behind.giver, passage.lock, passage.giver = passage.lock, passage.giver, "", -1
        passage.far, passage.shutters = new, frozenset()
        self.passages.append(behind)
        return new

    def ring(self, passage: Passage) -> None:
        """Two rooms beside an open passage: another way, so that four rooms form a ring."""
        first = self.attach(passage.near)
        second = self.attach(first)
        self.passages.append(Passage(second, passage.far))
        for one in (passage, *self.passages[-3:]):
            one.ring = True

    def before(self, shut: Passage) -> list[int]:
        """The rooms that can be reached while one passage is shut, each small key being spent on its own lock."""
        found = {0}
        while True:
            more = {
                room
                for passage in self.passages
                if passage is not shut and (not passage.lock or passage.giver in found)
                for room in (passage.near, passage.far)
                if not found.isdisjoint((passage.near, passage.far)) and room not in found
            }
            if not more:
                return sorted(found)
            found |= more

    def way(self, room: int) -> list[int]:
        """The rooms from a room back to the start, both included. There must be no rings yet."""
        above = {passage.far: passage.near for passage in self.passages}
        found = [room]
        while found[-1] != 0:
            found.append(above[found[-1]])
        return found

    def needed(self) -> list[Passage]:
        """The passages that lead, away from the start, to the goal or to what opens a lock on the way there. Small keys
        and bombs are left out, because another one would do as well. There must be no rings yet."""
        found: list[Passage] = []
        wanted = [2]
        above = {passage.far: passage for passage in self.passages}
        for room in wanted:
            while room != 0:
                passage = above[room]
                if passage in found:
                    break
                found.append(passage)
                if passage.lock in ("K", "I", "S"):
                    wanted.append(passage.giver)
                room = passage.near
        return found

    def depths(self) -> list[int]:
        """Passages between the start and each room, on the shortest way."""
        found = {0: 0}
        queue = [0]
        for room in queue:
            for passage in self.of(room):
                other = passage.near + passage.far - room
                if other not in found:
                    found[other] = found[room] + 1
                    queue.append(other)
        return [found[room] for room in range(len(self.labels))]

    def graph(self) -> MissionGraph:
        """The mission graph, in which the first minor item is bombs."""
        edges = [
            Edge(
                str(one),
                str(other),
                frozenset({passage.lock} - {""} | ({"l"} if one in passage.shutters else set())),
            )
            for passage in self.passages
            for one, other in ((passage.near, passage.far), (passage.far, passage.near))
        ]
        nodes = {str(room): frozenset(labels) for room, labels in enumerate(self.labels)}
        return MissionGraph(nodes, tuple(edges), bombs=False)
