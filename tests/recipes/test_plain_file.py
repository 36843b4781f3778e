"""What is read from outside is an ordinary file of a size that it may have: a pipe would be waited for without end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import outlast
from outlast_recipes.common.plain_file import read_plain
from outlast_recipes.dungeon.dungeon_file import read_dungeon
from outlast_recipes.dungeon.reading import read_text
from outlast_recipes.skeleton import nw_ucla, utkinect
from outlast_recipes.skeleton.ntu import read_bodies


def test_an_ordinary_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "file", 5) == read_plain(tmp_path / "link", 5) == b"12345"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "it has more than 4 bytes"),
        ("pipe", "it is no ordinary file"),
        ("folder", "it is no ordinary file"),
        ("absent", "No such file or directory"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=words) as caught:
        read_plain(tmp_path / name, 4)
    assert caught.value.strerror == words


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (read_bodies, "S001C001P001R001A001.skeleton"),
        (nw_ucla.read_clip, "a01_s01_e00_v01.json"),
        (lambda path: utkinect.read_clips(path, path), "joints_s01_e01.txt"),
        (utkinect.ranges, "actionLabel.txt"),
        (read_text, "tloz1_1.txt"),
        (read_dungeon, "dungeon.json"),
    ],
)
def test_no_reader_waits_for_a_pipe(tmp_path: Path, reader: Callable[[Path], object], name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(outlast.DataError, match="it is no ordinary file"):
        reader(tmp_path / name)
