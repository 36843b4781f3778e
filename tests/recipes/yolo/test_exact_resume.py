"""Killed and resumed equals uninterrupted: every file of the last checkpoint and the journal, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest

import outlast
from tests.durability.digits import final, train
from tests.recipes import pictures

SHORT = {
    **pictures.NANO, "epochs": "2", "training.nominal_batch": "16", "training.warmup_epochs": "0"
}  # fmt: skip
"""2 epochs of 2 or 3 batches. The weights are updated after 4 batches, the second epoch has no mosaics."""


def exact(tmp_path: Path, small: dict[str, str], *stops: int, images: int = 8, keypoints: bool = False) -> None:
    data = pictures.folder(tmp_path / "data", keypoints=keypoints, counts=(images, 2, 1))
    small = {**small, "data_root": str(data)}
    assert train(tmp_path / "twin", recipe="yolo", small=small) == "finished"
    for stop in stops:
        assert train(tmp_path / "cut", recipe="yolo", small=small, stop_after=stop) == "preempted"
        assert "gradients" in outlast.open_saved("yolo", root=tmp_path / "cut").parts
    assert train(tmp_path / "cut", recipe="yolo", small=small) == "finished"
    assert final(tmp_path / "cut", "yolo") == final(tmp_path / "twin", "yolo")


@pytest.mark.long
def test_yolo11(tmp_path: Path) -> None:
    exact(tmp_path, SHORT, 2, 5, images=12)


@pytest.mark.long
def test_yolo11_with_workers_in_bfloat16(tmp_path: Path) -> None:
    exact(tmp_path, {**SHORT, "num_workers": "2", "mixed_precision": True, "training.multi_scale": "0.5"}, 3)  # type: ignore[dict-item]


@pytest.mark.long
def test_keypoints_of_yolo26(tmp_path: Path) -> None:
    small = {**SHORT, "model.architecture": "yolo26n-pose"}
    exact(tmp_path, small, 3, keypoints=True)
    progress = outlast.open_saved("yolo", root=tmp_path / "cut").part("progress")
    assert progress["loss"]["updates"] == 2
    assert progress["loss"]["o2m"] == pytest.approx(0.1)  # what it falls to in the last epoch


@pytest.mark.slow  # 3 s for a step of MuSGD
def test_musgd(tmp_path: Path) -> None:
    exact(tmp_path, {**SHORT, "model.architecture": "yolo26n", "training.optimizer": "musgd"}, 3)


RFDETR = {**pictures.TINY, "epochs": "2", "training.nominal_batch": "16", "training.warmup_epochs": "0"}


@pytest.mark.slow  # 30 million parameters
@pytest.mark.parametrize(
    ("architecture", "more"),
    [("rfdetr-nano-pose", {}), ("rfdetr-nano", {"num_workers": "2", "mixed_precision": "true"})],
)
def test_rfdetr(tmp_path: Path, architecture: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.installed(architecture, monkeypatch)
    small = {**RFDETR, "model.architecture": architecture, **more}
    exact(tmp_path, small, 3, keypoints=architecture.endswith("-pose"))
