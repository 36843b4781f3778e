"""`outlast evaluate yolo`: metrics of a trained run on a split, its predictions and pictures of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import outlast
from outlast_recipes.common.run_options import add_run_arguments
from outlast_recipes.yolo.command_options import PARTS, add_confidence, opened_run
from outlast_recipes.yolo.data import Dataset
from outlast_recipes.yolo.detector import Detector
from outlast_recipes.yolo.outputs import write_test
from outlast_recipes.yolo.reading import read_dataset


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser, PARTS)
    add_confidence(parser)
    parser.add_argument("--data-root", "--data-path", "--data", type=Path, metavar="DIR", help="folder of the data")
    parser.add_argument(
        "--on", default="test", choices=("train", "val", "test"), help="split to evaluate (default: test)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="output folder (default: artifacts/SPLIT in the run)"
    )


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    saved, detector = opened_run(values)
    root = values.data_root or saved.config.data_root
    if root is None:
        raise outlast.DataError(f"{saved.run_id} does not say where its data are; give their folder with --data-path.")
    dataset = read_dataset(Path(root))
    check_data(detector, dataset, saved.run_id)
    if not dataset.splits.get(values.on):
        others = " or ".join(f"--on {name}" for name, samples in dataset.splits.items() if samples)
        raise outlast.DataError(f"{dataset.root} has no images for {values.on!r}; expected {others}.")
    told: list[str] = []
    with saved.artifact(values.on, to=values.output, part=values.part) as made:
        metrics = write_test(
            made,
            detector,
            dataset,
            values.on,
            confidence=values.confidence,
            sigma=saved.config.training.oks_sigma,
            about={"run": saved.run_id, "step": saved.step, "part": values.part},
            progress=progress,
            tell=told.append,
        )
    images = len(dataset.splits[values.on])
    yield f"{saved.run_id}, step {saved.step} ({values.part}), on {images} images of {values.on}"
    yield from shown(metrics)
    yield from told
    yield f"Wrote metrics, predictions and pictures to {values.output or saved.folder / 'artifacts' / values.on}"


def check_data(detector: Detector, dataset: Dataset, run_id: str) -> None:
    """Refuse data of other classes or keypoints than a run was trained on; a detector of boxes needs no keypoints."""
    if detector.names != dataset.names:
        raise outlast.DataError(
            f"{dataset.root} has the classes {_listed(dataset.names)}, and {run_id} was trained on "
            f"{_listed(detector.names)}. Give the data of the run, or others with the same classes, with --data-path."
        )
    if detector.keypoints not in (0, dataset.keypoints):
        raise outlast.DataError(
            f"{dataset.root} has {dataset.keypoints} keypoints for each object, and {run_id} was trained on "
            f"{detector.keypoints}. Give data with as many (kpt_shape in data.yaml) with --data-path."
        )


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many there are."""
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"


def shown(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The metrics as lines."""
    yield f"  boxes: mAP {metrics['map']:.4f}, mAP50 {metrics['map50']:.4f}"
    if "keypoint_map" in metrics:
        yield f"  keypoints: mAP {metrics['keypoint_map']:.4f}, mAP50 {metrics['keypoint_map50']:.4f} (by OKS)"
    yield (
        f"  from a confidence of {metrics['confidence']:g} on: precision {metrics['precision']:.3f}, recall "
        f"{metrics['recall']:.3f}"
    )
    if "corners" in metrics:
        yield from _shown_corners(metrics["corners"])
    if len(metrics["classes"]) > 1:
        width = max(map(len, metrics["classes"]))
        for name, own in metrics["classes"].items():
            yield f"  {name:<{width}} {own['objects']:>6} objects  mAP {own['map']:.4f}  mAP50 {own['map50']:.4f}"


def _shown_corners(own: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"  corners: {own['found']} of {own['quads']} found; quad IoU >= 0.7: {own['quad_iou_70']:.3f}, >= 0.9: "
        f"{own['quad_iou_90']:.3f}"
    )
    if own["found"]:
        yield (
            f"  corners of those: mean quad IoU {own['quad_iou']:.3f}, mean error {own['error']:.4f} of the size "
            f"({own['error_pixels']:.1f} pixels), {own['order_errors']} in a wrong order"
        )
