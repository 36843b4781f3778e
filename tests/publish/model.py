"""A model of publishing and collecting: every order of their steps, with crashes and pauses anywhere, is looked at.

One object is enough: publishers of the same bytes share it. A publisher puts it (or makes it young again), then creates
its reference. A collection reads the references, lists the objects, reads the references again and deletes. A tick is a
pause that is longer than the deadline of a publisher and than the days of grace. The rule to be kept: an object that a
reference names is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

SAFEGUARDS = ("freshen", "deadline", "age when listed", "unchanged", "references again")


@dataclass(frozen=True)
class Publisher:
    """Attributes: phase is "begin", "put", "done" or "gone"; touched: the tick of its put."""

    phase: str = "begin"
    touched: int = -1


@dataclass(frozen=True)
class Collection:
    """Attributes: phase is "begin", "read", "listed", "read again" or "done"; rooted: as the references were read;
    candidate: generation of the object that it means to delete, -1 for none; touched: of that object, as listed."""

    phase: str = "begin"
    rooted: bool = False
    candidate: int = -1
    touched: int = -1


@dataclass(frozen=True)
class World:
    """Attributes: tick; generation of the object, -1 where there is none; touched: the tick when it was put or made
    young; named: whether a reference names it; wanted: a publisher deletes what it has put when it fails (the seed's
    rollback) instead of leaving it."""

    publishers: tuple[Publisher, ...]
    collections: tuple[Collection, ...]
    tick: int = 0
    generation: int = -1
    puts: int = 0
    touched: int = -1
    named: bool = False

    @property
    def broken(self) -> bool:
        return self.named and self.generation < 0


def explore(
    publishers: int, collections: int, ticks: int, *, without: str = "", rollback: bool = False, there: bool = True
) -> tuple[int, int]:
    """Look at all that can happen.

    Args:
        publishers: of the same bytes.
        collections: that may run, one after the other or at once.
        ticks: long pauses.
        without: a safeguard that is left out.
        rollback: a publisher that fails deletes what it has put, if the object was not there before.
        there: an old object that no reference names is there at the beginning.

    Returns:
        Number of states, and of those in which a reference names an object that is not there.
    """
    first = World((Publisher(),) * publishers, (Collection(),) * collections)
    if there:
        first = replace(first, generation=0, puts=1, touched=-1)
    seen, waiting, broken = {first}, [first], 0
    while waiting:
        world = waiting.pop()
        broken += world.broken
        if world.broken:
            continue
        for after in _next(world, ticks, without, rollback):
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return len(seen), broken


def _next(world: World, ticks: int, without: str, rollback: bool) -> Iterator[World]:
    if world.tick < ticks:
        yield replace(world, tick=world.tick + 1)
    for number, publisher in enumerate(world.publishers):
        for changed, to in _publisher(world, publisher, without, rollback):
            others = (*world.publishers[:number], to, *world.publishers[number + 1 :])
            yield replace(changed, publishers=tuple(sorted(others, key=repr)))  # they are alike
    for number, collection in enumerate(world.collections):
        for changed, then in _collection(world, collection, without):
            rest = (*world.collections[:number], then, *world.collections[number + 1 :])
            yield replace(changed, collections=tuple(sorted(rest, key=repr)))


def _publisher(world: World, own: Publisher, without: str, rollback: bool) -> Iterator[tuple[World, Publisher]]:
    if own.phase in ("done", "gone"):
        return
    yield world, replace(own, phase="gone")  # killed: it undoes nothing
    if own.phase == "begin":
        put = replace(own, phase="put", touched=world.tick)
        if world.generation >= 0 and without == "freshen":
            yield world, put
        else:
            yield replace(world, generation=world.puts, puts=world.puts + 1, touched=world.tick), put
        return
    if own.touched == world.tick or without == "deadline":
        yield replace(world, named=True), replace(own, phase="done")
    if own.touched != world.tick:  # too long ago: it begins again
        yield world, Publisher()
    if rollback:
        yield replace(world, generation=-1), replace(own, phase="gone")


def _collection(world: World, own: Collection, without: str) -> Iterator[tuple[World, Collection]]:
    if own.phase == "begin":
        yield world, replace(own, phase="read", rooted=world.named)
    elif own.phase == "read":
        old = world.touched < world.tick or without == "age when listed"
        found = world.generation if world.generation >= 0 and not own.rooted and old else -1
        yield world, replace(own, phase="listed", candidate=found, touched=world.touched)
    elif own.phase == "listed":
        kept = own.rooted or (world.named and without != "references again")
        yield world, replace(own, phase="read again", candidate=-1 if kept else own.candidate)
    elif own.phase == "read again":
        done = replace(own, phase="done")
        there = own.candidate >= 0 and world.generation >= 0
        same = own.candidate == world.generation or without == "unchanged"
        old = own.touched < world.tick  # only what was left out above makes a difference here
        yield (replace(world, generation=-1) if there and same and old else world), done
