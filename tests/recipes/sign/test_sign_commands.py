"""What `outlast` offers for signs besides training, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import outlast
from outlast.cli import main
from outlast.config import leaves
from outlast_recipes.sign import predicting
from outlast_recipes.sign.config import SignConfig
from outlast_recipes.sign.data import load_data
from outlast_recipes.sign.evaluation import metrics, outputs_of
from outlast_recipes.sign.saved import restored
from tests import messages
from tests.durability.digits import final, train
from tests.recipes import signs

SMALL = {
    "network.width": "32", "epochs": "15", "batch_size": "8", "learning_rate": "0.003", "log_every": "1",
    "save_every": "never", "keep_best": "0", "ema": "0.8", "experiment_name": "waves",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signs.folder(tmp_path_factory.mktemp("signs"), {"train": 32, "val": 8}, group=True)


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "runs"
    assert train(folder, recipe="sign", small=SMALL | {"data_root": str(root)}) == "finished"
    return folder


def test_interrupted_equals_uninterrupted_on_files(root: Path, tmp_path: Path) -> None:
    small = SMALL | {"data_root": str(root), "epochs": "3", "network.width": "16", "augment.mirror": "0.5"}
    for name, stops, more in (("twin", (), {}), ("cut", (2, 7), {}), ("workers", (6,), {"num_workers": "1"})):
        for step in stops:
            assert train(tmp_path / name / "runs", recipe="sign", small=small | more, stop_after=step) == "preempted"
        assert train(tmp_path / name / "runs", recipe="sign", small=small) == "finished"
    twin = final(tmp_path / "twin/runs", "waves")
    assert twin == final(tmp_path / "cut/runs", "waves") == final(tmp_path / "workers/runs", "waves")


def test_each_result_is_of_the_clips_and_weights_that_it_names(tmp_path: Path) -> None:
    data = signs.folder(tmp_path / "signs", {"train": 16, "val": 8, "test": 12})
    small = SMALL | {"data_root": str(data), "epochs": "3", "network.width": "16"}
    small |= {
        "learning_rate": "0.3",
        "scheduler": "constant",
        "monitor": "val_loss",
    }  # too large: the best epoch is not the last
    assert train(tmp_path / "runs", recipe="sign", small=small) == "finished"
    lines = [json.loads(line) for line in (tmp_path / "runs/waves/journal.jsonl").read_text().splitlines()]
    logged = {name: value for line in lines for name, value in line.items()}  # the last of each name
    saved = outlast.open_saved(tmp_path / "runs/waves")
    assert logged["best_epoch"] < 3
    parts = load_data(saved.config).parts
    for weights, split, prefix in (("ema", "val", "val_"), ("ema", "test", "test_"), ("best", "test", "best_test_")):
        network, _ = restored(saved, weights)
        found = metrics(outputs_of(network, parts[split], torch.device("cpu")), prefix)
        assert {name: logged[name] for name in found} == pytest.approx(found), "computed again from the checkpoint"
    network, _ = restored(saved, "best")
    chosen = metrics(outputs_of(network, parts["val"], torch.device("cpu")))
    assert chosen["loss"] == pytest.approx(saved.part("choice")["value"]), "the weights that were validated"
    where = ["--checkpoint-dir", str(tmp_path / "runs"), "-o", str(tmp_path / "told")]
    assert main(["evaluate", "sign", "waves", *where]) == 0
    report = json.loads((tmp_path / "told/report.json").read_text())
    assert report["all"]["gloss_top1"] == pytest.approx(logged["test_gloss_top1"])
    assert [report[name]["clips"] for name in ("all", "occluded", "not occluded")] == [12, 3, 9]
    assert report["occluded"]["gloss_top1"] == pytest.approx(logged["test_gloss_top1_occluded"])


def written(path: Path, *numbers: int, gap: int = 0) -> Path:
    """A file of clips one after the other, with frames in which nothing is seen between them."""
    points, seen = zip(*map(signs.keypoints, numbers), strict=True)
    nothing = (np.zeros((gap, 156), np.float32), np.zeros((gap, 78), bool))
    arrays = [np.concatenate([each for one in kind for each in (one, empty)]) for kind, empty in zip(
        (points, seen), nothing, strict=True)]  # fmt: skip
    np.savez(path, X=arrays[0], mask=arrays[1])
    return path


def test_predict_one_file(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "unseen.npz", 41)
    words = ["predict", "sign", "waves", str(file), "--checkpoint-dir", str(runs), "-o", str(tmp_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "unseen-waves.json").read_text())
    assert record["gloss"][0]["name"] == "SIGN 1"
    assert record["category"][0]["number"] == 1
    assert (len(record["gloss"]), len(record["category"])) == (4, 2), "all there are"
    assert sum(each["probability"] for each in record["gloss"]) == pytest.approx(1, abs=1e-5)
    assert (record["generated"], record["frames"], len(record["frame_weights"])) == (False, 19, 19)
    assert max(record["frame_weights"]) == 1
    assert "SIGN 1" in said
    with Image.open(tmp_path / "unseen-waves.gif") as moving:
        assert moving.n_frames == 19
    np.savez(file, X=np.zeros((3, 156), np.float32))
    assert main(words) == 1
    messages.said(capsys.readouterr().err, "sign/predict-nothing-seen", frames=3)
    np.savez(file, X=signs.keypoints(41, 1)[0], meta=np.array("640x360"))
    assert main([*words, "--no-gif"]) == 0
    said = capsys.readouterr().out
    assert "unseen.npz: 1 frame, by waves" in said
    messages.said(said, "sign/predict-meta", file="unseen")


def test_a_run_from_before_network_shapes(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its config.json lacks what came later; its network and its views stay those that it was trained with."""
    small = SMALL | {"data_root": str(root), "epochs": "1", "network.width": "16"}
    later = {leaf.key: leaf.extra["older"] for leaf in leaves(SignConfig) if "older" in leaf.extra}
    assert later["network.shapes"] is False
    given = small | {key: str(value).lower() for key, value in later.items()}
    for name in ("twin", "old"):
        assert train(tmp_path / name, recipe="sign", small=given, stop_after=2) == "preempted"
    path = tmp_path / "old/waves/config.json"
    record = json.loads(path.read_text())
    for key in later:
        for each in ("values", "origins", "on_resume"):
            del record[each][key]
    path.write_text(json.dumps(record))
    file = written(tmp_path / "unseen.npz", 41)
    for name in ("twin", "old"):
        words = ["waves", "--checkpoint-dir", str(tmp_path / name), "-o", str(tmp_path / f"{name}-seen")]
        assert main(["predict", "sign", words[0], str(file), *words[1:], "--no-gif"]) == 0
    seen = [(tmp_path / f"{name}-seen/unseen-waves.json").read_bytes() for name in ("twin", "old")]
    assert seen[0] == seen[1]
    assert train(tmp_path / "twin", recipe="sign", small=given) == "finished"
    assert train(tmp_path / "old", recipe="sign", small=small) == "finished"
    assert final(tmp_path / "twin", "waves") == final(tmp_path / "old", "waves")
    record["values"]["network.shapes"] = True
    path.write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["predict", "sign", "waves", str(file), "--checkpoint-dir", str(tmp_path / "old")]) == 1
    messages.said([capsys.readouterr().err.strip()], "sign/weights-of-another-network")


def test_predict_in_windows(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "long.npz", 40, 43, gap=30)  # 18 and 21 frames
    words = ["predict", "sign", "waves", str(file), "--checkpoint-dir", str(runs), "-o", str(tmp_path)]
    assert main([*words, "--window", "18", "--stride", "6"]) == 0
    record = json.loads((tmp_path / "long-waves.json").read_text())
    found = record["windows"]
    assert [window["first"] for window in found] == [*range(1, 81, 6), 82]
    assert found[-1]["last"] == record["frames"] == 99
    assert found[0]["gloss"][0]["name"] == "SIGN 0"
    assert found[8]["gloss"][0]["name"] == "SIGN 3", "frames 49 to 66"
    assert found[4]["gloss"] == [], "nothing is seen"
    spans = [(each["gloss"], each["first"]) for each in record["segments"]]
    assert spans[0] == ("SIGN 0", 1)
    assert (None, 19) in spans
    assert "SIGN 3" in [gloss for gloss, _ in spans]
    assert not (tmp_path / "long-waves.gif").exists()
    for flags, key in (
        (["--stride", "3"], "sign/stride-without-window"),
        (["--window", "1"], "sign/window-too-short"),
        (["--window", "4", "--stride", "5"], "sign/stride-above-window"),
    ):
        assert main([*words, *flags]) == 2
        messages.said(capsys.readouterr().err, key)
    words[3] = str(written(tmp_path / "slow.npz", 40, gap=150))
    for flags, resampled in (["--window", "160"], True), (["--window", "20"], False):
        assert main([*words, *flags]) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if "resampled" in line]
        assert len(said) == resampled
        if resampled:
            messages.said(said, "sign/windows-resampled", frames=128)


def test_a_window_is_what_a_clip_of_its_frames_is(runs: Path, tmp_path: Path) -> None:
    saved = outlast.open_saved(runs / "waves")
    network, _ = restored(saved)
    clip = predicting.read(written(tmp_path / "clip.npz", 5, 6), saved.config)
    alone = predicting.Recording(clip.values[7:25], clip.seen[7:25], clip.aspect)
    gloss, category, weight = predicting.looked_at(network, alone, saved.config)
    ((in_gloss, in_category),) = predicting.in_windows(network, clip, [(7, 25)], saved.config)
    torch.testing.assert_close(in_gloss, gloss, atol=1e-5, rtol=0)
    torch.testing.assert_close(in_category, category, atol=1e-5, rtol=0)
    assert weight.shape == (18,)


def test_windows_cover_a_clip() -> None:
    assert predicting.windows(10, 4, 3) == [(0, 4), (3, 7), (6, 10)]
    assert predicting.windows(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert predicting.windows(3, 4, 2) == [(0, 3)]
    window: dict[str, Any] = {"gloss": [{"name": "a", "probability": 0.5}]}
    both = [window | {"first": 1, "last": 4}, window | {"first": 3, "last": 6}]
    assert predicting.segments(both) == [{"gloss": "a", "probability": 0.5, "first": 1, "last": 6}]


def test_check_finds_nothing_in_good_data(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "sign", str(root)]) == 0
    said = capsys.readouterr().out
    messages.said(said, "sign/check-counts", split="train", clips=32, glosses=4, signers=3)
    messages.said(said, "sign/check-no-errors", warnings=0)
    assert main(["data", "check", "sign", str(root / "keypoints_val")]) == 0
    messages.said(capsys.readouterr().out, "sign/check-files", files=8)


def test_check_lists_every_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = signs.folder(tmp_path / "data", {"train": 6, "val": 2})
    folder = root / "keypoints_train"
    np.savez(folder / "clip001.npz", X=np.zeros((4, 99)))
    np.savez(folder / "clip002.npz", X=np.full((4, 156), np.nan))
    (folder / "clip004.npz").unlink()
    (folder / "extra.npz").write_bytes(b"not this")
    assert main(["data", "check", "sign", str(root), "--num-gloss", "4", "--num-cat", "1"]) == 1
    caught = capsys.readouterr()
    errors = [line for line in caught.out.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4 + 1 + 1 + 3, "categories, a row, a file without row, and three files"
    for name, reason in (("clip001", "[4,99]"), ("clip002", "nan"), ("extra", "has no row"), ("extra", "as .npz")):
        assert any(name in line and reason in line for line in errors), name
    messages.said(caught.err, "sign/check-errors", errors=len(errors))


def test_a_faulty_meta_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = signs.folder(tmp_path / "data", {"train": 4, "val": 2})
    np.savez(root / "keypoints_val/clip004.npz", X=signs.keypoints(0)[0], meta=np.array("640x360"))
    table = root / "labels_reference.csv"
    assert main(["data", "check", "sign", str(root)]) == 0
    messages.said(capsys.readouterr().out, "sign/check-meta", file="clip004")
    table.write_text(table.read_text().replace("2,SIGN 2,0,KIND 0", "2,SIGN 2,1,KIND 1"))
    assert main(["data", "check", "sign", str(root)]) == 1
    messages.said(capsys.readouterr().out, "sign/check-category", gloss=2)


def test_check_requires_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = signs.features(tmp_path / "good")
    assert main(["data", "check", "sign", str(root / "features_train"), "--require-x2048"]) == 0
    assert main(["data", "check", "sign", str(root)]) == 0
    other = signs.features(tmp_path / "other", key="X")
    assert main(["data", "check", "sign", str(other)]) == 0
    capsys.readouterr()
    assert main(["data", "check", "sign", str(other / "features_train"), "--require-x2048"]) == 1
    assert capsys.readouterr().out.count("has no array X2048") == 8
    assert main(["data", "check", "sign", str(tmp_path / "nowhere")]) == 1


def test_check_a_folder_with_its_labels(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "check", "sign", str(root / "keypoints_val"), "--labels"]
    assert main([*words, str(root / "val_labels.csv")]) == 0
    assert main([*words, str(root / "train_labels.csv")]) == 1
    said = capsys.readouterr().out
    assert (said.count("there is no file"), said.count("has no row")) == (32, 8)
    file = tmp_path / "other.npz"
    np.savez(file, K=signs.keypoints(0)[0])
    assert main(["data", "check", "sign", str(tmp_path)]) == 1
    assert main(["data", "check", "sign", str(tmp_path), "--kp-key", "K"]) == 0
