"""The table of frameworks: a third one is a file and a line, and its runs resume to the last bit."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import messages
from tests.standins import tiny
from tests.standins.tiny_adapter import ADAPTER

import outlast
from outlast import state
from outlast.data import within
from outlast.errors import CorruptCheckpoint, ResumeRefused, StateError
from outlast.state import adapters, pack_value, rng, unpack_value
from outlast.state.array import Array, FrameworkArray, Pieces


@pytest.fixture
def registered() -> Iterator[None]:
    before = tuple(adapters.TABLE)
    adapters.register("tiny", "tests.standins.tiny", "tests.standins.tiny_adapter")
    tiny.shared.state = 11
    yield
    adapters.TABLE[:] = before
    adapters._owners.clear()


def train(open_: Callable[..., outlast.Run], name: str, total: int, rate: float = 0.25) -> outlast.Run:
    """Train a layer with noise from the shared dice and from dice of its own, beside a pytree."""
    layer, own = tiny.Layer(3, rate), tiny.Dice(5)
    with open_(name, total_steps=total, keep=outlast.Retention(last=9), save="1 step") as run:
        run.track(layer=layer, dice=own)
        mean = run.restore({"mean": tiny.Vector([0.0, 0.0])})
        for step in run.steps():
            noise = tiny.shared.roll() + own.roll()
            layer.step(noise)
            mean = {"mean": tiny.Vector([mean["mean"].values[0] + noise, step])}
            run.offer(mean)
            run.log(loss=sum(layer.weights.values))
    return run


def attempt(root: Path) -> dict:
    return json.loads(max((root / "attempts").iterdir()).read_text())


def contents(root: Path, step: int) -> dict[str, bytes]:
    folder = root / "checkpoints" / f"step-{step:08d}"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name != "MANIFEST.json"}


def test_a_run_of_a_third_framework_resumes_to_the_last_bit(registered, opened, tmp_path: Path) -> None:
    train(opened, "whole", 6)
    tiny.shared.state = 11
    train(opened, "cut", 2)
    for total in (5, 6):
        tiny.shared.state = 999  # another session has another state of it until the run restores its own
        train(opened, "cut", total)
        assert attempt(tmp_path / "cut")["resume"] | {"step": 0} == {"step": 0, "grade": "exact", "differences": []}
    assert attempt(tmp_path / "cut")["software"]["tiny device"] == "cpu"
    whole, cut = (contents(tmp_path / name, 6) for name in ("whole", "cut"))
    assert whole == cut
    assert {"layer.safetensors", "state.safetensors", "state.json"} <= set(whole)
    curves = [(tmp_path / name / "journal.jsonl").read_bytes() for name in ("whole", "cut")]
    assert curves[0] == curves[1]
    assert len(curves[0].splitlines()) == 6


def test_options_that_the_checkpoint_overrides_are_reported(registered, opened, capsys, tmp_path: Path) -> None:
    train(opened, "whole", 4)
    tiny.shared.state = 11
    train(opened, "cut", 2)
    train(lambda *args, **options: opened(*args, **options | {"progress": "plain"}), "cut", 4, rate=0.5)
    assert contents(tmp_path / "whole", 4) == contents(tmp_path / "cut", 4)
    said = capsys.readouterr()
    assert "0.25" in said.out + said.err
    assert "rate" in said.out + said.err


def test_a_load_that_leaves_something_out_is_not_called_exact(registered, opened, monkeypatch, tmp_path: Path) -> None:
    train(opened, "r", 2)
    monkeypatch.setattr("tests.standins.tiny_adapter.LayerPart.load", lambda *_: None)
    train(opened, "r", 3)
    found = attempt(tmp_path / "r")["resume"]
    assert found["grade"] == "not to the last bit"
    assert "layer[weights]" in " ".join(found["differences"])


def test_dice_inside_of_a_dataset_are_found_and_seeded(registered) -> None:
    dataset = type("Noisy", (), {})()
    dataset.dice, dataset.everyones, dataset.other = tiny.Dice(3), tiny.shared, np.random.default_rng(0)
    found = within.generators(dataset=dataset)
    assert found == {"dataset.dice": dataset.dice, "dataset.other": dataset.other}
    rolls = []
    for _ in range(2):
        with rng.seeded_with([1, 2, 3, 4]), within.seeded(found, [1, 2, 3, 4]):
            rolls.append((dataset.dice.roll(), tiny.shared.roll()))
    assert rolls[0] == rolls[1]
    assert (dataset.dice.state, tiny.shared.state) == (3, 11)


def test_seeding_everything_seeds_it(registered) -> None:
    before = rng.seeded()
    try:
        outlast.seed_everything(17)
        assert tiny.shared.state == 17
    finally:
        rng._seeded[:] = [] if before is None else [before]


def test_what_no_adapter_knows_is_refused_by_name() -> None:
    with messages.raises(StateError, "state/cannot-be-saved-by-adapter"):
        pack_value("part", {"x": tiny.Vector([1.0])})
    arrays = pack_value("part", {"x": np.ones(1)})[1]
    with pytest.raises(CorruptCheckpoint, match="'tiny'"):
        unpack_value("part", {"x": {"$array": "x", "as": "tiny"}}, arrays)
    with pytest.raises(CorruptCheckpoint, match="'tiny'"):
        unpack_value("part", {"x": {"$tiny.dice": {"state": 1}}}, {})


def test_a_framework_that_is_not_installed_is_named(registered) -> None:
    adapters.register("tiny", "tests.standins.tiny", "tests.standins.nothing")
    with messages.raises(ResumeRefused, "state/framework-not-imported"):
        unpack_value("part", {"x": {"$tiny.dice": {"state": 1}}}, {})


def test_a_gpu_is_a_device_that_is_no_cpu() -> None:
    assert not state.uses_gpu({"torch device": "cpu", "jax device": "cpu cpu x1", "torch": "2.13.0"})
    assert state.uses_gpu({"torch device": "NVIDIA H200"})
    assert state.uses_gpu({"jax device": "gpu NVIDIA H200 x1"})


def test_a_framework_that_is_registered_again_is_the_one_that_is_asked(
    registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert adapters.owner(tiny.Vector([1.0])).name == "tiny"
    other = types.ModuleType("another_adapter")
    other.ADAPTER = replace(adapters.owner(tiny.Vector([1.0])))
    monkeypatch.setitem(sys.modules, "another_adapter", other)
    adapters.register("tiny", "tests.standins.tiny", "another_adapter")
    assert adapters.owner(tiny.Vector([1.0])) is other.ADAPTER


@pytest.mark.parametrize(
    "packed",
    [
        5,
        "text",
        {"$tuple": [1]},
        {"$tiny.": "x", "$tiny.b": "y"},
        {"$tiny.dice": 5},
        {"$tiny.dice": {"state": {1}}},
        Pieces("$numpy.masked", {"data": 1}),
        Pieces("$tiny.dice", {1: 2}),
        Pieces("$tiny.dice", ["state"]),
        FrameworkArray(Array("F64", (0,), b""), {"as": "numpy"}),
        FrameworkArray(Array("F64", (0,), b""), {"as": "tiny", "$array": "other"}),
    ],
)
def test_an_adapters_packed_values_must_return_to_it(registered, opened, monkeypatch, packed, tmp_path: Path) -> None:
    changed_adapter(monkeypatch, pack=lambda _value: packed)
    with messages.raises(StateError, "state/adapter-packs-another-form", found=f"{packed!s:.80}"):
        train(opened, "r", 2)
    assert not list((tmp_path / "r").glob("checkpoints/step-*"))


def test_other_results_of_an_adapter_are_checked(registered, monkeypatch) -> None:
    changed_adapter(monkeypatch, tracked=lambda _part, _thing: "layer")
    with messages.raises(StateError, "state/adapter-tracked-gives-no-tracked-object"):
        state.tracked("layer", tiny.Layer(3, 0.25))
    changed_adapter(monkeypatch, software=lambda: {"tiny": {1, 2}})
    with messages.raises(StateError, "state/adapter-software-is-no-json"):
        state.software()
    changed_adapter(monkeypatch, matches=lambda value: value.missing)
    with messages.raises(StateError, "state/adapter-function-fails", name="matches"):
        adapters.owner(tiny.Vector([1.0]))
    monkeypatch.delattr("changed_adapter.ADAPTER")
    adapters.register("tiny", "tests.standins.tiny", "changed_adapter")
    with messages.raises(StateError, "state/adapter-module-has-none", module="changed_adapter"):
        adapters.owner(tiny.Vector([1.0]))


def changed_adapter(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    """Register the adapter of tiny with other functions."""
    other = types.ModuleType("changed_adapter")
    other.ADAPTER = replace(ADAPTER, **functions)
    monkeypatch.setitem(sys.modules, "changed_adapter", other)
    adapters.register("tiny", "tests.standins.tiny", "changed_adapter")
