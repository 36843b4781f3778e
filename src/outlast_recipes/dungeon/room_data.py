"""The rooms of a training as tensors: their tiles, and what is asked of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import TensorDataset

from outlast_recipes.common.facts import FixedFacts
from outlast_recipes.dungeon.conditions import RoomCondition, encode
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.corpus import Corpus, load_corpus, room_digest, split, stack
from outlast_recipes.dungeon.reading import LevelRoom
from outlast_recipes.dungeon.tiles import OPPOSITE, Room, Side, mirror

_FEW = 16  # rooms of a training with --debug
_MIRRORED: dict[int, tuple[Side, ...]] = {0: ("N", "S"), 1: ("E", "W")}


@dataclass(frozen=True)
class RoomData:
    """The rooms of a training.

    Attributes:
        train: tiles (N, 16, 11) int64 and conditions (N, ENCODED) of the training rooms and of their mirror images.
        validation: the same of the validation rooms.
        known: (M, 16, 11) the training rooms without mirror images.
        held_out: all rooms of the dungeons that are held out, also those that other dungeons have.
        asked: what each different held-out room has: its doors and stairs.
        name: of the folder, without where it is, or "synthetic".
        facts: what has to be the same in all sessions.
    """

    train: TensorDataset
    validation: TensorDataset
    known: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    asked: list[RoomCondition]
    name: str
    facts: RoomFacts


class RoomFacts(FixedFacts):
    """What a run was trained on.

    Attributes:
        rooms: hash of the training and validation rooms.
        synthetic: whether they are of the corpus that a grammar made.
        known: `corpus.room_digest` of each training room: what draws rooms can tell one of them without the corpus.
    """

    WORDS: ClassVar = {"rooms": "rooms (their hash)"}

    def __init__(self, rooms: str, synthetic: bool, known: list[str]) -> None:  # noqa: FBT001 - as it is saved
        self.rooms, self.synthetic, self.known = rooms, synthetic, known


def load_rooms(config: Config) -> RoomData:
    """Read the corpus of a config and make its parts.

    Raises:
        outlast.DataError: the corpus cannot be read, or a part of it has no rooms.
    """
    corpus = load_corpus(config.data_root)
    parts = split(corpus, config.held_out, config.validation)
    chosen = parts.train[:_FEW] if config.debug else parts.train
    train, validation = _tensors(corpus, chosen), _tensors(corpus, parts.validation)
    whole = hashlib.sha256()
    for part in (train, validation):
        for tensor in part.tensors:
            whole.update(tensor.numpy().tobytes())
    return RoomData(
        train,
        validation,
        stack(chosen),
        stack(corpus.of(config.held_out)),
        [RoomCondition.of(room.tiles) for room in parts.test],
        Path(corpus.name).resolve().name if config.data_root else corpus.name,
        RoomFacts(whole.hexdigest()[:16], corpus.synthetic, [room_digest(room.tiles) for room in chosen]),
    )


def _tensors(corpus: Corpus, rooms: Sequence[LevelRoom]) -> TensorDataset:
    """Four of each room: as it is, and under both mirrors."""
    tiles: list[Room] = []
    asked: list[RoomCondition] = []
    for room in rooms:
        beside: dict[str, Room] = dict(corpus.levels[room.level].neighbours(room).items())
        images = [(room.tiles, RoomCondition.of(room.tiles, beside))]
        images += [_mirrored(*image, 0) for image in images]
        images += [_mirrored(*image, 1) for image in images]
        tiles += [image for image, _ in images]
        asked += [condition for _, condition in images]
    return TensorDataset(torch.from_numpy(np.stack(tiles)).long(), torch.from_numpy(encode(asked)))


def _mirrored(room: Room, asked: RoomCondition, axis: Literal[0, 1]) -> tuple[Room, RoomCondition]:
    """A room and what is asked of it, with two sides exchanged."""

    exchanged: dict[str, str] = {side: OPPOSITE[side] for side in _MIRRORED[axis]}

    def moved(side: str) -> str:
        return exchanged.get(side, side)

    image = mirror(room, axis)
    beside = {moved(side): mirror(other, axis) for side, other in asked.neighbours.items()}
    return image, RoomCondition(frozenset(map(moved, asked.doors)), asked.stairs, beside)


def without(conditions: Tensor, places: slice, share: float) -> Tensor:
    """Conditions (N, ENCODED) of which a random share has zeros at some places, by torch's global generator."""
    dropped = conditions.clone()
    dropped[torch.rand(len(conditions)) < share, places] = 0
    return dropped
