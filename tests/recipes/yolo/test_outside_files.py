"""Files of ultralytics from elsewhere: they are pickles, and are read as tensors and known classes only."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from outlast.config import resolve
from outlast.errors import ConfigError, DataError
from outlast_recipes.yolo import backends, saved
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.detector import DetectorTraining
from outlast_recipes.yolo.initial import start_from
from outlast_recipes.yolo.ultralytics_adapter import outside
from outlast_recipes.yolo.ultralytics_adapter.network import UltralyticsDetector, untrained
from tests import messages
from tests.durability.digits import train
from tests.recipes import pictures


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(5)
    return untrained("yolo11n", ("green", "red"), 0).eval()


def write(path: Path, network: torch.nn.Module, **more: Any) -> Path:
    torch.save(
        {"epoch": -1, "ema": network, "model": None, "optimizer": None, "train_args": {"epochs": 9}, **more}, path
    )
    return path


class Payload:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


def test_a_file_that_runs_code_is_refused_and_runs_none(tmp_path: Path, network: torch.nn.Module) -> None:
    write(tmp_path / "bad.pt", network, more=Payload(tmp_path / "ran"))
    with pytest.raises(DataError, match="bad.pt"):
        outside.read(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()


def test_a_module_that_a_file_names_is_not_installed(tmp_path: Path, network: torch.nn.Module) -> None:
    write(tmp_path / "bad.pt", network, more=json.JSONDecodeError)
    with pytest.raises(DataError, match="bad.pt"):
        outside.read(tmp_path / "bad.pt")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04 torn"])
def test_what_is_no_such_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(DataError, match="last.pt"):
        outside.read(tmp_path / "last.pt")
    with pytest.raises(DataError, match="absent.pt"):
        outside.read(tmp_path / "absent.pt")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with messages.raises(DataError, "yolo/file-without-network", file="other.pt"):
        outside.read(tmp_path / "other.pt")


@pytest.mark.parametrize(
    "attributes",
    [
        {"state_dict": {}}, {"_parameters": {"a": "text"}}, {"_modules": {"a": 1}}, {"yaml": {"yaml_file": [1]}},
        {"more": torch.zeros(1).expand(2**40)},
    ],
    ids=["state_dict", "parameters", "modules", "yaml", "memory"],
)  # fmt: skip
def test_attributes_of_a_file_are_its_own_choice(
    tmp_path: Path, network: torch.nn.Module, attributes: dict[str, Any]
) -> None:
    forged = copy.deepcopy(network)
    if "more" in attributes:
        forged.register_buffer("more", attributes["more"])
    else:
        vars(forged).update(attributes)
    with contextlib.suppress(DataError):
        assert outside.read(write(tmp_path / "last.pt", forged)).architecture == "[1]"


@pytest.mark.parametrize("more", [{"epoch": "abc"}, {"epoch": torch.zeros(3)}, {"epoch": 1, "train_args": [1]}])
def test_what_a_file_says_of_its_training_is_not_trusted(
    tmp_path: Path, network: torch.nn.Module, more: dict[str, Any]
) -> None:
    with contextlib.suppress(DataError):
        assert "after epoch 2," in outside.read(write(tmp_path / "last.pt", network, optimizer={}, **more)).sentence


EVIL = "activation: __import__('os').mkdir('ran')\nnc: 2\nbackbone: []\nhead: []\n"


def test_files_that_have_the_name_of_an_architecture_are_not_read(
    tmp_path: Path, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics looks for `yolo11n.yaml` in the working folder first, and runs its `activation`."""
    for name in ("yolo11n.yaml", "yolo11.yaml", "evil.yaml"):
        (tmp_path / name).write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    again = untrained("yolo11n", ("green", "red"), 0)
    assert again.yaml["yaml_file"] == "yolo11n.yaml"
    assert {name: each.shape for name, each in again.state_dict().items()} == {
        name: each.shape for name, each in network.state_dict().items()
    }
    detector = UltralyticsDetector(network, "yolo11n", ("green", "red"), 0, 64)
    saved.write(detector, tmp_path / "own")
    about = {**detector.architecture(), "architecture": str(tmp_path / "evil")}
    (tmp_path / "own/architecture.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="The architecture is"):
        saved.read(tmp_path / "own")
    flags = {"model.architecture": "yolo11n", "model.image_size": "64"}
    data = pictures.dataset(tmp_path / "data", counts=(4, 2, 2))
    backends.training_of(resolve(YoloConfig, flags=flags).config, data, torch.device("cpu")).close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"names": []}, {"names": 5}, {"names": ["x"] * 100_000}, {"keypoints": 10**12}, {"keypoints": -1},
        {"keypoints": True}, {"image_size": 10**12}, {"image_size": None}, {"architecture": ["yolo11n"]},
    ],
)  # fmt: skip
def test_a_description_that_is_no_detector(tmp_path: Path, network: torch.nn.Module, change: dict[str, Any]) -> None:
    detector = UltralyticsDetector(network, "yolo11n", ("green", "red"), 0, 64)
    saved.write(detector, tmp_path)
    (tmp_path / "architecture.json").write_text(json.dumps({**detector.architecture(), **change}))
    with pytest.raises(DataError, match="architecture"):
        saved.read(tmp_path)


def test_a_description_that_is_no_file_is_not_waited_for(tmp_path: Path, network: torch.nn.Module) -> None:
    detector = UltralyticsDetector(network, "yolo11n", ("green", "red"), 0, 64)
    saved.write(detector, tmp_path)
    (tmp_path / "architecture.json").write_text("[" * 100_000)
    with pytest.raises(DataError):
        saved.read(tmp_path)
    (tmp_path / "architecture.json").unlink()
    os.mkfifo(tmp_path / "architecture.json")
    with pytest.raises(DataError, match="no ordinary file"):
        saved.read(tmp_path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_no_start(tmp_path: Path, network: torch.nn.Module, value: float) -> None:
    ruined = copy.deepcopy(network)
    with torch.no_grad():
        next(ruined.parameters()).view(-1)[-1] = value
    with messages.raises(DataError, "yolo/file-not-finite", file="ruined.pt"):
        outside.read(write(tmp_path / "ruined.pt", ruined))
    saved.write(UltralyticsDetector(ruined, "yolo11n", ("green", "red"), 0, 64), tmp_path / "ruined")
    with messages.raises(DataError, "yolo/weights-not-finite", folder="ruined"):
        saved.read(tmp_path / "ruined")


def test_finished_and_unfinished_trainings_are_told_apart(tmp_path: Path, network: torch.nn.Module) -> None:
    finished = outside.read(write(tmp_path / "finished.pt", network))
    messages.said([finished.sentence], "yolo/file-of-finished-training")
    unfinished = outside.read(write(tmp_path / "last.pt", network, epoch=3, optimizer={"state": {}}))
    messages.said([unfinished.sentence], "yolo/file-of-unfinished-training", epoch=4, epochs=9)
    for name, each in network.state_dict().items():
        torch.testing.assert_close(finished.weights[name], each, rtol=0, atol=0)


@pytest.fixture
def training(tmp_path: Path) -> Any:
    flags = {"model.architecture": "yolo11n", "model.image_size": "64", "batch_size": "4"}
    made = backends.training_of(
        resolve(YoloConfig, flags=flags).config,
        pictures.dataset(tmp_path / "data", counts=(4, 2, 2)),
        torch.device("cpu"),
    )
    yield made
    made.close()


def test_a_run_starts_from_weights(tmp_path: Path, network: torch.nn.Module, training: DetectorTraining) -> None:
    UltralyticsDetector(network, "yolo11n", ("green", "red"), 0, 64).write_pt(tmp_path / "best.pt")
    messages.said([start_from(training, tmp_path / "best.pt")], "yolo/starts-from-all-weights", file="best.pt")
    parts = training.parts()
    for name, each in network.state_dict().items():
        for part in ("model", "ema"):
            torch.testing.assert_close(parts[part].state_dict()[name], each, rtol=1e-3, atol=1e-4)
    saved.write(UltralyticsDetector(network, "yolo11n", ("green", "red"), 0, 64), tmp_path / "own")
    start_from(training, tmp_path / "own" / saved.WEIGHTS)
    for name, each in network.state_dict().items():
        assert torch.equal(parts["ema"].state_dict()[name], each)


def test_weights_of_other_classes_are_taken_but_for_the_classes(tmp_path: Path, training: DetectorTraining) -> None:
    write(tmp_path / "other.pt", untrained("yolo11n", tuple("abcde"), 0))
    sentence = start_from(training, tmp_path / "other.pt")
    messages.said([sentence], "yolo/starts-from-some-weights", file="other.pt", weights=499)


def test_what_cannot_be_started_from(tmp_path: Path, training: DetectorTraining) -> None:
    write(tmp_path / "other.pt", untrained("yolo26n", ("green", "red"), 0))
    with pytest.raises(ConfigError, match="--model.architecture"):
        start_from(training, tmp_path / "other.pt")
    other = untrained("yolo11s", ("green", "red"), 0)
    other.yaml = {}
    with pytest.raises(ConfigError, match="--model.architecture"):
        start_from(training, write(tmp_path / "unnamed.pt", other))
    with messages.raises(ConfigError, "yolo/resume-from-does-not-exist", file="absent.pt"):
        start_from(training, tmp_path / "absent.pt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    with pytest.raises(ConfigError, match="--resume"):
        start_from(training, tmp_path / "run")


def test_a_resumed_run_does_not_start_over(tmp_path: Path, network: torch.nn.Module) -> None:
    data = pictures.folder(tmp_path / "data", counts=(12, 2, 2))
    write(tmp_path / "best.pt", network)
    small = {**pictures.NANO, "epochs": "1", "data_root": str(data), "model.resume_from": str(tmp_path / "best.pt")}
    assert train(tmp_path / "runs", recipe="yolo", small=small, stop_after=1) == "preempted"
    (tmp_path / "best.pt").unlink()
    assert train(tmp_path / "runs", recipe="yolo", small=small) == "finished"
