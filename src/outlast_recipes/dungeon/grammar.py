"""Mission graphs by rewriting, from "start, boss, goal" to a dungeon of the asked size.

Every rewriting keeps the graph solvable: what opens a new lock is put where the player can be before it. A graph is
drawn again if a player could waste the small keys and get stuck, which is tested by the exact solver.

The shares of the labels are near those of the mission graphs of The Legend of Zelda (Video Game Level Corpus).
"""

from __future__ import annotations

import random

import outlast
from outlast_recipes.dungeon.draft import GIVES, Draft, Passage
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.solver import can_get_stuck

FEWEST_ROOMS, MOST_ROOMS = 4, 60
ON_THE_WAY = 0.6
"""How likely it is that a small key lies in a room which the player passes on the way to its lock, if there is one."""
RING, LONGER, SECRET, MINOR, PUZZLE, SHUTTER = 0.4, 0.45, 0.7, 0.6, 0.33, 0.2
"""How likely it is that a rewriting makes a ring or a longer way (otherwise a side room), that a side room is behind a
wall to be bombed, or has a minor item, that a room has a puzzle, and that a door has a shutter."""
TRIES = 200
"""A graph in which nobody can get stuck is found in a few draws; after this many, the seed is refused."""


def most_keys(rooms: int) -> int:
    """The largest number of small keys of a dungeon: a lock may need a room for its key and one beside it."""
    return min(8, (rooms - 3) // 2)


def grow(rooms: int, keys: int, tension: float, seed: int) -> MissionGraph:
    """A mission graph that can be finished, and in which nobody gets stuck.

    Args:
        rooms: number of rooms, 4 to 60.
        keys: number of small keys, which is that of their locks, too; at most `most_keys(rooms)`.
        tension: 0 to 1: how many rooms have monsters, and how many of these mini-bosses. Deeper rooms have more.
        seed: the same values and seed give the same graph.

    Raises:
        outlast.ConfigError: a number is out of its range.
        outlast.DataError: no such graph was found with this seed.
    """
    if not FEWEST_ROOMS <= rooms <= MOST_ROOMS:
        raise outlast.ConfigError(f"rooms is {rooms}; expected {FEWEST_ROOMS} to {MOST_ROOMS}.")
    if not 0 <= keys <= most_keys(rooms):
        raise outlast.ConfigError(f"keys is {keys}; expected 0 to {most_keys(rooms)} in a dungeon of {rooms} rooms.")
    if not 0 <= tension <= 1:
        raise outlast.ConfigError(f"tension is {tension}; expected 0 to 1.")
    rng = random.Random(f"{rooms} {keys} {tension} {seed}")  # noqa: S311 - a game, not a secret
    for _ in range(TRIES):
        draft = _drawn(rooms, keys, tension, rng)
        if draft is None:
            continue
        graph = draft.graph()
        if not can_get_stuck(graph):
            return graph
    raise outlast.DataError(
        f"No mission graph of {rooms} rooms and {keys} keys was found in {TRIES} draws with seed {seed}. Give another "
        "seed, or fewer keys."
    )


def _drawn(rooms: int, keys: int, tension: float, rng: random.Random) -> Draft | None:
    draft = Draft()
    locks = ["k"] * keys
    # Other locks are for dungeons that have rooms to spare, as in the originals.
    for label, fewest, share in (("I", 12, 0.6), ("b", 10, 0.6), ("K", 9, 0.3), ("S", 16, 0.2)):
        if rooms - 3 - 2 * len(locks) >= fewest - 8 and rooms >= fewest and rng.random() < share:
            locks.append(label)
    rng.shuffle(locks)
    for lock in locks:
        _lock(draft, lock, rng)
    while len(draft.labels) < rooms:
        if not _fill(draft, rooms - len(draft.labels), rng):
            return None
    _populate(draft, tension, rng)
    return draft if len(draft.labels) == rooms else None


def _lock(draft: Draft, lock: str, rng: random.Random) -> None:
    """Lock a passage that the player needs, and put what opens it before it."""
    needed = [passage for passage in draft.needed() if (passage.far == 1 if lock == "K" else passage.far != 2)]
    shut = rng.choice([passage for passage in needed if not passage.lock] or needed)
    if shut.lock:
        draft.extend(shut, lock_first=False)  # `shut` is now the open half before the lock
    if rng.random() < 0.6 or not any(draft.space(room) for room in draft.before(shut)):
        new = draft.extend(shut, lock_first=False)
        shut = next(passage for passage in draft.of(new) if passage is not shut)
    shut.lock = lock
    passed = [room for room in draft.way(shut.near) if not draft.labels[room]]
    if lock == "k" and passed and rng.random() < ON_THE_WAY:
        shut.giver = rng.choice(passed)
        draft.labels[shut.giver].add(GIVES[lock])
        return
    near = [room for room in draft.before(shut) if draft.space(room)]
    shut.giver = draft.attach(rng.choice(near), GIVES[lock])


def _fill(draft: Draft, missing: int, rng: random.Random) -> bool:
    """One rewriting that adds rooms without a new need. Returns whether there was a place."""
    kind = rng.random()
    inner = [passage for passage in draft.passages if passage.far != 2]
    if kind < RING and missing >= 2:
        loose = [
            passage
            for passage in inner
            if not passage.lock and not passage.ring and draft.space(passage.near) and draft.space(passage.far)
        ]
        if loose:
            draft.ring(rng.choice(loose))
            return True
    straight = [passage for passage in inner if not passage.ring]  # a ring of five would not fit the grid
    if kind < LONGER and straight:
        draft.extend(rng.choice(straight), lock_first=rng.random() < 0.5)
        return True
    places = [room for room in range(len(draft.labels)) if draft.space(room)]
    if not places:
        return False
    bombs = next((room for room, labels in enumerate(draft.labels) if "i" in labels), None)
    new = draft.attach(rng.choice(places))
    if bombs is not None and rng.random() < SECRET:
        draft.passages[-1].lock, draft.passages[-1].giver = "b", bombs
    if bombs is None or rng.random() < MINOR:
        draft.labels[new].add("i")
    return True


def _populate(draft: Draft, tension: float, rng: random.Random) -> None:
    depths = draft.depths()
    deepest = max(depths)
    for room, labels in enumerate(draft.labels):
        if labels & {"s", "b", "t"}:
            continue
        # On average about 0.4 + 0.6 * tension, without start, boss and goal.
        if rng.random() < 0.22 + 0.6 * tension + 0.4 * depths[room] / deepest:
            labels.add("m" if rng.random() < 0.18 * tension else "e")
        if rng.random() < PUZZLE:
            labels.add("p")
    for passage in draft.passages:
        _shutter(draft, passage, rng)


def _shutter(draft: Draft, passage: Passage, rng: random.Random) -> None:
    """A shutter on the side of a room where there is something to do, so that it opens."""
    if passage.lock or passage.shutters:
        return
    for room in (passage.near, passage.far):
        if draft.labels[room] & {"e", "m", "p"} and rng.random() < SHUTTER:
            passage.shutters |= {room}
