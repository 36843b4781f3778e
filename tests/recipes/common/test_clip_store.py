"""A store of clips of another kind than skeletons: flat points of one person, seen one by one, as a signing hand is."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import outlast
from outlast_recipes.common.auto_prepare import NotPrepared, store_of
from outlast_recipes.common.clip_store import ClipStore, find_store
from outlast_recipes.common.clips import ClipFormat, Floats, Mask, RawFiles, duplicates, hash_points
from outlast_recipes.common.preparing import prepare, unread, write
from tests import messages


@dataclass(frozen=True)
class Sign:
    """(T, 5, 2) points and (T, 5) what was seen of them."""

    name: str
    label: int
    signer: int
    points: Floats
    mask: Mask


@dataclass(frozen=True)
class SignEntry:
    name: str
    label: int
    signer: int
    length: int
    rows: int
    frames: int
    hash: str


def sign(number: int, length: int) -> Sign:
    chance = np.random.default_rng(number)
    mask = chance.random((length, 5)) < 0.7
    points = chance.normal(size=(length, 5, 2)).astype(np.float32) * mask[..., None]
    return Sign(f"sign-{number}", number % 2, number % 3, points, mask)


def read(path: Path) -> Sign:
    number = path.stem.removeprefix("sign-")
    if not number.isdigit():
        raise outlast.DataError(f"{path} is not named as signs are.")
    return sign(int(number), 4 + int(number))


def find(folder: Path) -> RawFiles[Sign]:
    files = sorted(folder.rglob("*.sign"))
    if not files:
        raise outlast.DataError(f"{folder} holds no signs.")
    return RawFiles(files, read, "five-points", ("yes", "no"))


def facts(clip: Sign) -> dict[str, Any]:
    return {"name": clip.name, "label": clip.label, "signer": clip.signer}


def centre(clip: Sign, _: str) -> Floats:
    return np.float32(clip.points.sum((0, 1)) / max(1, clip.mask.sum()))


FORM = ClipFormat(
    recipe="sign", noun="signs", points="points", entry=SignEntry, facts=facts, find=find, fixed={"centre": centre}
)


def files(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"sign-{number}.sign").touch()
    (folder / "unnamed.sign").touch()
    return folder


def test_stored_clips_equal_the_clips_that_were_read(tmp_path: Path) -> None:
    raw = find(files(tmp_path / "raw"))
    store = prepare(raw, tmp_path / "store", FORM, workers=1)
    assert {path.name for path in store.folder.iterdir()} == {"index.json", "points.npy", "mask.npy", "centre.npy"}
    assert (store.layout, store.classes) == ("five-points", ["yes", "no"])
    assert [each.name for each in store.refused] == ["unnamed.sign"]
    assert [entry.signer for entry in store.entries] == [0, 1, 2, 0]
    for number in (2, 0, 3, 1):
        clip = sign(number, 4 + number)
        points, mask = store[number]
        np.testing.assert_array_equal(points, clip.points)
        np.testing.assert_array_equal(mask, clip.mask)
        np.testing.assert_array_equal(store.fixed["centre"][number], centre(clip, ""))
        assert store.entries[number].hash == hash_points(clip.points)
    seen = sum(int(sign(number, 4 + number).mask.sum()) for number in range(4))
    assert np.load(store.folder / "points.npy").shape == (seen, 2), "only what was seen is stored"
    in_memory = write(
        [read(path) for path in raw.files[:4]], tmp_path / "b", FORM, layout="five-points", classes=("yes", "no")
    )
    assert in_memory.hash == store.hash


def test_shards_that_were_written_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast_recipes.common.preparing.SHARD", 2)
    raw, folder = find(files(tmp_path / "raw")), tmp_path / "store"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    assert len(unread(raw, folder)) == 5
    with pytest.raises(KeyboardInterrupt):
        prepare(raw, folder, FORM, workers=1, progress=stop)
    for place in (folder / "shards").glob("*.npz"):
        assert not place.name.startswith(".")
    left = len(unread(raw, folder))
    assert left <= 3
    with messages.raises(outlast.DataError, "clips/not-a-store"):
        ClipStore(folder, FORM)
    assert len(prepare(raw, folder, FORM, workers=1)) == 4
    assert unread(raw, folder) == list(raw.files), "its shards are gone"


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ("length", "clips/incomplete-store"),
        ("format", "clips/store-of-another-format"),
        ("points.npy", "clips/damaged-store"),
    ],
)
def test_a_damaged_store_is_refused(tmp_path: Path, what: str, key: str) -> None:
    folder = write([sign(0, 4), sign(1, 5)], tmp_path / "store", FORM, layout="five-points").folder
    index = json.loads((folder / "index.json").read_text())
    if what == "length":
        index["clips"][0]["length"] = 3
    elif what == "format":
        index["format"] = 9
    else:
        (folder / what).write_bytes((folder / what).read_bytes()[:100])
    (folder / "index.json").write_text(json.dumps(index))
    with messages.raises(outlast.DataError, key):
        ClipStore(folder, FORM)


def test_clips_that_cannot_be_one_store(tmp_path: Path) -> None:
    one = sign(0, 4)
    with messages.raises(outlast.DataError, "clips/name-twice", clips=1):
        write([one, sign(1, 4), dataclasses.replace(one, label=1)], tmp_path / "a", FORM, layout="five-points")
    with messages.raises(outlast.DataError, "clips/too-few-class-names", names=1, class_=2):
        write([one, sign(1, 4)], tmp_path / "b", FORM, layout="five-points", classes=("yes",))
    with messages.raises(outlast.DataError, "clips/no-files", files=0):
        write([], tmp_path / "c", FORM, layout="five-points")


def test_copies_are_found_between_parts(tmp_path: Path) -> None:
    clips = [sign(0, 4), sign(1, 4), dataclasses.replace(sign(0, 4), name="again")]
    entries = write(clips, tmp_path / "store", FORM, layout="five-points").entries
    parts = {"train": [0], "val": [1], "test": [2]}
    assert duplicates(entries, parts) == [("sign-0", "again")]
    assert duplicates(entries, parts, ("val",), "test") == []


class Run:
    """Stands in for a run: keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, sentence: str) -> None:
        self.said.append(sentence)


def test_a_training_prepares_its_store_once(tmp_path: Path) -> None:
    root, runs, first, again = files(tmp_path / "raw"), tmp_path / "runs", Run(), Run()
    with messages.raises(NotPrepared, "clips/raw-files-only", files=5):
        store_of(root, runs, FORM)
    made = store_of(root, runs, FORM, first)
    assert made.folder == root / "outlast-store" == find_store(root, FORM)
    assert len(first.said) >= 2
    assert store_of(root, runs, FORM, again).hash == made.hash
    assert len(again.said) == 1
    with messages.raises(outlast.DataError, "clips/no-store"):
        store_of(tmp_path / "nothing", runs, FORM, again)
