"""Reads mission graphs: the subset of DOT that the Video Game Level Corpus uses.

    digraph {
    7 [label="s"]
    8 [label="e,k"]
    7 -> 8 [label="k"]
    }

Labels of the corpus run over the end of a line, lack a comma ("ei"), or have one too many ("e,,p"). They are read as
they are meant, and `parse` says which ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import outlast
from outlast_recipes.dungeon.mission import EDGE_LABELS, NODE_LABELS, Edge, MissionGraph
from outlast_recipes.dungeon.reading import read_text

MOST = 10_000
"""Rooms and passages of a graph that is read. The largest of the corpus has 62 rooms and 158 passages."""

_NAME = r"[A-Za-z_0-9]{1,40}"
_STATEMENT = re.compile(
    rf"(?P<a>{_NAME})\s*(?:->\s*(?P<b>{_NAME})\s*)?\[\s*label\s*=\s*\"(?P<label>[^\"]{{0,200}})\"\s*\]\s*;?\s*"
)
_HEAD = re.compile(rf"\s*digraph(?:\s+{_NAME})?\s*\{{\s*")


class Parsed(NamedTuple):
    """A graph, and what was read otherwise than it is written.

    Attributes:
        graph: rooms and passages.
        notes: sentences with line numbers.
    """

    graph: MissionGraph
    notes: tuple[str, ...]


def read_graph(path: Path) -> MissionGraph:
    """The mission graph in a DOT file.

    Raises:
        outlast.DataError: the file cannot be read, is no such graph, or has an unknown label.
    """
    return parse(read_text(path), path).graph


def parse(text: str, path: Path) -> Parsed:
    """The mission graph of a text, with notes. `path` is named in notes and errors.

    Raises:
        outlast.DataError: it is no such graph, or has an unknown label.
    """
    nodes: dict[str, frozenset[str]] = {}
    edges: dict[tuple[str, str], frozenset[str]] = {}
    notes: list[str] = []
    for line, (source, target, label) in _statements(text, path):
        labels, note = _labels(label, EDGE_LABELS if target else NODE_LABELS)
        if note:
            notes.append(f"{path}:{line}: the label {label!r} {note}; read as {','.join(sorted(labels))!r}")
        if target:
            known, what = edges.setdefault((source, target), labels), f"the passage {source} -> {target}"
        else:
            known, what = nodes.setdefault(source, labels), f"the room {source}"
        if known != labels:
            raise outlast.DataError(
                f"{path}:{line}: {what} occurs a second time, with other labels; expected one. Keep one of them."
            )
        if len(nodes) + len(edges) > MOST:
            raise outlast.DataError(
                f"{path}:{line}: the graph has more than {MOST:,} rooms and passages; expected one of a dungeon."
            )
    try:
        graph = MissionGraph(nodes, tuple(Edge(*pair, labels) for pair, labels in edges.items()))
    except outlast.DataError as error:
        raise outlast.DataError(f"{path}: {error}") from error
    if len(graph.goals) > 1:
        notes.append(f"{path}: {len(graph.goals)} rooms are goals: {', '.join(graph.goals)}; reaching one suffices")
    return Parsed(graph, tuple(notes))


def dot_lines(graph: MissionGraph) -> list[str]:
    """The lines of a graph, as `read_graph` reads them."""
    return [
        "digraph {",
        *(f'{node} [label="{",".join(sorted(labels))}"]' for node, labels in graph.nodes.items()),
        *(f'{edge.source} -> {edge.target} [label="{",".join(sorted(edge.labels))}"]' for edge in graph.edges),
        "}",
    ]


def _statements(text: str, path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Line of each statement, and its names and label; the second name of a room is empty."""
    head = _HEAD.match(text)
    if head is None:
        raise outlast.DataError(f"{path}:1: the file does not begin with 'digraph {{'; expected a graph in DOT.")
    at = head.end()
    line = text.count("\n", 0, at) + 1
    while found := _STATEMENT.match(text, at):
        yield line, (found["a"], found["b"] or "", found["label"])
        line += text.count("\n", at, found.end())
        at = found.end()
    if text[at:].strip() != "}":
        rest = text[at:].split("\n", 1)[0][:60]
        raise outlast.DataError(
            f'{path}:{line}: {rest!r} is neither a room nor a passage; expected NAME [label="..."], '
            "NAME -> NAME [label=\"...\"], or '}' at the end. Correct the line."
        )


def _labels(text: str, known: Mapping[str, str]) -> tuple[frozenset[str], str]:
    """The labels in a text, and what is odd about it."""
    words = text.split(",")
    odd = []
    if text != text.strip():
        odd.append("runs over the end of its line" if "\n" in text else "has spaces")
    if len(words) > 1 and not all(word.strip() for word in words):
        odd.append("has a comma too many")
    labels: list[str] = []
    for word in filter(None, (word.strip() for word in words)):
        parts = [word] if word in known else _parts(word, known)
        if len(parts) > 1:
            odd.append("lacks a comma")
        labels += parts
    return frozenset(labels), " and ".join(odd)


def _parts(word: str, known: Mapping[str, str]) -> list[str]:
    """The labels of a word without commas; the word itself if there is a letter which is none."""
    parts = re.findall("|".join(sorted(map(re.escape, known), key=len, reverse=True)), word)
    return parts if "".join(parts) == word else [word]
