"""A corpus of dungeons: its rooms and mission graphs, and its parts for training, validation and test.

A room and its mirror images count as one. Rooms are compared before the parts are made, so no part has a room of
another: a dungeon that is held out has rooms which other dungeons have too.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.dungeon import synthetic
from outlast_recipes.dungeon.graphs import parse
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.reading import Level, LevelRoom, read_level, read_text
from outlast_recipes.dungeon.tiles import HEIGHT, WIDTH, Room, mirror

LEVELS, GRAPHS = "Processed", "Graph Processed"
"""Folders of the Video Game Level Corpus. A corpus may also have all of its files in one folder."""
HELD_OUT, VALIDATION = ("4", "8"), ("2", "6")
"""Numbers of the dungeons for test and validation. Both quests of a number stay together."""
MOST_FILES = 1_000
NO_LEVELS = ("readme", "license")


@dataclass(frozen=True)
class Corpus:
    """Levels and mission graphs.

    Attributes:
        name: folder, or "synthetic".
        levels: by name.
        graphs: name of the file without its ending -> graph. A graph's rooms are not those of the level one by one.
        synthetic: whether it is our own generated one.
        notes: sentences on what was read otherwise than it is written.
    """

    name: str
    levels: Mapping[str, Level]
    graphs: Mapping[str, MissionGraph]
    synthetic: bool = False
    notes: tuple[str, ...] = ()

    @property
    def rooms(self) -> tuple[LevelRoom, ...]:
        """All rooms, with those that occur several times."""
        return tuple(room for level in self.levels.values() for room in level.rooms)

    @property
    def dungeons(self) -> tuple[str, ...]:
        """The dungeons, for `split`."""
        return tuple(dict.fromkeys(map(dungeon_of, self.levels)))

    def of(self, dungeons: Iterable[str]) -> tuple[LevelRoom, ...]:
        """All rooms of some dungeons, with those that occur several times."""
        chosen = set(dungeons)
        return tuple(room for room in self.rooms if dungeon_of(room.level) in chosen)


class Split(NamedTuple):
    """Different rooms, of which no two are equal or mirror images, within a part or across parts.

    Attributes:
        train: of the dungeons that are not named.
        validation: of the validation dungeons, without what `train` has.
        test: of the dungeons held out, without what the others have.
    """

    train: tuple[LevelRoom, ...]
    validation: tuple[LevelRoom, ...]
    test: tuple[LevelRoom, ...]


def load_corpus(folder: Path | None) -> Corpus:
    """The corpus in a folder, or our own synthetic one if it is None.

    Raises:
        outlast.DataError: the folder has no levels or no graphs, or one of its files is not readable as such.
    """
    if folder is not None:
        return _load(folder)
    with tempfile.TemporaryDirectory() as place:
        synthetic.write(Path(place))
        found = _load(Path(place))
    return Corpus("synthetic", found.levels, found.graphs, synthetic=True)


def dungeon_of(level: str) -> str:
    """The dungeon of a level: "4" for tloz4_1 and tloz4_2, and the level's own name if it has no such ending."""
    found = re.search(r"(\d+)_\d+$", level)
    return found[1] if found else level


def split(corpus: Corpus, held_out: Sequence[str] = HELD_OUT, validation: Sequence[str] = VALIDATION) -> Split:
    """The parts of a corpus, by dungeon, each with different rooms only.

    A room that several dungeons have belongs to training if one of them does, else to validation: a part that measures
    has nothing that another part has seen. Of equal rooms, the first one stands for all.

    Raises:
        outlast.DataError: a dungeon does not exist or is named twice, or a part has no room.
    """
    named = [*held_out, *validation]
    for number in named:
        if number not in corpus.dungeons or named.count(number) > 1:
            found = "is named twice" if named.count(number) > 1 else "does not exist"
            raise outlast.DataError(
                f"{corpus.name}: the dungeon {number!r} {found}; expected different ones of "
                f"{', '.join(corpus.dungeons)}. Name others for validation and test."
            )
    seen: set[bytes] = set()
    parts = []
    for name, chosen in (
        ("training", [number for number in corpus.dungeons if number not in named]),
        ("validation", validation),
        ("test", held_out),
    ):
        part = distinct(corpus.of(chosen), seen)
        if not part:
            raise outlast.DataError(
                f"{corpus.name}: no room is left for {name} of the dungeons {', '.join(chosen) or '(none)'}; expected "
                "rooms which the other parts lack. Choose other dungeons."
            )
        parts.append(part)
    return Split(*parts)


def distinct(rooms: Iterable[LevelRoom], seen: set[bytes] | None = None) -> tuple[LevelRoom, ...]:
    """The rooms without those that are equal to an earlier one, or mirror images of it.

    Args:
        rooms: any number of them.
        seen: keys of earlier rooms (`canonical`), to which those of `rooms` are added.
    """
    seen = set() if seen is None else seen
    found = []
    for room in rooms:
        key = canonical(room.tiles)
        if key not in seen:
            seen.add(key)
            found.append(room)
    return tuple(found)


def canonical(room: Room) -> bytes:
    """A key that a room and its three mirror images share, and no other room."""
    images = (room, mirror(room, 0), mirror(room, 1), mirror(mirror(room, 0), 1))
    return min(image.astype(np.uint8).tobytes() for image in images)


def room_digest(room: Room) -> str:
    """16 hexadecimal digits that stand for a room and its mirror images."""
    return hashlib.sha256(canonical(room)).hexdigest()[:16]


def stack(rooms: Sequence[LevelRoom]) -> NDArray[np.uint8]:
    """Tiles of N rooms: (N, 16, 11)."""
    return np.array([room.tiles for room in rooms], np.uint8).reshape(-1, HEIGHT, WIDTH)


def level_files(folder: Path) -> list[Path]:
    """The levels of a corpus: *.txt in `Processed`, or in the folder itself.

    Raises:
        outlast.DataError: there are none, or more than `MOST_FILES`.
    """
    return _files(folder, LEVELS, ".txt")


def graph_files(folder: Path) -> list[Path]:
    """The mission graphs of a corpus: *.dot in `Graph Processed`, or in the folder itself.

    Raises:
        outlast.DataError: there are none, or more than `MOST_FILES`.
    """
    return _files(folder, GRAPHS, ".dot")


def _load(folder: Path) -> Corpus:
    levels = {path.stem: read_level(path) for path in level_files(folder)}
    graphs = {path.stem: parse(read_text(path), path) for path in graph_files(folder)}
    return Corpus(
        str(folder),
        levels,
        {name: parsed.graph for name, parsed in graphs.items()},
        notes=tuple(note for parsed in graphs.values() for note in parsed.notes),
    )


def _files(folder: Path, inner: str, ending: str) -> list[Path]:
    place = folder / inner if (folder / inner).is_dir() else folder
    paths = sorted(path for path in place.glob(f"*{ending}") if path.is_file() and path.stem.lower() not in NO_LEVELS)
    if not 0 < len(paths) <= MOST_FILES:
        raise outlast.DataError(
            f"{place} has {len(paths)} files *{ending}; expected 1 to {MOST_FILES:,}. Name a folder that `outlast data "
            "get dungeon` wrote, or one like it."
        )
    return paths
