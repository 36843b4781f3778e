"""`outlast data prepare sign`: one .npz file of each video, with keypoints, image features, or both."""

from __future__ import annotations

import json
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import outlast
from outlast_recipes.common.problems import counted
from outlast_recipes.common.run_options import make_folder
from outlast_recipes.common.training import device_of
from outlast_recipes.sign import inception, npz, tracking, video
from outlast_recipes.sign.normalise import ASPECT

OCCLUDED = "occluded.csv"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of videos, at any depth")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder of the .npz files")
    parser.add_argument(
        "--write", choices=("keypoints", "features", "both"), default="keypoints", help="contents (default: keypoints)"
    )
    parser.add_argument("--fps", type=float, default=30.0, metavar="N", help="frames a second (default: 30)")
    parser.add_argument(
        "--holistic-model", type=Path, metavar="FILE", help="holistic_landmarker.task, for MediaPipe after 0.10.21"
    )
    parser.add_argument(
        "--inception-weights", type=Path, metavar="FILE", help="weights of InceptionV3 (default: torchvision's)"
    )
    parser.add_argument("--device", default="auto", help="device of InceptionV3 (default: auto)")
    parser.add_argument("--replace", action="store_true", help="make the files again that there are")


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    if not 1 <= values.fps <= 240:
        raise outlast.ConfigError(f"--fps is {values.fps:g}; expected 1 to 240.")
    videos = video.videos_in(values.folder)
    make_folder(values.to)
    network = None
    device = device_of(values.device)
    if values.write != "keypoints":
        network = inception.backbone(values.inception_weights).to(device)
    if values.write != "features":
        tracking.tracker_of(values.holistic_model)  # says at once what is missing
    made = kept = 0
    refused: list[str] = []
    for number, path in enumerate(videos):
        target = values.to / f"{path.stem}.npz"
        if target.exists() and not values.replace:
            kept += 1
        else:
            try:
                _write(target, _arrays(path, values, network, device))
                made += 1
            except outlast.DataError as error:
                refused.append(str(error))
        progress(number + 1, len(videos))
    were = "was" if made == 1 else "were"
    yield (
        f"{values.to}: {counted(made, '.npz file')} {were} made of {counted(len(videos), 'video')}, with {values.write}"
    )
    if kept:
        yield f"{counted(kept, 'file')} {'was' if kept == 1 else 'were'} there already (--replace makes them again)."
    yield from (f"  refused: {why}" for why in refused)
    if values.write != "features":
        yield _write_occluded(values.to)
    need = " --require-x2048" if values.write == "features" else ""
    yield f"Look at them with: outlast data check sign {shlex.quote(str(values.to))}{need}"


def _arrays(path: Path, values: Namespace, network: Any, device: Any) -> dict[str, Any]:
    """What is written of one video; it is decoded once for keypoints and once for features."""
    first = next(iter(video.frames_of(path, values.fps)))
    height, width = first.picture.shape[:2]
    arrays: dict[str, Any] = {}
    if values.write != "features":
        times: list[int] = []

        def timed() -> Iterable[video.Frame]:
            for frame in video.frames_of(path, values.fps):
                times.append(frame.time)
                yield frame

        points, seen = tracking.tracked(timed(), tracking.tracker_of(values.holistic_model))
        if not seen.any():
            raise outlast.DataError(f"{path}: nobody is seen in any of its {len(points)} frames.")
        arrays |= {"X": points.reshape(len(points), -1), "mask": seen, "timestamps_ms": np.array(times, np.int64)}
    if network is not None:
        arrays["X2048"] = inception.features_of(video.frames_of(path, values.fps), network, device)
    meta = {"width": width, "height": height, "fps": values.fps, "source": path.name}
    return arrays | {"meta": np.array(json.dumps(meta))}


def _write(target: Path, arrays: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = target.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    temporary.replace(target)


def _write_occluded(folder: Path) -> str:
    """A table of all files of keypoints in a folder, for the column `occluded` of their labels."""
    lines, count = ["file,occluded"], 0
    for path in sorted(folder.glob("*.npz")):
        found = npz.read_keypoints(path)
        occluded = tracking.is_occluded(found.points, found.seen, found.aspect or ASPECT)
        count += occluded
        lines.append(f"{path.stem},{int(occluded)}")
    (folder / OCCLUDED).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{folder / OCCLUDED}: a hand is before the head in {count:,} of {counted(len(lines) - 1, 'clip')}."
