"""What a finished training leaves besides its checkpoints, in the run's folder for artifacts.

train/results.csv                  a row for each epoch
train/weights/architecture.json    what the tensors in best.safetensors and last.safetensors are
train/weights/best.pt, last.pt     the same weights for the detector's own library, where it has such a file
train/weights/LICENSE.txt          what its authors say about trained weights, where they do
test/predictions.json              what was found in the images of the test split
test/metrics.json, pictures.png    how good that is; some of the images with what was found in them
test/precision_recall.png          the precision of each class at each recall

`outlast publish` adds best.safetensors, last.safetensors, args.yaml, metrics.json, training_curves.png and a model
card, and makes artifacts/{module}/{experiment}/ of all this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from outlast import Run
from outlast_recipes.common.artifacts import is_written
from outlast_recipes.yolo import predicting
from outlast_recipes.yolo.corners import SIGMA
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import Detector
from outlast_recipes.yolo.drawing import drawn, sheet
from outlast_recipes.yolo.evaluation import LEAST, evaluated
from outlast_recipes.yolo.history import History
from outlast_recipes.yolo.plots import draw_precision
from outlast_recipes.yolo.precision import curves

CONFIDENCE = 0.25
_PICTURES = 12  # on the sheet


def write(
    run: Run, last: Detector, best: Detector | None, dataset: Dataset, history: History, sigma: float | None = None
) -> None:
    """Write the artifacts of a finished run.

    Args:
        run: whose training has ended.
        last: the detector with the averaged weights of the last step.
        best: with those that were best on validation.
        dataset: the data.
        history: the table of the training.
        sigma: of OKS.
    """
    if not is_written(run, "train"):
        with run.artifact("train", part="ema") as made:
            write_training(made, last, best, history)
    if dataset.splits.get("test") and not is_written(run, "test"):
        with run.artifact("test", part="best" if best else "ema") as made:
            write_test(made, best or last, dataset, "test", sigma=sigma, tell=run.tell)


def write_training(folder: Path, last: Detector, best: Detector | None, history: History) -> None:
    """Write the table, and the weights as the detector's own library has them."""
    weights = folder / "weights"
    weights.mkdir(parents=True)
    history.write(folder / "results.csv")
    _write(weights / "architecture.json", last.architecture())
    if last.licence:
        (weights / "LICENSE.txt").write_text(f"{last.licence}\n", encoding="utf-8")
    for name, detector in (("last", last), ("best", best)):
        if detector is not None:
            detector.write_pt(weights / f"{name}.pt")


def write_test(
    folder: Path,
    detector: Detector,
    dataset: Dataset,
    split: str,
    *,
    confidence: float = CONFIDENCE,
    sigma: float | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    tell: Callable[[str], None] = lambda _words: None,
) -> dict[str, Any]:
    """Write predictions, metrics and pictures of a split; returns the metrics, see `evaluation.evaluated`.

    Args:
        folder: for the files.
        detector: that is measured.
        dataset: the data.
        split: of them; not empty.
        confidence: from which a prediction is written.
        sigma: of OKS; by default that of corners.
        about: further entries of both JSON files.
        progress: hears of how many images how many are done.
        tell: hears what was left out, and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = dataset.splits[split]
    if not detector.keypoints:  # a detector of boxes can be trained on labels with keypoints
        samples = tuple(replace(sample, keypoints=None, visible=None) for sample in samples)
    found, records, pictures = [], [], []
    paths = [sample.path for sample in samples]
    for number, picture, each in predicting.predicted(detector, paths, LEAST):
        path = paths[number]
        found.append(each)
        sure = predicting.surest(each, confidence)
        name = path.relative_to(dataset.root).as_posix() if path.is_relative_to(dataset.root) else path.name
        records.append(predicting.record(name, picture.size, sure, detector.names))
        if number < _PICTURES:
            pictures.append(drawn(picture, sure, detector.names, samples[number].boxes))
        progress(number + 1, len(samples))
    metrics = evaluated(found, samples, detector.names, confidence, sigma or SIGMA)
    named = {**(about or {}), "split": split, "data": dataset.hash}
    _write(folder / "metrics.json", {**named, "images": len(samples), **metrics})
    _write(folder / "predictions.json", {**named, "confidence": confidence, "images": records})
    sheet(pictures).save(folder / "pictures.png")
    drawn_curves = {"boxes (IoU 0.5)": curves(found, samples, detector.names)}
    if detector.keypoints:
        drawn_curves["keypoints (OKS 0.5)"] = curves(found, samples, detector.names, sigma=sigma or SIGMA)
    if not draw_precision(drawn_curves, folder / "precision_recall.png"):
        tell("There is no precision_recall.png, as matplotlib is not installed: pip install 'outlast[plots]'.")
    return metrics


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
