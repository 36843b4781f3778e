"""Which weights are validated, and on what: the averaged ones, on the validation split; the test is read once and
chooses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from outlast.checkpoint import Checkpoint, CheckpointStore, open_checkpoint
from outlast.folder.layout import RunFolder
from outlast_recipes.common.selection import BestByValidation
from outlast_recipes.digits import training as digits
from outlast_recipes.digits.recipe import recipe as digits_recipe
from outlast_recipes.skeleton import training as skeleton
from tests.durability.digits import train
from tests.recipes import skeletons

VALIDATION = [0.9, 0.5, 0.1]
"""What each of three epochs is told to reach: the first is the best."""


class Watched:
    """Stands in for a recipe's evaluation: notes which split was read with which weights, and answers as it was
    told."""

    def __init__(self) -> None:
        self.parts: dict[str, object] = {}
        self.names: list[str] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def evaluate(self, model, part) -> float:
        (name,) = [name for name, known in self.parts.items() if known is part]
        self.names.append(name)
        self.weights.append({key: tensor.detach().clone() for key, tensor in model.state_dict().items()})
        return VALIDATION[self.names.count("val") - 1] if name == "val" else 1.0 - 0.1 * len(self.names)


def committed(root: Path, name: str) -> list[Checkpoint]:
    return CheckpointStore(RunFolder(root / name)).committed()


def holds(checkpoint: Checkpoint, part: str, weights: dict[str, torch.Tensor]) -> bool:
    arrays = open_checkpoint(checkpoint.path).parts[part]
    return all(bytes(arrays[key].data) == tensor.numpy().tobytes() for key, tensor in weights.items())


def test_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, splits = Watched(), digits.splits

    def split_and_note(config):
        watched.parts = splits(config)
        return watched.parts

    monkeypatch.setattr(digits, "splits", split_and_note)
    monkeypatch.setattr(digits, "accuracy", lambda model, part, _: watched.evaluate(model, part))
    flags = {"save_every": "1 epoch", "keep_last": "1", "keep_best": "1", "ema": "0.9"}
    assert train(tmp_path, **flags) == "finished"
    assert watched.names == ["val", "val", "val", "test"]
    first, last = committed(tmp_path, "digits")
    assert (first.step, last.step) == (4, 12), "the best of validation, and the newest"
    assert holds(first, "ema", watched.weights[0])
    assert holds(last, "ema", watched.weights[2])
    assert not holds(first, "model", watched.weights[0])
    assert digits_recipe.part == "ema"


def test_skeleton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, opened = Watched(), skeleton.load_data

    def open_and_note(*words, **more):
        store, watched.parts, classes = opened(*words, **more)
        return store, watched.parts, classes

    monkeypatch.setattr(skeleton, "load_data", open_and_note)
    monkeypatch.setattr(skeleton, "accuracies", lambda model, part, *_: (watched.evaluate(model, part), 1.0))
    store = skeletons.store(tmp_path / "store").folder
    flags = {"data_root": str(store), "save_every": "1 epoch", "keep_last": "1", "keep_best": "1"}
    assert train(tmp_path, recipe="skeleton", small=skeletons.TINY, **flags) == "finished"
    assert watched.names == ["val", "val", "val", "test", "test"]
    first, last = committed(tmp_path, "skeleton")
    assert (first.step, last.step) == (4, 12)
    assert holds(first, "ema", watched.weights[0])
    assert not holds(first, "model", watched.weights[0])
    assert holds(last, "ema", watched.weights[3])
    assert holds(last, "best", watched.weights[0])
    assert holds(last, "best", watched.weights[4])


def network(weight: float) -> torch.nn.Module:
    made = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(made.weight, weight)
    return made


@pytest.mark.parametrize(
    ("mode", "values", "epoch"), [("max", [0.5, 0.9, 0.9, 0.7], 3), ("min", [0.5, 0.2, 0.3, 0.4], 2)]
)
def test_the_best_epoch_is_kept_and_of_equal_ones_the_later(mode, values: list[float], epoch: int) -> None:
    best = BestByValidation(network(0.0), mode)
    assert (best.epoch, bool(best.weights.training)) == (0, False)
    for number, value in enumerate(values, start=1):
        best.update(number, value, network(float(number)))
    assert (best.epoch, best.value, best.weights.weight.item()) == (epoch, values[epoch - 1], float(epoch))
    again = BestByValidation(network(0.0), mode)
    again.load_state_dict(best.state_dict())
    assert again.state_dict() == {"epoch": epoch, "value": values[epoch - 1]}


def test_a_choice_of_an_earlier_version_continues_under_its_own_key() -> None:
    best = BestByValidation(network(0.0))
    best.load_state_dict({"epoch": 2, "accuracy": 0.5})
    assert not best.update(3, 0.4, network(1.0))
    assert best.state_dict() == {"epoch": 2, "accuracy": 0.5}, "what was loaded is what the checkpoint holds"
