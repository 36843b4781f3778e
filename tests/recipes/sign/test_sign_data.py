"""The clips of a run: packed, split, padded, normalised, and changed by chance."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import outlast
from outlast_recipes.common.buckets import LengthBuckets, padding
from outlast_recipes.sign import augment, predicting, signers
from outlast_recipes.sign.augment import MIRROR, Strength
from outlast_recipes.sign.batch import FACE, LEFT, RIGHT, FeatureBatch, KeypointBatch
from outlast_recipes.sign.config import Data, Network, SignConfig
from outlast_recipes.sign.data import load_data, split
from outlast_recipes.sign.normalise import placed
from outlast_recipes.sign.saved import Labels
from tests import messages
from tests.recipes import signs

SHARE = re.compile(r"[\d.]+%")
CPU = torch.device("cpu")
NOTHING = Strength(
    **{field.name: 0.0 for field in dataclasses.fields(Strength) if field.name not in ("handed", "occlude_span")}
)


class Run:
    """Stands in for a run: keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signs.folder(tmp_path_factory.mktemp("signs"), group=True)


def config(root: Path, runs: Path, **values: Any) -> SignConfig:
    data = Data(**{name: values.pop(name) for name in [*values] if name in Data.model_fields})
    return SignConfig(**({"data_root": root, "checkpoint_dir": runs, "batch_size": 8, "data": data} | values))


def test_a_folder_of_the_original_is_read_and_packed_once(root: Path, tmp_path: Path) -> None:
    run = Run()
    found = load_data(config(root, tmp_path / "runs"), run=run)  # type: ignore[arg-type]
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 24, "val": 8, "test": 8}
    assert found.glosses == ("SIGN 0", "SIGN 1", "SIGN 2", "SIGN 3")
    assert (found.categories, found.category_of) == (("KIND 0", "KIND 1"), (0, 1, 0, 1))
    (store,) = (tmp_path / "outlast-data").iterdir()
    before = (store / "index.json").stat().st_mtime_ns
    second = Run()
    again = load_data(config(root, tmp_path / "runs"), run=second)  # type: ignore[arg-type]
    assert second.said == run.said[1:]
    assert (store / "index.json").stat().st_mtime_ns == before
    assert load_data(config(root, tmp_path / "elsewhere/runs")).hash == again.hash == found.hash, "in memory as well"
    assert not (tmp_path / "elsewhere").exists(), "nothing is written without a run"
    messages.only_said(
        run.said,
        messages.says("sign/packs", files=40),
        messages.says("sign/packed", clips=40),
        messages.says("sign/aspect-taken", silent=40, clips=40),
        messages.says("sign/padding", share=SHARE),
    )
    assert sorted(path.name for path in root.iterdir()) == [
        "keypoints_test", "keypoints_train", "keypoints_val", "labels_reference.csv", "test_labels.csv",
        "train_labels.csv", "val_labels.csv",
    ]  # fmt: skip


def test_changed_labels_and_files_are_read_again(tmp_path: Path) -> None:
    root = signs.folder(tmp_path / "data", {"train": 4})
    first = load_data(config(root, tmp_path / "runs"), run=Run())  # type: ignore[arg-type]
    labels = root / "train_labels.csv"
    labels.write_text(labels.read_text().replace("clip001,1,1,0", "clip001,1,1,1"))
    second = load_data(config(root, tmp_path / "runs"), run=Run())  # type: ignore[arg-type]
    shown = [[bool(entry.occluded) for entry in each.parts["train"].store.entries] for each in (first, second)]
    assert shown == [[True, False, False, False], [True, True, False, False]]
    shutil.copy(root / "keypoints_train/clip002.npz", root / "keypoints_train/clip001.npz")
    third = load_data(config(root, tmp_path / "runs"), run=Run())  # type: ignore[arg-type]
    entries = third.parts["train"].store.entries
    assert entries[1].length == entries[2].length != second.parts["train"].store.entries[1].length


def test_the_aspect_is_that_of_the_flag_else_of_the_file(tmp_path: Path) -> None:
    root = signs.folder(tmp_path / "data", {"train": 4})
    file = root / "keypoints_train/clip000.npz"
    points, seen = signs.keypoints(0)
    np.savez(file, X=points, mask=seen, meta=np.array('{"width": 360, "height": 640}'))
    for given, own, other in ((None, 9 / 16, 16 / 9), (1.5, 1.5, 1.5)):
        values = config(root, tmp_path / "runs", aspect=given)
        train = load_data(values).parts["train"]
        assert train.aspect.tolist() == pytest.approx([own, other, other, other])
        assert predicting.read(file, values).aspect == pytest.approx(own)
    np.savez(file, X=points, mask=seen, meta=np.array("640x360"))
    for given in (None, 1.5):
        values, run = config(root, tmp_path / "runs", aspect=given), Run()
        assert bool(predicting.read(file, values).fault) == (given is None)
        load_data(values, run=run)  # type: ignore[arg-type]
        if given is None:
            messages.said(run.said, "sign/aspect-taken", silent=4, clips=4)
        else:
            messages.unsaid(run.said, "sign/aspect-taken")


def test_flags_name_the_same_folders(root: Path, tmp_path: Path) -> None:
    flags = {
        f"{kind}_{name}": path
        for name in ("train", "val")
        for kind, path in (("keypoints", root / f"keypoints_{name}"),)
    } | {f"labels_{name}_csv": root / f"{name}_labels.csv" for name in ("train", "val")}
    found = load_data(config(root, tmp_path, data_root=None, num_gloss=6, **flags))
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 24, "val": 8, "test": 0}
    assert found.glosses[4:] == ("gloss 4", "gloss 5")
    assert found.category_of == (0, 1, 0, 1, -1, -1)
    del flags["labels_val_csv"]
    with messages.raises(outlast.ConfigError, "sign/flag-without-flag", given="--keypoints-val"):
        load_data(config(root, tmp_path, data_root=None, **flags))
    with messages.raises(outlast.ConfigError, "sign/no-data"):
        load_data(config(root, tmp_path, data_root=None))
    with messages.raises(outlast.ConfigError, "sign/no-features"):
        load_data(config(root, tmp_path, network=Network(name="iv3_gru")))


def test_a_label_that_is_far_above_the_others_is_refused_unless_the_number_is_given(root: Path, tmp_path: Path) -> None:
    """One letter too many in a CSV would make a network of a million classes."""
    far = tmp_path / "far"
    shutil.copytree(root, far)
    labels = far / "train_labels.csv"
    lines = labels.read_text().splitlines()
    file, _, *rest = lines[1].split(",")
    labels.write_text("\n".join([lines[0], ",".join([file, "2000", *rest]), *lines[2:]]) + "\n")
    with messages.raises(outlast.DataError, "sign/sparse-labels", column="gloss", label=2000, used=5, count=2001):
        load_data(config(far, tmp_path / "runs"))
    assert len(load_data(config(far, tmp_path / "runs", num_gloss=2001)).glosses) == 2001


def test_labels_that_do_not_match_are_refused_with_all_places(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(root, broken)
    (broken / "keypoints_val/clip024.npz").unlink()
    with messages.raises(outlast.DataError, "sign/refused", errors=11, last=2):
        load_data(config(broken, tmp_path / "runs", num_gloss=3))


def test_the_table_of_names_and_the_labels_agree(root: Path, tmp_path: Path) -> None:
    """A gloss without clips has the category that the table says, and one that has clips that of its clips."""
    copy = tmp_path / "data"
    shutil.copytree(root, copy)
    table = copy / "labels_reference.csv"
    table.write_text(table.read_text() + "4,SIGN 4,1,KIND 1\n5,SIGN 5,2,KIND 2\n")
    found = load_data(config(copy, tmp_path / "runs"))
    assert (found.category_of, found.categories[2]) == ((0, 1, 0, 1, 1, 2), "KIND 2")
    assert load_data(config(copy, tmp_path / "runs", num_cat=2)).category_of == (0, 1, 0, 1, 1, -1)
    before = Labels(found.glosses, found.categories, (0, 1, 0, 1, -1, -1), found.hash, generated=False)
    now = Labels.of(found)
    now.load_state_dict(before.state_dict())
    assert now.category_of == [0, 1, 0, 1, -1, -1], "as the run was begun"
    table.write_text(table.read_text().replace("2,SIGN 2,0,KIND 0", "2,SIGN 2,1,KIND 1"))
    with messages.raises(outlast.DataError, "sign/other-category"):
        load_data(config(copy, tmp_path / "runs"))


def test_files_that_cannot_be_read_are_left_out_and_named(root: Path, tmp_path: Path) -> None:
    broken, run = tmp_path / "broken", Run()
    shutil.copytree(root, broken)
    (broken / "keypoints_train/clip003.npz").write_bytes(b"not this")
    found = load_data(config(broken, tmp_path / "runs"), run=run)  # type: ignore[arg-type]
    assert len(found.parts["train"]) == 23
    messages.said(run.said, "sign/files-refused", files=1, name="clip003")


def test_signers_are_kept_apart(root: Path, tmp_path: Path) -> None:
    found = load_data(config(root, tmp_path, split="group", test_groups=("signer2",)))
    groups = {
        name: {part.store.entries[number].group for number in part.numbers}  # type: ignore[attr-defined]
        for name, part in found.parts.items()
    }
    assert groups == {"train": {"signer0"}, "val": {"signer1"}, "test": {"signer2"}}
    assert sum(map(len, found.parts.values())) == 40
    with messages.raises(outlast.ConfigError, "sign/unknown-signers", given="nobody"):
        load_data(config(root, tmp_path, split="group", test_groups=("nobody",)))
    with messages.raises(outlast.ConfigError, "sign/signers-without-split"):
        load_data(config(root, tmp_path, test_groups=("signer2",)))
    entries = [dataclasses.replace(found.parts["test"].store.entries[0], group="")]  # type: ignore[attr-defined]
    with messages.raises(outlast.DataError, "sign/clip-without-signer", clips=1):
        split(entries, config(root, tmp_path, split="group", test_groups=("signer2",)))


def test_a_random_split_has_each_gloss_in_each_part(root: Path, tmp_path: Path) -> None:
    parts = load_data(config(root, tmp_path, split="random")).parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 32, "val": 4, "test": 4}
    for part in parts.values():
        assert {int(gloss) for batch in part.batches(64) for gloss in batch.gloss} == {0, 1, 2, 3}


def test_long_clips_are_resampled_and_said(root: Path, tmp_path: Path) -> None:
    run = Run()
    found = load_data(config(root, tmp_path / "runs", frames=16), run=run)  # type: ignore[arg-type]
    messages.said(run.said, "sign/resampled", frames=16, longest=22)
    for batch in found.parts["val"].batches(3):
        assert isinstance(batch, KeypointBatch)
        assert int(batch.lengths.max()) <= 16 == max(16, batch.points.shape[1])
        for row, length in enumerate(batch.lengths.tolist()):
            assert batch.seen[row, :length].any(1).all()
            assert not batch.seen[row, length:].any()
            assert not batch.points[row, length:].any()


def test_features_are_batches_too(tmp_path: Path) -> None:
    root = signs.features(tmp_path / "data", key="X")
    found = load_data(config(root, tmp_path / "runs", network=Network(name="iv3_gru"), batch_size=4))
    batch = next(iter(found.loader))  # type: ignore[call-overload]
    assert isinstance(batch, FeatureBatch)
    assert batch.features.shape[2] == 2048
    view = found.view(batch, 1, CPU)
    assert isinstance(view, FeatureBatch)
    for row, length in enumerate(view.lengths.tolist()):
        assert not view.features[row, length:].any()
    assert view.features.any(2).sum() < batch.features.any(2).sum() + 8


def test_a_clip_does_not_depend_on_its_batch(root: Path, tmp_path: Path) -> None:
    part = load_data(config(root, tmp_path)).parts["train"]
    alone = {int(batch.numbers[0]): batch for batch in part.batches(1)}
    for batch in part.batches(7):
        assert isinstance(batch, KeypointBatch)
        for row, number in enumerate(batch.numbers.tolist()):
            length = int(batch.lengths[row])
            assert torch.equal(batch.points[row, :length], alone[number].points[0])  # type: ignore[attr-defined]
            assert torch.equal(batch.seen[row, :length], alone[number].seen[0])  # type: ignore[attr-defined]


def test_bodies_are_placed_by_their_shoulders() -> None:
    flat, seen = (torch.from_numpy(array)[None] for array in signs.keypoints(1))
    points = flat.view(1, -1, 78, 2)
    place = placed(points, seen, torch.tensor([16 / 9]))
    body = place.to_body(points, seen)
    assert float((body[0, :, 11] + body[0, :, 12]).abs().mean()) < 0.05
    assert float((body[0, :, 11] - body[0, :, 12]).norm(dim=-1).median()) == pytest.approx(1, abs=1e-5)
    assert not body[~seen].any()
    torch.testing.assert_close(place.to_frame(body, seen), points, atol=1e-6, rtol=0)
    nearer = (points - 0.5) * 1.3 + 0.45
    again = placed(nearer, seen, torch.tensor([16 / 9])).to_body(nearer, seen)
    torch.testing.assert_close(again, body, atol=1e-5, rtol=0)
    square = points * torch.tensor([16 / 9, 1.0])
    again = placed(square, seen, torch.tensor([1.0])).to_body(square, seen)
    torch.testing.assert_close(again, body, atol=1e-5, rtol=0, msg="lengths are the same in every direction")
    seen[:, :, 11:13] = False
    hidden = placed(points, seen, torch.tensor([16 / 9])).to_body(points, seen)
    assert hidden.isfinite().all()
    assert 0.3 < float(hidden[seen].std()) < 0.6, "without shoulders, by what is seen"
    assert not placed(points, seen & False, torch.tensor([1.0])).to_body(points, seen & False).any()


def views(root: Path, tmp_path: Path, strength: Strength, rows: list[int], epoch: int = 1) -> KeypointBatch:
    data = load_data(config(root, tmp_path))
    part: Any = data.parts["train"]
    data.view.strength = strength  # type: ignore[attr-defined]
    view = data.view(part.raw([part.numbers[row] for row in rows]), epoch, CPU)
    assert isinstance(view, KeypointBatch)
    return view


def test_a_view_is_a_function_of_seed_epoch_and_clip(root: Path, tmp_path: Path) -> None:
    strength = Strength(mirror=0.5)
    many, one = views(root, tmp_path, strength, [3, 8, 5]), views(root, tmp_path, strength, [5])
    length = int(one.lengths[0])
    assert length == int(many.lengths[2])
    torch.testing.assert_close(many.points[2, :length], one.points[0], atol=1e-6, rtol=0)
    assert torch.equal(many.seen[2, :length], one.seen[0])
    other = views(root, tmp_path, strength, [5], epoch=2)
    assert other.points.shape != one.points.shape or not torch.equal(other.points, one.points)
    assert not many.points[~many.seen].any()


def test_without_strength_a_view_is_the_clip(root: Path, tmp_path: Path) -> None:
    view = views(root, tmp_path, NOTHING, [4])
    part: Any = load_data(config(root, tmp_path)).parts["train"]
    clip = next(batch for batch in part.batches(1) if batch.numbers[0] == part.numbers[4])
    torch.testing.assert_close(view.points, clip.points, atol=1e-5, rtol=0)
    assert torch.equal(view.seen, clip.seen)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({"rotate": 13.0}, 0.01),
        ({"squeeze": 0.15}, 0.01),
        ({"perspective": 0.2}, 0.002),
        ({"arms": 10.0}, 0.005),
        ({"limbs": 0.2}, 0.005),
        ({"trunk": 0.2}, 0.005),
        ({"shoulders": 0.2}, 0.005),
        ({"reach": 0.25}, 0.005),
        ({"fingers": 20.0}, 0.002),
    ],
)
def test_each_change_of_space_is_bounded(root: Path, tmp_path: Path, change: dict[str, float], least: float) -> None:
    before = views(root, tmp_path, NOTHING, [*range(8)])
    after = views(root, tmp_path, dataclasses.replace(NOTHING, **change), [*range(8)])
    assert torch.equal(before.seen, after.seen)
    moved = (after.points - before.points).norm(dim=-1)
    assert least < float(moved[before.seen].mean()) < 0.4
    if "arms" in change:
        assert not moved[:, :, FACE].any()
        assert float(moved[:, :, RIGHT].mean()) > least
    if "limbs" in change:
        assert not moved[:, :, FACE].any()
        for shoulder, elbow in ((11, 13), (12, 14)):
            both = before.seen[:, :, shoulder] & before.seen[:, :, elbow]
            then, now = (
                (view.points[:, :, elbow] - view.points[:, :, shoulder]).norm(dim=-1)[both] for view in (before, after)
            )
            assert 0.8 - 1e-4 < float((now / then).min()) < 0.95
            assert 1.05 < float((now / then).max()) < 1.2 + 1e-4
        own = [view.points[:, :, 54] - view.points[:, :, 46] for view in (before, after)]
        torch.testing.assert_close(*(normalize(each, dim=-1) for each in own), atol=1e-4, rtol=0)
    if "trunk" in change:
        still = [point for point in range(78) if point not in (*range(11), 23, 24, *range(67, 78))]
        assert not moved[:, :, still].any()
        for point in (0, 23):
            then, now = (view.points[:, :, point].norm(dim=-1)[before.seen[:, :, point]] for view in (before, after))
            assert 0.8 - 1e-4 < float((now / then).min()) < 0.95
            assert 1.05 < float((now / then).max()) < 1.2 + 1e-4
    if "shoulders" in change:
        assert not moved[:, :, [11, 12]].any()
        then, now = (view.points[:, :, 23].norm(dim=-1)[before.seen[:, :, 23]] for view in (before, after))
        assert 1 / 1.2 - 1e-4 < float((now / then).min()) < 0.95
        assert 1.05 < float((now / then).max()) < 1 / 0.8 + 1e-4
    if "reach" in change:
        still = [point for point in range(25) if point not in range(15, 23)]
        assert not moved[:, :, still].any()
        for hand in ([15, *range(25, 46)], [16, *range(46, 67)]):
            offsets = (after.points - before.points)[:, :, hand]
            own = offsets[before.seen[:, :, hand]]
            assert 0.1 < float(own.abs().max()) < 0.25 + 1e-4
            row = offsets[3][before.seen[3][:, hand]]
            torch.testing.assert_close(row, row[:1].expand_as(row), atol=1e-5, rtol=0)
    if "fingers" in change:
        assert not moved[:, :, [*range(26), 46, *range(67, 78)]].any(), "pose, wrists and face stay"
        for hand in (25, 46):
            for joint, end in ((0, 5), (5, 6), (6, 7), (7, 8), (18, 19)):
                both = before.seen[:, :, hand + joint] & before.seen[:, :, hand + end]
                then, now = (
                    (view.points[:, :, hand + end] - view.points[:, :, hand + joint])[both] for view in (before, after)
                )
                torch.testing.assert_close(now.norm(dim=-1), then.norm(dim=-1), atol=1e-5, rtol=0)
            turn = torch.nn.functional.cosine_similarity(then, now, dim=-1)
            assert math.cos(math.radians(60.1)) < float(turn.min()) < 0.999
    if "rotate" in change:
        torch.testing.assert_close(after.points.norm(dim=-1), before.points.norm(dim=-1), atol=1e-5, rtol=0)


def test_time_is_warped_within_bounds_and_frames_are_dropped(root: Path, tmp_path: Path) -> None:
    before = views(root, tmp_path, NOTHING, [*range(24)])
    after = views(root, tmp_path, dataclasses.replace(NOTHING, warp=0.3, crop=0.1), [*range(24)])
    ratio = after.lengths / before.lengths
    assert 0.9 / 1.3 - 0.05 < float(ratio.min()) < 0.9
    assert 1.1 < float(ratio.max()) < 1.35
    dropped = views(root, tmp_path, dataclasses.replace(NOTHING, drop_frames=0.5), [*range(24)])
    assert torch.equal(dropped.lengths, before.lengths)
    lost = 1 - dropped.seen.any(2).sum(1) / dropped.lengths
    assert 0.1 < float(lost.mean()) < 0.4
    assert float(lost.max()) < 0.8


def test_the_course_in_time_bends_and_its_ends_stay(root: Path, tmp_path: Path) -> None:
    frames = 21
    clock = torch.linspace(0, 1, frames).view(1, frames, 1, 1).expand(40, frames, 78, 2)
    seen, lengths = torch.ones(40, frames, 78).bool(), torch.full((40,), frames)
    lengths[0] = 0
    strength, names = dataclasses.replace(NOTHING, timing=1.0), [str(number) for number in range(40)]
    points, there = signers.of_another(clock, seen, lengths, strength, names, 3, 1)
    assert not points[0].any()
    assert not there[0].any()
    assert there[1:].all()
    course = points[1:, :, 0, 0]
    torch.testing.assert_close(course[:, 0], torch.zeros(39))
    torch.testing.assert_close(course[:, -1], torch.ones(39))
    assert (course.diff(dim=1) > 0).all(), "a clip never runs backwards"
    assert 0.15 < float(course[:, 10].min()) < 0.4, "a half squared is a quarter"
    assert 0.6 < float(course[:, 10].max()) < 0.8
    again, _ = signers.of_another(clock[5:6], seen[5:6], lengths[5:6], strength, names[5:6], 3, 1)
    assert torch.equal(again[0], points[5])
    other, _ = signers.of_another(clock[5:6], seen[5:6], lengths[5:6], strength, names[5:6], 3, 2)
    assert not torch.equal(other[0], points[5])


def test_a_part_is_hidden_for_a_while(root: Path, tmp_path: Path) -> None:
    before = views(root, tmp_path, NOTHING, [*range(24)])
    after = views(root, tmp_path, dataclasses.replace(NOTHING, occlude=1.0, occlude_span=0.6), [*range(24)])
    longer = views(root, tmp_path, dataclasses.replace(NOTHING, occlude=1.0, occlude_span=1.0), [*range(24)])
    assert longer.seen.sum() < after.seen.sum() < before.seen.sum()
    kinds = set()
    for row, length in enumerate(before.lengths.tolist()):
        gone = before.seen[row] & ~after.seen[row]
        points = gone.any(0).nonzero()[:, 0].tolist()
        kinds.add({21: "hand" if points[0] < 67 else "face", 11: "face", 10: "tips"}[len(points)])
        assert 0.1 < float(gone.any(1).sum()) / length < 0.7
    assert kinds == {"hand", "face", "tips"}
    assert not after.points[~after.seen].any()


def test_only_glosses_that_may_be_are_mirrored(root: Path, tmp_path: Path) -> None:
    assert [MIRROR[MIRROR[point]] for point in range(78)] == list(range(78))
    assert (MIRROR[11], MIRROR[15], MIRROR[25], MIRROR[0], MIRROR[67]) == (12, 16, 46, 0, 67)
    before = views(root, tmp_path, NOTHING, [*range(8)])
    after = views(root, tmp_path, dataclasses.replace(NOTHING, mirror=1.0, handed=(1, 3)), [*range(8)])
    for row, gloss in enumerate(before.gloss.tolist()):
        if gloss in (1, 3):
            assert torch.equal(after.points[row], before.points[row])
        else:
            flipped = before.points[row, :, LEFT] * torch.tensor([-1.0, 1.0])
            torch.testing.assert_close(after.points[row, :, RIGHT], flipped, atol=1e-6, rtol=0)


def test_resampling_takes_what_was_seen() -> None:
    values = torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 1, 2).clone()
    seen = torch.tensor([True, True, False, True, True]).view(1, 5, 1)
    values[~seen] = 0
    found, there = augment.resampled(values, seen, torch.tensor([0.0]), torch.tensor([4.0]), torch.tensor([9]))
    assert there[0, :, 0].tolist() == [True, True, True, False, False, True, True, True, True]
    assert found[0, :, 0, 0].tolist() == [0, 0.5, 1, 0, 0, 3, 3, 3.5, 4]


def test_batches_of_similar_length_have_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(10, 120, 500).tolist()
    order = LengthBuckets(lengths, 16, seed=3)
    drawn = list(order)
    assert sorted(drawn) == list(range(500))
    assert drawn == list(order), "the same again"
    order.set_epoch(1)
    assert list(order) != drawn
    assert padding(lengths, drawn, 16) < 0.12
    assert padding(lengths, range(500), 16) > 0.35
    first = {frozenset(drawn[at : at + 16]) for at in range(0, 496, 16)}
    again = list(order)
    assert not first & {frozenset(again[at : at + 16]) for at in range(0, 496, 16)}, "other batches in each epoch"
