"""Training on a prepared store: interrupted equals uninterrupted, what can be learnt is learnt, a teacher teaches, and
ranks are one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import outlast
from outlast.cli import main
from outlast_recipes.common import auto_prepare, preparing
from outlast_recipes.common.auto_prepare import NotPrepared
from outlast_recipes.common.clip_store import find_store
from outlast_recipes.common.training import few_steps
from outlast_recipes.skeleton import compiled, distill
from outlast_recipes.skeleton import training as skeleton
from outlast_recipes.skeleton.augment import Strength
from outlast_recipes.skeleton.saved import restored
from outlast_recipes.skeleton.sizing import settled
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.store import FORM, Store, open_store
from tests import messages, processes
from tests.durability.digits import final
from tests.durability.digits import train as any_train
from tests.recipes import skeletons


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return skeletons.store(tmp_path_factory.mktemp("clips") / "store").folder


def train(root: Path, store: Path, *, stop_after: int | None = None, **flags: str) -> str:
    small = skeletons.TINY | {"data_root": str(store)}
    return any_train(root, recipe="skeleton", small=small, stop_after=stop_after, **flags)


def journal(root: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / "skeleton/journal.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def taught(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained teacher's folder of runs, its logits beside it."""
    root = tmp_path_factory.mktemp("teacher")
    assert train(root, store, epochs="2", experiment_name="teacher") == "finished"
    words = ["teacher-logits", "skeleton", "teacher", "--checkpoint-dir", str(root), "--data-root", str(store)]
    assert main([*words, "--views", "2", "-o", str(root / "logits.safetensors")]) == 0
    return root


CASES = {
    "adamw": {},
    "sgd-bf16": {"mixed_precision": "True", "optimizer": "sgd"},
    "workers": {"num_workers": "2"},
    "distilled": {"mode": "distill", "distill__loss": "dkd", "mixed_precision": "True"},
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_equals_uninterrupted(tmp_path: Path, store: Path, taught: Path, case: str) -> None:
    flags = (
        {"epochs": "2"}
        | CASES[case]
        | ({"distill__teacher_logits": str(taught / "logits.safetensors")} if case == "distilled" else {})
    )
    assert train(tmp_path / "twin", store, **flags) == "finished"
    assert train(tmp_path / "cut", store, stop_after=2, **flags) == "preempted"
    assert train(tmp_path / "cut", store, stop_after=6, **flags) == "preempted"
    assert train(tmp_path / "cut", store, **flags) == "finished"
    assert final(tmp_path / "cut", "skeleton") == final(tmp_path / "twin", "skeleton")


def test_without_a_compiler_a_run_goes_on_and_says_that_it_is_not_exact(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "no C compiler was found (cc, gcc, clang)"
    run, config, cpu = Told(), SimpleNamespace(mixed_precision=False), torch.device("cpu")
    if isinstance(none := compiled.library(), str):
        pytest.skip(none)
    how = compiled.how()
    assert skeleton.computed(run, config, cpu) == how
    assert train(tmp_path, store, stop_after=2) == "preempted"
    before = len(run.said)
    monkeypatch.setattr(compiled, "library", lambda: why)
    monkeypatch.setattr(compiled, "how", lambda: "not compiled")
    assert train(tmp_path, store, stop_after=4) == "preempted"
    messages.said(capsys.readouterr().err, "training/computed-otherwise", now="not compiled", before=how)
    assert skeleton.computed(run, config, cpu) == "not compiled"
    messages.said(run.said[before:], "training/computed-by-torch", why=why)
    assert len(run.said) == before + 1
    assert skeleton.computed(run, SimpleNamespace(mixed_precision=True), cpu) == ""
    assert train(tmp_path, store) == "finished"
    assert "not exact" not in capsys.readouterr().err


def test_float16_resumes_with_the_scale_that_it_had_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a T4 does, on a CPU: gradients overflow at first, those steps are left out and the scale falls."""

    def narrow(device: torch.device, *, wanted: bool) -> tuple[torch.dtype, torch.amp.GradScaler]:
        return torch.float16, torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2, enabled=wanted)

    monkeypatch.setattr(skeleton, "half_precision", narrow)
    store = skeletons.store(tmp_path / "store", 36).folder  # a CPU is slow in float16
    flags = {"mixed_precision": "True", "epochs": "1", "batch_size": "4", "data__frames": "8"}
    assert train(tmp_path / "twin", store, **flags) == "finished"
    assert train(tmp_path / "cut", store, stop_after=2, **flags) == "preempted"
    cut = outlast.open_saved("skeleton", root=tmp_path / "cut").part("scaler")
    assert 0 < cut["scale"] < 2.0**24
    assert train(tmp_path / "cut", store, **flags) == "finished"
    assert final(tmp_path / "cut", "skeleton") == final(tmp_path / "twin", "skeleton")
    assert outlast.open_saved("skeleton", root=tmp_path / "twin").part("scaler")["scale"] < 2.0**24


def test_the_order_of_time_is_learnt_and_both_results_are_reported(tmp_path: Path, store: Path) -> None:
    assert train(tmp_path, store, epochs="20", augment__mirror="0") == "finished"
    last = journal(tmp_path)[-1]
    assert last["test_top1"] >= 0.9, "classes that differ by the direction of time alone"
    assert 1 <= last["best_epoch"] <= 20
    assert last["best_test_top1"] >= 0.8
    chosen = max(line["val_top1"] for line in journal(tmp_path) if "val_top1" in line)
    saved = outlast.open_saved("skeleton", root=tmp_path)
    assert saved.part("choice") == {"epoch": last["best_epoch"], "value": chosen}
    held = {"layout": "kinect-2", "classes": ["raise", "lower", "both"], "data": open_store(store).hash, "teacher": ""}
    sized = {"clips": 36, "length": 16, "batch_size": 8, "epochs": 20, "frames": 16, "yaw": 1.0}
    assert saved.part("labels") == held | {"computed": compiled.how(), "sized": sized}


def test_the_data_are_described(store: Path) -> None:
    given = {"batch_size": 8, "epochs": 200, "data": {"split": "xview", "validate_subjects": 1, "frames": 64}}
    given["augment"] = {"yaw": 0}
    config = skeleton.Config(data_root=store, **given)
    facts = {"clips": 72, "parameters": "999,065", "gmac": 0.968}
    messages.said([skeleton.check(config)], "skeleton/data-of-the-run", train=36, val=12, test=24, **facts)
    with messages.raises(outlast.ConfigError, "skeleton/needs-data-root"):
        skeleton.check(skeleton.Config())
    above = skeleton.Config(data_root=store.parent, **given)
    assert skeleton.check(above) == skeleton.check(config), (
        "the only store in a folder is found, as below /kaggle/input"
    )
    subjects = {"split": "subjects", "train_subjects": (1, 2, 3), "validate_subjects": 1}
    check = skeleton.check(skeleton.Config(data_root=store, batch_size=8, data=subjects))
    assert ": 36 train, 18 val, 18 test;" in check
    with messages.raises(outlast.ConfigError, "training/unknown-device", value="cuda:7"):
        skeleton.check(skeleton.Config(data_root=store, device="cuda:7"))
    with messages.raises(outlast.ConfigError, "skeleton/no-teacher-logits"):
        skeleton.check(
            skeleton.Config(
                data_root=store, batch_size=8, mode="distill", data={"split": "xview", "validate_subjects": 1}
            )
        )


def test_folders_that_are_no_store(store: Path, tmp_path: Path) -> None:
    with messages.raises(outlast.DataError, "skeleton/no-store", folder=tmp_path):
        find_store(tmp_path, FORM)
    raw = tmp_path / "raw/S001C001P001R001A001.skeleton"
    raw.parent.mkdir()
    raw.touch()
    with messages.raises(outlast.DataError, "skeleton/raw-files-only-below"):
        find_store(tmp_path, FORM)
    for name in ("a", "b"):
        shutil.copytree(store, tmp_path / name)
    with messages.raises(outlast.DataError, "skeleton/several-stores", prepared=2):
        find_store(tmp_path, FORM)


def test_a_run_keeps_its_data_and_its_teacher(tmp_path: Path, store: Path, taught: Path) -> None:
    logits = Path(shutil.copy(taught / "logits.safetensors", tmp_path))
    assert train(tmp_path, store, stop_after=2, distill__teacher_logits=str(logits)) == "preempted"
    assert train(tmp_path, store, stop_after=4) == "preempted"
    later = [line for line in journal(tmp_path) if line["step"] > 2 and "loss" in line]
    assert later, "the second attempt went on"
    assert all("distillation_loss" in line for line in later), "not named again, the teacher is where it was"
    for flags in ({"distill__teacher_logits": "none"}, {}):
        with messages.raises(outlast.OutlastError, "skeleton/other-teacher-logits"):
            train(tmp_path, store, **flags)
        logits.unlink(missing_ok=True)
    other = skeletons.made(tmp_path / "other", [skeletons.clip(number + 1) for number in range(72)])
    assert train(tmp_path / "more", store, stop_after=2) == "preempted"
    with messages.raises(outlast.OutlastError, "skeleton/other-data"):
        train(tmp_path / "more", other.folder)


def test_who_is_kept_back_to_choose_by(store: Path) -> None:
    entries = open_store(store).entries
    parts = split(entries, "subjects", train_subjects=(1, 2, 3), validate=None)
    assert {entries[number].subject for number in parts["val"]} == {3}, "a tenth, at least one"
    assert split(entries, "subjects", train_subjects=(1,), validate=None)["val"] == []
    flag = "--data.validate-subjects"
    groups = "3 subjects (1, 2, 3)"
    with messages.raises(outlast.ConfigError, "clips/too-many-to-validate", flag=flag, value=5, groups=groups, most=2):
        split(entries, "subjects", train_subjects=(1, 2, 3), validate=5)
    with messages.raises(outlast.ConfigError, "skeleton/batch-size", value=128, clips=36):
        skeleton.check(
            skeleton.Config(data_root=store, batch_size=128, data={"split": "xview", "validate_subjects": 1})
        )


OPTIONS = {
    "batch_size": "12", "learning_rate": "0.01", "seed": "7", "mixed_precision": "True", "optimizer": "sgd",
    "weight_decay": "0.5", "warmup": "0.5", "label_smoothing": "0", "ema": "0.5", "data.split": "cameras",
    "data.validate_subjects": "2", "data.frames": "24", "model.size": "tiny", "model.streams": "joint",
    "model.shift": "off", "model.routing": "static", "model.attention": "False", "model.bodies": "1",
    "model.dropout": "0.5", "model.drop_path": "0.5", "augment.crop": "0.9", "augment.turn": "0", "augment.yaw": "0",
    "augment.scale": "0", "augment.shear": "0", "augment.mirror": "0", "augment.swap": "0", "augment.bones": "0",
    "augment.drop_axis": "1", "augment.drop_joints": "1", "augment.drop_time": "1", "epochs": "2", "debug": "True",
}  # fmt: skip


@pytest.mark.long
def test_every_option_changes_the_result(tmp_path: Path, store: Path) -> None:
    """A dead option is a defect; a teacher, the split by subjects and validation have tests of their own."""
    from outlast.config import leaves

    common = {leaf.key for leaf in leaves(outlast.SupervisedConfig)}
    own = {leaf.key for leaf in leaves(skeleton.Config)} - common - {"mode", "data.train_subjects", "validate_every"}
    assert {key for key in own if not key.startswith("distill.")} <= set(OPTIONS)
    train(tmp_path / "usual", store, stop_after=2, epochs="1")
    for key, value in OPTIONS.items():
        flags, steps = {"epochs": "1", key: value}, 2
        if key == "ema":  # which forgets faster while it is young
            flags["epochs"], steps = "3", 10
            train(tmp_path / "usual-ema", store, stop_after=10)
        if key == "debug":  # four batches of eight are all there is
            flags["batch_size"] = "4"
            train(tmp_path / "usual4", store, stop_after=2, epochs="1", batch_size="4")
        assert train(tmp_path / key, store, stop_after=steps, **flags) == "preempted"
        changed = final(tmp_path / key, "skeleton")
        against = {"debug": "usual4", "ema": "usual-ema"}.get(key, "usual")
        against = final(tmp_path / against, "skeleton")
        part = "ema.safetensors" if key == "ema" else "model.safetensors"
        assert changed[part] != against[part], key


# a teacher ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", distill.TEMPERATURES)
def test_a_loss_is_zero_for_equals_and_falls_towards_the_teacher(loss: distill.Loss) -> None:
    chance = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(16, 10, generator=chance)
    labels = teacher.argmax(1)
    assert abs(float(distill.distillation_loss(teacher, teacher, labels, loss))) < 1e-5
    student = torch.randn(16, 10, generator=chance).requires_grad_()
    optimizer = torch.optim.Adam([student], 0.1)
    values = []
    for _ in range(100):
        optimizer.zero_grad()
        value = distill.distillation_loss(student, teacher, labels, loss)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.1 * values[0]
    assert (student.argmax(1) == labels).float().mean() >= 0.9
    assert distill.distillation_loss(student, teacher, labels, loss, 7.0) != distill.distillation_loss(
        student, teacher, labels, loss
    )


def test_standardised_logits_do_not_mind_size_and_kl_does() -> None:
    chance = torch.Generator().manual_seed(0)
    teacher, labels = torch.randn(8, 5, generator=chance), torch.zeros(8, dtype=torch.long)
    assert float(distill.distillation_loss(3 * teacher + 1, teacher, labels, "standardised")) < 1e-6
    assert float(distill.distillation_loss(3 * teacher + 1, teacher, labels, "kl")) > 0.1


def test_a_teacher_changes_what_is_learnt_in_each_way(tmp_path: Path, store: Path, taught: Path) -> None:
    logits = {"distill__teacher_logits": str(taught / "logits.safetensors")}
    ways = {
        "usual": logits, "none": {**logits, "mode": "baseline"}, "kl": {**logits, "distill__loss": "kl"},
        "dkd": {**logits, "distill__loss": "dkd"}, "dist": {**logits, "distill__loss": "dist"},
        "warmer": {**logits, "distill__temperature": "5"}, "heavier": {**logits, "distill__weight": "3"},
        "later": {**logits, "distill__last_weight": "0"},
    }  # fmt: skip
    hashes = {}
    for name, flags in ways.items():
        assert train(tmp_path / name, store, stop_after=2, epochs="1", **flags) == "preempted"
        hashes[name] = final(tmp_path / name, "skeleton")["model.safetensors"]
    assert len(set(hashes.values())) == len(ways)
    assert "distillation_loss" in journal(tmp_path / "usual")[0]
    assert "distillation_loss" not in journal(tmp_path / "none")[0]


def test_a_students_views_are_those_that_the_teacher_saw(store: Path, taught: Path) -> None:
    teacher = distill.TeacherLogits(taught / "logits.safetensors")
    assert (teacher.views, teacher.about.classes, len(teacher.about.names)) == (2, 3, 36)
    flags = {**skeletons.TINY, "data.validate_subjects": 1}
    config = skeleton.Config(
        data_root=store,
        batch_size=8,
        data={"split": "xview", "frames": 16, "validate_subjects": 1},
        model={"size": "nano"},
    )
    assert flags["data.split"] == config.data.split
    opened, parts, _ = skeleton.load_data(config)
    network, _ = restored(outlast.open_saved("teacher", root=taught))
    sized = settled(skeleton.given_values(config, teacher), skeleton.size_of(parts))
    views = skeleton.views_of(config, parts["train"], teacher, sized)
    for batch in parts["train"].batches(5):
        for view in range(2):
            with torch.no_grad():
                seen = network(*views(batch, view, torch.device("cpu")))
            torch.testing.assert_close(seen, teacher.of(opened, batch, view), atol=5e-3, rtol=5e-3)


def about(store: Store, **other: object) -> distill.TeacherFacts:
    names = [entry.name for entry in store.entries]
    facts = {
        "data": store.hash,
        "names": names,
        "classes": 3,
        "split": "s",
        "seed": 0,
        "frames": 16,
        "strength": Strength(),
        "teacher": "t",
    }
    return distill.TeacherFacts(**(facts | other))


def test_logits_that_do_not_fit_are_refused(tmp_path: Path, store: Path) -> None:
    opened = open_store(store)
    names = [entry.name for entry in opened.entries]
    right = np.zeros((len(names), 2, 3), np.float16)
    path = tmp_path / "attached/logits.safetensors"
    distill.write(path, right, about(opened))
    distill.TeacherLogits(path.parent).check(opened, names, 3, 16)  # a folder, as Kaggle attaches it
    with messages.raises(
        outlast.DataError, "skeleton/logits-of-other-clips", clips=72, trained=71, others=1, first="made-up-000"
    ):
        distill.TeacherLogits(path).check(opened, names[1:], 3, 16)  # the teacher saw more than the student may
    others = messages.says("skeleton/logits-of-other-clips", clips=72, trained=72, others=2, first="made-up-000")
    for other, message in (
        (
            {"data": "0" * 32},
            messages.says("skeleton/logits-of-other-data", data="0" * 12, own=opened.hash[:12]),
        ),
        ({"names": ["someone", *names[1:]]}, others),
        ({"classes": 2}, messages.says("skeleton/logits-of-another-shape", found="2 classes and views of 16 frames")),
        ({"frames": 64}, messages.says("skeleton/logits-of-another-shape", found="3 classes and views of 64 frames")),
    ):
        distill.write(path, right, about(opened, **other))
        with messages.raises(outlast.DataError, message):
            distill.TeacherLogits(path).check(opened, names, 3, 16)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with messages.raises(outlast.DataError, "skeleton/damaged-logits"):
        distill.TeacherLogits(path)
    path.write_bytes(b"not this")
    with messages.raises(outlast.DataError, "skeleton/not-a-file-of-logits"):
        distill.TeacherLogits(path)
    (path.parent / "other.safetensors").touch()
    with messages.raises(outlast.DataError, "skeleton/several-files-of-logits", safetensors=2):
        distill.TeacherLogits(path.parent)


# ranks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_two_ranks_have_the_losses_of_one(tmp_path: Path, store: Path, half: bool) -> None:
    """Views depend on the clip alone and norms count all ranks' samples, so nothing but rounding differs."""
    small = skeletons.TINY | {
        "data_root": str(store),
        "model.dropout": "0",
        "model.drop_path": "0",
        "epochs": "2",
        "save_every": "1 epoch",
    }
    words = ["train", "skeleton"]
    words += [word for key, value in small.items() for word in (f"--{key.replace('_', '-')}", value)]
    words += ["--mixed-precision"] if half else []
    near = 0.05 if half else 1e-6
    assert main([*words, "--checkpoint-dir", str(tmp_path / "one")]) == 0
    command = [sys.executable, "-m", "outlast.cli", *words, "--checkpoint-dir", str(tmp_path / "two")]
    for process in processes.start_ranks(command, 2):
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    one, two = journal(tmp_path / "one"), journal(tmp_path / "two")
    assert len(one) == len(two)
    for ours, theirs in zip(one, two, strict=True):
        assert abs(ours.get("loss", 0) - theirs.get("loss", 0)) < near
        assert half or abs(ours.get("val_top1", 0) - theirs.get("val_top1", 0)) < 1e-6
    assert sum("loss" in line for line in one) == 8
    assert half or abs(one[-1]["test_top1"] - two[-1]["test_top1"]) < 1e-6


def raw_folder(folder: Path, clips: int = 72) -> Path:
    """Such clips as NTU has them, with names that say subject, camera and action."""
    folder.mkdir(parents=True)
    for number in range(clips):
        each = skeletons.clip(number)
        name = f"S001C{each.camera:03d}P{each.subject:03d}R{number:03d}A{each.label + 1:03d}.skeleton"
        (folder / name).write_text(skeletons.skeleton_text(each))
    return folder


RAW = [
    "--split",
    "xview",
    "--data.validate-subjects",
    "1",
    "--epochs",
    "1",
    "--model.size",
    "nano",
    "--data.frames",
    "8",
    "-b",
    "16",
]


def test_raw_files_are_made_into_a_store_by_the_training_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_folder(tmp_path / "my data/clips")
    words = ["train", "skeleton", "--data_path", str(raw), *RAW]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    messages.said(said, "skeleton/doctor-raw-files", files=72)
    assert not (raw / "outlast-store").exists(), "a dry run makes nothing"
    assert main(words) == 0
    said = capsys.readouterr().err
    messages.said(said, "skeleton/store-is-prepared", folder=raw, files=72)
    messages.said(said, "skeleton/store-was-prepared", folder=raw, clips=72, classes=3)
    made = (raw / "outlast-store/index.json").stat().st_mtime_ns
    assert main(["resume", "skeleton", "--epochs", "2"]) == 0
    said = capsys.readouterr().err
    messages.said(said, "skeleton/prepared-store-is-used", folder=raw)
    assert "newer" not in said
    assert (raw / "outlast-store/index.json").stat().st_mtime_ns == made
    late = raw / "S001C001P001R099A001.skeleton"
    late.write_text(skeletons.skeleton_text(skeletons.clip(0)))
    os.utime(late, (2e9, 2e9))
    store_of(raw, tmp_path / "runs", run := Told())
    messages.said(run.said[0], "skeleton/files-are-newer", files=1)


def store_of(root: Path, runs: Path, run: Told | None = None) -> Store:
    return auto_prepare.store_of(root, runs, FORM, run)


class Told:
    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, sentence: str) -> None:
        self.said.append(sentence)


def test_a_folder_that_cannot_be_written_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_folder(tmp_path / "input", clips=6)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != raw and access(path, mode))
    before = sorted(raw.iterdir())
    first, again = Told(), Told()
    store = store_of(raw, tmp_path / "work/runs", first)
    assert sorted(raw.iterdir()) == before
    assert store.folder.parent == tmp_path / "work/outlast-data"
    assert store_of(raw, tmp_path / "work/runs", again).hash == store.hash
    assert len(again.said) == 1
    with messages.raises(NotPrepared, "skeleton/raw-files-only", files=6):
        store_of(raw, tmp_path / "other/runs")
    (tmp_path / "empty").mkdir()
    with messages.raises(outlast.DataError, "skeleton/no-store", folder=tmp_path / "empty"):
        store_of(tmp_path / "empty", tmp_path / "runs", Told())


def test_files_read_before_an_interruption_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_folder(tmp_path / "raw", clips=6)
    monkeypatch.setattr(preparing, "SHARD", 2)
    monkeypatch.setattr(preparing, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store_of(raw, tmp_path, Told())
    assert len(list((raw / "outlast-store/shards").glob("*.npz"))) == 3
    monkeypatch.undo()
    monkeypatch.setattr(preparing, "SHARD", 2)
    before = {path: path.stat().st_mtime_ns for path in (raw / "outlast-store/shards").glob("*.npz")}
    seen = {}
    monkeypatch.setattr(
        preparing, "merge", lambda places, *_: seen.update({path: path.stat().st_mtime_ns for path in places})
    )
    with pytest.raises(outlast.DataError):
        store_of(raw, tmp_path, Told())
    assert seen == before


def test_one_step_an_epoch_is_reported_with_a_better_value(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert few_steps(228, 128, 1, 200) == (
        "228 samples in batches of 128 make 1 step an epoch, 200 in all, and each epoch leaves 100 out. --batch-size "
        "16 makes 14 an epoch."
    )
    assert few_steps(1000, 128, 7, 200) == ""
    words = ["train", "skeleton", "--data-root", str(store), *RAW[:-1], "32", "--augment.yaw", "0.5"]
    assert main(words) == 0
    said = capsys.readouterr().err
    messages.said(said, "training/few-steps", samples=36, batch=32, epoch=9)
    assert main([*words, "--dry-run"]) == 0
    messages.said(capsys.readouterr().out, "training/dry-run-few-steps", samples=36, batch=32, epoch=9)
    assert main(["train", "digits", "--data.samples", "128", "-e", "1", "--model.width", "2"]) == 0
    messages.said(
        capsys.readouterr().err, "training/few-steps-all-used", samples=128, batch=64, steps=2, better=16, epoch=8
    )


def test_validation_by_steps(store: Path, tmp_path: Path) -> None:
    assert train(tmp_path, store, epochs="2", validate_every="3 steps") == "finished"
    lines = [line["step"] for line in journal(tmp_path) if "val_top1" in line]
    assert lines == [3, 6, 8]
    assert [line for line in journal(tmp_path) if "best_epoch" in line]
