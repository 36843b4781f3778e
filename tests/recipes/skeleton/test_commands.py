"""What `outlast` offers for skeletons besides training, as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import outlast
from outlast.cli import main
from outlast.folder.artifact import manifest_of, verify_artifact
from outlast_recipes.common import preparing
from outlast_recipes.skeleton import command_check, formats, ntu
from outlast_recipes.skeleton.store import FORM, open_store
from tests import messages
from tests.conftest import REPOSITORY
from tests.durability.digits import train
from tests.recipes import skeletons


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NTU-named files in two folders, one of them on the list of missing skeletons, one malformed."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "more").mkdir()
    for number in range(72):
        clip = skeletons.clip(number)
        name = f"S001C{clip.camera:03d}P{clip.subject:03d}R{number:03d}A{clip.label + 1:03d}.skeleton"
        (folder / ("more" if number % 2 else ".") / name).write_text(skeletons.skeleton_text(clip))
    text = skeletons.skeleton_text(skeletons.clip(0))
    (folder / f"{min(ntu.missing())}.skeleton").write_text(text)
    (folder / "S001C001P001R999A001.skeleton").write_text(text.replace("\n25\n", "\n20\n", 1))
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("store") / "made-up"
    assert main(["data", "prepare", "skeleton", str(folder), "--to", str(target), "--workers", "2"]) == 0
    return target


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    small = skeletons.TINY | {"data_root": str(store), "experiment_name": "waves", "epochs": "4"}
    assert train(root, recipe="skeleton", small=small) == "finished"
    return root


def test_prepare_reports_the_files_that_it_read(folder: Path, tmp_path: Path, capsys) -> None:
    assert main(["data", "prepare", "skeleton", str(folder), "--to", str(tmp_path / "store")]) == 0
    said = capsys.readouterr().out
    messages.said(said, "skeleton/missing-skeletons-skipped", number=1)
    messages.said(said, "skeleton/store-contents", clips=72, classes=3)
    assert "MB/s" in said
    messages.said(said, "skeleton/estimate-for-ntu", clips="114,480")
    messages.said(said, "skeleton/files-were-refused", files=1)
    messages.said(said, "skeleton/refused-joints", holds=20, number=25)
    names = tmp_path / "names.txt"
    names.write_text("raise\nlower\nboth\n")
    words = ["data", "prepare", "skeleton", str(folder), "--to", str(tmp_path / "other")]
    assert main([*words, "--class-names", str(names)]) == 0
    assert open_store(tmp_path / "other").classes == ["raise", "lower", "both"]
    assert main([*words, "--class-names", "ntu"]) == 1
    messages.said(capsys.readouterr().err, "skeleton/store-exists")
    words.append("--replace")
    assert main([*words, "--class-names", "ntu"]) == 0
    assert (len(open_store(tmp_path / "other").classes), open_store(tmp_path / "other").classes[42]) == (
        60,
        "A043 falling down",
    )
    assert len(ntu.actions()) == 120
    capsys.readouterr()
    assert main([*words, "--keep-missing"]) == 0
    assert "73 clips" in capsys.readouterr().out
    assert main([*words, "--keep-missing", "--class-names", str(names)]) == 1
    messages.said(capsys.readouterr().err, "skeleton/too-few-class-names", names=3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, messages.says("skeleton/no-file-of-a-known-format")),
        (
            {"S001C001P001R001A001.skeleton": "", "a01_s01_e00_v01.json": ""},
            messages.says("skeleton/files-of-two-formats", formats="ntu and nw-ucla"),
        ),
        (
            {"S001C001P001R001A001.skeleton": ""},
            messages.says("clips/no-file-could-be-read", first="S001C001P001R001A001.skeleton:1"),
        ),
    ],
)
def test_prepare_refuses_a_folder_without_a_data_set(
    tmp_path: Path, files: dict[str, str], message: messages.Message, capsys
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["data", "prepare", "skeleton", str(tmp_path), "--to", str(tmp_path / "store")]) == 1
    messages.said(capsys.readouterr().err, message)


def test_prepare_does_not_change_other_files(folder: Path, tmp_path: Path, capsys) -> None:
    own, taken = tmp_path / "own", tmp_path / "file"
    own.mkdir()
    (own / "joints.npy").write_text("precious")
    taken.write_text("precious")
    for target, key in (
        (own, "clips/folder-holds-other-files"),
        (taken, "clips/store-is-a-file"),
        (taken / "below", "clips/store-cannot-be-created"),
    ):
        assert main(["data", "prepare", "skeleton", str(folder), "--to", str(target), "--replace"]) == 1
        messages.said(capsys.readouterr().err, key, folder=target)
    assert (own / "joints.npy").read_text() == taken.read_text() == "precious"
    assert main(["data", "prepare", "skeleton", str(folder), "--to", str(tmp_path / "s"), "--workers", "0"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/no-workers", value=0, least=1)


def test_refused_files_are_named_and_those_of_an_earlier_call_are_not_counted(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("outlast_recipes.common.preparing.SHARD", 4)
    files = tmp_path / "files"
    files.mkdir()
    for number in range(6):
        clip = skeletons.clip(number)
        text = skeletons.skeleton_text(clip)
        (files / f"S001C001P{clip.subject:03d}R{number:03d}A001.skeleton").write_text(
            text if number < 4 else "not this"
        )
    (files / "S009C001P001R001A001.skeleton").symlink_to(tmp_path / "nowhere")
    store = tmp_path / "store"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preparing, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        preparing.prepare(formats.find(files), store, FORM, workers=1)
    min((store / "shards").iterdir(), key=lambda path: path.stat().st_size).unlink()  # the one without clips
    assert main(["data", "prepare", "skeleton", str(files), "--to", str(store)]) == 0
    said = capsys.readouterr().out
    messages.said(said, "skeleton/files-already-read", files=4)
    messages.said(said, "skeleton/files-read", files=3, process=1)
    messages.said(said, "skeleton/files-were-refused", files=3)
    messages.said(said, "skeleton/refused-by-fields", file="S001C001P002R004A001.skeleton", fields=2)
    messages.said(said, "skeleton/refused-by-fields", file="S001C001P002R005A001.skeleton", fields=2)
    messages.said(said, "skeleton/file-cannot-be-read")


def test_workers_end_when_their_parent_is_killed(folder: Path, tmp_path: Path) -> None:
    script = f"""
import os, time
from pathlib import Path
from outlast_recipes.common.clips import RawFiles
from outlast_recipes.common.preparing import prepare
from outlast_recipes.skeleton.store import FORM

def read(path):
    Path({str(tmp_path)!r}, f"worker-{{os.getpid()}}").touch()
    time.sleep(600)

raw = RawFiles(sorted(Path({str(folder)!r}).glob("*.skeleton")), read, "kinect-2")
prepare(raw, Path({str(tmp_path)!r}, "store"), FORM, workers=1)
"""
    began = subprocess.Popen([sys.executable, "-c", script])
    try:
        assert until(lambda: any(tmp_path.glob("worker-*"))), "a worker reads"
        (worker,) = (int(path.name.removeprefix("worker-")) for path in tmp_path.glob("worker-*"))
    finally:
        began.kill()
        began.wait()
    assert until(lambda: not runs_still(worker)), "the worker is gone, with nobody to tell it"


def runs_still(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true within so many seconds."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_check_counts_and_verifies(store: Path, tmp_path: Path, capsys) -> None:
    words = ["data", "check", "skeleton", str(store), "--split", "xview", "--validate-subjects", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines() if line.startswith(("clips", "subjects", "  A001"))] == [
        ["clips", "36", "12", "24"],
        ["subjects", "3", "1", "4"],
        ["A001", "12", "4", "8"],
    ]
    messages.said(said, "skeleton/no-copies-in-the-test")
    messages.said(said, "skeleton/positions-match", clips=72)
    assert main(["data", "check", "skeleton", str(store), "--split", "subjects", "--train-subjects", "1,3"]) == 0
    assert main(["data", "check", "skeleton", str(store), "--split", "subjects", "--train-subjects", "1-3"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/subjects-no-numbers", value="1-3")
    assert main(["data", "check", "skeleton", str(store), "--train-subjects", "1,3"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/subjects-without-split-line")
    assert main(["data", "check", "skeleton", str(store), "--split", "subjects"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/needs-train-subjects")
    cut = tmp_path / "cut"
    shutil.copytree(store, cut)
    os.truncate(cut / "joints.npy", 100)
    assert main([*words[:3], str(cut), *words[4:]]) == 1
    messages.said(capsys.readouterr().err, "skeleton/damaged-store")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in store.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    joints = np.load(damaged / "joints.npy", mmap_mode="r+")
    joints[7, 3, 1] += 1
    joints.flush()
    assert main([*words[:3], str(damaged), *words[4:]]) == 1
    messages.said(capsys.readouterr().err, "skeleton/damaged-positions", clips=1)
    assert main([*words[:3], str(damaged), *words[4:], "--quick"]) == 0


def test_copies_are_listed_and_counted(store: Path, monkeypatch, capsys) -> None:
    def twelve(entries, parts, before=("train", "val"), after="test"):
        if after == "val":
            return [("trained 1", "validated 1")]
        return [(entries[0].name, f"clip {number}") for number in range(12)]

    monkeypatch.setattr(command_check, "duplicates", twelve)
    words = ["data", "check", "skeleton", str(store), "--split", "xview", "--validate-subjects", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    messages.said(said, "skeleton/check-copy", clip="clip 9", other="S001C001P001R000A001")
    messages.said(said, "skeleton/check-copy-in-validation", clip="validated 1", other="trained 1")
    messages.said(said, "data/check-more-of-a-kind", count=12, kind="copy")
    assert f"{store}: no errors, 13 warnings." in said
    assert "clip 10" not in said
    assert main([*words, "--all"]) == 0
    assert "warning: clip 11: " in capsys.readouterr().out


def test_random_reads_are_twenty_times_faster_than_text(folder: Path, store: Path) -> None:
    """Not a benchmark: half of what is promised, so that a busy machine does not matter; benchmarks/skeleton has the
    figure."""
    opened, files = open_store(store), {path.stem: path for path in folder.rglob("*.skeleton")}
    order = np.random.default_rng(0).permutation(len(opened))

    def seconds(read) -> float:
        begin = time.perf_counter()
        for number in order:
            read(number)
        return time.perf_counter() - begin

    text = min(seconds(lambda number: ntu.read_clip(files[opened.entries[number].name])) for _ in range(2))
    mapped = min(seconds(lambda number: opened[number]) for _ in range(2))
    assert text > 10 * mapped


def test_evaluate_reports_and_draws(runs: Path, store: Path, tmp_path: Path, capsys) -> None:
    words = ["evaluate", "skeleton", "waves", "--checkpoint-dir", str(runs), "--data-root", str(store)]
    assert main([*words, "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    last = json.loads((runs / "waves/journal.jsonl").read_text().splitlines()[-1])
    assert report["top1"] == pytest.approx(last["test_top1"])
    assert f"top-1 {report['top1']:.2%}" in said
    assert sum(map(sum, report["confusion"])) == report["clips"] == 24
    assert report["macs"] > 1e6
    assert report["seconds_for_one_clip"] > 0
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert verify_artifact(tmp_path / "report.json.manifest.json")["step"] == report["step"]
    assert main([*words, "--part", "best", "--on", "val"]) == 0
    (picture,) = (runs / "waves/artifacts").glob("evaluation-*-best/confusion.png")
    record = verify_artifact(manifest_of(picture.parent))
    assert (record["run_id"], record["part"], record["step"]) == ("waves", "best", report["step"])


def test_resume_needs_no_word_of_the_data_that_lie_where_they_lay(runs: Path, tmp_path: Path, capfd) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    assert main(["resume", "waves", "--checkpoint-dir", str(tmp_path / "runs"), "--epochs", "5"]) == 0
    messages.said(capfd.readouterr().err, "skeleton/attempt-continues-after-step", attempt=2)


def test_predict_names_and_draws(runs: Path, folder: Path, tmp_path: Path, capsys) -> None:
    path = next(folder.glob("*A001.skeleton"))
    anonymous = tmp_path / "recording.skeleton"
    anonymous.write_bytes(path.read_bytes())
    assert (
        main(["predict", "skeleton", "waves", str(anonymous), "--checkpoint-dir", str(runs), "-o", str(tmp_path)]) == 0
    )
    said = capsys.readouterr().out
    assert said.count("%  A00") == 3, "three classes are all there are"
    assert (tmp_path / "recording-waves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "recording-waves.gif").read_bytes().startswith(b"GIF8")
    anonymous.write_text("not this")
    assert main(["predict", "skeleton", "waves", str(anonymous), "--checkpoint-dir", str(runs)]) == 1
    messages.said(capsys.readouterr().err, "skeleton/damaged-recording")


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_export_computes_the_same(runs: Path, store: Path, tmp_path: Path, form: str, capsys) -> None:
    target = tmp_path / f"model.{form}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["export", str(runs / "waves"), "--format", form, "-o", str(target)]) == 0
    messages.said(capsys.readouterr().out, "skeleton/export-compared", file=target)
    from outlast_recipes.skeleton.saved import restored

    network, _ = restored(outlast.open_saved(runs / "waves"))
    opened = open_store(store)
    joints, mask = (torch.zeros(5, 16, 2, 25, 3), torch.zeros(5, 16, 2, dtype=torch.bool))
    for row in range(5):
        found, seen = opened[row]
        length = min(16, len(seen))
        joints[row, :length], mask[row, :length] = torch.from_numpy(found[:length]), torch.from_numpy(seen[:length])
    with torch.no_grad():
        expected = network(joints, mask)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"joints": joints.numpy(), "mask": mask.numpy()})
        found = torch.from_numpy(found)
    else:
        found = torch.export.load(target).module()(joints, mask)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_verbs_refuse_the_wrong_run_or_recipe(runs: Path, capsys) -> None:
    assert main(["export", str(runs / "waves"), "--format", "tflite"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/unknown-export-format")
    assert main(["predict", "digits", "waves", "x"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/recipe-without-verbs", recipe="digits")
    assert main(["dream", "skeleton", "waves"]) == 2
    messages.said(capsys.readouterr().err, "skeleton/unknown-verb", verb="dream", recipe="skeleton")
    assert main(["evaluate", "skeleton", "nobody", "--checkpoint-dir", str(runs)]) == 2
    messages.said(capsys.readouterr().err, "skeleton/unknown-run", run="nobody")


# the document that the recipe answers --------------------------------------------------------------------------------

SEED = [
    "--env kaggle --batch_size 16 --epochs 5",
    "--data_path {store} --checkpoint_dir ./checkpoints",
    (
        "--env gcp --data_config configs/data/ntu120_xset.yaml --model_config configs/model/last_large.yaml "
        "--batch_size 32 --lr 0.0005 --epochs 120 --device cpu"
    ),
    "--env kaggle --batch_size 16 --epochs 5 --num_workers 2 --debug",
    (
        "--env kaggle --data_config configs/data/ntu120_xsub.yaml --model_config configs/model/last_tiny.yaml "
        "--epochs 20 --batch_size 24"
    ),
    "--debug --epochs 2 --batch_size 8",
    "--lr 0.001 --experiment_name lr_001",
    "--env kaggle --batch_size 16 --num_workers 2",
    "--env local --device cpu --batch_size 4 --epochs 1",
    (
        "--data_config configs/data/ntu120_xsub.yaml --model_config configs/model/last_base.yaml --train_config "
        "configs/train/baseline.yaml"
    ),
]


@pytest.mark.parametrize("words", SEED)
def test_the_commands_of_the_document(words: str, store: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(REPOSITORY)
    given = words.format(store=store).split()
    data = [] if "--data_path" in words else ["--data_root", str(store)]
    split = ["--split", "xview", "--data.validate_subjects", "1"]  # two people are no training part of cross-subject
    split += [] if "batch_size" in words else ["--batch_size", "32"]  # and 36 clips no batch of 128
    assert main(["train", "skeleton", *given, *data, *split, "--dry_run"]) == 0
    said = capsys.readouterr().out
    messages.said(said, "skeleton/doctor-data", clips=72, classes=3)
    messages.said(said, "cli/dry-run")


def test_its_scripts_and_an_input_for_distillation(
    store: Path, runs: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """`teacher_logits` below kaggle_datasets in an environment file is what is distilled from."""
    import runpy

    logits = tmp_path / "ntu120-teacher-logits/logits.safetensors"
    words = [
        "teacher-logits",
        "skeleton",
        "waves",
        "--checkpoint-dir",
        str(runs),
        "--data-root",
        str(store),
        "--views",
        "1",
    ]
    assert main([*words, "-o", str(logits)]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/environment").mkdir(parents=True)
    (tmp_path / "configs/environment/local.yaml").write_text(
        f"paths:\n  data_root: nowhere\n  kaggle_datasets:\n    ntu120_skeletons: {store}\n    teacher_logits: "
        f"{logits.parent}\n"
        "    somebody_elses: /kaggle/input/other\n"
    )
    script = runpy.run_path(str(REPOSITORY / "scripts/train.py"))["main"]
    tiny = [f"--{key}={value}" for key, value in skeletons.TINY.items()]
    distill = ["--train_config", str(REPOSITORY / "configs/train/distill.yaml"), "--experiment-name", "student"]
    capsys.readouterr()
    assert script([*tiny, *distill, "--epochs", "1"]) == 0
    assert '"distillation_loss"' in (tmp_path / "runs/student/journal.jsonl").read_text()
    baseline = ["--train_config", str(REPOSITORY / "configs/train/baseline.yaml"), "--experiment-name", "alone"]
    assert script([*tiny, *baseline, "--epochs", "1"]) == 0
    assert '"distillation_loss"' not in (tmp_path / "runs/alone/journal.jsonl").read_text()
    capsys.readouterr()
    assert (
        script(
            [*tiny, *distill, "--distill.teacher-logits", str(tmp_path / "none.safetensors"), "--experiment-name", "x"]
        )
        == 1
    )
    messages.said(capsys.readouterr().err, "skeleton/logits-missing")
