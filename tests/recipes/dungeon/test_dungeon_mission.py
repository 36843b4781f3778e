"""Mission graphs: what they hold, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import outlast
from outlast_recipes.dungeon.mission import Edge, MissionGraph
from tests import messages


def graph(nodes: dict[str, Iterable[str]], *edges: tuple[str, str, Iterable[str]], bombs: bool = True) -> MissionGraph:
    """Labels as texts: {"0": "s"} and ("0", "1", "k")."""
    return MissionGraph(
        {node: frozenset(labels) for node, labels in nodes.items()},
        tuple(Edge(source, target, frozenset(labels)) for source, target, labels in edges),
        bombs,
    )


def test_rooms_and_passages_are_found() -> None:
    made = graph({"0": "s", "1": "ek", "2": "t"}, ("0", "1", ""), ("1", "0", "l"), ("1", "2", "k"))
    assert made.start == "0"
    assert made.goals == ("2",)
    assert made.having("k") == ("1",)
    assert made.leaving["1"] == (Edge("1", "0", frozenset("l")), Edge("1", "2", frozenset("k")))
    assert made.leaving["2"] == ()
    assert made.pairs == {frozenset("01"): frozenset("l"), frozenset("12"): frozenset("k")}


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ({"0": "x"}, [], messages.says("dungeon/label-of-a-room", label="x", room="0")),
        (
            {"0": "", "1": ""},
            [("0", "1", "x")],
            messages.says("dungeon/label-of-a-passage", label="x", source="0", target="1"),
        ),
        ({"0": ""}, [("0", "1", "")], messages.says("dungeon/passage-to-no-room", source="0", target="1")),
        ({"0": ""}, [("0", "0", "")], messages.says("dungeon/passage-to-itself", room="0")),
        (
            {"0": "", "1": ""},
            [("0", "1", ""), ("0", "1", "k")],
            messages.says("dungeon/passage-twice", source="0", target="1"),
        ),
    ],
)
def test_what_is_wrong_is_refused(nodes, edges, message) -> None:
    with messages.raises(outlast.DataError, message):
        graph(nodes, *edges)


def test_a_start_is_needed() -> None:
    with messages.raises(outlast.DataError, "dungeon/no-one-start", count=2):
        _ = graph({"0": "s", "1": "s"}).start
