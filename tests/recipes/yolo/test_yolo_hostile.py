"""Data that are meant to do harm: each is a problem with file and line, quickly, and never a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

import outlast
from outlast_recipes.common.problems import Problems
from outlast_recipes.yolo.reading import read_with_problems
from tests.recipes import pictures

LABEL = "labels/train/train00.txt"
LONG = "a/" * 3000


def label(text: str) -> Callable[[Path], object]:
    return lambda root: (root / LABEL).write_text(text)


def yaml(old: str, new: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        text = (root / "data.yaml").read_text()
        (root / "data.yaml").write_text(text.replace(old, new) if old else text + new)

    return change


def listed(root: Path) -> None:
    (root / "train.txt").write_text(f"{LONG}\n./images/train/train00.png\n")
    yaml("train: images/train", "train: train.txt")(root)


def many(count: int) -> str:
    return "".join(f"0 0.5 0.5 0.1 {0.1 + number / 10**6:.6f}\n" for number in range(count))


@pytest.mark.parametrize(
    ("change", "kind", "place"),
    [
        (label("9" * 5000 + " 0.5 0.5 0.1 0.1"), "class", f"{LABEL}:1"),
        (label("0 0.5 0.5 0.1 " + "9" * 5000), "", f"{LABEL}:1"),
        (label(many(10_001)), "objects", f"{LABEL}:10001"),
        (yaml("", "nc: 0x" + "f" * 20_000), "yaml", "data.yaml:6"),
        (yaml("[green, red]", f"[green, 0x{'f' * 20_000}]"), "yaml", "data.yaml:5"),
        (yaml("images/train", LONG), "split", "data.yaml:2"),
        (yaml("path: .", f"path: {LONG}"), "path", "data.yaml:1"),
        (listed, "image-missing", "train.txt:1"),
    ],
)
def test_what_is_meant_to_do_harm(tmp_path: Path, change: Callable[[Path], object], kind: str, place: str) -> None:
    root = pictures.folder(tmp_path / "set", counts=(2, 1, 1))
    change(root)
    problems = Problems()
    with contextlib.suppress(outlast.DataError):
        read_with_problems(root, problems)
    assert [each for each in problems.found if each.place == place and kind in ("", each.kind)], problems.found[:3]
