"""Training on a prepared store: interrupted equals uninterrupted, and what can be learnt is learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.durability.digits import StopAfter, final

import outlast
import outlast.recipe as recipes
from outlast_recipes.skeleton import recipe as skeleton
from outlast_recipes.skeleton.clips import Body, Clip, assembled
from outlast_recipes.skeleton.layouts import KINECT_1
from outlast_recipes.skeleton.store import prepare

TINY = {
    "model.size": "nano", "epochs": "3", "batch_size": "8", "data.frames": "16", "data.split": "cameras", "data.validate_subjects": "1",
    "log_every": "1", "save_every": "never", "keep_best": "0", "ema": "0.9",
}  # fmt: skip


def waving(path: Path) -> Clip:
    """A made-up clip: class 0 raises the left hand over time, class 1 lowers it; subjects and cameras differ in size and place."""
    number = int(path.stem)
    chance = np.random.default_rng(number)
    label, subject, camera = number % 2, 1 + number // 2 % 4, 1 + number // 8 % 3
    length = 12 + number % 9
    joints = np.tile(np.random.default_rng(0).normal(size=(1, 20, 3)), (length, 1, 1)) * (1 + 0.1 * subject) + camera
    rise = np.linspace(0, 1.5, length) * (1 if label == 0 else -1)
    joints[:, 4:8, 1] += rise[:, None]
    joints += 0.02 * chance.normal(size=joints.shape)
    positions, mask = assembled(
        [Body(np.arange(length, dtype=np.int32), joints.astype(np.float32))], spine=KINECT_1.spine
    )
    return Clip(path.stem, label, subject, camera, positions, mask)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    files = [folder / f"{number:03d}" for number in range(72)]
    for path in files:
        path.touch()
    prepare(files, waving, folder / "store", layout="kinect-1", workers=1)
    return folder / "store"


def train(root: Path, store: Path, *, stop_after: int | None = None, **flags: str) -> str:
    given = (
        TINY
        | {name.replace("__", "."): value for name, value in flags.items()}
        | {"checkpoint_dir": str(root), "data_root": str(store)}
    )
    given = {name: {"True": True, "False": False}.get(value, value) for name, value in given.items()}
    prepared = recipes.prepare(skeleton.recipe, recipes.Request(flags=given))
    stopper, original = StopAfter(stop_after or -1), recipes.open_run

    def opened(*words, **more):
        stopper.run = original(*words, **more)
        return stopper.run

    recipes.open_run = opened
    try:
        recipes.start(prepared, progress="none", sinks=[stopper])
    except outlast.SessionEnded as ended:
        return ended.reason
    finally:
        recipes.open_run = original
    return "finished"


@pytest.mark.parametrize(
    "flags",
    [{}, {"mixed_precision": "True", "optimizer": "sgd"}, {"num_workers": "2"}],
    ids=["adamw", "sgd-bf16", "workers"],
)
def test_interrupted_equals_uninterrupted(tmp_path: Path, store: Path, flags: dict[str, str]) -> None:
    assert train(tmp_path / "twin", store, **flags) == "finished"
    assert train(tmp_path / "cut", store, stop_after=2, **flags) == "preempted"
    assert train(tmp_path / "cut", store, stop_after=6, **flags) == "preempted"
    assert train(tmp_path / "cut", store, **flags) == "finished"
    assert final(tmp_path / "cut", "skeleton") == final(tmp_path / "twin", "skeleton")


def test_the_order_of_time_is_learnt(tmp_path: Path, store: Path) -> None:
    assert train(tmp_path, store, epochs="12", views__mirror="0", views__swap="0") == "finished"
    lines = (tmp_path / "skeleton/journal.jsonl").read_text().splitlines()
    reached = float(lines[-1].partition('"test_accuracy": ')[2].rstrip("}").split(",")[0])
    assert reached >= 0.9, "two classes that differ by the direction of time alone"


def test_what_it_says_of_its_data(store: Path) -> None:
    config = skeleton.Config(data_root=store, data={"split": "cameras", "validate_subjects": 1})
    assert skeleton.check(config) == "72 clips of 2 classes (kinect-1): 36 train, 12 val, 24 test; 0 files were refused"
    with pytest.raises(outlast.ConfigError, match="needs --data-root"):
        skeleton.check(skeleton.Config())
    with pytest.raises(outlast.DataError, match="is not a prepared store"):
        skeleton.check(skeleton.Config(data_root=store.parent))
