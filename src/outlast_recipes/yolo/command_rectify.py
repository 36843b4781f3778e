"""`outlast rectify yolo`: each plate or number that a run finds in pictures, cut out and straightened."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable

import outlast
from outlast_recipes.common.problems import counted
from outlast_recipes.common.run_options import add_run_arguments, make_folder
from outlast_recipes.yolo import predicting
from outlast_recipes.yolo.command_options import PARTS, add_picture_arguments, opened_run
from outlast_recipes.yolo.corners import angle
from outlast_recipes.yolo.rectify import rectified


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser, PARTS)
    add_picture_arguments(parser)
    parser.add_argument(
        "--height", type=int, metavar="PIXELS", help="height of the crops (default: that in the picture)"
    )
    parser.add_argument(
        "--margin", type=float, default=0.0, metavar="SHARE", help="margin, as a share of the height (default: 0)"
    )


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    if values.height is not None and not 1 <= values.height <= 4096:
        raise outlast.ConfigError(f"--height is {values.height}; expected 1 to 4096 pixels.")
    if not 0 <= values.margin <= 1:
        raise outlast.ConfigError(f"--margin is {values.margin:g}; expected 0 to 1, a share of the height.")
    paths = predicting.pictures_in(values.pictures)
    saved, detector = opened_run(values)
    if detector.keypoints != 4:
        raise outlast.DataError(
            f"{saved.run_id} finds {f'{detector.keypoints} keypoints' if detector.keypoints else 'boxes'}; expected "
            "four corners, by which a plate is straightened. Train an architecture with -pose, or tiny, on data with "
            "kpt_shape: [4, 3]."
        )
    make_folder(values.output)
    names, made = predicting.unique_names(paths), 0
    skipped: list[str] = []
    for number, picture, found in predicting.predicted(detector, paths, values.confidence, skipped):
        path = paths[number]
        progress(number + 1, len(paths))
        if not len(found.scores):
            yield f"{path}: nothing was found with a confidence of {values.confidence:g}"
        for count, points in enumerate(found.keypoints if found.keypoints is not None else (), 1):
            name, score = detector.names[int(found.classes[count - 1])], float(found.scores[count - 1])
            try:
                crop = rectified(picture, points, values.height, values.margin)
            except ValueError as error:
                yield f"{path}: {name} {score:.2f} is skipped, as {error}"
                continue
            target = values.output / f"{names[number]}-{count}.png"
            crop.save(target)
            made += 1
            turned, (width, height) = angle(points), crop.size
            yield f"{path}: {name} {score:.2f}, rotated by {turned:.0f} degrees -> {target} ({width} x {height})"
    yield f"{counted(made, 'crop')} of {counted(len(paths), 'picture')} in {values.output}"
    predicting.refuse_skipped(skipped, len(paths))
