"""What is reported of predictions, on cases that can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Prediction
from outlast_recipes.yolo.evaluation import evaluated, pairs

SQUARE = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], np.float32)
PLACES = (0.0, 20.0, 40.0, 60.0)


def quads(*places: float) -> np.ndarray:
    return np.stack([SQUARE + place for place in places]) if places else np.zeros((0, 4, 2), np.float32)


def boxes(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(1), points.max(1)], 1).astype(np.float32)


def labelled(visible: np.ndarray | None = None) -> Sample:
    points = quads(*PLACES)
    seen = np.full((4, 4), 2, np.uint8) if visible is None else visible
    return Sample(Path("a.png"), 80, 80, boxes(points), np.array([0, 0, 0, 1]), points, seen)


def found(points: np.ndarray, scores: list[float], classes: list[int]) -> Prediction:
    return Prediction(boxes(points), np.array(scores, np.float32), np.array(classes), points.astype(np.float32))


def measured(prediction: Prediction, sample: Sample) -> dict[str, Any]:
    return evaluated([prediction], [sample], ["plate", "number"], 0.25, 0.025)


def test_corners_that_are_found_shifted_turned_and_missed() -> None:
    """Of four plates one is found as it is, one 2 pixels off, one from another corner on, and one not at all."""
    points = quads(0, 20, 40, 75)
    points[1] += [2, 0]
    points[2] = np.roll(points[2], 1, 0)
    result = measured(found(points, [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1]), labelled())
    corners = result["corners"]
    assert (corners["quads"], corners["found"], corners["order_errors"]) == (4, 3, 1)
    assert corners["quad_iou"] == pytest.approx((1 + 80 / 120 + 1) / 3)
    assert corners["quad_iou_70"] == corners["quad_iou_90"] == 0.5, "of all plates, not of those that are found"
    assert corners["error_pixels"] == pytest.approx((0 + 2 + 10) / 3)
    assert corners["error"] == pytest.approx((0 + 0.2 + 1) / 3)
    assert (result["precision"], result["recall"]) == (0.75, 0.75)
    assert {name: each["objects"] for name, each in result["classes"].items()} == {"plate": 3, "number": 1}
    assert result["classes"]["number"]["map"] == 0.0


def test_plates_with_a_corner_that_is_not_labelled_are_no_quads() -> None:
    seen = np.full((4, 4), 2, np.uint8)
    seen[0, 3] = 0
    result = measured(found(quads(*PLACES), [0.9] * 4, [0, 0, 0, 1]), labelled(seen))
    assert (result["corners"]["quads"], result["corners"]["found"], result["corners"]["quad_iou_90"]) == (3, 3, 1.0)


def test_what_is_less_sure_counts_for_the_average_precision_only() -> None:
    result = measured(found(quads(*PLACES), [0.9, 0.9, 0.1, 0.1], [0, 0, 0, 1]), labelled())
    assert (result["map"], result["keypoint_map"]) == (1.0, 1.0)
    assert (result["precision"], result["recall"], result["corners"]["found"]) == (1.0, 0.5, 2)
    nothing = measured(found(quads(), [], []), labelled())
    assert (nothing["precision"], nothing["recall"], nothing["map"]) == (0.0, 0.0, 0.0)
    assert nothing["corners"]["error"] is None


def test_a_label_belongs_to_one_prediction_of_its_class() -> None:
    points = quads(0, 0, 60)
    assert pairs(found(points, [0.5, 0.9, 0.9], [0, 0, 0]), labelled()) == [(1, 0)]
