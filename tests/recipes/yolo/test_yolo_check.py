"""`outlast data check yolo`: what it counts and what it finds."""

from __future__ import annotations

import itertools
import re
import shutil
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import outlast
from outlast_recipes.yolo import check
from outlast_recipes.yolo.duplicates import NEAR, Fingerprint, copies_across, fingerprint
from outlast_recipes.yolo.reading import read_dataset
from tests import messages
from tests.conftest import REPOSITORY
from tests.recipes import plates

DATA = REPOSITORY.parent / "shared/data"


def checked(root: Path, *flags: str) -> tuple[list[str], str]:
    """What it says, and its error or nothing."""
    parser = ArgumentParser()
    check.arguments(parser)
    lines: list[str] = []
    try:
        for line in check.run(parser.parse_args([str(root), *flags]), lambda _done, _total: None):
            lines.append(line)
    except outlast.DataError as error:
        return lines, str(error)
    return lines, ""


def problems(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("error", "warning"))]


def test_a_sound_dataset(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set")
    lines, error = checked(root)
    assert (problems(lines), error) == ([], "")
    text = "\n".join(lines)
    assert re.search(r"images +3 +2 +1\n", text)
    assert re.search(r"objects +3 +2 +1\n", text)
    assert re.search(r"  plate +3 +2 +1\n", text)
    messages.said(text, "yolo/check-quadrilaterals", count=6, degrees=3)
    assert lines[-1] == f"Train on it: outlast train yolo --data-path {root}"
    assert checked(root.rename(tmp_path / "a set"))[0][-1].endswith(f"--data-path '{tmp_path}/a set'")


def test_all_that_is_wrong_is_in_one_report(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set", sizes=(6, 3, 1))
    damaged = root / "images/train/0.png"
    damaged.write_bytes(damaged.read_bytes()[:-400])  # the header is whole
    (root / "labels/train/1.txt").write_text("7" + plates.line()[1:])
    shutil.copy(root / "images/train/2.png", root / "images/val/8.png")
    shutil.copy(root / "images/train/3.png", root / "images/train/4.png")
    ImageOps.mirror(plates.picture(5)).save(root / "images/test/9.png")
    lines, error = checked(root)
    found = problems(lines)
    assert [line.split(":")[0] for line in found] == ["error"] * 3 + ["warning"] * 2
    messages.said(found, "yolo/check-image-cannot-be-read", image="images/train/0.png")
    messages.said(found, "yolo/check-class", line="labels/train/1.txt:1", number=7)
    messages.said(found, "yolo/check-same-file-in-another-split", image="images/val/8.png", other="train/2.png")
    messages.said(found, "yolo/check-same-file", image="images/train/4.png", other="train/3.png")
    messages.said(found, "yolo/check-shows-the-same", image="images/test/9.png")
    messages.said([error], "yolo/check-errors", errors=3, warnings=2)
    quick, error = checked(root, "--quick")
    assert len(problems(quick)) == 1
    assert "has 1 error and 0 warnings" in error


def test_an_image_file_that_two_splits_name_is_an_error(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set")
    for split, numbers in (("train", (0, 1, 2)), ("val", (2, 3, 4))):
        (root / f"{split}.txt").write_text(
            "".join(f"images/{'train' if number < 3 else 'val'}/{number}.png\n" for number in numbers)
        )
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("images/train", "train.txt").replace("images/val", "val.txt"))
    for flags in ([], ["--quick"]):
        lines, error = checked(root, *flags)
        messages.said(problems(lines), "yolo/check-image-of-two-splits", image="images/train/2.png")
        assert "has 1 error and 0 warnings" in error


def test_images_without_any_label_are_not_trained_on(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "a set")
    shutil.rmtree(root / "labels")
    lines, error = checked(root, "--quick")
    (found,) = problems(lines)
    assert "3 images to train on, of which 3 have no label file" in found
    assert "1 error" in error
    with pytest.raises(outlast.DataError, match="3 have no label file"):
        read_dataset(root)


def test_every_error_is_listed_and_each_kind_is_counted(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set")
    (root / "labels/train/0.txt").write_text("\n".join(["9 0 0 0 0"] * 30))
    lines, _ = checked(root, "--quick")
    assert len(problems(lines)) == 30
    assert lines[-1] == "30 errors of the kind 'class'"
    with pytest.raises(outlast.DataError, match="has 30 errors") as caught:
        read_dataset(root)
    assert f"`outlast data check yolo {root}` lists all of them." in str(caught.value)


def test_ten_warnings_of_a_kind_are_listed_and_all_with_a_flag(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set", sizes=(14, 2, 1))
    for number in range(1, 14):
        shutil.copy(root / "images/train/0.png", root / f"images/train/{number}.png")
    lines, error = checked(root)
    assert error == ""
    assert len(problems(lines)) == 10
    messages.said(lines, "data/check-more-of-a-kind", count=13, kind="repeated-image")
    every = checked(root, "--all")[0]
    assert len(problems(every)) == 13
    assert "13 warnings of the kind 'repeated-image'" in every


def test_balance_and_labels_of_another_image(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set")
    file = root / "data.yaml"
    file.write_text(file.read_text().replace("[plate]", "[plate, number, never]"))
    same = f"{plates.line()}\n{plates.line(corners=[(x, y + 10) for x, y in plates.CORNERS])}"
    for name in ("train/0", "train/1"):
        (root / f"labels/{name}.txt").write_text(same)
    (root / "labels/val/3.txt").write_text("1" + plates.line()[1:])
    lines = checked(root, "--quick")[0]
    text = "\n".join(lines)
    messages.said(text, "yolo/check-not-in-train", names="number")
    assert f"no errors and {len(problems(lines))} warnings, of what" in text, "each warning is counted"
    messages.said(text, "yolo/check-classes-without-objects", count="1 class")
    assert re.search(r"warning: \S+/1.png: has the same 2 objects as \S+/0.png", text)


def test_upright_text_whose_first_corner_is_another(tmp_path: Path) -> None:
    root = plates.folder(tmp_path / "set")
    wrong = plates.line(corners=[plates.CORNERS[number] for number in (1, 2, 3, 0)])
    (root / "labels/train/2.txt").write_text(wrong)
    lines, error = checked(root, "--quick")
    (found,) = problems(lines)
    assert error == ""
    messages.said([found], "yolo/check-upside-down", line="labels/train/2.txt:1", angle=96)
    assert "no errors and 1 warning, of what" in lines[-2]


def test_copies_as_augmentations_make_them() -> None:
    pictures = [plates.picture(seed, (160, 120)) for seed in range(12)]
    copies = {
        "smaller": pictures[0].resize((80, 60)),
        "mirrored": ImageOps.mirror(pictures[0]),
        "darker": ImageEnhance.Brightness(pictures[0]).enhance(0.6),
        "rotated": pictures[0].rotate(9, fillcolor=(114, 114, 114)),
        "cut": pictures[0].crop((10, 4, 154, 112)),
        "upside down": pictures[0].rotate(180),
    }
    prints = {
        "train": {Path(str(number)): fingerprint(picture) for number, picture in enumerate(pictures)},
        "val": {Path(name): fingerprint(picture) for name, picture in copies.items()},
        "test": {Path("other"): fingerprint(Image.effect_noise((160, 120), 60))},
    }
    found = copies_across(prints)
    assert {copy.second.name for copy in found} == set(copies)
    assert {copy.first.name for copy in found} == {"0"}
    assert all(NEAR <= copy.agreement <= 1 for copy in found)
    both = copies_across({"train": prints["val"], "val": {Path("0"): prints["train"][Path("0")]}})
    assert len(both) == len(copies)


def test_each_view_is_compared_with_each_image_of_another_split() -> None:
    """The same as bit by bit; and a fingerprint is small, as a dataset may have 100,000 of them."""
    chance = np.random.default_rng(0)
    splits = {"train": 30, "val": 20, "test": 10}
    prints = {
        split: {
            Path(f"{split}{number}"): Fingerprint(
                np.packbits(chance.integers(0, 2, (5, 255)) | (np.arange(255) % 3 == 0), axis=1)
            )
            for number in range(count)
        }
        for split, count in splits.items()
    }
    expected = {}
    for left, right in itertools.combinations(prints.values(), 2):
        for first, second in itertools.product(left, right):
            bits = [np.unpackbits(each.views, axis=1, count=255) for each in (left[first], right[second])]
            same = max((bits[0] == bits[1][0]).sum(1).max(), (bits[1] == bits[0][0]).sum(1).max())
            if (2 * same - 255) / 255 >= NEAR:
                expected[first, second] = (2 * same - 255) / 255
    assert 0 < len(expected) < 500
    found = copies_across(prints)
    assert {(copy.first, copy.second): copy.agreement for copy in found} == pytest.approx(expected)
    assert fingerprint(plates.picture()).views.nbytes < 3000


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not beside this checkout")
def test_the_copies_of_bccd() -> None:
    """Two pairs of pictures of the same field, which were looked at; nothing else."""
    lines, error = checked(DATA / "bccd_yolo")
    names = [re.findall(r"BloodImage_(\d+)", line) for line in problems(lines)]
    assert (names, error) == ([["00037", "00038"], ["00391", "00386"]], "")
