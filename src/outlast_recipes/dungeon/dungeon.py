"""A whole dungeon: its mission, where each room is, the tiles, and what lies and lives on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.dungeon.certificate import Certificate, check_certificate
from outlast_recipes.dungeon.conditions import RoomCondition
from outlast_recipes.dungeon.embedding import Layout
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.repair import WALKED, reached, targets
from outlast_recipes.dungeon.tiles import HEIGHT, STAIR, TILES, VOID, WIDTH, Room, decode, doors_of


class Thing(NamedTuple):
    """What lies or lives on a tile of a room: a label of the room in the mission graph."""

    room: str
    label: str
    row: int
    column: int


@dataclass(frozen=True)
class Dungeon:
    """A dungeon that was found to be sound by `check`.

    Attributes:
        graph: the mission.
        layout: the screen of each room, and which passages are stairs.
        rooms: room -> (16, 11) tiles. A wall to be bombed is a door here; the mission says what it is.
        things: what lies and lives in the rooms; a label of a room may occur several times there (monsters).
        certificate: steps that finish the mission.
        about: how it was made.
    """

    graph: MissionGraph
    layout: Layout
    rooms: Mapping[str, Room]
    things: tuple[Thing, ...]
    certificate: Certificate
    about: Mapping[str, int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)


def conditions(graph: MissionGraph, layout: Layout) -> dict[str, RoomCondition]:
    """What is asked of each room: doors to the rooms beside it that it has passages to, and a stair for stairs."""
    found = {}
    for room in graph.nodes:
        others = {other for rooms in graph.pairs if room in rooms for other in rooms - {room}}
        stairs = {other for other in others if frozenset((room, other)) in layout.stairs}
        sides = [layout.side(room, other) for other in others - stairs]
        found[room] = RoomCondition(frozenset(side for side in sides if side is not None), bool(stairs))
    return found


def whole_map(dungeon: Dungeon) -> NDArray[np.uint8]:
    """All screens as one array of tiles, (16 * rows, 11 * columns), with void where there is no room."""
    rows, columns = dungeon.layout.size
    tiles: NDArray[np.uint8] = np.full((HEIGHT * rows, WIDTH * columns), VOID, np.uint8)
    for name, (row, column) in dungeon.layout.cells.items():
        tiles[HEIGHT * row : HEIGHT * (row + 1), WIDTH * column : WIDTH * (column + 1)] = dungeon.rooms[name]
    return tiles


def level_text(dungeon: Dungeon) -> str:
    """The tiles in the text format of the Video Game Level Corpus."""
    return "".join("".join(TILES[tile] for tile in row) + "\n" for row in whole_map(dungeon))


def graph_text(graph: MissionGraph) -> str:
    """The mission graph in DOT, with the labels of the Video Game Level Corpus."""
    nodes = [f'{room} [label="{",".join(sorted(labels))}"]' for room, labels in graph.nodes.items()]
    edges = [f'{one} -> {other} [label="{",".join(sorted(labels))}"]' for one, other, labels in graph.edges]
    return "\n".join(["digraph {", *nodes, *edges, "}"]) + "\n"


def check(dungeon: Dungeon) -> None:
    """Look whether the parts of a dungeon agree, each room can be walked, and the certificate finishes the mission.

    Raises:
        outlast.DataError: the first thing that is wrong.
    """
    names = set(dungeon.graph.nodes)
    if set(dungeon.rooms) != names or set(dungeon.layout.cells) != names:
        raise outlast.DataError("The rooms with tiles, with screens and of the mission are not the same ones.")
    if len(set(dungeon.layout.cells.values())) != len(names):
        raise outlast.DataError("Two rooms of the dungeon are on the same screen.")
    for rooms in dungeon.graph.pairs:
        one, other = sorted(rooms)
        if rooms not in dungeon.layout.stairs and dungeon.layout.side(one, other) is None:
            raise outlast.DataError(
                f"The rooms {one} and {other} have a passage; expected them side by side, or stairs between them."
            )
    for room, asked in conditions(dungeon.graph, dungeon.layout).items():
        _check_room(dungeon, room, asked)
    check_certificate(dungeon.graph, dungeon.certificate)


def _check_room(dungeon: Dungeon, name: str, asked: RoomCondition) -> None:
    room = dungeon.rooms[name]
    if doors_of(room) != asked.doors or (room == STAIR).sum() != asked.stairs:
        raise outlast.DataError(
            f"The room {name} has doors at {_sides(doors_of(room))} and {(room == STAIR).sum()} stairs; its passages "
            f"need doors at {_sides(asked.doors)} and {int(asked.stairs)} stairs."
        )
    if sum(name in stairs for stairs in dungeon.layout.stairs) > 1:
        raise outlast.DataError(f"The room {name} has more than one passage by stairs.")
    things = [thing for thing in dungeon.things if thing.room == name]
    if {thing.label for thing in things} != dungeon.graph.nodes[name]:
        raise outlast.DataError(f"The things in the room {name} are not those that its labels name.")
    ends = targets(asked.doors, room)
    near = reached(room, ends[0])
    for row, column in (*ends, *((thing.row, thing.column) for thing in things)):
        if (row, column) not in near or room[row, column] not in WALKED:
            raise outlast.DataError(
                f"A player in the room {name} cannot walk to row {row}, column {column} (tile "
                f"{decode(room)[row][column]})."
            )


def _sides(doors: frozenset[str]) -> str:
    return ", ".join(sorted(doors)) or "no side"
