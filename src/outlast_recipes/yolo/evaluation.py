"""How good predictions are: mean average precision, and for corners what a reader of plates needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from outlast_recipes.yolo import corners
from outlast_recipes.yolo.data import Sample
from outlast_recipes.yolo.detector import Prediction
from outlast_recipes.yolo.precision import mean_precision
from outlast_recipes.yolo.predicting import surest

LEAST = 0.01
"""Confidence from which predictions count for the average precision."""


def evaluated(
    found: Sequence[Prediction], samples: Sequence[Sample], names: Sequence[str], confidence: float, sigma: float
) -> dict[str, Any]:
    """All metrics of predictions.

    Args:
        found: one for each sample, from a confidence of LEAST on.
        samples: the labels.
        names: of the classes.
        confidence: from which a prediction counts for everything but the average precision.
        sigma: of OKS.

    Returns:
        "map", "map50" of boxes; "keypoint_map", "keypoint_map50" where there are keypoints; "classes": the same of each
        labelled class; "corners": see `corner_metrics`, where there are four.
    """
    keypoints = bool(samples) and samples[0].keypoints is not None
    metrics: dict[str, Any] = dict(mean_precision(found, samples))
    if keypoints:
        of_points = mean_precision(found, samples, sigma=sigma)
        metrics |= {f"keypoint_{name}": value for name, value in of_points.items()}
    metrics["classes"] = {}
    for number, name in enumerate(names):
        own = [_of_class(sample, number) for sample in samples]
        objects = sum(len(sample.classes) for sample in own)
        if objects:
            kept = [_predictions_of_class(each, number) for each in found]
            metrics["classes"][name] = {"objects": objects, **mean_precision(kept, own)}
    sure = [surest(each, confidence) for each in found]
    matched = [pairs(each, sample) for each, sample in zip(sure, samples, strict=True)]
    hits, predicted = sum(map(len, matched)), sum(len(each.scores) for each in sure)
    objects = sum(len(sample.classes) for sample in samples)
    metrics |= {
        "confidence": confidence,
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / objects if objects else 0.0,
    }
    if keypoints and samples[0].keypoints is not None and samples[0].keypoints.shape[1] == 4:
        metrics["corners"] = corner_metrics(sure, samples, matched)
    return metrics


def corner_metrics(
    found: Sequence[Prediction], samples: Sequence[Sample], matched: Sequence[Sequence[tuple[int, int]]]
) -> dict[str, Any]:
    """Of the quadrilaterals whose four corners are labelled.

    Args:
        found, samples: predictions and labels.
        matched: for each sample, pairs of a prediction and a label; see `pairs`.

    Returns:
        "quads": how many there are; "quad_iou_70", "quad_iou_90": share of all of them that are found with a quad IoU
        of at least 0.7 or 0.9; "quad_iou": mean of those that are found; "error": mean distance of their corners as a
        share of the root of the area, and "error_pixels"; "order_errors": how many of them fit better from another
        corner on, or are no quadrilateral.
    """
    quads, ious, errors, pixels, disordered = 0, [], [], [], 0
    for prediction, sample, own in zip(found, samples, matched, strict=True):
        if sample.keypoints is None or sample.visible is None:
            continue
        whole = sample.visible.all(1)
        quads += int(whole.sum())
        for number, label in own:
            if prediction.keypoints is None or not whole[label]:
                continue
            points, truth = prediction.keypoints[number], sample.keypoints[label]
            ious.append(corners.quad_iou(points, truth))
            errors.append(corners.corner_error(points, truth))
            pixels.append(float(np.linalg.norm(points - truth, axis=1).mean()))
            disordered += corners.order_error(points) is not None or corners.best_shift(points, truth) != 0
    return {
        "quads": quads,
        "found": len(ious),
        "quad_iou": float(np.mean(ious)) if ious else 0.0,
        "quad_iou_70": sum(iou >= 0.7 for iou in ious) / quads if quads else 0.0,
        "quad_iou_90": sum(iou >= 0.9 for iou in ious) / quads if quads else 0.0,
        "error": float(np.mean(errors)) if errors else None,
        "error_pixels": float(np.mean(pixels)) if pixels else None,
        "order_errors": disordered,
    }


def pairs(found: Prediction, sample: Sample) -> list[tuple[int, int]]:
    """(prediction, label) of the same class whose boxes have an IoU of at least 0.5; the surest choose first."""
    free, matched = set(range(len(sample.classes))), []
    for number in np.argsort(-found.scores, kind="stable").tolist():
        candidates = [(_iou(found.boxes[number], sample.boxes[label]), label) for label in sorted(free)]
        candidates = [each for each in candidates if sample.classes[each[1]] == found.classes[number]]
        best = max(candidates, default=(0.0, -1))
        if best[0] >= 0.5:
            free.remove(best[1])
            matched.append((number, best[1]))
    return matched


def _iou(one: Any, other: Any) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    either = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared
    return shared / either if either > 0 else 0.0


def _of_class(sample: Sample, number: int) -> Sample:
    own = sample.classes == number
    return replace(
        sample,
        boxes=sample.boxes[own],
        classes=sample.classes[own],
        keypoints=sample.keypoints[own] if sample.keypoints is not None else None,
        visible=sample.visible[own] if sample.visible is not None else None,
    )


def _predictions_of_class(found: Prediction, number: int) -> Prediction:
    own = found.classes == number
    points = found.keypoints[own] if found.keypoints is not None else None
    return Prediction(found.boxes[own], found.scores[own], found.classes[own], points)
