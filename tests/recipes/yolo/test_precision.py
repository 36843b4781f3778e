"""Average precision and suppression, beside values that are known and slower ways to compute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from outlast_recipes.common.boxes import iou, suppress
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Prediction
from outlast_recipes.yolo.plots import draw_precision
from outlast_recipes.yolo.precision import curves, mean_precision, oks
from outlast_recipes.yolo.tiny_network import losses

BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)


def sample(boxes: np.ndarray = BOXES, keypoints: np.ndarray | None = None) -> Sample:
    visible = None if keypoints is None else np.full(keypoints.shape[:2], 2, np.uint8)
    return Sample(Path("a"), 64, 64, boxes, np.zeros(len(boxes), np.int64), keypoints, visible)


def found(boxes: np.ndarray, scores: list[float], keypoints: np.ndarray | None = None) -> Prediction:
    return Prediction(boxes.astype(np.float32), np.array(scores, np.float32), np.zeros(len(boxes), np.int64), keypoints)


def test_all_found_and_nothing_else() -> None:
    assert mean_precision([found(BOXES, [0.9, 0.8])], [sample()]) == {"map": 1.0, "map50": 1.0}
    assert mean_precision([found(BOXES[:0], [])], [sample()]) == {"map": 0.0, "map50": 0.0}
    assert mean_precision([], []) == {"map": 0.0, "map50": 0.0}


def test_half_of_them_after_a_wrong_one() -> None:
    wrong = np.array([[50, 50, 60, 60]])
    result = mean_precision([found(np.concatenate([wrong, BOXES[:1]]), [0.9, 0.8])], [sample()])
    assert result["map50"] == pytest.approx(51 / 101 / 2)  # precision 1/2 up to a recall of 1/2


def test_the_curve_of_each_class_has_its_average_precision(tmp_path: Path) -> None:
    wrong = np.array([[50, 50, 60, 60]])
    predictions = [found(np.concatenate([wrong, BOXES[:1]]), [0.9, 0.8])]
    by_class = curves(predictions, [sample()], ["box", "never"])
    assert list(by_class) == ["box"]
    assert by_class["box"].tolist() == [0.5] * 51 + [0.0] * 50
    assert by_class["box"].mean() == pytest.approx(mean_precision(predictions, [sample()])["map50"])
    assert draw_precision({"boxes": by_class, "nothing": {}}, tmp_path / "a.png")
    draw_precision({"boxes": by_class, "nothing": {}}, tmp_path / "b.png")
    assert Image.open(tmp_path / "a.png").size == (1120, 460)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_one_label_is_found_once() -> None:
    twice = mean_precision([found(np.concatenate([BOXES[:1]] * 2), [0.9, 0.8])], [sample(BOXES[:1])])
    assert twice["map50"] == 1.0
    late = mean_precision([found(np.concatenate([BOXES[:1], BOXES]), [0.9, 0.8, 0.7])], [sample()])
    assert late["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_thresholds() -> None:
    shifted = BOXES[:1] + np.array([[0, 0, 0, -2.8]])  # IoU 0.72
    assert mean_precision([found(shifted, [0.9])], [sample(BOXES[:1])])["map"] == pytest.approx(0.5)


def test_similarity_of_keypoints_is_that_of_coco() -> None:
    points = np.array([[[0, 0], [10, 0], [10, 10], [0, 10]]], np.float32)
    one = sample(BOXES[:1], points)
    assert oks(points, one, 0.025) == pytest.approx(1.0)
    # By the size of the object, the root of its area: an error of 5 % is e^-0.5 with a sigma of 0.025.
    assert oks(points + np.array([0.5, 0]), one, 0.025) == pytest.approx(np.exp(-0.5))
    half = Sample(one.path, 64, 64, one.boxes, one.classes, points, np.array([[2, 2, 0, 0]], np.uint8))
    assert oks(points + np.array([[[0, 0], [0, 0], [9, 9], [9, 9]]]), half, 0.025) == pytest.approx(1.0)
    result = mean_precision([found(BOXES[:1], [0.9], points + 0.5)], [one], sigma=0.025)
    assert result == {"map": 0.0, "map50": 0.0}


def test_suppression_is_the_slow_one() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(80, 4) * 30
    boxes[:, 2:] += boxes[:, :2]
    scores, kept = torch.rand(80), list[int]()
    for one in scores.argsort(descending=True).tolist():
        if all(iou(boxes[[one]], boxes[[other]]).item() <= 0.4 for other in kept):
            kept.append(one)
    assert suppress(boxes, scores, 0.4).tolist() == kept
    assert suppress(boxes[:0], scores[:0], 0.4).shape == (0,)


def test_torchvision_has_it_where_its_library_does_not_load() -> None:
    from outlast_recipes.common import torchvision_operators

    torchvision_operators.provide()
    import torchvision

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    assert torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.5).tolist() == [1, 2]


def test_keypoints_that_are_not_labelled_have_no_loss() -> None:
    torch.manual_seed(0)
    cells = torch.randn(1, 4, 4, 1 + 4 + 4, requires_grad=True)
    points = torch.tensor([[[5.0, 6.0], [torch.nan, torch.nan]]])
    found = losses(cells, [(torch.tensor([[4.0, 4, 20, 20]]), torch.tensor([0]), points)], 1, (0.0, 0.0, 1.0))
    found["pose_loss"].backward()
    assert found["pose_loss"].isfinite()
    assert cells.grad is not None
    assert cells.grad[..., 5:7].abs().sum() > 0
    assert cells.grad[..., 7:].abs().sum() == 0
