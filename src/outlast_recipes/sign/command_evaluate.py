"""`outlast evaluate sign`: gloss, category, occluded clips, classes, confusion matrix, size and latency of a trained
run."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import outlast
from outlast_recipes.common import classification
from outlast_recipes.common.complexity import latency, macs, parameters
from outlast_recipes.common.problems import counted
from outlast_recipes.common.training import device_of
from outlast_recipes.sign.command_options import add_run_arguments
from outlast_recipes.sign.data import load_data
from outlast_recipes.sign.evaluation import Outputs, accuracies, outputs_of
from outlast_recipes.sign.export import example
from outlast_recipes.sign.network import SignNetwork
from outlast_recipes.sign.outputs import SMOKE
from outlast_recipes.sign.saved import as_before, restored

FRAMES = 64  # of the clip whose cost is reported


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser)
    parser.add_argument(
        "--on", default="test", choices=("train", "val", "test"), help="subset of the clips (default: test)"
    )
    parser.add_argument("--data-root", metavar="PATH", help="folder of the data (default: that of the run)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="output folder (default: artifacts/evaluation-STEP-PART-SUBSET in the run)",
    )


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterable[str]:
    flags = {"data_root": values.data_root} if values.data_root else {}
    saved = outlast.open_saved(values.run, root=values.checkpoint_dir, step=values.step, flags=flags)
    device = device_of(values.device)
    network, labels = restored(saved, values.part)
    data = load_data(saved.config)
    if not len(data.parts[values.on]):
        raise outlast.ConfigError(f"{saved.run_id} has no {values.on} clips. Choose another subset with --on.")
    categories = as_before(labels.category_of, data.category_of)
    if [*data.glosses] != labels.glosses or categories != labels.category_of:
        raise outlast.DataError(
            f"{saved.run_id} was trained on {len(labels.glosses)} glosses ({labels.glosses[0]}, ...), and these data "
            f"have {len(data.glosses)} ({data.glosses[0]}, ...). Give the data that it was trained on."
        )
    outputs = outputs_of(network.to(device), data.parts[values.on], device)
    matrix = classification.confusion_matrix(outputs.gloss_logits, outputs.gloss)
    rows = classification.class_table(matrix, labels.glosses)
    report: dict[str, Any] = {
        "run": saved.run_id,
        "step": saved.step,
        "part": values.part,
        "on": values.on,
        "generated": labels.generated,
        "data": data.hash,
        **slices(outputs),
        **_cost(network, device),
        "device": str(device),
        "classes": rows,
        "confusion": matrix.tolist(),
    }
    name = f"{SMOKE if labels.generated else ''}evaluation-{saved.step}-{values.part}-{values.on}"
    with saved.artifact(name, to=values.output, part=values.part) as made:
        (made / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        title = f"{saved.run_id}, step {saved.step} ({values.part}) on {values.on}: {report['all']['gloss_top1']:.1%}"
        classification.plot_confusion_matrix(
            matrix, labels.glosses, made / "confusion.png", f"{SMOKE if labels.generated else ''}{title}"
        )
    folder = values.output or saved.folder / "artifacts" / name
    about = ", generated for a smoke test" if labels.generated else ""
    yield f"{saved.run_id}, step {saved.step} ({values.part}), on {counted(len(outputs), 'clip')} of {values.on}{about}"
    yield from _lines(report)
    if data.hash != labels.data:
        yield f"  (the run was trained on other data: {labels.data[:12]}, not {data.hash[:12]})"
    yield (
        f"  {report['parameters']:,} parameters, {report['macs'] / 1e9:.3f} GMAC for {FRAMES} frames, "
        f"{1e3 * report['seconds_for_one_clip']:.1f} ms a clip on {device}"
    )
    yield ""
    yield from classification.class_lines(rows)
    yield ""
    yield f"Wrote {folder / 'report.json'} and {folder / 'confusion.png'}"


def slices(outputs: Outputs) -> dict[str, Any]:
    """Number of clips and accuracies: of all, of those with occlusion, and of those without; None for no clips."""
    chosen = {"all": torch.ones_like(outputs.occluded), "occluded": outputs.occluded, "not occluded": ~outputs.occluded}
    found = {}
    for name, kept in chosen.items():
        part = outputs[kept]
        found[name] = {"clips": len(part), **accuracies(part)} if len(part) else None
    return found


def _lines(report: dict[str, Any]) -> Iterable[str]:
    yield f"  {'':14}{'clips':>7}{'gloss':>9}{'top 5':>9}{'category':>10}"
    for name in ("all", "occluded", "not occluded"):
        found = report[name]
        if found:
            shares = "".join(f"{found[key]:>{width}.2%}" for key, width in _COLUMNS)
            yield f"  {name:14}{found['clips']:>7}{shares}"


_COLUMNS = (("gloss_top1", 9), ("gloss_top5", 9), ("category", 10))


def _cost(network: SignNetwork, device: torch.device) -> dict[str, Any]:
    inputs = tuple(tensor.to(device) for tensor in example(network, (FRAMES,)))
    return {
        "parameters": parameters(network),
        "macs": macs(network, inputs),
        "seconds_for_one_clip": latency(network, inputs),
    }
