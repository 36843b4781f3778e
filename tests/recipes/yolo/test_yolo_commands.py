"""evaluate, predict and rectify with known answers of a detector; what is drawn; the table of a training."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import outlast
from outlast_recipes.yolo import command_evaluate, evaluation
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Prediction
from outlast_recipes.yolo.drawing import COLOURS, drawn, sheet
from outlast_recipes.yolo.history import History
from outlast_recipes.yolo.predicting import pictures_in, record, surest, unique_names
from tests import messages
from tests.recipes import plates

QUAD = np.array([(10, 10), (50, 10), (50, 30), (10, 30)], np.float32)


def prediction(
    quads: Sequence[np.ndarray], scores: Sequence[float], classes: Sequence[int] | None = None
) -> Prediction:
    points = np.array(quads, np.float32).reshape(-1, 4, 2)
    boxes = np.concatenate([points.min(1), points.max(1)], 1)
    return Prediction(boxes, np.array(scores, np.float32), np.array(classes or [0] * len(scores), np.int64), points)


def sample(quads: Sequence[np.ndarray], classes: Sequence[int] | None = None) -> Sample:
    found = prediction(quads, [1.0] * len(quads), classes)
    seen = np.full((len(quads), 4), 2, np.uint8)
    return Sample(Path("x.png"), 100, 60, found.boxes, found.classes, found.keypoints, seen)


def test_metrics_of_corners_that_are_known() -> None:
    labels = [sample([QUAD, QUAD + 45]), sample([QUAD], [1])]
    found = [
        # right; moved by a tenth of the width, whose IoU is 36 / 44; a third one that is nothing; one too unsure
        prediction([QUAD, QUAD + 45 + np.array([4, 0]), QUAD + np.array([48, 0]), QUAD + 45], [0.9, 0.8, 0.7, 0.2]),
        prediction([QUAD[[1, 2, 3, 0]]], [0.6], [1]),
    ]
    made = evaluation.evaluated(found, labels, ("plate", "number", "never"), 0.25, 0.025)
    corners = made["corners"]
    assert (corners["quads"], corners["found"], corners["order_errors"]) == (3, 3, 1)
    assert corners["quad_iou"] == pytest.approx((1 + 36 / 44 + 1) / 3)
    assert (corners["quad_iou_70"], corners["quad_iou_90"]) == (1.0, pytest.approx(2 / 3))
    rolled = np.linalg.norm(QUAD - QUAD[[1, 2, 3, 0]], axis=1).mean()
    assert corners["error_pixels"] == pytest.approx((0 + 4 + rolled) / 3)
    assert corners["error"] == pytest.approx((0 + 4 + rolled) / 3 / np.sqrt(800))
    assert (made["precision"], made["recall"]) == (3 / 4, 1.0)
    assert list(made["classes"]) == ["plate", "number"]
    assert made["classes"]["number"] == {"objects": 1, "map": 1.0, "map50": 1.0}
    assert made["classes"]["plate"]["map50"] == pytest.approx(1.0)
    assert made["map"] == pytest.approx((made["classes"]["plate"]["map"] + 1) / 2)
    assert made["keypoint_map50"] == pytest.approx(made["classes"]["plate"]["map50"] / 4, abs=0.3)


def test_nothing_found_is_no_error() -> None:
    none = Prediction(
        *(np.zeros(shape, np.float32) for shape in ((0, 4), (0,))), np.zeros(0, np.int64), np.zeros((0, 4, 2))
    )
    made = evaluation.evaluated([none], [sample([QUAD])], ("plate",), 0.25, 0.025)
    assert (made["map"], made["recall"], made["precision"]) == (0.0, 0.0, 0.0)
    assert (made["corners"]["quad_iou_70"], made["corners"]["error"]) == (0.0, None)


def test_a_label_is_matched_once_and_by_its_class() -> None:
    found = prediction([QUAD, QUAD, QUAD], [0.5, 0.9, 0.8], [0, 0, 1])
    assert evaluation.pairs(found, sample([QUAD])) == [(1, 0)]


def test_what_is_drawn() -> None:
    picture = Image.new("RGB", (100, 60), (90, 90, 90))
    before = picture.copy()
    made = np.asarray(drawn(picture, prediction([QUAD + np.array([0, 20])], [0.9]), ("plate",)))
    assert np.array_equal(np.asarray(picture), np.asarray(before))
    upper, lower = made[30, 25:45], made[50, 25:45]
    assert (upper == (255, 40, 40)).all(1).mean() > 0.9  # from the first corner to the second
    assert (lower == (40, 160, 255)).all(1).mean() > 0.9
    assert (made[20, 5:40] == COLOURS[0]).all(1).any()  # the name, above the box
    boxes = drawn(
        picture, Prediction(np.array([[10, 10, 50, 30]], np.float32), np.ones(1, np.float32), np.zeros(1, int)), ("a",)
    )
    assert (np.asarray(boxes)[30, 12:48] == COLOURS[0]).all(1).all()
    nothing = prediction([], [])
    assert np.array_equal(np.asarray(drawn(picture, nothing, ("plate",))), np.asarray(picture))
    assert sheet([picture] * 5, columns=2, width=50).size == (100, 90)


def test_a_record_is_json() -> None:
    found = prediction([QUAD + 0.123456], [0.987654321])
    made = json.loads(json.dumps(record("a.png", (100, 60), found, ["plate"])))
    assert made["objects"] == [
        {
            "class": 0, "name": "plate", "score": 0.98765, "box": [10.12, 10.12, 50.12, 30.12],
            "corners": [[10.12, 10.12], [50.12, 10.12], [50.12, 30.12], [10.12, 30.12]],
        }
    ]  # fmt: skip
    assert len(surest(found, 0.99).scores) == 0
    assert unique_names([Path("a/x.png"), Path("b/x.jpg"), Path("y.png")]) == ["x", "x-2", "y"]


def test_pictures_of_folders(tmp_path: Path) -> None:
    (tmp_path / "b.png").touch()
    (tmp_path / "a.JPG").touch()
    (tmp_path / "a.txt").touch()
    assert [path.name for path in pictures_in([tmp_path, tmp_path / "b.png"])] == ["a.JPG", "b.png", "b.png"]


def test_a_row_for_each_epoch_also_after_resumes(tmp_path: Path) -> None:
    def trained(history: History, epochs: Sequence[int]) -> History:
        for epoch in epochs:
            for step in (1, 2, 3):
                history.add(epoch, 3 * (epoch - 1) + step, {"loss": epoch * step, "lr": 1 / step})
                state = json.loads(json.dumps(history.state_dict()))
                history = History()  # a resume after every step
                history.load_state_dict(state)
            history.validated(epoch, 3 * epoch, {"val_map": epoch / 10})
        return history

    history = trained(History(), [1, 2, 3])
    history.write(tmp_path / "results.csv")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6"), ("3", "9")]
    assert [float(row["loss"]) for row in rows] == pytest.approx([2, 4, 6])
    assert [float(row["lr"]) for row in rows] == pytest.approx([1 / 3] * 3)
    assert [row["val_map"] for row in rows] == ["0.1", "0.2", "0.3"]


def test_a_split_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plates.folder(tmp_path / "set", (2, 1, 0))
    (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("test: images/test\n", ""))
    saved = SimpleNamespace(run_id="one", config=SimpleNamespace(data_root=root))
    monkeypatch.setattr(command_evaluate, "opened_run", lambda _values: (saved, None))
    monkeypatch.setattr(command_evaluate, "check_data", lambda *_: None)
    asked = Namespace(data_root=None, on="test", output=None, part="best")
    with messages.raises(outlast.DataError, "yolo/split-absent", split="test"):
        list(command_evaluate.run(asked, lambda _done, _total: None))
