"""Skeletons from text: the real files where they are at hand, written ones always."""

from __future__ import annotations

import dataclasses
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest

import outlast
from outlast_recipes.common.clips import RawFiles, duplicates
from outlast_recipes.common.preparing import prepare
from outlast_recipes.skeleton import formats, ntu, utkinect
from outlast_recipes.skeleton.bodies import Body, denoised, tracks
from outlast_recipes.skeleton.layouts import KINECT_1, KINECT_2
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.store import FORM, Entry, open_store
from tests import messages
from tests.conftest import REPOSITORY
from tests.recipes import skeletons

DATA = REPOSITORY.parent / "shared/data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not beside this checkout")


def text_of(frames: list[list[tuple[str, np.ndarray]]]) -> str:
    """A `.skeleton` file: per frame (id, joints (25, 3)) of every body."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for name, joints in bodies:
            lines += [f"{name} 0 1 1 1 1 0 0.1 0.2 2", "25"]
            lines += [" ".join(f"{value:.6f}" for value in joint) + " 0 0 0 0 0 0 0 0 2" for joint in joints]
    return "\n".join(lines) + "\n"


def person(frames: int, seed: int, *, moving: float = 0.3, wide: bool = False) -> np.ndarray:
    """(T, 25, 3): somebody upright, or a table."""
    chance = np.random.default_rng(seed)
    pose = chance.normal(size=(25, 3)) * ((1.0, 0.2, 0.2) if wide else (0.2, 1.0, 0.2)) + (0, 0, 3)
    return pose + moving * np.cumsum(chance.normal(size=(frames, 1, 3)), axis=0)


def written(folder: Path, name: str, frames: list[list[tuple[str, np.ndarray]]]) -> Path:
    path = folder / f"{name}.skeleton"
    path.write_text(text_of(frames))
    return path


def test_two_people_lost_and_found_beside_a_table(tmp_path: Path) -> None:
    one, two, table = person(40, 1, moving=0.5), person(40, 2), person(40, 3, moving=0.0, wide=True)
    frames = []
    for t in range(40):
        bodies = [("72057594037931101", one[t])] if 2 <= t < 20 else [("72057594037931199", one[t])] if t >= 22 else []
        if 5 <= t < 30:
            bodies.append(("72057594037931102", two[t]))
        frames.append([*bodies, ("7", table[t])] if t >= 2 else [])
    path = written(tmp_path, "S001C002P003R002A013", frames)
    clip = ntu.read_clip(path)
    assert (clip.label, clip.subject, clip.camera, clip.setup, len(ntu.read_bodies(path))) == (12, 3, 2, 1, 4)
    assert clip.joints.shape == (38, 2, 25, 3), "from the first frame with anybody to the last"
    assert clip.mask[:, 0].tolist() == [not 18 <= t < 20 for t in range(38)], "found again under another number"
    assert clip.mask[:, 1].tolist() == [3 <= t < 28 for t in range(38)]
    np.testing.assert_allclose(clip.joints[:18, 0], one[2:20] - one[2, KINECT_2.spine], atol=1e-5)
    np.testing.assert_allclose(clip.joints[3:28, 1], two[5:30] - one[2, KINECT_2.spine], atol=1e-5)
    assert (clip.joints[~clip.mask] == 0).all()


def test_flickering_bodies_and_furniture_are_removed() -> None:
    def body(length: int, *, wide: bool = False) -> Body:
        return Body(np.arange(length, dtype=np.int32), person(length, length, wide=wide).astype(np.float32))

    assert [len(each.frames) for each in denoised([body(50), body(5), body(40, wide=True)])] == [50]
    assert [len(each.frames) for each in denoised([body(5), body(9)])] == [5, 9], "a short clip, not flickers"
    assert [len(each.frames) for each in denoised([body(50, wide=True), body(60, wide=True)])] == [60]
    assert len(tracks([body(50), body(51), body(52)])) == 2


def _one_word_later(text: str, line: int) -> str:
    """The words of a text are the same, and those of one line begin the next."""
    lines = text.splitlines()
    first, last = lines[line].rsplit(" ", 1)
    return "\n".join([*lines[:line], first, f"{last} {lines[line + 1]}", *lines[line + 2 :]])


def wrong_line(line: int, found: str, expected: str) -> messages.Message:
    return messages.says("skeleton/wrong-line", line=line, found=found, expected=expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\n25\n", "\n20\n", 1), wrong_line(4, "'20'", "the number of joints has 25")),
        (
            lambda text: text.replace("0.1 0.2 2", "0.1 0.2 2#state", 1),
            wrong_line(3, "'2#state'", "a body's line has a number"),
        ),
        (lambda text: text[: len(text) // 2], wrong_line(45, "1 fields", "a joint's line has 12")),
        (lambda text: text + "1\n", messages.says("skeleton/more-text", line=86, text_="'1'")),
        (lambda text: "", wrong_line(1, "0 fields", "the number of frames has 1")),
        (lambda text: text.replace(text.split()[13], "nan", 1), wrong_line(5, "'nan'", "a joint's line has a number")),
        (
            lambda text: text.replace("\n1 0 1 1", "\nnan 0 1 1", 1),
            wrong_line(3, "'nan'", "a body's line has a number"),
        ),
        (
            lambda text: text.replace("3\n", "-3\n", 1),
            wrong_line(1, "'-3'", "the number of frames has a whole number from 0"),
        ),
        (
            lambda text: text.replace("\n1\n", "\n-1\n", 1),
            wrong_line(2, "'-1'", "the number of bodies has a whole number from 0"),
        ),
        (lambda text: text.replace("\n1\n", "\n9999999999\n", 1), wrong_line(30, "1 fields", "a body's line has 10")),
        (lambda text: _one_word_later(text, 10), wrong_line(11, "11 fields", "a joint's line has 12")),
        (lambda text: text.replace("\n25\n", "\n\n25\n", 1), wrong_line(4, "0 fields", "the number of joints has 1")),
    ],
)
def test_malformed_text_is_refused_with_its_line(tmp_path: Path, change, message: messages.Message) -> None:
    path = written(tmp_path, "S001C001P001R001A001", [[("1", pose)] for pose in person(3, 0)])
    path.write_text(change(path.read_text()))
    with messages.raises(outlast.DataError, message):
        ntu.read_bodies(path)


def test_names_and_empty_recordings_are_refused(tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "skeleton/not-a-name-of-ntu"):
        ntu.read_clip(written(tmp_path, "clip7", [[]]))
    with messages.raises(outlast.DataError, "skeleton/no-body"):
        ntu.read_clip(written(tmp_path, "S001C001P001R001A001", [[], []]))
    with messages.raises(outlast.DataError, "skeleton/action-below-one", number=1):
        ntu.read_clip(written(tmp_path, "S001C001P001R001A000", [[("1", pose)] for pose in person(3, 0)]))


def test_the_published_lists() -> None:
    assert len(ntu.missing()) == 535
    assert sum(int(name[1:4]) <= 17 for name in ntu.missing()) == 302
    assert (len(ntu.TRAIN_60), len(ntu.TRAIN_120)) == (20, 53)
    for layout in (KINECT_1, KINECT_2):
        assert [layout.mirror[layout.mirror[joint]] for joint in range(layout.joints)] == list(range(layout.joints))
        for joint, parent in enumerate(layout.parents):
            assert layout.parents[layout.mirror[joint]] == layout.mirror[parent], "sides are alike"
        for joint in range(layout.joints):
            for _ in range(layout.joints):
                joint = layout.parents[joint]  # noqa: PLW2901
            assert layout.parents[joint] == joint, "all parents lead to the root"


def entry(**facts: int) -> Entry:
    values = {
        "label": 0,
        "subject": 1,
        "camera": 1,
        "setup": 1,
        "bodies": 1,
        "length": 1,
        "rows": 0,
        "frames": 0,
    } | facts
    return Entry(name=str(facts), hash=str(facts.get("label", 0)), **values)


def test_no_subject_is_in_two_subsets_of_a_split() -> None:
    entries = [
        entry(subject=subject, camera=camera, setup=subject, label=subject)
        for subject in range(1, 11)
        for camera in (1, 2, 3)
    ]
    for protocol, trained in (("xsub", 6), ("xview", 20 / 3), ("xset", 5), ("cameras", 20 / 3)):
        parts = split(entries, protocol, validate=2)
        assert sorted(itertools.chain(*parts.values())) == list(range(30))
        assert len(parts["train"]) + len(parts["val"]) == round(3 * trained), protocol
        people = {part: {entries[number].subject for number in numbers} for part, numbers in parts.items()}
        assert not people["train"] & people["val"]
        assert len(people["val"]) == 2
    parts = split(entries, "subjects", train_subjects=[1, 3, 5, 7, 9], validate=[9])
    assert {entries[number].subject for number in parts["test"]} == {2, 4, 6, 8, 10}
    assert {entries[number].subject for number in parts["val"]} == {9}
    for wrong, message in (
        (("subjects", (), 0), messages.says("skeleton/split-needs-subjects")),
        (("xyz", (), 0), messages.says("skeleton/unknown-split", split="xyz")),
        (("xsub", (1, 2), 0), messages.says("skeleton/subjects-without-split", split="xsub")),
        (
            ("xset", (), (1,)),
            messages.says(
                "clips/validate-names-others",
                flag="--data.validate-subjects",
                groups="subjects",
                others="1",
                known="2, 4, 6, 8, 10",
            ),
        ),
    ):
        with messages.raises(outlast.ConfigError, message):
            split(entries, wrong[0], train_subjects=wrong[1], validate=wrong[2])


def test_a_store_has_the_contents_of_the_text_and_continues_after_an_interruption(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("outlast_recipes.common.preparing.SHARD", 4)
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(1, 11):
        poses = person(5 + number, number)
        frames = [[("1", pose), ("2", pose + 1)] if number % 3 == 0 else [("1", pose)] for pose in poses]
        written(folder, f"S001C001P{number:03d}R001A{number:03d}", frames)
    (folder / "S001C001P011R001A011.skeleton").write_text("not this")
    files = sorted(folder.iterdir())
    raw = RawFiles(files, ntu.read_clip, "kinect-2")
    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "store", FORM, workers=1, progress=_stop)
    kept = list((tmp_path / "store/shards").glob("*.npz"))
    assert kept
    with messages.raises(outlast.DataError, "skeleton/not-a-store"):
        open_store(tmp_path / "store")
    times = {path.name: path.stat().st_mtime_ns for path in kept}
    store = prepare(raw, tmp_path / "store", FORM, workers=2, progress=lambda *_: _same(tmp_path, times))
    assert (len(store), [each.name for each in store.refused]) == (10, ["S001C001P011R001A011.skeleton"])
    assert "S001C001P011R001A011.skeleton:1" in store.refused[0].why
    for number in np.random.default_rng(0).permutation(10):
        clip = ntu.read_clip(files[number])
        joints, mask = store[number]
        np.testing.assert_array_equal(joints, clip.joints)
        np.testing.assert_array_equal(mask, clip.mask)
        found = store.entries[number]
        assert (found.name, found.label, found.subject, found.hash, found.bodies) == (
            clip.name,
            clip.label,
            clip.subject,
            clip.hash,
            2 if (number + 1) % 3 == 0 else 1,
        )
    assert not any(path.suffix == ".pkl" for path in (tmp_path / "store").iterdir())
    again = prepare(raw, tmp_path / "other", FORM, workers=2)
    assert again.hash == store.hash


def _stop(done: int, total: int) -> None:
    raise KeyboardInterrupt


def _same(tmp_path: Path, times: dict[str, int]) -> None:
    for name, when in times.items():
        assert (tmp_path / "store/shards" / name).stat().st_mtime_ns == when, "what was read is not read again"


def test_copies_under_other_names_are_found(tmp_path: Path) -> None:
    entries = [entry(subject=1, label=1), entry(subject=2, label=1), entry(subject=2, label=2)]
    copy = dataclasses.replace(entries[1], hash=entries[0].hash)
    assert duplicates([entries[0], copy, entries[2]], {"train": [0], "val": [], "test": [1, 2]}) == [
        (entries[0].name, copy.name)
    ]


@real
def test_real_ntu_files() -> None:
    folder = DATA / "ntu_samples"
    clip = ntu.read_clip(folder / "raw/S001C001P001R001A001.skeleton")
    assert clip.joints.shape == (103, 2, 25, 3)
    assert clip.mask.sum(0).tolist() == [103, 0]
    assert np.abs(clip.joints[0, 0, KINECT_2.spine]).max() == 0
    assert ntu.read_clip(folder / "raw/S001C001P001R001A024.skeleton").mask[:, 1].sum() == 0, "a spurious second body"
    assert ntu.read_clip(folder / "raw/S001C001P001R001A050.skeleton").mask.any(0).all(), "two people"
    with pytest.raises(outlast.DataError, match=r"A000\.skeleton:3 "):
        ntu.read_bodies(folder / "malformed/S001C001P001R001A000.skeleton")


@real
def test_real_nw_ucla_and_its_copies(tmp_path: Path) -> None:
    with tarfile.open(DATA / "nw_ucla/nw_ucla_all_sqe.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    store = prepare(formats.find(tmp_path / "all_sqe"), tmp_path / "store", FORM)
    assert (len(store), store.refused) == (1484, [])
    assert {found.label for found in store.entries} == set(range(10))
    parts = split(store.entries, "cameras", validate=2)
    assert len(parts["train"]) + len(parts["val"]) == 1020
    assert len(parts["test"]) == 464
    assert len(duplicates(store.entries, parts)) == 95
    assert store[5][0].shape[1:] == (2, 20, 3)


@real
def test_real_utkinect_in_both_forms(tmp_path: Path) -> None:
    for name in ("original", "ntu_format"):
        with tarfile.open(DATA / f"utkinect/utkinect_{name}.tar.xz") as packed:
            packed.extractall(tmp_path / name, filter="data")
    joints = tmp_path / "original/joints"
    clips = [
        clip
        for path in sorted(joints.glob("joints_*.txt"))
        for clip in utkinect.read_clips(path, joints / "actionLabel.txt")
    ]
    assert 198 <= len(clips) <= 199, "s10_e02 carry is NaN"
    assert clips[0].joints.shape[1:] == (2, 20, 3)
    encoded = [ntu.read_clip(path) for path in sorted((tmp_path / "ntu_format").rglob("*.skeleton"))]
    assert len(encoded) == 199
    assert {clip.label for clip in encoded} == set(range(10))


def test_a_store_is_the_same_to_the_last_byte_as_those_of_earlier_versions(tmp_path: Path) -> None:
    """Runs and teacher logits know their data by this hash: another one would part them from stores that took hours."""
    store = skeletons.store(tmp_path / "store")
    assert store.hash == "a256b0cfb8509ddb9447881f7eaa47af"
    assert {path.name for path in store.folder.iterdir()} == {"bones.npy", "index.json", "joints.npy", "mask.npy"}
