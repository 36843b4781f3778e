"""Reads the levels of a corpus: text files that are grids of rooms, as those of the Video Game Level Corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import outlast
from outlast_recipes.common.plain_file import open_plain
from outlast_recipes.dungeon.tiles import HEIGHT, TILES, VOID, WIDTH, Room, Side, decode, encode

LARGEST = 1_000_000
"""Bytes of a level or graph that is read. The largest of the corpus has 11,392."""

_BESIDE: dict[Side, tuple[int, int]] = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}


class LevelRoom(NamedTuple):
    """A room and its place.

    Attributes:
        level: name of the level.
        row: of the grid of rooms, from 0.
        column: likewise.
        tiles: (16, 11).
    """

    level: str
    row: int
    column: int
    tiles: Room

    @property
    def place(self) -> str:
        """For messages, such as "tloz1_1, room 0 2"."""
        return f"{self.level}, room {self.row} {self.column}"


@dataclass(frozen=True)
class Level:
    """The rooms of one dungeon.

    Attributes:
        name: of the file, without its ending.
        rooms: by row and column. Places of the grid that hold void only have no room.
    """

    name: str
    rooms: tuple[LevelRoom, ...]

    def neighbours(self, room: LevelRoom) -> Mapping[Side, Room]:
        """The rooms beside a room, by side, whether a door leads there or not."""
        placed = {(other.row, other.column): other.tiles for other in self.rooms}
        beside = {side: (room.row + down, room.column + right) for side, (down, right) in _BESIDE.items()}
        return {side: placed[place] for side, place in beside.items() if place in placed}


def read_level(path: Path) -> Level:
    """The level in a text file.

    Raises:
        outlast.DataError: the file cannot be read, is no grid of rooms, or has a letter that is no tile.
    """
    lines = read_text(path).splitlines()
    width = len(lines[0]) if lines else 0
    if not width or width % WIDTH or len(lines) % HEIGHT:
        raise outlast.DataError(
            f"{path} has {len(lines)} lines, and {width} letters in the first; expected a multiple of {HEIGHT} lines "
            f"and of {WIDTH} letters. Correct the file, or move it out of the folder."
        )
    for number, line in enumerate(lines, 1):
        if len(line) != width:
            raise outlast.DataError(
                f"{path}:{number}: {len(line)} letters; expected {width}, as in line 1. Correct the line."
            )
        wrong = next((column for column, letter in enumerate(line) if letter not in TILES), None)
        if wrong is not None:
            raise outlast.DataError(
                f"{path}:{number}: {line[wrong]!r} in column {wrong + 1} is no tile; expected one of {TILES}. Correct "
                "the letter."
            )
    rooms = []
    for row in range(len(lines) // HEIGHT):
        for column in range(width // WIDTH):
            block = [line[column * WIDTH :][:WIDTH] for line in lines[row * HEIGHT :][:HEIGHT]]
            tiles = encode(block)
            if np.any(tiles != VOID):
                rooms.append(LevelRoom(path.stem, row, column, tiles))
    if not rooms:
        raise outlast.DataError(f"{path} has void only; expected a level with rooms. Move the file out of the folder.")
    return Level(path.stem, tuple(rooms))


def level_lines(level: Level) -> list[str]:
    """The lines of a level, as `read_level` reads them."""
    rows, columns = (1 + max(place) for place in zip(*((room.row, room.column) for room in level.rooms), strict=True))
    lines = [[TILES[VOID] * WIDTH] * columns for _ in range(rows * HEIGHT)]
    for room in level.rooms:
        for number, line in enumerate(decode(room.tiles)):
            lines[room.row * HEIGHT + number][room.column] = line
    return ["".join(line) for line in lines]


def read_text(path: Path) -> str:
    """The text of a small file.

    Raises:
        outlast.DataError: it cannot be read, is larger than `LARGEST`, or is no ASCII text.
    """
    try:
        with open_plain(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise outlast.DataError(f"{path} cannot be read: {error.strerror}. Check the path and its rights.") from error
    if len(content) > LARGEST:
        raise outlast.DataError(
            f"{path} has more than {LARGEST:,} bytes; expected a level or a graph, which is smaller. Move the file out "
            "of the folder."
        )
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise outlast.DataError(
            f"{path}:{line}: the byte {content[error.start]:#04x} is no ASCII text; expected a level or a graph. Save "
            "the file as plain text."
        ) from error
