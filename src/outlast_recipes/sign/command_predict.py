"""`outlast predict sign`: the likeliest glosses and categories of one file, and the frames that decided."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import outlast
from outlast_recipes.common import run_options
from outlast_recipes.common.problems import counted
from outlast_recipes.common.run_options import make_folder
from outlast_recipes.sign import drawing, predicting
from outlast_recipes.sign.command_options import PARTS
from outlast_recipes.sign.outputs import SMOKE
from outlast_recipes.sign.predicting import Recording
from outlast_recipes.sign.saved import Labels, restored


def arguments(parser: ArgumentParser) -> None:
    run_options.add_run_arguments(parser, PARTS)
    parser.add_argument("file", type=Path, help="clip: an .npz file of keypoints or features")
    parser.add_argument(
        "--window", type=int, metavar="FRAMES", help="classify each window of so many frames of a long clip"
    )
    parser.add_argument("--stride", type=int, metavar="FRAMES", help="frames between windows (default: half a window)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="FOLDER", help="output folder (default: this folder)"
    )
    parser.add_argument("--no-gif", action="store_true", help="write only the JSON file")


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    _check_windows(values)
    saved = outlast.open_saved(values.run, root=values.checkpoint_dir, step=values.step)
    network, labels = restored(saved, values.part)
    clip = predicting.read(values.file, saved.config)
    make_folder(values.output)
    smoke = SMOKE if labels.generated else ""
    target = values.output / f"{smoke}{values.file.stem}-{saved.run_id}.json"
    yield f"{values.file.name}: {counted(len(clip), 'frame')}, by {saved.run_id}, step {saved.step} ({values.part})"
    if labels.generated:
        yield "This run was a smoke test on generated clips; its results mean nothing."
    if min(len(clip), values.window or len(clip)) > saved.config.data.frames:
        what = "It" if values.window is None else "Each window"
        yield f"{what} is resampled to {saved.config.data.frames} frames, as in the training (--data.frames)."
    if clip.fault:
        yield f"{values.file.name}: {clip.fault}. The clip is read as 16:9."
    record: dict[str, Any] = {
        "file": str(values.file),
        "frames": len(clip),
        "run": saved.run_id,
        "step": saved.step,
        "part": values.part,
        "generated": labels.generated,
    }
    if values.window is not None:
        found = _windows(values, network, clip, saved.config, labels, progress)
        record |= {"windows": found, "segments": predicting.segments(found)}
        yield from _segment_lines(record["segments"])
    else:
        gloss, category, weight = predicting.looked_at(network, clip, saved.config)
        record |= predicting.named(gloss, category, labels)
        record["frame_weights"] = [round(float(share), 4) for share in weight]
        for key in ("gloss", "category"):
            yield f"  {key}"
            yield from (f"  {each['probability']:7.1%}  {each['name']}" for each in record[key])
        if clip.values.ndim == 3 and not values.no_gif:
            best = record["gloss"][0]
            moving = target.with_suffix(".gif")
            title = f"{smoke}{values.file.stem}: {best['name']} ({best['probability']:.0%})"
            drawing.animate(clip.values, clip.seen, weight, clip.aspect, moving, title)
            yield f"Wrote {moving}: the warmer a frame, the more it contributed to {best['name']}."
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    yield f"Wrote {target}"


def _check_windows(values: Namespace) -> None:
    """Refuse --window and --stride that do not go together; raises outlast.ConfigError."""
    if values.stride is not None and values.window is None:
        raise outlast.ConfigError("--stride is given without --window; give both.")
    for flag, number, least in (("--window", values.window, 2), ("--stride", values.stride, 1)):
        if number is not None and number < least:
            raise outlast.ConfigError(f"{flag} is {number}; expected at least {least} frames.")
    if values.stride is not None and values.stride > values.window:
        raise outlast.ConfigError(
            f"--stride is {values.stride}, and --window is {values.window}, so the frames between two windows would "
            f"not be looked at; expected at most {values.window}."
        )


def _windows(
    values: Namespace, network: Any, clip: Recording, config: Any, labels: Labels, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Each window with its likeliest glosses and categories; none where nothing is seen. Frames count from 1."""
    places = predicting.windows(len(clip), values.window, values.stride or max(1, values.window // 2))
    found = []
    for number, shares in enumerate(predicting.in_windows(network, clip, places, config)):
        begin, end = places[number]
        nothing: dict[str, Any] = {"gloss": [], "category": []}
        about = predicting.named(shares[0], shares[1], labels) if clip.seen[begin:end].any() else nothing
        found.append({"first": begin + 1, "last": end, **about})
        progress(number + 1, len(places))
    return found


def _segment_lines(segments: list[dict[str, Any]]) -> Iterable[str]:
    yield f"  {'frames':>15}  gloss"
    for each in segments:
        span = f"{each['first']} to {each['last']}"
        said = "nothing is seen" if each["gloss"] is None else f"{each['gloss']} ({each['probability']:.1%})"
        yield f"  {span:>15}  {said}"
