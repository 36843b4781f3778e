"""Average precision of predictions: of boxes by IoU, of keypoints by object keypoint similarity (OKS).

As in COCO: thresholds 0.5 to 0.95 in steps of 0.05, and precision at 101 recalls. Sources: Lin et al. 2014, and
https://cocodataset.org/#keypoints-eval for OKS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from outlast_recipes.common.boxes import iou
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Prediction

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def mean_precision(
    predictions: Sequence[Prediction], samples: Sequence[Sample], *, sigma: float | None = None
) -> dict[str, float]:
    """Mean average precision over the classes that are labelled.

    Args:
        predictions: one for each sample, with low confidences as well.
        samples: the labels.
        sigma: of OKS, by which keypoints are compared; None: boxes are compared by IoU.

    Returns:
        "map": over all thresholds; "map50": at 0.5. Both 0 when nothing is labelled.
    """
    classes = sorted({int(each) for sample in samples for each in sample.classes})
    rows = [_of_class(number, predictions, samples, sigma) for number in classes]
    table = np.array(rows) if rows else np.zeros((1, len(THRESHOLDS)))
    return {"map": float(table.mean()), "map50": float(table[:, 0].mean())}


def curves(
    predictions: Sequence[Prediction], samples: Sequence[Sample], names: Sequence[str], *, sigma: float | None = None
) -> dict[str, NDArray[np.float64]]:
    """For each labelled class the precision (101,) at RECALLS, at the threshold 0.5; its mean is the "map50" of it.

    Args:
        predictions, samples, sigma: as for `mean_precision`.
        names: of the classes.
    """
    labelled = {int(each) for sample in samples for each in sample.classes}
    return {
        name: _interpolated(*(each[:, 0] for each in _ranked(number, predictions, samples, sigma)))
        for number, name in enumerate(names)
        if number in labelled
    }


def oks(found: NDArray[np.float32], sample: Sample, sigma: float) -> NDArray[np.float64]:
    """Object keypoint similarity (N, M) of keypoints (N, K, 2) and the M labelled objects of a sample."""
    if sample.keypoints is None or sample.visible is None:
        return np.zeros((len(found), len(sample.classes)))
    area = np.prod(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1).astype(np.float64)
    squared = ((found[:, None].astype(np.float64) - sample.keypoints[None]) ** 2).sum(3)
    scaled = squared / (2 * sigma) ** 2 / np.maximum(area, 1e-9)[None, :, None] / 2
    seen = sample.visible[None] > 0
    return (np.exp(-scaled) * seen).sum(2) / np.maximum(seen.sum(2), 1)


def _of_class(
    number: int, predictions: Sequence[Prediction], samples: Sequence[Sample], sigma: float | None
) -> NDArray[np.float64]:
    """Average precision (10,) of a class, by threshold."""
    precision, recall = _ranked(number, predictions, samples, sigma)
    return np.array([_interpolated(precision[:, each], recall[:, each]).mean() for each in range(len(THRESHOLDS))])


def _ranked(
    number: int, predictions: Sequence[Prediction], samples: Sequence[Sample], sigma: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall (N, 10) of a class's surest 1, 2, ..., N predictions, by threshold."""
    scores: list[NDArray[np.float32]] = []
    right: list[NDArray[np.bool_]] = []
    total = 0
    for prediction, sample in zip(predictions, samples, strict=True):
        mine, labelled = prediction.classes == number, sample.classes == number
        total += int(labelled.sum())
        if sigma is None:
            alike = iou(torch.from_numpy(prediction.boxes[mine]), torch.from_numpy(sample.boxes[labelled])).numpy()
        else:
            assert prediction.keypoints is not None  # noqa: S101 - a detector of keypoints
            alike = oks(prediction.keypoints[mine], sample, sigma)[:, labelled]
        scores.append(prediction.scores[mine])
        right.append(_matched(alike, prediction.scores[mine]))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.concatenate(right)[order].cumsum(0)
    precision = hits / np.arange(1, len(hits) + 1)[:, None]
    return precision, hits / total


def _matched(alike: NDArray[np.float64], scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, 10): whether each prediction gets a label of its own, best scores first."""
    right: NDArray[np.bool_] = np.zeros((len(scores), len(THRESHOLDS)), np.bool_)
    for column, threshold in enumerate(THRESHOLDS):
        free = alike.copy()
        for row in np.argsort(-scores, kind="stable"):
            if free.shape[1] and free[row].max() >= threshold:
                free[:, free[row].argmax()] = -1.0
                right[row, column] = True
    return right


def _interpolated(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """(101,): the best precision at each of RECALLS or a higher one; 0 where it is not reached."""
    if not len(recall):
        return np.zeros(len(RECALLS))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0)
