"""Batch size, epochs and frames follow the training set where they are not given, and a run keeps its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import outlast
from outlast.cli import show
from outlast.recipe.prepare import Request, prepare
from outlast.recipe.registry import find
from outlast.run.attempt import Attempt
from outlast_recipes.skeleton import sizing, training
from outlast_recipes.skeleton.config import Config
from outlast_recipes.skeleton.model import Last
from outlast_recipes.skeleton.saved import restored
from tests import messages
from tests.durability.digits import train
from tests.recipes import skeletons

GIVEN = ("batch_size", "epochs", "data.frames")
"""What `skeletons.TINY` gives and a test here does not."""
SMALL = {key: value for key, value in skeletons.TINY.items() if key not in GIVEN}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What runs tell."""
    said: list[str] = []
    monkeypatch.setattr(Attempt, "tell", lambda _, _level, sentence: said.append(sentence))
    return said


@pytest.mark.parametrize(
    "expected",
    [(100, 28, 8, 60, 32, 1.0), (1, 1, 2, 40, 32, 1.0), (5, 44, 5, 40, 48, 1.0), (1_000, 38, 16, 100, 40, 1.0),
     (40_000, 90, 128, 200, 64, 0.0), (10**6, 64, 128, 200, 64, 0.0)],
)  # fmt: skip
def test_the_rule(expected: tuple[int, ...]) -> None:
    clips, length, *_ = expected
    found = sizing.by_set([length] * clips)
    assert found == sizing.Sized(*expected)
    assert Config(batch_size=found.batch_size, epochs=found.epochs, data={"frames": found.frames})


def test_larger_sets_have_no_smaller_batches_and_no_fewer_steps() -> None:
    sizes = [sizing.by_set([40] * clips) for clips in (50, 99, 200, 500, 1_000, 5_000, 20_000, 100_000)]
    for one, other in pairwise(sizes):
        assert one.batch_size <= other.batch_size
        assert one.epochs * one.clips // one.batch_size <= other.epochs * other.clips // other.batch_size


def test_a_value_that_is_given_wins_over_the_runs_and_the_runs_over_the_rule() -> None:
    rule = sizing.by_set([28] * 100)
    given = sizing.given(Config(epochs=3, data={"frames": 24}))
    assert given == {"epochs": 3, "frames": 24}
    assert sizing.given(Config(augment={"yaw": 0})) == {"yaw": 0.0}, "nothing is a value, too"
    begun = replace(rule, batch_size=4, frames=16, epochs=9).record()
    assert sizing.settled(given, rule, begun) == replace(rule, batch_size=4, epochs=3, frames=24)
    assert sizing.settled({}, rule) == rule
    messages.said([sizing.explained({}, rule)], "skeleton/sized", batch=8, epochs=rule.epochs, frames=32, clips=100)
    all_but_one = {**given, "yaw": 0.5}
    messages.said([sizing.explained(all_but_one, rule)], "skeleton/sized-batch", batch=8, clips=100)
    assert sizing.explained({"batch_size": 1, "epochs": 1, "frames": 8, "yaw": 0.0}, rule) == ""


def test_a_run_keeps_what_it_began_with_when_the_rule_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    store = skeletons.store(tmp_path / "store").folder
    flags = {"small": SMALL | {"data_root": str(store)}, "recipe": "skeleton"}
    rules = iter([(8, 2, 24, 1.0), (16, 3, 32, 0.0)])

    def rule(lengths: list[int]) -> sizing.Sized:
        return sizing.Sized(len(lengths), 16, *next(rules))

    monkeypatch.setattr("outlast_recipes.skeleton.data.by_set", rule)
    assert train(tmp_path / "runs", stop_after=2, **flags) == "preempted"
    assert train(tmp_path / "runs", **flags) == "finished"
    first, second = (sentence for sentence in told if sentence.startswith("36 training clips"))
    assert first == second
    messages.said([first], "skeleton/sized-run", batch=8, epochs=2, frames=24, clips=36)
    saved = outlast.open_saved("skeleton", root=tmp_path / "runs")
    assert saved.step == 8
    assert saved.part("labels")["sized"] == sizing.Sized(36, 16, 8, 2, 24, 1.0).record()
    network, labels = restored(saved)
    assert labels.frames(saved.config) == 24, "known without the data, too"
    assert isinstance(network, Last)


def test_a_run_of_a_version_that_recorded_none_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    store = skeletons.store(tmp_path / "store").folder
    flags = {"small": skeletons.TINY | {"data_root": str(store), "augment.yaw": "0"}, "recipe": "skeleton"}
    with monkeypatch.context() as patch:
        patch.setattr(sizing.Sized, "record", lambda _: None)
        assert train(tmp_path / "runs", stop_after=2, **flags) == "preempted"
    assert "sized" not in outlast.open_saved("skeleton", root=tmp_path / "runs").part("labels")
    assert train(tmp_path / "runs", epochs="1", **flags) == "finished"
    assert not [sentence for sentence in told if "not exact" in sentence or "a median of" in sentence]


def test_the_data_of_a_training_without_flags_are_described(tmp_path: Path) -> None:
    store = skeletons.store(tmp_path / "store").folder
    config = Config(data_root=store, data={"split": "xview", "validate_subjects": 1}, model={"size": "nano"})
    messages.said([training.check(config)], "skeleton/data-and-sizes", clips=72, frames=32)


def test_what_a_run_chooses_itself_is_not_shown_before(capsys: pytest.CaptureFixture[str]) -> None:
    show.heading(prepare(find("skeleton"), Request(flags={"seed": "7"})))
    said = capsys.readouterr().out
    assert "seed 7" in said
    assert "epochs" not in said
    assert "batch" not in said
