"""Broken datasets of the three readers: each fault is said with its file and line, what was found and expected."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outlast_recipes.common.problems import Problems
from outlast_recipes.yolo.reading import read_with_problems
from tests import messages
from tests.recipes import plates

LABEL, YAML, COCO = "labels/train/0.txt", "data.yaml", "annotations/instances_train.json"
BOX = "0 0.5 0.5 0.2 0.2\n"
PLATE = plates.line()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset for each reader, made once: boxes, corners, coco."""
    root = tmp_path_factory.mktemp("sound")
    plates.folder(root / "boxes", (2, 1, 0), more="")
    (root / "boxes/data.yaml").write_text("train: images/train\nval: images/val\nnames: [plate, sign]\n")
    for label in (root / "boxes").glob("labels/*/*.txt"):
        label.write_text(BOX)
    plates.folder(root / "corners", (2, 1, 0))
    (root / "corners/data.yaml").write_text("train: images/train\nval: images/val\nnames: [plate]\nkpt_shape: [4, 3]\n")
    plates.coco(root / "coco")
    return root


Break = Callable[[Path], object]


def label(text: str) -> Break:
    """The first image's labels."""
    return lambda root: (root / LABEL).write_text(text)


def yaml(line: str, text: str) -> Break:
    """Another text for a line of data.yaml."""
    return lambda root: (root / YAML).write_text((root / YAML).read_text().replace(line, text))


def entry(name: str, /, **values: object) -> Break:
    """Another first entry of a list of COCO; a value of ... is taken out."""

    def change(root: Path) -> None:
        held: dict[str, Any] = json.loads((root / COCO).read_text())
        own = {**held[name][0], **values}
        held[name][0] = {key: value for key, value in own.items() if value is not ...}
        (root / COCO).write_text(json.dumps(held, indent=1))

    return change


def coco(change: Callable[[dict[str, Any]], object]) -> Break:
    def apply(root: Path) -> None:
        held = json.loads((root / COCO).read_text())
        change(held)
        (root / COCO).write_text(json.dumps(held, indent=1))

    return apply


def image(data: bytes) -> Break:
    return lambda root: (root / "images/train/0.png").write_bytes(data)


BROKEN: list[tuple[str, Break, str, messages.Message]] = [
    ("boxes", label(BOX + "7 0.5 0.5 0.2 0.2"), f"{LABEL}:2", messages.says("yolo/broken-class", line=2)),
    ("boxes", label(BOX + "\n0,0.5,0.5,0.2,0.2"), f"{LABEL}:3", messages.says("yolo/broken-commas", line=3)),
    ("boxes", label("0 0.5 0.5 0.2"), f"{LABEL}:1", messages.says("yolo/broken-short")),
    ("boxes", label("0 0.5 0.5 0.2 0.2 0.87"), f"{LABEL}:1", messages.says("yolo/broken-score")),
    (
        "boxes",
        lambda root: [each.write_text(PLATE) for each in root.glob("labels/*/*.txt")],
        YAML,
        messages.says("yolo/broken-no-shape", numbers=17, count=4),
    ),
    ("boxes", label("0 320 240 50 50"), f"{LABEL}:1", messages.says("yolo/broken-pixels")),
    ("boxes", label("0 0.5 0.5 0.2 0"), f"{LABEL}:1", messages.says("yolo/broken-flat")),
    ("boxes", label("0 0.1 0.2 0.3 0.1 0.3 1.9"), f"{LABEL}:1", messages.says("yolo/broken-polygon")),
    ("boxes", image(b""), "images/train/0.png", messages.says("yolo/broken-image-empty")),
    ("boxes", image(b"<html>404</html>"), "images/train/0.png", messages.says("yolo/broken-image-html")),
    ("boxes", yaml("val: images/val\n", ""), YAML, messages.says("yolo/broken-no-val")),
    ("boxes", yaml("images/val", "images/vla"), f"{YAML}:2", messages.says("yolo/broken-typo")),
    ("boxes", yaml("names: [plate, sign]", ""), YAML, messages.says("yolo/broken-no-names")),
    ("boxes", yaml("[plate, sign]", "[plate, plate]"), f"{YAML}:3", messages.says("yolo/broken-names-twice")),
    (
        "boxes",
        lambda root: (shutil.rmtree(root / "images/val"), (root / "images/val").mkdir()),
        "images/val",
        messages.says("yolo/broken-empty-split"),
    ),
    (
        "boxes",
        lambda root: ((root / "v.txt").write_text("./images/val/9.png"), yaml("images/val", "v.txt")(root)),
        "v.txt:1",
        messages.says("yolo/broken-list"),
    ),
    ("corners", label(BOX), f"{LABEL}:1", messages.says("yolo/broken-box-among-corners")),
    ("corners", label(PLATE.replace("2.000000", "7", 1)), f"{LABEL}:1", messages.says("yolo/broken-visibility")),
    (
        "corners",
        label(plates.line(corners=[plates.CORNERS[place] for place in (1, 0, 3, 2)])),
        f"{LABEL}:1",
        messages.says("yolo/broken-mirrored"),
    ),
    ("corners", label(PLATE.rsplit(maxsplit=3)[0] + " 1.4 0.5 2"), f"{LABEL}:1", messages.says("yolo/broken-far")),
    ("corners", yaml("[4, 3]", "[4]"), f"{YAML}:4", messages.says("yolo/broken-shape")),
    ("corners", yaml("[4, 3]", "[5, 3]"), f"{LABEL}:1", messages.says("yolo/broken-other-shape")),
    ("coco", entry("annotations", category_id=9), f"{COCO}:17", messages.says("yolo/broken-coco-class")),
    ("coco", entry("annotations", bbox=["1", 2, 3, 4]), f"{COCO}:17", messages.says("yolo/broken-coco-box")),
    ("coco", entry("annotations", bbox=[90, 90, 5, 5]), f"{COCO}:17", messages.says("yolo/broken-coco-outside")),
    ("coco", entry("annotations", keypoints=...), f"{COCO}:17", messages.says("yolo/broken-coco-no-keypoints")),
    ("coco", entry("annotations", image_id=...), f"{COCO}:17", messages.says("yolo/broken-coco-no-image")),
    ("coco", entry("images", id=1), f"{COCO}:9", messages.says("yolo/broken-coco-image-twice")),
    ("coco", entry("images", file_name=3), f"{COCO}:3", messages.says("yolo/broken-coco-file-name")),
    ("coco", entry("images", file_name="gone.png"), f"{COCO}:3", messages.says("yolo/broken-coco-image-gone")),
    ("coco", entry("images", width=640, height=640), f"{COCO}:3", messages.says("yolo/broken-coco-size")),
    ("coco", entry("categories", name=...), f"{COCO}:71", messages.says("yolo/broken-coco-category")),
    (
        "coco",
        entry("categories", name="sign"),
        "annotations/instances_val.json",
        messages.says("yolo/broken-coco-others"),
    ),
    (
        "coco",
        coco(lambda held: held["categories"].append({"id": 8, "name": "sign"})),
        COCO,
        messages.says("yolo/broken-coco-sizes"),
    ),
    ("coco", coco(lambda held: held.pop("annotations")), COCO, messages.says("yolo/broken-coco-no-list")),
    (
        "coco",
        coco(lambda held: held["images"].insert(0, "x")),
        f"{COCO}:3",
        messages.says("yolo/broken-coco-no-object"),
    ),
    (
        "coco",
        lambda root: (root / COCO).write_text((root / COCO).read_text()[:-200]),
        f"{COCO}:60",
        messages.says("yolo/broken-coco-cut-off", line=60),
    ),
]


@pytest.mark.parametrize(("kind", "change", "place", "message"), BROKEN, ids=[case[3].key for case in BROKEN])
def test_a_fault_is_said_with_its_place(
    sound: Path, tmp_path: Path, kind: str, change: Break, place: str, message: messages.Message
) -> None:
    root = tmp_path / "set"
    shutil.copytree(sound / kind, root)
    change(root)
    problems = Problems()
    read_with_problems(root, problems)
    first = next(problem for problem in problems.found if problem.is_error)
    messages.said([str(first)], message)
    assert first.place == place
    assert re.search(r"\bexpected\b|\bReplace\b|\bExport\b|\blabel it\b", first.words), "what to do is missing"


def test_a_closed_outline_of_the_whole_image_is_no_keypoint(sound: Path, tmp_path: Path) -> None:
    """Five points with only 0 and 1: by their number they might be two keypoints."""
    root = tmp_path / "set"
    shutil.copytree(sound / "boxes", root)
    for each in root.glob("labels/*/*.txt"):
        each.write_text("0 0 0 1 0 1 1 0 1 0 0\n")
    problems = Problems()
    found = read_with_problems(root, problems)
    assert problems.found == []
    assert found.splits["train"][0].boxes.tolist() == [[0, 0, 64, 64]]


@pytest.mark.parametrize("name", ["a" * 5000, "gone.png"])
def test_one_image_that_is_gone_costs_no_other(sound: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    shutil.copytree(sound / "coco", root)
    entry("images", file_name=name)(root)
    problems = Problems()
    found = read_with_problems(root, problems)
    assert [(problem.kind, problem.place) for problem in problems.found] == [("image", f"{COCO}:3")]
    assert [sample.path.name for sample in found.splits["train"]] == ["1.png"]


@pytest.mark.parametrize("kind", ["boxes", "corners", "coco"])
def test_the_sound_ones_have_no_fault(sound: Path, kind: str) -> None:
    problems = Problems()
    found = read_with_problems(sound / kind, problems)
    assert problems.found == []
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 2, "val": 1}
