"""`outlast play dungeon FILE`: a walk through a dungeon in the terminal."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from outlast_recipes.dungeon.dungeon_file import certificate_text, read_dungeon
from outlast_recipes.dungeon.game import Game
from outlast_recipes.dungeon.tiles import Side

SIDES: dict[str, Side] = {"w": "N", "d": "E", "s": "S", "a": "W"}
HELP = (
    "Type letters, several if you like, and Enter: w up, s down, a left, d right, x stairs, m map, q quit.",
    "@ you  e monsters  m mini-boss  b boss  p puzzle  k small key  K boss key  I key item  i bombs or other  * goal",
    "In a door: k K I S its lock, = a shutter (do everything in the room), ? a wall to be bombed.",
)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="dungeon.json of `outlast generate dungeon`")
    parser.add_argument("--solution", action="store_true", help="print the steps of the certificate instead")


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterable[str]:
    dungeon = read_dungeon(values.file)
    if values.solution:
        yield from certificate_text(dungeon)
        return
    game = Game(dungeon)
    yield from HELP
    yield from _shown(game)
    for line in sys.stdin:
        if set(line.strip().lower()) - {*SIDES, "x", "m", "q", " "}:
            yield HELP[0]
        for letter in line.strip().lower():
            if letter == "q":
                yield f"Left after {game.steps} rooms. Next: outlast play dungeon {values.file} --solution"
                return
            yield from _told(game, letter)
            if game.won:
                yield f"Finished after {game.steps} rooms; the certificate has {len(dungeon.certificate)} steps."
                return
        yield from _shown(game)


def _told(game: Game, letter: str) -> Iterator[str]:
    if letter in SIDES:
        told = game.move(SIDES[letter])
        if told:
            yield told
    elif letter == "x":
        yield game.descend()
    elif letter == "m":
        yield from game.around()


def _shown(game: Game) -> Iterator[str]:
    yield from game.view()
    yield f"Room {game.room}; you have {game.inventory()}"
