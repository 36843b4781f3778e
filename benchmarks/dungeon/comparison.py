"""Generators compared on one corpus: their rooms as they are drawn, and after repair."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from benchmarks.dungeon.baselines import Independent, MarkovChain, PinnedRejection, Rejection, Rooms
from benchmarks.dungeon.wave import WaveFunctionCollapse

from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.corpus import Corpus, Split, room_digest, split, stack
from outlast_recipes.dungeon.metrics import SIZES, measure, pattern_divergence, with_mirror_images
from outlast_recipes.dungeon.repair import repair
from outlast_recipes.dungeon.sampling import fulfils
from outlast_recipes.dungeon.tiles import doors_of


class Generator(Protocol):
    """A trained model joins as `sampling.RoomSampler`, which has this."""

    def sample(self, conditions: Sequence[RoomCondition], seed: int) -> Rooms: ...


@dataclass(frozen=True)
class Data:
    """What the generators get, and what they are compared with.

    Attributes:
        train: (N, 16, 11) rooms that generators learn from.
        known: rooms of which a copy is not novel, nor a mirror image.
        dungeons: all rooms of the held-out dungeons, also those that other dungeons have.
        unseen: different rooms of these dungeons that no other dungeon has.
        digests: `room_digest` of `known`.
        conditions: what is asked of each room: doors and stairs as training rooms have them, or held-out ones.
    """

    train: Rooms
    known: Rooms
    dungeons: Rooms
    unseen: Rooms
    digests: frozenset[str]
    conditions: list[RoomCondition]


def prepare(
    corpus: Corpus,
    held_out: Sequence[str],
    validation: Sequence[str],
    *,
    repeats: bool,
    number: int,
    seed: int,
    as_held_out: bool = False,
) -> tuple[Data, Split]:
    """The data of a comparison.

    Args:
        corpus: levels.
        held_out: dungeons for test.
        validation: dungeons that a trained model uses for selection. Baselines select nothing and do not get them.
        repeats: whether baselines learn from every room of all dungeons that are not held out, as often as it occurs.
            Otherwise they learn from what a trained model gets: different rooms of the training dungeons, with their
            mirror images.
        number: rooms to be drawn.
        seed: of the conditions.
        as_held_out: whether rooms are asked for what those of the held-out dungeons have, as often as it occurs;
            otherwise for what training rooms have.
    """
    parts = split(corpus, held_out, validation)
    others = [dungeon for dungeon in corpus.dungeons if dungeon not in held_out]
    known = stack(corpus.of(others)) if repeats else stack(parts.train)
    dungeons = stack(corpus.of(held_out))
    like = dungeons if as_held_out else known
    chosen = np.random.default_rng(seed).integers(len(like), size=number)
    return Data(
        train=known if repeats else with_mirror_images(known),
        known=known,
        dungeons=dungeons,
        unseen=stack(parts.test),
        digests=frozenset(map(room_digest, known)),
        conditions=[RoomCondition.of(like[each]) for each in chosen],
    ), parts


BASELINES: dict[str, Callable[[Rooms], Generator]] = {
    "i.i.d. tiles": lambda train: Independent(train, by_place=False),
    "per-cell": lambda train: Independent(train, by_place=True),
    "MdMC": lambda train: MarkovChain(train, by_place=False),
    "MdMC + position": lambda train: MarkovChain(train, by_place=True),
    "MdMC + position, rejection": Rejection,
    "MdMC + position, doors pinned, rejection": PinnedRejection,
    "WFC 2x2, pinned": lambda train: WaveFunctionCollapse(train, 2),
    "WFC 3x3, pinned": lambda train: WaveFunctionCollapse(train, 3),
}
"""The generators that are counted and not trained, of training rooms."""


def compare(generators: Mapping[str, Generator], data: Data, seed: int) -> list[dict[str, Any]]:
    """A row for real rooms, and one for each generator, raw and repaired."""
    rows = [
        {"generator": "real training rooms", "raw": described(data.known, data)},
        {"generator": "real rooms of the held-out dungeons", "raw": described(data.dungeons, data)},
    ]
    for name, generator in generators.items():
        begin = time.process_time()  # of all threads; other programs beside this one do not count
        rooms = generator.sample(data.conditions, seed)
        seconds = time.process_time() - begin
        repaired = [repair(room, asked) for room, asked in zip(rooms, data.conditions, strict=True)]
        changed = np.array([each.changed for each in repaired])
        rows.append(
            {
                "generator": name,
                "raw": described(rooms, data, data.conditions),
                "repaired": described(np.stack([each.room for each in repaired]), data, data.conditions),
                "rooms_repaired": float((changed > 0).mean()),
                "tiles_changed": float(changed.mean()),
                "milliseconds_each": 1000 * seconds / len(rooms),
                **{key: getattr(generator, key) for key in ("failed", "drawn") if hasattr(generator, key)},
            }
        )
    return rows


def times(generators: Mapping[str, Generator], data: Data, seed: int) -> list[dict[str, Any]]:
    """Milliseconds of the processor for a room, of those that are asked for together: all, 20 (a dungeon), and one.

    The same is asked of all: doors and stair as given, a valid room, and none of training. `fulfilled` is the share of
    rooms that have it.
    """
    rows = []
    for name, generator in generators.items():
        for together, calls in ((len(data.conditions), 1), (20, 10), (1, 20)):
            asked = [data.conditions[call * together :][:together] for call in range(calls)]
            generator.sample(asked[0][:1], seed)  # what is set up once
            begin = time.process_time()
            made = [generator.sample(part, seed + number) for number, part in enumerate(asked) if part]
            seconds = time.process_time() - begin
            pairs = [each for part, rooms in zip(asked, made, strict=False) for each in zip(rooms, part, strict=True)]
            good = [
                doors_of(room) == one.doors and fulfils(room, one) and room_digest(room) not in data.digests
                for room, one in pairs
            ]
            rows.append(
                {
                    "generator": name,
                    "together": together,
                    "fulfilled": float(np.mean(good)),
                    "milliseconds_each": 1000 * seconds / len(pairs),
                }
            )
    return rows


def described(rooms: Rooms, data: Data, conditions: Sequence[RoomCondition] | None = None) -> dict[str, Any]:
    """Figures of rooms, and how many have exactly the doors that were asked for."""
    found = dataclasses.asdict(measure(rooms, data.known, data.dungeons))
    found["divergence_unseen"] = {size: pattern_divergence(rooms, data.unseen, size) for size in SIZES}
    if conditions is not None:
        obeyed = [doors_of(room) == asked.doors for room, asked in zip(rooms, conditions, strict=True)]
        found["doors_as_asked"] = float(np.mean(obeyed))
    return found
