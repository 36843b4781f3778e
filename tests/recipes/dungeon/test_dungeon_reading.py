"""Levels of text, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import outlast
from outlast_recipes.dungeon.reading import LARGEST, level_lines, read_level
from outlast_recipes.dungeon.tiles import decode
from tests import messages

ROOM = ["W" * 11, "WWWWDDDWWWW", *["WWFFFFFFFWW"] * 5, *["WWFFBFFFFDW"] * 2, *["WWFFFFFFFWW"] * 5, *["W" * 11] * 2]
VOID = ["-" * 11] * 16


def level(tmp_path: Path, *rows: list[list[str]], change: tuple[int, str] | None = None, end: str = "\n") -> Path:
    """A file with rooms in rows; `change` is the number of a line, and what stands there instead."""
    lines = ["".join(room[line] for room in row) for row in rows for line in range(16)]
    if change:
        lines[change[0] - 1] = change[1]
    path = tmp_path / "tloz3_2.txt"
    path.write_bytes(end.join([*lines, ""]).encode("latin-1"))
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rooms_have_their_places(tmp_path: Path, end: str) -> None:
    found = read_level(level(tmp_path, [ROOM, VOID, ROOM], [VOID, VOID, ROOM], end=end))
    assert found.name == "tloz3_2"
    assert [(room.row, room.column) for room in found.rooms] == [(0, 0), (0, 2), (1, 2)]
    assert all(decode(room.tiles) == ROOM for room in found.rooms)
    assert found.rooms[1].place == "tloz3_2, room 0 2"


def test_a_level_is_written_as_it_is_read(tmp_path: Path) -> None:
    path = level(tmp_path, [ROOM, VOID, ROOM], [VOID, VOID, ROOM])
    assert level_lines(read_level(path)) == path.read_text().splitlines()


def test_neighbours_are_those_beside_a_room(tmp_path: Path) -> None:
    found = read_level(level(tmp_path, [VOID, ROOM, ROOM], [ROOM, ROOM, VOID]))
    middle = next(room for room in found.rooms if (room.row, room.column) == (0, 1))
    assert set(found.neighbours(middle)) == {"E", "S"}
    assert set(found.neighbours(found.rooms[-1])) == {"N", "W"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((1, "W" * 23), messages.says("dungeon/no-grid", lines=16, letters=23)),
        ((1, ""), messages.says("dungeon/no-grid", lines=16, letters=0)),
        ((7, "W" * 21), messages.says("dungeon/line-of-another-length", line=7, letters=21, expected=22)),
        ((16, "W" * 21 + "X"), messages.says("dungeon/letter-of-no-tile", line=16, column=22, letter="'X'")),
        ((9, "W" * 21 + "\xe9"), messages.says("dungeon/no-plain-text", line=9, byte="0xe9")),
    ],
)
def test_a_file_that_is_no_level_is_refused(tmp_path: Path, change: tuple[int, str], message: messages.Message) -> None:
    with messages.raises(outlast.DataError, message):
        read_level(level(tmp_path, [ROOM, ROOM], change=change))


def test_a_level_without_rooms_is_refused(tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "dungeon/void-only"):
        read_level(level(tmp_path, [VOID]))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "dungeon/unreadable", file="lost.txt"):
        read_level(tmp_path / "lost.txt")
    large = tmp_path / "large.txt"
    large.write_bytes(b"W" * (LARGEST + 1))
    with messages.raises(outlast.DataError, "dungeon/file-too-large", file="large.txt"):
        read_level(large)
