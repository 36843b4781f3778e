"""What every installed recipe must do: check its data, train a little, stop and go on exactly, refuse bad input,
export."""

from __future__ import annotations

import importlib.resources
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import messages
from tests.durability.digits import SMALL, final, train
from tests.recipes import colonies, dungeons, pictures, signs, skeletons

import outlast
from outlast.checkpoint.export import export
from outlast.config import leaves, resolve
from outlast.errors import ConfigError
from outlast.folder.layout import RunFolder
from outlast.recipe.registry import find, loaded, names

TINY = {
    "digits": SMALL, "dungeon": dungeons.MASKED, "emergence": colonies.TINY, "sign": signs.TINY,
    "skeleton": skeletons.TINY, "yolo": pictures.TINY,
}  # fmt: skip
"""Flags that make each recipe small: 12 steps of a few seconds."""
RUNS = {name: name for name in TINY} | {"dungeon": "dungeon.masked"}
"""The run that they train."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The same, with data where a recipe needs some."""
    data = tmp_path_factory.mktemp("data")
    roots = {"skeleton": skeletons.store(data / "store").folder, "yolo": pictures.folder(data / "pictures")}
    return TINY | {name: {**TINY[name], "data_root": str(root)} for name, root in roots.items()}


def test_every_recipe_is_conformed() -> None:
    assert names() == sorted(TINY)


@pytest.mark.parametrize("name", sorted(TINY))
def test_smoke_resume_export(
    name: str, tmp_path: Path, tiny: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "emergence":  # tests/recipes/emergence continues in another process, where it is compiled again
        monkeypatch.setattr("outlast_recipes.emergence.training.compiled", colonies.compiled_once)

    def attempt(root: str, stop_after: int | None = None) -> str:
        for seed in (random.seed, np.random.seed, torch.seed):  # as in a process that begins: a recipe seeds for itself
            seed()
        return train(tmp_path / root, stop_after=stop_after, recipe=name, small=tiny[name])

    assert attempt("twin") == "finished"
    assert attempt("cut", stop_after=5) == "preempted"
    assert attempt("cut") == "finished"
    run = RUNS[name]
    assert find(name).grade != "exact" or final(tmp_path / "cut", run) == final(tmp_path / "twin", run)
    newest = max(RunFolder(tmp_path / "cut" / run).checkpoints.iterdir())
    assert export(newest, find(name).part, tmp_path / "model.safetensors") > 0
    assert outlast.open_saved(run, root=tmp_path / "cut").part().keys()


@pytest.mark.parametrize("name", sorted(TINY))
def test_it_describes_itself(name: str, tiny: dict[str, dict[str, str]]) -> None:
    recipe = loaded(find(name))
    assert recipe.check is not None
    assert recipe.check(resolve(recipe.Config, flags=tiny[name]).config)
    assert recipe.summary[0].islower()
    for leaf in leaves(recipe.Config):
        assert leaf.info.description, f"{leaf.key} has no help"
    package = find(name).package
    assert "Resume grade" in (importlib.resources.files(package) / "README.md").read_text()
    with pytest.raises(ConfigError):
        resolve(recipe.Config, flags={"epochs": "-1"})


def options() -> list[tuple[str, str]]:
    """Every training option of the starter with another value than its default."""
    return [
        ("epochs", "2"), ("batch_size", "32"), ("learning_rate", "0.01"), ("seed", "7"), ("mixed_precision", "True"),
        ("warmup", "0.5"), ("weight_decay", "0.5"), ("ema", "0.5"), ("accumulate", "2"), ("data.augment", "False"),
        ("data.samples", "128"), ("model.width", "6"), ("model.dropout", "0"), ("model.activation", "gelu"),
    ]  # fmt: skip


def test_every_training_option_changes_the_result(tmp_path: Path) -> None:
    train(tmp_path / "default")
    usual = final(tmp_path / "default")
    for key, value in options():
        root = tmp_path / key
        train(root, **{key: {"True": True, "False": False}.get(value, value)})
        changed = final(root)
        part = "ema.safetensors" if key == "ema" else "model.safetensors"
        assert changed[part] != usual[part], key


def test_every_option_is_tested_somewhere() -> None:
    """A dead option is a defect: each field of the starter is changed by a test named here."""
    elsewhere = {
        "data_root": "it is for recipes with data on disk", "checkpoint_dir": "tests/cli", "log_dir": "tests/cli",
        "log_csv": "tests/cli", "results_dir": "tests/test_run.py (artifacts)", "experiment_name": "tests/cli",
        "num_workers": "tests/durability, tests/config", "device": "below", "deterministic": "below",
        "debug": "tests/cli", "save_every": "tests/test_run.py", "keep_last": "below", "keep_best": "below",
        "keep_every": "below", "log_every": "below", "budget": "tests/cli", "reserve": "tests/test_session.py",
        "remote": "tests/run, tests/cli", "remote_rate": "tests/remote/test_follow.py",
        "scratch_dir": "tests/config/test_machine.py", "pin_memory": "tests/config/test_machine.py",
        "persistent_workers": "tests/recipes/common/test_training.py", "sinks": "tests/tracking/sinks",
        "publish.title": "tests/publish/test_kaggle.py",
    } | {f"publish.{key}": "tests/recipe/test_publishing.py" for key in ("to", "store", "git", "when")}  # fmt: skip
    assert {leaf.key for leaf in leaves(find("digits").Config)} == {key for key, _ in options()} | set(elsewhere)


def steps(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (root / "digits/checkpoints").iterdir())


def test_retention_options(tmp_path: Path) -> None:
    train(tmp_path / "a", save_every="1 steps", keep_last=2)
    assert steps(tmp_path / "a") == [11, 12]
    train(tmp_path / "b", save_every="1 steps", keep_last=1, keep_every=5)
    assert steps(tmp_path / "b") == [5, 10, 12]
    train(tmp_path / "c", save_every="1 epoch", keep_last=1, keep_best=2)
    assert len(steps(tmp_path / "c")) >= 2


def test_log_every(tmp_path: Path) -> None:
    train(tmp_path, log_every=4)
    assert (tmp_path / "digits/journal.jsonl").read_text().count('"loss"') == 3


def test_device_and_deterministic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("XLA_FLAGS", "")  # also asked for, where a test before this one has loaded JAX
    with messages.raises(outlast.ConfigError, "training/unknown-device", value="cuda:7"):
        train(tmp_path / "cuda", device="cuda:7")
    try:
        train(tmp_path / "d", device="cpu", deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(mode=False)
