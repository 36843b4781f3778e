"""`outlast data check dungeon`: what a corpus has, what is wrong in it, and what the parts share."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import outlast
from outlast_recipes.common import problems as found_problems
from outlast_recipes.common.problems import Problems, counted
from outlast_recipes.dungeon import corpus
from outlast_recipes.dungeon.corpus import Corpus, canonical, distinct
from outlast_recipes.dungeon.graphs import parse
from outlast_recipes.dungeon.mission import MissionGraph
from outlast_recipes.dungeon.reading import Level, LevelRoom, read_level, read_text
from outlast_recipes.dungeon.solver import solve
from outlast_recipes.dungeon.tiles import TILES
from outlast_recipes.dungeon.validity import is_valid, problems

_NAMES = dict(
    zip(
        TILES,
        ("void", "floor", "wall", "block", "monster", "water or lava", "the same with floor", "the same with a block",
         "stair", "door"),
        strict=True,
    )
)  # fmt: skip


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder with levels (.txt) and mission graphs (.dot)")
    for name, default in (("test", corpus.HELD_OUT), ("validation", corpus.VALIDATION)):
        parser.add_argument(
            f"--{name}",
            default=",".join(default),
            metavar="N,N,...",
            help=f"numbers of the dungeons for {name} (default: {','.join(default)})",
        )
    found_problems.arguments(parser)


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    folder: Path = values.folder
    if not folder.is_dir():
        raise outlast.DataError(f"{folder} is not a folder; expected one with levels (.txt) and mission graphs (.dot).")
    found = Problems()
    read = _read(folder, found, progress)
    for room in read.rooms:
        for words in problems(room.tiles):
            found.warning("room", room.place, words)
    for name, graph in read.graphs.items():
        for words in _unfinished(graph):
            found.warning("mission", name, words)
    yield from _levels(read)
    yield ""
    yield from _graphs(read.graphs)
    yield ""
    yield from found.report(every=values.all)
    if found.errors:
        raise outlast.DataError(
            f"{folder} has {counted(len(found.errors), 'error')} and {counted(len(found.warnings), 'warning')}."
        )
    yield from _parts(read, values)
    yield f"{folder}: no errors, {counted(len(found.warnings), 'warning')}."


def _read(folder: Path, found: Problems, progress: Callable[[int, int], None]) -> Corpus:
    """The files that can be read; what is wrong with the others is told to `found`."""
    files = [*corpus.level_files(folder), *corpus.graph_files(folder)]
    levels: dict[str, Level] = {}
    graphs: dict[str, MissionGraph] = {}
    for number, path in enumerate(files, 1):
        try:
            if path.suffix == ".txt":
                levels[path.stem] = read_level(path)
            else:
                graphs[path.stem], notes = parse(read_text(path), path)
                for note in notes:
                    place, _, words = note.partition(": ")
                    found.warning("graph", place, words)
        except outlast.DataError as error:
            found.error("file", *_place_and_words(path, str(error)))
        progress(number, len(files))
    return Corpus(str(folder), levels, graphs)


def _levels(read: Corpus) -> Iterator[str]:
    yield f"{'level':20}{'rooms':>8}{'different':>11}{'valid':>8}{'strictly':>10}"
    for name, level in read.levels.items():
        yield _row(name, level.rooms)
    yield _row("all", read.rooms)
    counts = Counter(tile for room in read.rooms for tile in room.tiles.ravel().tolist())
    yield ""
    for number, letter in enumerate(TILES):
        yield f"  {letter} {_NAMES[letter]:24}{counts[number]:>10,}"


def _row(name: str, rooms: tuple[LevelRoom, ...]) -> str:
    valid = sum(is_valid(room.tiles) for room in rooms)
    strict = sum(is_valid(room.tiles, strict=True) for room in rooms)
    return f"{name[:20]:20}{len(rooms):>8}{len(distinct(rooms)):>11}{valid:>8}{strict:>10}"


def _graphs(graphs: Mapping[str, MissionGraph]) -> Iterator[str]:
    yield f"{'mission graph':20}{'rooms':>8}{'passages':>11}{'keys':>8}{'locks':>10}"
    for name, graph in graphs.items():
        keys = sum("k" in labels for labels in graph.nodes.values())
        locks = sum("k" in labels for labels in graph.pairs.values())
        yield f"{name[:20]:20}{len(graph.nodes):>8}{len(graph.pairs):>11}{keys:>8}{locks:>10}"


def _unfinished(graph: MissionGraph) -> Iterator[str]:
    """Why a mission cannot be finished."""
    try:
        if solve(graph) is None:
            yield "cannot be finished: no way from the start to a goal opens"
    except outlast.DataError as error:
        yield str(error)


def _parts(read: Corpus, values: Namespace) -> Iterator[str]:
    """The parts, and how many rooms de-duplication takes from the held-out dungeons."""
    test, validation = (
        [word.strip() for word in text.split(",") if word.strip()] for text in (values.test, values.validation)
    )
    parts = corpus.split(read, test, validation)
    yield (
        f"Parts without equal or mirrored rooms: {len(parts.train)} for training, {len(parts.validation)} for "
        f"validation (dungeons {', '.join(validation)}), {len(parts.test)} for test (dungeons {', '.join(test)})."
    )
    elsewhere = {canonical(room.tiles) for room in read.rooms} - {canonical(room.tiles) for room in parts.test}
    rooms = read.of(test)
    shared = sum(canonical(room.tiles) in elsewhere for room in rooms)
    yield (
        f"Of the {len(rooms)} rooms of the test dungeons, {shared} are in other dungeons too and not in the test part."
    )


def _place_and_words(path: Path, message: str) -> tuple[str, str]:
    """The file and line that a message begins with, and its words."""
    place = re.match(rf"{re.escape(str(path))}(:\d+)?", message)
    return (place[0], message[place.end() :].lstrip(": ")) if place else (str(path), message)
