"""`outlast predict yolo`: what a trained run finds in pictures, as pictures and as JSON."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from typing import Any

from outlast_recipes.common.problems import counted
from outlast_recipes.common.run_options import add_run_arguments, make_folder
from outlast_recipes.yolo import predicting
from outlast_recipes.yolo.command_options import PARTS, add_picture_arguments, opened_run
from outlast_recipes.yolo.drawing import drawn


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser, PARTS)
    add_picture_arguments(parser)


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    paths = predicting.pictures_in(values.pictures)
    saved, detector = opened_run(values)
    make_folder(values.output)
    yield f"{saved.run_id}, step {saved.step} ({values.part}): {counted(len(paths), 'picture')}"
    records: list[dict[str, Any]] = []
    skipped: list[str] = []
    names = predicting.unique_names(paths)
    for number, picture, found in predicting.predicted(detector, paths, values.confidence, skipped):
        path = paths[number]
        target = values.output / f"{names[number]}-{saved.run_id}.png"
        drawn(picture, found, detector.names).save(target)
        records.append(predicting.record(str(path), picture.size, found, detector.names))
        counts = dict.fromkeys(detector.names, 0)
        for each in found.classes:
            counts[detector.names[int(each)]] += 1
        shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        yield f"  {path}: {shown or 'nothing'} -> {target}"
        progress(number + 1, len(paths))
    target = values.output / f"predictions-{saved.run_id}.json"
    about = {"run": saved.run_id, "step": saved.step, "part": values.part, "confidence": values.confidence}
    target.write_text(json.dumps({**about, "images": records}, indent=1) + "\n", encoding="utf-8")
    yield f"Wrote {target}"
    predicting.refuse_skipped(skipped, len(paths))
