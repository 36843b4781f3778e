"""The file of a dungeon: JSON with everything that `Dungeon` has. It is not trusted: reading checks all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

import outlast
from outlast_recipes.common.plain_file import open_plain
from outlast_recipes.dungeon.certificate import Step
from outlast_recipes.dungeon.dungeon import Dungeon, Thing
from outlast_recipes.dungeon.embedding import Layout
from outlast_recipes.dungeon.mission import Edge, MissionGraph
from outlast_recipes.dungeon.tiles import HEIGHT, WIDTH, decode, encode

FORMAT = 1
MOST_BYTES = 2_000_000
MOST_ROOMS = 200
"""Rooms of a file; what is generated has fewer."""

_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_]{1,16}$")]
_Labels = Annotated[list[Annotated[str, pydantic.StringConstraints(max_length=2)]], pydantic.Field(max_length=12)]
_Place = Annotated[int, pydantic.Field(ge=0, lt=MOST_ROOMS)]
_Row = Annotated[int, pydantic.Field(ge=0, lt=HEIGHT)]
_Column = Annotated[int, pydantic.Field(ge=0, lt=WIDTH)]
_Word = Annotated[str, pydantic.StringConstraints(max_length=200)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class _RoomRecord(_Strict):
    cell: Annotated[list[_Place], pydantic.Field(min_length=2, max_length=2)]
    labels: _Labels
    tiles: Annotated[
        list[Annotated[str, pydantic.StringConstraints(max_length=WIDTH)]], pydantic.Field(max_length=HEIGHT)
    ]


class _PassageRecord(_Strict):
    source: _Name
    target: _Name
    labels: _Labels
    stairs: bool


class _ThingRecord(_Strict):
    room: _Name
    label: Annotated[str, pydantic.StringConstraints(max_length=2)]
    row: _Row
    column: _Column


class _StepRecord(_Strict):
    source: _Name
    target: _Name
    key: bool


class _Record(_Strict):
    format: Literal[1]
    about: Annotated[dict[_Name, int | float | _Word], pydantic.Field(max_length=20)]
    bombs: bool
    rooms: Annotated[dict[_Name, _RoomRecord], pydantic.Field(max_length=MOST_ROOMS)]
    passages: Annotated[list[_PassageRecord], pydantic.Field(max_length=8 * MOST_ROOMS)]
    things: Annotated[list[_ThingRecord], pydantic.Field(max_length=20 * MOST_ROOMS)]
    certificate: Annotated[list[_StepRecord], pydantic.Field(max_length=50 * MOST_ROOMS)]


def to_json(dungeon: Dungeon) -> str:
    """The text of a file."""
    record: dict[str, Any] = {
        "format": FORMAT,
        "about": dict(dungeon.about),
        "bombs": dungeon.graph.bombs,
        "rooms": {
            name: {
                "cell": list(dungeon.layout.cells[name]), "labels": sorted(labels),
                "tiles": decode(dungeon.rooms[name]),
            }
            for name, labels in dungeon.graph.nodes.items()
        },
        "passages": [
            {
                "source": edge.source, "target": edge.target, "labels": sorted(edge.labels),
                "stairs": frozenset(edge[:2]) in dungeon.layout.stairs,
            }
            for edge in dungeon.graph.edges
        ],
        "things": [thing._asdict() for thing in dungeon.things],
        "certificate": [step._asdict() for step in dungeon.certificate],
    }  # fmt: skip
    return json.dumps(record, indent=1) + "\n"


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file so that it is there whole, or not at all. One of that name is replaced.

    Raises:
        outlast.DataError: the system refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise outlast.DataError(f"{path} cannot be written: {error.strerror}. Give another folder.") from error


def read_dungeon(path: Path) -> Dungeon:
    """The dungeon of a file, after its certificate was followed and its rooms were walked.

    Raises:
        outlast.DataError: the file cannot be read, is no dungeon, or is one that cannot be finished as it says.
    """
    try:
        with open_plain(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise outlast.DataError(f"{path} cannot be read: {error.strerror}. Give a file dungeon.json.") from error
    if len(data) > MOST_BYTES:
        raise outlast.DataError(f"{path} has more than {MOST_BYTES:,} bytes; a dungeon has fewer.")
    try:
        record = _Record.model_validate_json(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"]) or "the text"
        raise outlast.DataError(
            f"{path} is no dungeon: {where}: {first['msg']}. Make one with `outlast generate dungeon`."
        ) from error
    try:
        return _dungeon(record)
    except outlast.DataError as error:
        raise outlast.DataError(f"{path} is refused: {error}") from error


def _dungeon(record: _Record) -> Dungeon:
    graph = MissionGraph(
        {name: frozenset(room.labels) for name, room in record.rooms.items()},
        tuple(Edge(each.source, each.target, frozenset(each.labels)) for each in record.passages),
        record.bombs,
    )
    stairs = frozenset(frozenset((each.source, each.target)) for each in record.passages if each.stairs)
    cells = {name: (room.cell[0], room.cell[1]) for name, room in record.rooms.items()}
    return Dungeon(
        graph,
        Layout(cells, stairs),
        {name: encode(room.tiles) for name, room in record.rooms.items()},
        tuple(Thing(each.room, each.label, each.row, each.column) for each in record.things),
        tuple(Step(each.source, each.target, each.key) for each in record.certificate),
        record.about,
    )


def certificate_text(dungeon: Dungeon) -> Iterable[str]:
    """The certificate in words, a line a step."""
    graph = dungeon.graph
    visited = {graph.start}
    yield f"Start in room {graph.start}."
    for number, step in enumerate(dungeon.certificate, 1):
        new = sorted(graph.nodes[step.target] - {"t", "s"}) if step.target not in visited else []
        visited.add(step.target)
        how = "by the stairs " if frozenset(step[:2]) in dungeon.layout.stairs else ""
        yield (
            f"{number}. {how}from {step.source} to {step.target}"
            + (", and spend a small key" if step.key else "")
            + (f"; there: {', '.join(new)}" if new else "")
            + ("; the goal" if step.target in graph.goals else "")
        )
