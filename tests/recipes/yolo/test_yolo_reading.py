"""Datasets that are read: the right numbers of sound ones, and every fault by its name, file and line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import outlast
from outlast_recipes.common.problems import Problem, Problems
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.images import decode
from outlast_recipes.yolo.reading import read_dataset, read_with_problems
from tests import messages
from tests.conftest import REPOSITORY
from tests.recipes import plates

SHARED = REPOSITORY / "../shared/data"


def read(root: Path, *, outside: bool = False) -> tuple[Dataset, list[Problem]]:
    problems = Problems()
    return read_with_problems(root, problems, outside=outside), problems.found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plates.folder(tmp_path / "set")


def test_a_yolo_folder(root: Path) -> None:
    found = read_dataset(root)
    assert found.names == ("plate",)
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 3, "val": 2, "test": 1}
    assert (found.keypoints, found.flip_index) == (4, None)
    sample = found.splits["train"][0]
    assert (sample.width, sample.height, sample.lines) == (64, 64, (1,))
    assert (sample.boxes.dtype, sample.classes.dtype) == (np.float32, np.int64)
    np.testing.assert_allclose(sample.boxes, [[10, 20, 52, 42]], atol=1e-4)
    assert sample.keypoints is not None
    np.testing.assert_allclose(sample.keypoints, [plates.CORNERS], atol=1e-4)
    assert sample.source == root / "labels/train/0.txt"


def _label_0(root: Path, old: str, new: str) -> None:
    path = root / "labels/train/0.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: _label_0(root, "0 0.48", "0 0.49"),  # the box
        lambda root: _label_0(root, "0 0.48", "1 0.48"),  # the class
        lambda root: _label_0(root, " 0.187500", " 0.187600"),  # a corner
        lambda root: _label_0(root, " 2.000000", " 1"),  # whether it is visible
        lambda root: (root / "labels/train/0.txt").write_text(""),
        lambda root: plates.picture(0, (64, 65)).save(root / "images/train/0.png"),
        lambda root: (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("plate,", "sign,")),
        lambda root: [
            (root / f"{kind}/train/0.{end}").rename(root / f"{kind}/val/0.{end}")
            for kind, end in (("images", "png"), ("labels", "txt"))
        ],
        lambda root: [
            (root / f"{kind}/train/0.{end}").rename(root / f"{kind}/train/00.{end}")
            for kind, end in (("images", "png"), ("labels", "txt"))
        ],
    ],
)
def test_other_data_have_another_hash(root: Path, change: Callable[[Path], object]) -> None:
    """By it a run is continued with its own data only."""
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("[plate]", "[plate, number]"))
    moved = shutil.copytree(root, root.parent / "another place")
    before = read_dataset(root).hash
    assert read_dataset(moved).hash == before
    change(root)
    assert read_dataset(root).hash != before


def test_the_same_in_other_spellings(root: Path) -> None:
    expected = read_dataset(root)
    label, yaml = root / "labels/train/0.txt", root / "data.yaml"
    label.write_bytes(b"\xef\xbb\xbf\r\n" + b"0.0\t" + label.read_bytes()[2:].replace(b"\n", b"\r\n"))
    (root / "list.txt").write_text("./images/val/3.png\n./images/val/4.png\n")
    text = yaml.read_text().replace("path: .", "path:").replace("names: [plate]", "nc: 1\nnames: {0: plate}")
    yaml.write_bytes(b"\xef\xbb\xbf" + text.replace("val: images/val", "val: list.txt").replace("\n", "\r\n").encode())
    found = read_dataset(yaml)
    assert found.hash == expected.hash
    assert found.splits["train"][0].lines == (2,)


def test_coco_says_the_same(tmp_path: Path) -> None:
    found = read_dataset(plates.coco(tmp_path / "coco"))
    sample = found.splits["train"][0]
    assert (found.names, found.keypoints, list(found.splits)) == (("plate",), 4, ["train", "val"])
    np.testing.assert_allclose(sample.boxes, [[10, 20, 52, 42]])
    assert sample.keypoints is not None
    np.testing.assert_allclose(sample.keypoints, [plates.CORNERS])
    assert sample.source is not None
    assert '"category_id"' in "".join(sample.source.read_text().splitlines()[sample.lines[0] - 1 :][:5])


def test_classes_of_coco_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Exports list categories in another order in each file; a class must have one number in all."""
    root = plates.coco(tmp_path / "coco")
    for number, path in enumerate(sorted(root.glob("annotations/*"))):
        held = json.loads(path.read_text())
        more = {"id": 3, "name": "number", "keypoints": held["categories"][0]["keypoints"]}
        held["categories"].insert(number, more)
        path.write_text(json.dumps(held))
    found = read_dataset(root)
    assert found.names == ("number", "plate")
    assert {int(each) for samples in found.splits.values() for sample in samples for each in sample.classes} == {1}


def test_polygons_of_four_points_are_corners_in_reading_order(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set", more="")
    turned = [plates.CORNERS[number] for number in (2, 1, 0, 3)]  # from another corner on, and the other way round
    for label in root.glob("labels/*/*.txt"):
        label.write_text("0 " + " ".join(f"{x / 64:.6f} {y / 64:.6f}" for x, y in turned))
    found, problems = read(root)
    keypoints = found.splits["val"][0].keypoints
    assert keypoints is not None
    np.testing.assert_allclose(keypoints, [plates.CORNERS], atol=1e-4)
    assert [problem.kind for problem in problems] == ["polygons"]
    (root / "labels/train/0.txt").write_text("0 0.1 0.1 0.5 0.1 0.3 0.4")  # not all have four: boxes around polygons
    found, problems = read(root)
    assert (found.keypoints, problems) == (0, [])
    np.testing.assert_allclose(found.splits["train"][0].boxes, [[6.4, 6.4, 32, 25.6]], atol=1e-4)


def quads(corners: Sequence[tuple[float, float]], order: Sequence[int] = range(4)) -> str:
    """A line of four points, from another corner on or the other way round."""
    return "0 " + " ".join(f"{corners[number][0] / 64:.6f} {corners[number][1] / 64:.6f}" for number in order)


UPSIDE_DOWN = [plates.CORNERS[number] for number in (2, 3, 0, 1)]


def test_the_order_of_polygons_is_kept_where_the_labels_have_one(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set", more="")
    for label in root.glob("labels/*/*.txt"):
        label.write_text(quads(plates.CORNERS))
    (root / "labels/train/0.txt").write_text(quads(UPSIDE_DOWN))
    (root / "labels/train/1.txt").write_text(quads(plates.CORNERS, (0, 3, 2, 1)))  # anticlockwise
    found, problems = read(root)
    samples = found.splits["train"]
    for sample, expected in zip(samples, (UPSIDE_DOWN, plates.CORNERS, plates.CORNERS), strict=True):
        np.testing.assert_allclose(sample.keypoints, [expected], atol=1e-4)
    assert [(problem.kind, problem.place) for problem in problems] == [
        ("polygons", str(root)),
        ("corner-sorted", "labels/train/1.txt:1"),
    ]
    assert "4 of 6" in problems[0].words


def test_polygons_that_begin_anywhere_are_sorted(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set", more="")
    for number, label in enumerate(sorted(root.glob("labels/*/*.txt"))):
        label.write_text(quads(plates.CORNERS, [(number + place) % 4 for place in range(4)]))
    found, problems = read(root)
    for samples in found.splits.values():
        for sample in samples:
            np.testing.assert_allclose(sample.keypoints, [plates.CORNERS], atol=1e-4)
    assert [problem.kind for problem in problems] == ["polygons"]
    assert "2 of 6" in problems[0].words
    (root / "labels/train/0.txt").write_text("0 1e999 0 1 0 1 1 0 1")
    assert [problem.kind for problem in read(root)[1]] == ["polygons", "range"]


def test_the_order_of_outlines_in_coco_is_kept_where_they_have_one(tmp_path: Path) -> None:
    root = plates.coco(tmp_path / "coco")
    for path, corners in zip(sorted(root.glob("annotations/*")), (UPSIDE_DOWN, plates.CORNERS), strict=True):
        held = json.loads(path.read_text())
        for category in held["categories"]:
            del category["keypoints"]
        for entry, outline in zip(held["annotations"], (corners, plates.CORNERS), strict=False):
            del entry["keypoints"]
            entry["segmentation"] = [[value for point in outline for value in point]]
        path.write_text(json.dumps(held))
    found, problems = read(root)
    kept = [sample.keypoints for split in ("train", "val") for sample in found.splits[split]]
    for points, expected in zip(kept, (UPSIDE_DOWN, plates.CORNERS, plates.CORNERS), strict=True):
        np.testing.assert_allclose(points, [expected])
    assert [problem.kind for problem in problems] == ["polygons"]


LINE = plates.line()
MIRRORED, CROSSED = (plates.line(corners=[plates.CORNERS[i] for i in order]) for order in ((1, 0, 3, 2), (0, 2, 1, 3)))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (f"{LINE}\n{LINE.replace('0 ', '3 ', 1)}", "class", messages.says("yolo/label-class", line=2, number=3)),
        ("-1 0.5 0.5 0.1 0.1" + LINE[37:], "class", messages.says("yolo/label-class", line=1, number=-1)),
        ("0 0.5 0.5 0.1 0.1", "columns", messages.says("yolo/label-columns-of-keypoints", found=5, expected=17)),
        (LINE + " 0.9", "columns", messages.says("yolo/label-columns", found=18, expected=17)),
        (LINE.replace("0 0", "0 nan", 1), "number", messages.says("yolo/label-number", text="'nan.484375'")),
        ("x y", "number", messages.says("yolo/label-number", text="'x'")),
        ("0 1_0 1 1 1", "number", messages.says("yolo/label-number", text="'1_0'")),
        (LINE.replace("0 0.4", "0 320.4", 1), "range", messages.says("yolo/label-range")),
        ("0 0.5 0.5 0 0.2 " + LINE.split(maxsplit=5)[5], "box-size", messages.says("yolo/label-box-size")),
        (LINE.replace("2.000000", "4", 1), "visibility", messages.says("yolo/label-visibility", value=4)),
        (
            plates.line(corners=[plates.CORNERS[i] for i in (1, 0, 3, 2)]),
            "corner-order",
            messages.says("yolo/label-corners-mirrored"),
        ),
        (
            plates.line(corners=[plates.CORNERS[i] for i in (0, 2, 1, 3)]),
            "corner-order",
            messages.says("yolo/label-corners-cross"),
        ),
        (
            LINE.rsplit(maxsplit=3)[0] + " 0.2 1.5 2",
            "keypoint-range",
            messages.says("yolo/label-keypoint-range", keypoint=4),
        ),
    ],
)
def test_lines_that_are_refused(root: Path, text: str, kind: str, words: messages.Message) -> None:
    (root / "labels/train/0.txt").write_text(text)
    found, problems = read(root)
    (problem,) = [problem for problem in problems if problem.is_error]
    assert problem.kind == kind
    assert problem.place.startswith("labels/train/0.txt:")
    messages.said([str(problem)], words)
    assert len(found.splits["train"][0].boxes) == text.count("\n")
    with pytest.raises(outlast.DataError, match="outlast data check yolo"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"{LINE}\n{LINE}\n", "repeated"),
        ("0 0.45 0.5 1 0.5 " + LINE.split(maxsplit=5)[5], "box-clipped"),
        (plates.line(corners=[(1.0, 1.0), (5.0, 1.0), (5.0, 4.0), (1.0, 4.0)])[:37] + LINE[37:], "keypoint-far"),
        (LINE.replace("2.000000", "0", 1), "corner-missing"),
    ],
)
def test_lines_that_are_reported(root: Path, text: str, kind: str) -> None:
    (root / "labels/train/0.txt").write_text(text)
    found, problems = read(root)
    assert [(problem.kind, problem.is_error) for problem in problems] == [(kind, False)]
    assert len(found.splits["train"][0].boxes) == 1
    assert found.splits["train"][0].boxes.min() >= 0


def test_a_label_file_that_is_no_text(root: Path) -> None:
    (root / "labels/train/0.txt").write_bytes(b"0 0.5 0.5 0.1 0.1\n\xff\xfe")
    (root / "labels/train/9.txt").write_text("0 0.5 0.5 0.1 0.1")
    found, problems = read(root)
    assert [(each.kind, each.place, each.is_error) for each in problems] == [
        ("encoding", "labels/train/0.txt:2", True),
        ("label-alone", "labels/train/9.txt", False),
    ]
    assert found.splits["train"][0].boxes.shape == (0, 4)


def test_an_image_without_labels_is_background(root: Path) -> None:
    (root / "labels/train/1.txt").unlink()
    (root / "labels/train/2.txt").write_text("\n")
    found, problems = read(root)
    assert problems == []
    assert [len(sample.boxes) for sample in found.splits["train"]] == [1, 0, 0]
    assert [sample.source is None for sample in found.splits["train"]] == [False, True, False]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            "train: /etc",
            "outside",
            messages.says("yolo/data-yaml-split-absolute", line="data.yaml:2"),
        ),
        ("train: ../../", "outside", messages.says("yolo/data-yaml-split-outside")),
        ("train: https://example.org/x.zip", "outside", messages.says("yolo/data-yaml-split-address")),
        ("train: images/nothing", "split", messages.says("yolo/data-yaml-split-does-not-exist")),
        ("train: 5", "yaml", messages.says("yolo/data-yaml-split-is-number", value=5)),
        ("train: [images/train, 3]", "yaml", messages.says("yolo/data-yaml-split-is-list")),
        ("train:", "split", messages.says("yolo/data-yaml-split-names-nothing")),
        (
            "train: images/train\ntrain: images/val",
            "yaml",
            messages.says("yolo/key-twice", line=3, key="train"),
        ),
        ("train: [images/train", "yaml", messages.says("yolo/data-yaml-no-yaml")),
        ("train: !!python/object/apply:os.system [ls]", "yaml", messages.says("yolo/data-yaml-yaml-constructor")),
        (
            "train: images/train\nkpt_shape: [4, 5]",
            "yaml",
            messages.says("yolo/key-twice", line=6, key="kpt_shape"),
        ),
        ("train: images/train\nflip_idx: [0, 1, 1, 2]", "yaml", messages.says("yolo/data-yaml-flip-idx", most=3)),
        ("train: images/train\nnc: 4", "yaml", messages.says("yolo/data-yaml-number-of-names", number=4)),
    ],
)
def test_what_data_yaml_may_not_say(root: Path, change: str, kind: str, words: messages.Message) -> None:
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("train: images/train", change))
    _, problems = read(root)
    messages.said([str(problem) for problem in problems if problem.is_error and problem.kind == kind], words)


def test_paths_that_users_have(root: Path) -> None:
    file = root / "data.yaml"
    expected = read_dataset(root).hash
    text = file.read_text()
    file.write_text(
        text.replace("path: .", "path: ../gone/from/another/machine").replace("train: images", "train: ../images")
    )
    found, problems = read(root)
    assert found.hash == expected
    assert [problem.kind for problem in problems if not problem.is_error] == ["path", "path"]
    file.write_text(text + "download: https://example.org/x.zip\n")
    assert [(each.kind, each.is_error) for each in read(root)[1]] == [("download", False)]


def test_links_that_lead_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("0 0.5 0.5 0.1 0.1")
    shutil.move(root / "images/train/0.png", tmp_path / "away.png")
    (root / "images/train/0.png").symlink_to(tmp_path / "away.png")
    (root / "images/train/1.png").unlink()
    (root / "images/train/1.png").symlink_to("2.png")  # inside: as good as a file
    (root / "labels/train/2.txt").unlink()
    (root / "labels/train/2.txt").symlink_to(tmp_path / "secret.txt")
    (root / "images/val/more").symlink_to(tmp_path / "more")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/back").symlink_to(tmp_path / "more")
    plates.picture(9).save(tmp_path / "more/9.png")
    found, problems = read(root)
    assert [problem.kind for problem in problems] == ["outside"] * 3
    assert len(found.splits["train"]) == 2
    found, problems = read(root, outside=True)
    assert [problem.kind for problem in problems] == ["columns"]
    assert (len(found.splits["train"]), len(found.splits["val"])) == (3, 3)


def test_images_that_cannot_be_used(root: Path) -> None:
    folder = root / "images/train"
    (folder / "0.png").write_bytes(b"")
    (folder / "1.png").write_bytes(b"GIF89a no image of ours")
    os.mkfifo(folder / "3.png")
    header = Image.new("1", (20000, 20000))
    header.save(folder / "2.png", optimize=True)
    found, problems = read(root)
    assert {problem.place for problem in problems if problem.kind == "image"} == {
        f"images/train/{number}.png" for number in range(4)
    }
    assert found.splits["train"] == ()


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_grey_of_16_bits_keeps_its_upper_8(tmp_path: Path, name: str) -> None:
    """As OpenCV reads it, with which ultralytics trains; Pillow's own conversion makes nearly all of it white."""
    grey = np.linspace(0, 65535, 64 * 32).astype(np.uint16).reshape(32, 64)
    Image.fromarray(grey).save(tmp_path / name)
    found = np.asarray(decode(tmp_path / name))
    np.testing.assert_array_equal(found, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(root: Path, kind: type[np.generic]) -> None:
    Image.fromarray(np.zeros((64, 64), kind)).save(root / "images/train/0.tif")
    (root / "images/train/0.png").unlink()
    problems = [problem for problem in read(root)[1] if problem.kind == "image"]
    messages.said([str(problem) for problem in problems], "yolo/image-too-deep", place="images/train/0.tif")


def test_a_rotated_image_has_the_size_that_is_seen(root: Path) -> None:
    rotation = Image.Exif()
    rotation[0x0112] = 6
    plates.picture(0, (64, 32)).save(root / "images/train/0.jpg", exif=rotation)
    (root / "images/train/0.png").unlink()
    found, problems = read(root)
    assert (found.splits["train"][0].width, found.splits["train"][0].height) == (32, 64)
    assert [problem.kind for problem in problems] == ["exif"]


@pytest.mark.parametrize("name", ["0.png", "0.webp", "0.tif"])
def test_a_rotation_that_only_some_readers_obey_is_refused(root: Path, name: str) -> None:
    rotation = Image.Exif()
    rotation[0x0112] = 6
    (root / "images/train/0.png").unlink()
    plates.picture(0, (64, 32)).save(root / "images/train" / name, exif=rotation)
    problems = [problem for problem in read(root)[1] if problem.kind == "image"]
    kind = {"0.png": "PNG", "0.webp": "WEBP", "0.tif": "TIFF"}[name]
    messages.said([str(problem) for problem in problems], "yolo/image-rotated-by-some", image=name, kind=kind)
    assert decode(root / "images/train" / name).size == (32, 64), "a picture for predict is seen upright"


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"category_id": 1}, "class", messages.says("yolo/coco-category", number=1)),
        ({"image_id": 99}, "label-alone", messages.says("yolo/coco-image", image="99")),
        ({"image_id": []}, "label-alone", messages.says("yolo/coco-image", image="[]")),
        ({"bbox": [1, 2, 0, 5]}, "box-size", messages.says("yolo/coco-box-size")),
        ({"bbox": [1, 2, True, 5]}, "number", messages.says("yolo/coco-box", box="[1, 2, True, 5]")),
        ({"bbox": "x"}, "number", messages.says("yolo/coco-box", box="'x'")),
        ({"keypoints": [1, 2, 3]}, "columns", messages.says("yolo/coco-columns", expected=12)),
        ({"iscrowd": 1}, "crowd", messages.says("yolo/coco-crowd")),
    ],
)
def test_coco_entries_that_are_refused(
    tmp_path: Path, changes: dict[str, object], kind: str, words: messages.Message
) -> None:
    _, problems = read(plates.coco(tmp_path / "coco", **changes))
    (problem,) = problems
    assert (problem.kind, problem.place) == (kind, "annotations/instances_train.json:17")
    messages.said([str(problem)], words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", messages.says("yolo/coco-empty", line="train.json:1")),
        ('{\n"images": [],\n"images": []}', messages.says("yolo/coco-key-twice", line="train.json:3")),
        ('{"images":\n[NaN]}', messages.says("yolo/coco-nan", line="train.json:2")),
        ('{"images": ' + "[" * 100_000, messages.says("yolo/coco-too-deep")),
        ('{"images": [], "annotations": {}}', messages.says("yolo/coco-no-list", name="categories")),
        (
            '{"images": [3], "annotations": [], "categories": []}',
            messages.says("yolo/coco-entry", line="train.json:1", name="images"),
        ),
        ('{"images": []} {}', messages.says("yolo/coco-more-text")),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str, words: messages.Message) -> None:
    (tmp_path / "train.json").write_text(text)
    _, problems = read(tmp_path)
    messages.said([str(problems[0])], words)


def test_images_of_coco_that_are_not_what_the_entry_says(tmp_path: Path) -> None:
    root = plates.coco(tmp_path / "coco")
    file = root / "annotations/instances_train.json"
    held = json.loads(file.read_text())
    held["images"][0]["width"] = 65
    held["images"][1]["file_name"] = "../../../etc/passwd"
    file.write_text(json.dumps(held, indent=1))
    found, problems = read(root)
    assert sorted(problem.kind for problem in problems) == ["image-size", "outside"]
    assert found.splits["train"] == ()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "images", "objects", "keypoints"),
    [("coco8", 8, 30, 0), ("coco8-pose", 8, 21, 17), ("icdar15_quads", 10, 82, 4), ("bccd_yolo", 364, 4886, 0)],
)
def test_real_data(name: str, images: int, objects: int, keypoints: int) -> None:
    found = read_dataset(SHARED / name)
    samples = [sample for split in found.splits.values() for sample in split]
    assert (len(samples), sum(len(sample.boxes) for sample in samples)) == (images, objects)
    assert found.keypoints == keypoints
