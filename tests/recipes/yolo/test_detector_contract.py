"""Every implementation of the detector's interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from outlast.config import resolve
from outlast.errors import DataError
from outlast_recipes.yolo import backends, saved
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.detector import DetectorTraining, Place
from tests.recipes import pictures

CASES = [("tiny", 0), ("tiny", 4), ("yolo11n", 0), ("yolo11n-pose", 4), ("rfdetr-nano", 0), ("rfdetr-nano-pose", 4)]
PLACES = [Place(step, 1, 1, 2) for step in (1, 2)]


def build(root: Path, architecture: str, keypoints: int, seed: int = 42) -> DetectorTraining:
    values = {
        "model.architecture": architecture, "model.image_size": "64", "epochs": "1", "batch_size": "4",
        "seed": str(seed), "training.nominal_batch": "8", "training.warmup_epochs": "0",
    }  # fmt: skip
    data = pictures.dataset(root, keypoints=bool(keypoints), counts=(8, 3, 2))
    return backends.training_of(resolve(YoloConfig, flags=values).config, data, torch.device("cpu"))


@pytest.fixture(scope="module", params=CASES, ids=[f"{name}-{points}" for name, points in CASES])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, DetectorTraining]]:
    name, points = request.param
    with pytest.MonkeyPatch.context() as patch:
        pictures.installed(name, patch)
        training = build(tmp_path_factory.mktemp("data") / "pictures", name, points)
        yield points, training
        training.close()


def test_weights_are_updated_when_enough_is_gathered(case: tuple[int, DetectorTraining]) -> None:
    _, training = case
    parts = training.parts()
    assert {"model", "ema", "optimizer", "scaler", "data"} <= parts.keys()
    before = {name: each.clone() for name, each in parts["model"].named_parameters()}
    changed = []
    for batch, place in zip(training.batches, PLACES, strict=True):
        losses = training.step(batch, place)
        assert all(np.isfinite(float(value)) for value in losses.values())
        changed.append(any(not torch.equal(before[name], each) for name, each in parts["model"].named_parameters()))
    assert changed == [False, True]
    ema = dict(parts["ema"].named_parameters())
    assert any(not torch.equal(before[name], each) for name, each in ema.items())


@pytest.mark.parametrize("architecture", ["tiny", "yolo11n", "rfdetr-nano"])
def test_all_bits_of_a_seed_count(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.installed(architecture, monkeypatch)
    weights, images = [], []
    for number, seed in enumerate((5, 5, 5 + 2**32)):
        training = build(tmp_path / str(number), architecture, 0, seed)
        weights.append(torch.cat([each.flatten() for each in training.parts()["model"].parameters()]))
        batch = next(iter(training.batches))
        images.append(batch["img"] if isinstance(batch, dict) else batch[0])
        training.close()
    for made in (weights, images):
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])


def test_metrics(case: tuple[int, DetectorTraining]) -> None:
    points, training = case
    read: list[object] = []
    found = training.evaluate("val", read=lambda batches: read.append(1) or iter(batches))
    assert read == [1]
    assert {"map", "map50"} <= found.keys()
    assert ({"box_map", "box_map50"} <= found.keys()) is bool(points)
    assert found == training.evaluate("val")
    assert training.has_test
    assert training.evaluate("test", training.detector().network).keys() == found.keys()  # type: ignore[attr-defined]


def test_predictions_are_in_pixels_of_the_picture_by_falling_score(case: tuple[int, DetectorTraining]) -> None:
    points, training = case
    chance = np.random.default_rng(0)
    sizes = ((40, 90), (64, 64))
    found = training.detector().predict(
        [chance.integers(0, 255, (*size, 3), np.uint8) for size in sizes], confidence=1e-6
    )
    for prediction, (height, width) in zip(found, sizes, strict=True):
        count = len(prediction)
        assert count > 0
        assert prediction.boxes.shape == (count, 4)
        assert (prediction.boxes.dtype, prediction.scores.dtype) == (np.float32, np.float32)
        assert prediction.classes.dtype == np.int64
        assert set(prediction.classes.tolist()) <= {0, 1}
        assert (prediction.boxes >= 0).all()
        assert (prediction.boxes <= [width, height, width, height]).all()
        assert (np.diff(prediction.scores) <= 0).all()
        assert (prediction.keypoints is None) is (points == 0)
        assert prediction.keypoints is None or prediction.keypoints.shape == (count, points, 2)


def test_a_picture_without_a_find(case: tuple[int, DetectorTraining]) -> None:
    points, training = case
    (found,) = training.detector().predict([np.zeros((40, 90, 3), np.uint8)], confidence=1.0)
    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))
    assert found.keypoints is None if points == 0 else found.keypoints.shape == (0, points, 2)


def test_a_saved_detector_predicts_the_same(case: tuple[int, DetectorTraining], tmp_path: Path) -> None:
    _, training = case
    detector = training.detector()
    saved.write(detector, tmp_path / "detector")
    again = saved.read(tmp_path / "detector")
    picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    (before,), (after,) = (each.predict([picture], confidence=1e-6) for each in (detector, again))
    np.testing.assert_array_equal(before.boxes, after.boxes)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert (again.names, again.keypoints) == (("green", "red"), detector.keypoints)


def test_weights_of_another_architecture_are_refused(case: tuple[int, DetectorTraining], tmp_path: Path) -> None:
    _, training = case
    saved.write(training.detector(), tmp_path)
    about = json.loads((tmp_path / saved.ARCHITECTURE).read_text())
    for wrong in ({**about, "names": ["a", "b", "c"]}, {**about, "detector": "eval"}, {"detector": "tiny"}, []):
        (tmp_path / saved.ARCHITECTURE).write_text(json.dumps(wrong))
        with pytest.raises(DataError):
            saved.read(tmp_path)


@pytest.mark.slow  # 160 steps of 30 million parameters; docs/log.md has its figures
def test_rfdetr_learns_without_network_and_weights_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.installed("rfdetr-nano", monkeypatch)
    epochs = 40
    values = {
        "model.architecture": "rfdetr-nano", "model.image_size": "64", "epochs": str(epochs), "batch_size": "4",
        "training.nominal_batch": "4", "training.warmup_epochs": "1", "learning_rate": "0.0002",
        "augmentation.fliplr": "0",
    }  # fmt: skip
    data = pictures.dataset(tmp_path / "pictures", counts=(16, 4, 4))
    training = backends.training_of(resolve(YoloConfig, flags=values).config, data, torch.device("cpu"))
    sums, step = [], 0
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in training.batches:
            step += 1
            losses = training.step(batch, Place(step, epoch, epochs, 4))
            total += sum(float(value) for name, value in losses.items() if name != "lr")
        sums.append(total / 4)
    assert sums[-1] < 0.6 * sums[0]
    assert training.evaluate("train")["map50"] > 0.2
    training.close()
