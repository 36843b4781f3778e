"""Mission graphs of DOT, with the dirt of the corpus, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import outlast
from outlast_recipes.dungeon import graphs
from outlast_recipes.dungeon.graphs import dot_lines, parse, read_graph
from tests import messages

PATH = Path("LoZ_5.dot")


def graph(*lines: str, head: str = "digraph {", end: str = "}") -> str:
    return "\n".join([head, *lines, end, ""])


def test_rooms_and_passages() -> None:
    found = parse(
        graph('7 [label="s"]', '8 [label="e,k"]', '9 [label=""]', '7 -> 8 [label=""]', '8->9[label="k,l"];'), PATH
    )
    assert dict(found.graph.nodes) == {"7": {"s"}, "8": {"e", "k"}, "9": set()}
    assert found.graph.edges == (("7", "8", frozenset()), ("8", "9", frozenset("kl")))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("label", "labels", "message"),
    [
        ("e,k\n", {"e", "k"}, messages.says("dungeon/label-over-the-line", label=repr("e,k\n"), read="e,k")),
        ("ei", {"e", "i"}, messages.says("dungeon/label-without-comma", label="'ei'", read="e,i")),
        ("ep", {"e", "p"}, messages.says("dungeon/label-without-comma", label="'ep'", read="e,p")),
        ("eS1", {"e", "S1"}, messages.says("dungeon/label-without-comma", label="'eS1'", read="S1,e")),
        ("e,,p", {"e", "p"}, messages.says("dungeon/label-with-comma", label="'e,,p'", read="e,p")),
        ("m,", {"m"}, messages.says("dungeon/label-with-comma", label="'m,'", read="m")),
    ],
)
def test_dirty_labels_are_read_as_they_are_meant(label: str, labels: set[str], message: messages.Message) -> None:
    found = parse(graph('7 [label="s"]', f'17 [label="{label}"]', '7 -> 17 [label=""]'), PATH)
    assert found.graph.nodes["17"] == labels
    assert list(found.graph.nodes) == ["7", "17"]
    assert len(found.graph.edges) == 1, "what comes after the dirt is read"
    messages.said(found.notes, message, line=3)


def test_two_goals_are_noted() -> None:
    found = parse(graph('1 [label="s"]', '2 [label="t"]', '3 [label="t"]'), PATH)
    messages.said(found.notes, "dungeon/several-goals", number=2, goals="2, 3")


def test_a_statement_that_is_repeated_says_nothing_new() -> None:
    found = parse(graph('1 [label="s"]', '1 [label="s"]', '2 [label="t"]', *['1 -> 2 [label="k"]'] * 2), PATH)
    assert len(found.graph.edges) == 1


def test_a_graph_is_written_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.dot"
    path.write_text(graph('7 [label="s"]', '8 [label="e,k"]', '7 -> 8 [label=""]', '8 -> 7 [label="b"]'))
    found = read_graph(path)
    assert dot_lines(found) == path.read_text().splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (graph(head="graph {"), messages.says("dungeon/no-digraph")),
        ("", messages.says("dungeon/no-digraph")),
        (graph('1 [label="s"]', "1 -- 2"), messages.says("dungeon/no-statement", line=3, text="'1 -- 2'")),
        (graph('1 [label="s"]', end=""), messages.says("dungeon/no-statement", line=4, text="''")),
        (
            graph('1 [label="s"]', 'x [shape="a"]'),
            messages.says("dungeon/no-statement", line=3, text="'x [shape=\"a\"]'"),
        ),
        (graph('1 [label="s"]', '1 [label="t"]'), messages.says("dungeon/room-twice", line=3, room=1)),
        (
            graph('1 [label="s"]', '2 [label=""]', '1 -> 2 [label="k"]', '1 -> 2 [label="b"]'),
            messages.says("dungeon/passage-with-other-labels", line=5, source=1, target=2),
        ),
        (graph('1 [label="s"]', '2 [label="z"]'), messages.says("dungeon/file-unknown-label", label="'z'", room=2)),
        (graph('1 [label="s"]', '1 -> 2 [label=""]'), messages.says("dungeon/file-unknown-room", room=2)),
    ],
)
def test_a_text_that_is_no_mission_graph_is_refused(text: str, message: messages.Message) -> None:
    with messages.raises(outlast.DataError, message):
        parse(text, PATH)


def test_a_graph_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST", 5)
    with messages.raises(outlast.DataError, "dungeon/graph-too-large", line=7, most=5):
        parse(graph(*(f'{number} [label=""]' for number in range(8))), PATH)
