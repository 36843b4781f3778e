"""What a training leaves after any number of resumes, what a publication makes of it, and the commands on a run."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import outlast
from outlast.cli import main
from outlast.config import resolve
from outlast_recipes.yolo import outputs, saved
from outlast_recipes.yolo.config import YoloConfig
from outlast_recipes.yolo.history import History
from outlast_recipes.yolo.reading import read_dataset
from tests import messages
from tests.conftest import REPOSITORY
from tests.durability.digits import train
from tests.publish import making
from tests.recipes import pictures

STARTED_IN = Path.cwd()
SMALL = {**pictures.TINY, "experiment_name": "plates", "keep_best": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped three times, in "cut", and one that was not, in "runs"; their data in "set"."""
    place = tmp_path_factory.mktemp("yolo")
    small = {**SMALL, "data_root": str(pictures.folder(place / "set", keypoints=True))}
    assert train(place / "runs", recipe="yolo", small=small) == "finished"
    for step in (2, 5, 9):
        assert train(place / "cut", recipe="yolo", small=small, stop_after=step) == "preempted"
    assert train(place / "cut", recipe="yolo", small=small) == "finished"
    return place


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(root))
    return root


def test_each_epoch_is_once_in_the_table_after_three_resumes(root: Path) -> None:
    tables = [(root / name / "plates/artifacts/train/results.csv").read_text() for name in ("runs", "cut")]
    assert tables[0] == tables[1]
    rows = list(csv.DictReader(tables[0].splitlines()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8"), ("3", "12")]
    assert {"lr", "val_map", "val_map50"} <= rows[0].keys()
    assert all(value != "" for row in rows for value in row.values())


def test_what_is_found_in_the_test_split(root: Path) -> None:
    folder = root / "runs/plates/artifacts/test"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["images"], metrics["split"], metrics["corners"]["quads"]) == (4, "test", 8)
    held = json.loads((folder / "predictions.json").read_text())
    assert [each["file"] for each in held["images"]] == [f"images/test/test{number:02d}.png" for number in range(4)]
    assert Image.open(folder / "pictures.png").size == (3 * 480, 2 * 480)
    assert Image.open(folder / "precision_recall.png").size == (1120, 460)
    assert (root / "runs/plates/artifacts/test.manifest.json").is_file()


def test_each_file_of_weights_has_its_own(tmp_path: Path) -> None:
    def detector(name: str) -> Any:
        return SimpleNamespace(
            architecture=lambda: {"detector": name}, licence=name, write_pt=lambda path: path.write_text(name)
        )

    outputs.write_training(tmp_path, detector("last"), detector("best"), History())
    assert [(tmp_path / f"weights/{name}.pt").read_text() for name in ("last", "best")] == ["last", "best"]
    assert json.loads((tmp_path / "weights/architecture.json").read_text()) == {"detector": "last"}


@pytest.mark.parametrize("validated", [True, False])
def test_the_test_split_is_shown_to_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validated: bool
) -> None:
    made: list[tuple[str, Any]] = []

    @contextlib.contextmanager
    def artifact(name: str, part: str) -> Iterator[Path]:
        made.append((name, part))
        yield tmp_path

    monkeypatch.setattr(outputs, "is_written", lambda *_: False)
    monkeypatch.setattr(outputs, "write_training", lambda *_: None)
    monkeypatch.setattr(outputs, "write_test", lambda _folder, detector, *_, **__: made.append(("shown to", detector)))
    run, dataset = SimpleNamespace(artifact=artifact, tell=None), SimpleNamespace(splits={"test": (1,)})
    outputs.write(run, "last", "best" if validated else None, dataset, None)  # type: ignore[arg-type]
    expected = ("best", "best") if validated else ("ema", "last")
    assert made == [("train", "ema"), ("test", expected[0]), ("shown to", expected[1])]


def test_keypoints_are_measured_with_the_sigma_that_is_given(root: Path, tmp_path: Path) -> None:
    detector = saved.restored(outlast.open_saved("plates", root=root / "runs"))
    found = [
        outputs.write_test(tmp_path / str(sigma), detector, read_dataset(root / "set"), "test", sigma=sigma)
        for sigma in (1e-4, 10.0)
    ]
    assert found[0]["keypoint_map50"] == 0
    assert found[1]["keypoint_map50"] > 0
    assert found[0]["map"] == found[1]["map"]


def test_the_published_branch_has_the_tree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = making.server(here / "server.git")
    clone = making.clone(url, here / "clone")
    words = ["publish", str(here / "cut/plates"), "--to", "git+dvc", "--store", str(here / "store")]
    assert main([*words, "--repository", str(clone), "--module", "localization"]) == 0
    name = making.git(url, "for-each-ref", "--format=%(refname:short)", "refs/heads/kaggle-train-localization-plates-*")
    files = making.git(url, "ls-tree", "-r", "--name-only", name).splitlines()
    tree = {file.removeprefix("artifacts/localization/plates/") for file in files}
    assert {
        "README.md", "train/weights/best.safetensors.dvc", "train/weights/last.safetensors.dvc", "train/results.csv",
        "train/weights/architecture.json", "train/args.yaml", "train/metrics.json", "train/training_curves.png",
        "test/predictions.json", "test/metrics.json", "test/pictures.png", "test/precision_recall.png",
    } <= tree  # fmt: skip
    held = making.git(url, "show", f"{name}:artifacts/localization/plates/train/results.csv")
    assert held == (here / "cut/plates/artifacts/train/results.csv").read_text().strip()
    messages.said(capsys.readouterr().out, "publish/get-it-from-git", branch=name)


def test_a_finished_run_that_is_started_again_is_the_same_publication(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["publish", "cut/plates", "--to", "twice"]) == 0
    before = making.fingerprint(here / "cut/plates/artifacts")
    small = {**SMALL, "data_root": str(here / "set")}
    monkeypatch.chdir(STARTED_IN)  # where the environment file was found when it was trained
    assert train(here / "cut", recipe="yolo", small=small) == "finished"
    monkeypatch.chdir(here)
    assert making.fingerprint(here / "cut/plates/artifacts") == before
    assert main(["publish", "cut/plates", "--to", "twice"]) == 0
    messages.said(capsys.readouterr().out, "publish/visible-already", reference=re.compile(r"twice/publications/\S+"))
    manifest = here / "cut/plates/artifacts/test.manifest.json"
    manifest.unlink()  # as if the attempt had been killed between two artifacts
    assert train(here / "cut", recipe="yolo", small=small) == "finished"
    assert manifest.is_file()


def test_weights_of_a_publication_are_a_detector(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "plates", "--to", "there"]) == 0
    words = capsys.readouterr().out.splitlines()[-1].removeprefix("Get it: outlast ").split()
    assert main([*words[:-1], "got"]) == 0
    found = saved.read(here / "got/train/weights/best.safetensors")
    assert (found.names, found.keypoints) == (("green", "red"), 4)


def test_evaluate_repeats_what_the_training_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "runs/plates/artifacts/test"
    before = json.loads((folder / "metrics.json").read_text())
    assert main(["evaluate", "yolo", "plates"]) == 0
    after = json.loads((folder / "metrics.json").read_text())
    assert {key: after[key] for key in before} == before
    assert (after["run"], after["step"], after["part"]) == ("plates", 12, "best")
    messages.said(capsys.readouterr().out, "yolo/evaluate-corners", threshold=0.7)
    assert main(["evaluate", "yolo", "plates", "--on", "val", "--part", "ema", "-o", "measured"]) == 0
    assert json.loads((here / "measured/metrics.json").read_text())["images"] == 4


def test_predict_and_rectify(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["yolo", "plates", "set/images/test", "--confidence", "0.01", "-o"]
    assert main(["predict", *words, "drawn"]) == 0
    held = json.loads((here / "drawn/predictions-plates.json").read_text())
    assert [len(image["objects"]) > 0 for image in held["images"]] == [True] * 4
    assert Image.open(here / "drawn/test00-plates.png").size == (64, 64)
    assert main(["rectify", *words, "crops", "--height", "20"]) == 0
    out = capsys.readouterr().out.splitlines()
    crops = sorted((here / "crops").glob("*.png"))
    assert out[-1] == f"{len(crops)} crops of 4 pictures in crops"
    assert all(Image.open(crop).size[1] == 20 for crop in crops)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["predict", "yolo", "plates", "nothing.png"], 1),
        (["predict", "yolo", "plates", "set/data.yaml"], 1),
        (["predict", "yolo", "plates", "set"], 1),
        (["predict", "yolo", "plates", "set/images/test", "--confidence", "2"], 2),
        (["predict", "yolo", "nobody", "set/images/test"], 2),
        (["rectify", "yolo", "plates", "set/images/test", "--height", "0"], 2),
        (["evaluate", "yolo", "plates", "--data-path", "boxes"], 1),
        (["export", "plates", "--format", "pt", "-o", "x.pt"], 1),
    ],
)
def test_what_is_refused(here: Path, words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    if not (here / "boxes").exists():
        pictures.folder(here / "boxes")
    assert main(words) == code
    assert capsys.readouterr().err.startswith("error: ")
    assert not (here / "x.pt").exists()


def test_a_picture_that_cannot_be_read_costs_none_of_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "some of them"
    folder.mkdir()
    for number in (0, 2):
        (folder / f"{number}.png").write_bytes((here / f"set/images/test/test0{number}.png").read_bytes())
    (folder / "1.png").write_text("no picture")
    assert main(["predict", "yolo", "plates", str(folder), "-o", "seen"]) == 1
    held = json.loads((here / "seen/predictions-plates.json").read_text())
    assert [Path(image["file"]).name for image in held["images"]] == ["0.png", "2.png"]
    assert {path.name for path in (here / "seen").glob("*.png")} == {"0-plates.png", "2-plates.png"}
    error = capsys.readouterr().err
    assert "1 of 3" in error
    assert "1.png is no image" in error
    assert main(["rectify", "yolo", "plates", str(folder), "-o", "cut out", "--confidence", "0.01"]) == 1
    said = capsys.readouterr()
    assert [f"{folder}/{number}.png" in said.out for number in range(3)] == [True, False, True]
    assert "1.png" in said.err


def test_experiments_of_the_original() -> None:
    for name, architecture in (("det", "yolo11s"), ("loc", "yolo11s-pose")):
        file = REPOSITORY / f"configs/experiments/001_{name}_baseline.yaml"
        config = resolve(YoloConfig, train_file=file).config
        assert (config.model.architecture, config.epochs, config.batch_size) == (architecture, 100, 16)
        assert (config.mixed_precision, config.hardware.multi_gpu, config.training.patience) == (True, True, 20)
        assert config.augmentation.fliplr == (0.5 if name == "det" else 0.0)


def test_the_flag_for_an_experiment(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = REPOSITORY / "configs/experiments/001_loc_baseline.yaml"
    assert main(["config", "yolo", "--experiment", str(file), "--epochs", "7"]) == 0
    out = capsys.readouterr().out
    assert "yolo11s-pose" in out
    assert "001_loc_baseline.yaml" in out.replace("\n", "").replace(" ", "")
