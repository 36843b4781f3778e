"""`outlast evaluate skeleton`: top-1 and top-5 accuracy, classes, confusion matrix, size and latency of a trained
run."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import outlast
from outlast_recipes.common import classification
from outlast_recipes.common.clips import duplicates
from outlast_recipes.common.complexity import latency, macs, parameters
from outlast_recipes.common.training import device_of
from outlast_recipes.skeleton.command_options import add_run_arguments, check_data, open_run_of
from outlast_recipes.skeleton.data import load_data
from outlast_recipes.skeleton.evaluation import example, logits_of
from outlast_recipes.skeleton.layouts import LAYOUTS
from outlast_recipes.skeleton.saved import Labels, restored


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument(
        "--on", default="test", choices=("train", "val", "test"), help="subset of the split (default: test)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="output folder (default: artifacts/evaluation-STEP-PART in the run)",
    )


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterable[str]:
    saved, device = open_run_of(values), device_of(values.device)
    network, labels = restored(saved, values.part)
    network.to(device)
    store, parts, _ = load_data(saved.config)
    part = parts[values.on]
    if not len(part):
        raise outlast.DataError(
            f"The split {saved.config.data.split} of {saved.run_id} has no {values.on} clips. Choose another subset "
            "with --on."
        )
    check_data(labels, store, saved)
    logits, truth = logits_of(network, part, labels.frames(saved.config), device)
    numbers = {name: each.numbers for name, each in parts.items()}
    copies = {pair[1] for pair in duplicates(store.entries, numbers)} if values.on == "test" else set()
    kept = torch.tensor([store.entries[number].name not in copies for number in part.numbers])
    matrix = classification.confusion_matrix(logits, truth)
    rows = classification.class_table(matrix, labels.classes)
    report: dict[str, Any] = {
        "run": saved.run_id,
        "step": saved.step,
        "part": values.part,
        "on": values.on,
        "data": store.hash,
        **_accuracies(logits, truth, kept),
        **_cost(network, saved, labels, device),
        "device": str(device),
        "classes": rows,
        "confusion": matrix.tolist(),
    }
    name = f"evaluation-{saved.step}-{values.part}"
    with saved.artifact(name, to=values.output, part=values.part) as made:
        (made / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        title = f"{saved.run_id}, step {saved.step} ({values.part}) on {values.on}: {report['top1']:.1%}"
        classification.plot_confusion_matrix(matrix, labels.classes, made / "confusion.png", title)
    folder = values.output or saved.folder / "artifacts" / name
    yield f"{saved.run_id}, step {saved.step} ({values.part}), on {len(part)} clips of {values.on}"
    yield f"  top-1 {report['top1']:.2%}   top-5 {report['top5']:.2%}"
    if copies:
        yield (
            f"  top-1 {report['top1_without_copies']:.2%} on the {report['clips_without_copies']} clips that are not "
            "copies of training clips"
        )
    if store.hash != labels.data:
        yield f"  (the run was trained on other data: {labels.data[:12]}, not {store.hash[:12]})"
    yield _cost_line(report, saved.config.model.bodies, labels.frames(saved.config))
    yield ""
    yield from classification.class_lines(rows)
    yield ""
    yield f"Wrote {folder / 'report.json'} and {folder / 'confusion.png'}"


def _accuracies(logits: Tensor, truth: Tensor, kept: Tensor) -> dict[str, Any]:
    """The accuracy on all clips, and on those that are not copies."""
    return {
        "clips": len(truth),
        "top1": classification.correct(logits, truth, 1) / len(truth),
        "top5": classification.correct(logits, truth, 5) / len(truth),
        "clips_without_copies": int(kept.sum()),
        "top1_without_copies": classification.correct(logits[kept], truth[kept], 1) / max(1, int(kept.sum())),
    }


def _cost(network: nn.Module, saved: outlast.SavedCheckpoint, labels: Labels, device: torch.device) -> dict[str, Any]:
    config = saved.config
    inputs = example(LAYOUTS[labels.layout], labels.frames(config), device=device, bodies=config.model.bodies)
    return {
        "parameters": parameters(network),
        "macs": macs(network, inputs),
        "seconds_for_one_clip": latency(network, inputs),
    }


def _cost_line(report: dict[str, Any], bodies: int, frames: int) -> str:
    return (
        f"  {report['parameters']:,} parameters, {report['macs'] / 1e9:.3f} GMAC for {bodies} "
        f"{'body' if bodies == 1 else 'bodies'} of {frames} frames, {1e3 * report['seconds_for_one_clip']:.1f} ms a "
        f"clip on {report['device']}"
    )
