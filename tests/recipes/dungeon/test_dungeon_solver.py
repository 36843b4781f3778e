"""The solver against a search without shortcuts, and certificates that lie."""

from __future__ import annotations

import random
from collections import Counter

import pytest

import outlast
from outlast_recipes.dungeon.certificate import Step, check_certificate
from outlast_recipes.dungeon.mission import Edge, MissionGraph
from outlast_recipes.dungeon.solver import can_get_stuck, keys_that_matter, locks_that_matter, solve
from tests import messages
from tests.recipes.dungeon import brute
from tests.recipes.dungeon.test_dungeon_mission import graph


def both(*passages: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    return [
        each for source, target, labels in passages for each in ((source, target, labels), (target, source, labels))
    ]


LOCKED = graph({"0": "s", "1": "k", "2": "t"}, *both(("0", "1", ""), ("0", "2", "k")))


def test_the_key_is_fetched_and_spent() -> None:
    certificate = solve(LOCKED)
    assert certificate == (Step("0", "1"), Step("1", "0"), Step("0", "2", key=True))
    check_certificate(LOCKED, certificate)


@pytest.mark.parametrize(
    ("nodes", "passages", "bombs", "solvable"),
    [
        ({"1": "e"}, both(("0", "1", ""), ("0", "9", "k")), True, False),
        ({"1": "k"}, both(("0", "1", "k"), ("0", "9", "k")), True, False),
        ({"1": "k"}, both(("0", "1", ""), ("0", "9", "kI")), True, False),
        ({"1": "K"}, both(("0", "1", ""), ("0", "9", "K")), True, True),
        ({"1": "k"}, both(("0", "1", ""), ("0", "9", "K")), True, False),
        ({"1": "I"}, both(("0", "1", ""), ("0", "9", "I")), True, True),
        ({"1": "i"}, both(("0", "1", ""), ("0", "9", "b")), False, True),
        ({"1": "e"}, both(("0", "1", ""), ("0", "9", "b")), False, False),
        ({"1": "e"}, both(("0", "1", ""), ("0", "9", "b")), True, True),
        ({"1": "S"}, both(("0", "1", ""), ("0", "9", "S")), True, True),
        ({"1": "S"}, both(("0", "1", ""), ("0", "9", ["S1"])), True, True),
        ({"1": "S", "2": ["S1"]}, both(("0", "1", ""), ("0", "9", ["S1"])), True, False),
        ({"1": "p"}, both(("0", "1", ""), ("0", "9", "S")), True, True),
        ({"1": "e"}, both(("0", "1", ""), ("0", "9", "S")), True, False),
        ({}, both(("0", "9", "s")), True, False),
        ({}, [("0", "9", "l"), ("9", "0", "")], True, False),
        ({"1": "e"}, [("0", "1", ""), ("1", "9", "l"), ("9", "1", "")], True, True),
        ({}, both(("0", "9", "l")), True, True),
        ({"1": "k"}, [("0", "1", ""), *both(("0", "9", "k"))], True, False),
        ({"1": "k", "2": ""}, [("0", "1", ""), ("1", "2", ""), ("2", "0", ""), *both(("0", "9", "k"))], True, True),
    ],
)
def test_what_each_passage_asks_for(nodes, passages, bombs, solvable) -> None:
    made = graph({"0": "s", **nodes, "9": "t"}, *passages, bombs=bombs)
    certificate = solve(made)
    assert (certificate is not None) == solvable
    if certificate is not None:
        check_certificate(made, certificate)


def random_mission(rng: random.Random, *, symmetric: bool) -> MissionGraph:
    rooms = rng.randint(3, 7)
    nodes = {str(room): "".join(rng.sample("ekkkKIiSp", rng.choice((1, 1, 2, 3)))) for room in range(rooms)}
    nodes["0"], nodes[str(rooms - 1)] = "s", "t"
    passages = []
    for one in range(rooms):
        for other in range(one):
            if other == one - 1 or rng.random() < 0.2:
                label = rng.choice(("", "", "k", "k", "k", "k", "K", "I", "b", "S", "kl"))
                passages.append((str(one), str(other), label + ("" if symmetric else rng.choice(("", "", "l")))))
                if symmetric or rng.random() < 0.9:
                    passages.append((str(other), str(one), label))
    return graph(nodes, *passages, bombs=rng.random() < 0.3)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_solver_says_what_trying_everything_says(symmetric) -> None:
    rng = random.Random(5)
    seen: Counter[tuple[bool, bool]] = Counter()
    for _ in range(1500):
        mission = random_mission(rng, symmetric=symmetric)
        certificate, (solvable, stuck) = solve(mission), brute.everything(mission)
        assert (certificate is not None) == solvable, mission
        # A player who takes a passage without a way back too early gets stuck more often than the one who is asked for.
        assert can_get_stuck(mission) == stuck if symmetric else can_get_stuck(mission) <= stuck, mission
        seen[solvable, stuck] += 1
        if certificate is not None:
            check_certificate(mission, certificate)
    assert min(seen[True, True], seen[True, False], seen[False, True]) > 20, seen


def test_wasting_a_key_is_found() -> None:
    made = graph({"0": "sk", "1": "i", "9": "t"}, *both(("0", "1", "k"), ("0", "9", "k")))
    assert solve(made) is not None
    assert can_get_stuck(made)
    assert not can_get_stuck(LOCKED)


def test_locks_and_keys_that_matter_are_counted() -> None:
    made = graph({"0": "sk", "1": "k", "2": "i", "9": "t"}, *both(("0", "1", ""), ("0", "2", "b"), ("0", "9", "k")))
    assert locks_that_matter(made) == (1, 2)
    assert keys_that_matter(made) == (0, 2)
    assert keys_that_matter(LOCKED) == (1, 1)
    # Both locks have the same label, and only one of them is on the way.
    twice = graph({"0": "sk", "1": "k", "2": "i", "9": "t"}, *both(("0", "1", ""), ("0", "2", "k"), ("0", "9", "k")))
    assert locks_that_matter(twice) == (1, 2)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Step("0", "2"),), messages.says("dungeon/step-closed", number=1, target=2, label="k")),
        ((Step("0", "2", key=True),), messages.says("dungeon/step-without-a-key", number=1, target=2)),
        ((Step("0", "1", key=True),), messages.says("dungeon/step-without-a-lock", number=1, source=0, target=1)),
        (
            (Step("0", "1"), Step("0", "2", key=True)),
            messages.says("dungeon/step-from-elsewhere", number=2, source=0, room=1),
        ),
        ((Step("1", "2"),), messages.says("dungeon/step-from-elsewhere", number=1, source=1, room=0)),
        ((Step("x", "y"),), messages.says("dungeon/step-of-no-room", source="x", target="y")),
        ((Step("0", "1"),), messages.says("dungeon/certificate-ends-early", room=1)),
        ((), messages.says("dungeon/certificate-ends-early", room=0)),
    ],
)
def test_a_certificate_that_lies_is_refused(steps, message) -> None:
    with messages.raises(outlast.DataError, message):
        check_certificate(LOCKED, steps)


@pytest.mark.parametrize(("label", "giver"), [("K", "K"), ("I", "I"), ("S", "S"), ("S1", "S1"), ("b", "i"), ("l", "e")])
def test_a_certificate_through_a_closed_passage_is_refused(label, giver) -> None:
    """What opens it lies in a room that the steps leave out; a shutter without anything to do never opens."""
    labels = {"0": {"s"}, "1": {giver}, "2": {"t"}}
    edges = (Edge("0", "1"), Edge("1", "0"), Edge("0", "2", frozenset({label})))
    made = MissionGraph({room: frozenset(each) for room, each in labels.items()}, edges, bombs=False)
    with messages.raises(outlast.DataError, "dungeon/step-closed", number=1, target=2, label=label):
        check_certificate(made, (Step("0", "2"),))
    if label != "l":
        check_certificate(made, (Step("0", "1"), Step("1", "0"), Step("0", "2")))


def test_a_certificate_spends_no_key_on_an_open_lock() -> None:
    made = graph({"0": "sk", "1": "k", "2": "", "9": "t"}, *both(("0", "1", ""), ("0", "2", "k"), ("2", "9", "")))
    there = (Step("0", "1"), Step("1", "0"), Step("0", "2", key=True))
    check_certificate(made, (*there, Step("2", "0"), Step("0", "2"), Step("2", "9")))
    with messages.raises(outlast.DataError, "dungeon/step-without-a-lock", number=5, source=0, target=2):
        check_certificate(made, (*there, Step("2", "0"), Step("0", "2", key=True), Step("2", "9")))


def test_a_mission_without_a_goal_is_refused() -> None:
    with messages.raises(outlast.DataError, "dungeon/no-goal"):
        solve(graph({"0": "s"}))


def test_a_mission_that_is_too_big_to_decide_is_refused(monkeypatch) -> None:
    from outlast_recipes.dungeon import solver

    monkeypatch.setattr(solver, "MOST_STATES", 1)
    with messages.raises(outlast.DataError, "dungeon/too-many-states"):
        solve(LOCKED)
