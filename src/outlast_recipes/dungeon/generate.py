"""Whole dungeons: a mission by grammar, its place on the grid, rooms from a sampler, repair, proof."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.dungeon import Dungeon, Thing, conditions
from outlast_recipes.dungeon.embedding import Layout, embed
from outlast_recipes.dungeon.grammar import grow
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.repair import reached, repair, targets
from outlast_recipes.dungeon.solver import solve
from outlast_recipes.dungeon.tiles import DOOR_SLOTS, ELEMENT_FLOOR, FLOOR, VOID, Room

TRIES = 60
"""Missions that are drawn until one has a place on the grid."""


class Sampler(Protocol):
    """What draws the rooms: `sampling.RoomSampler`, or `patterns.PatternSampler`."""

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> NDArray[np.uint8]:
        """(N, 16, 11) tiles for N conditions."""
        ...


def generate(
    sampler: Sampler, rooms: int, keys: int, seed: int, *, tension: float = 0.6, sampled_by: str = "patterns"
) -> Dungeon:
    """A dungeon that can be finished, with the proof.

    Args:
        sampler: draws the rooms.
        rooms, keys, tension: as for `grammar.grow`.
        seed: the same values, sampler and seed give the same dungeon.
        sampled_by: what draws the rooms, for `Dungeon.about`.

    Raises:
        outlast.ConfigError: a number is out of its range.
        outlast.DataError: no such dungeon was found with this seed.
    """
    graph, layout = _planned(rooms, keys, tension, seed)
    certificate = solve(graph)
    if certificate is None:
        raise AssertionError("the grammar made a mission that cannot be finished")
    asked = conditions(graph, layout)
    drawn = sampler.sample(list(asked.values()), seed)
    done = {name: repair(room, asked[name]) for name, room in zip(asked, drawn, strict=True)}
    made = {name: each.room for name, each in done.items()}
    about: dict[str, int | float | str] = {
        "rooms": rooms, "keys": keys, "tension": tension, "seed": seed, "sampled_by": sampled_by,
        "repaired_tiles": sum(each.changed for each in done.values()),
    }  # fmt: skip
    return Dungeon(graph, layout, made, _things(graph, made, asked, seed), certificate, about)


def _planned(rooms: int, keys: int, tension: float, seed: int) -> tuple[MissionGraph, Layout]:
    for number in range(TRIES):
        one = random.Random(f"{seed} {number}").getrandbits(32)  # noqa: S311 - a game, not a secret
        graph = grow(rooms, keys, tension, one)
        layout = embed(graph, one)
        if layout is not None:
            return graph, layout
    raise outlast.DataError(
        f"No mission of {rooms} rooms fits the grid in {TRIES} draws with seed {seed}. Give another seed, or "
        "fewer rooms."
    )


def _things(
    graph: MissionGraph, rooms: Mapping[str, Room], asked: Mapping[str, RoomCondition], seed: int
) -> tuple[Thing, ...]:
    rng = random.Random(seed)  # noqa: S311
    found = []
    for name, labels in graph.nodes.items():
        free = _free(rooms[name], asked[name])
        rng.shuffle(free)
        # What matters is in the middle, as in the originals; monsters are anywhere.
        free.sort(key=lambda place: abs(place[0] - 7.5) + abs(place[1] - 5) + 3 * rng.random())
        for label in sorted(labels, key="tbKIkmipSse".find):
            # A room of few tiles has few monsters.
            if label == "e":
                rng.shuffle(free)
            many = max(1, min(rng.randint(2, 4), len(free) // 6)) if label == "e" else 1
            found += [Thing(name, label, *free.pop(0)) for _ in range(many)]
    return tuple(found)


def _free(room: Room, asked: RoomCondition) -> list[tuple[int, int]]:
    """Floor that a player can walk to, but not before a door. A room where there is too little has all of it."""
    near = [
        place for place in reached(room, targets(asked.doors, room)[0]) if room[place] in (FLOOR, ELEMENT_FLOOR, VOID)
    ]
    doors = [place for side, slot in DOOR_SLOTS.items() if side in asked.doors for place in slot]
    apart = [place for place in near if all(abs(place[0] - row) + abs(place[1] - at) > 1 for row, at in doors)]
    return sorted(apart if len(apart) > 12 else near)
