"""`outlast predict skeleton`: the five likeliest actions of one file, and pictures of the joints that decided."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

import outlast
from outlast_recipes.common.run_options import make_folder
from outlast_recipes.skeleton import ntu, nw_ucla, saliency
from outlast_recipes.skeleton.command_options import add_run_arguments, open_run_of
from outlast_recipes.skeleton.layouts import LAYOUTS
from outlast_recipes.skeleton.saved import restored


def arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser, data=False)
    parser.add_argument("file", type=Path, help="clip: a .skeleton file of NTU, or a .json file of NW-UCLA")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="folder for the pictures (default: this folder)",
    )
    parser.add_argument("--no-gif", action="store_true", help="write only the still picture")


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterable[str]:
    saved = open_run_of(values)
    network, labels = restored(saved, values.part)
    read = nw_ucla.read_clip if values.file.suffix == ".json" else functools.partial(ntu.read_clip, named=False)
    clip = read(values.file)
    layout = LAYOUTS[labels.layout]
    if clip.joints.shape[2] != layout.joints:
        raise outlast.DataError(
            f"{values.file} has {clip.joints.shape[2]} joints; {saved.run_id} was trained on {layout.name} and "
            f"expects {layout.joints}. Give a file of that format."
        )
    found = saliency.looked_at(network, clip, labels.frames(saved.config))
    yield (
        f"{values.file.name}: {len(clip.mask)} frames, {int(clip.mask.any(0).sum())} bodies, by {saved.run_id}, step "
        f"{saved.step} ({values.part})"
    )
    for share, label in zip(*(each.tolist() for each in found.shares.topk(min(5, len(labels.classes)))), strict=True):
        yield f"  {share:6.1%}  {labels.classes[label]}"
    best = labels.classes[int(found.shares.argmax())]
    make_folder(values.output)
    still, moving = (values.output / f"{values.file.stem}-{saved.run_id}.{form}" for form in ("png", "gif"))
    title = f"{values.file.stem}: {best} ({float(found.shares.max()):.0%})"
    saliency.draw(found, layout, still, title)
    yield f"Wrote {still}: the redder a joint, the more it contributed to {best}."
    if not values.no_gif:
        saliency.animate(found, layout, moving, title)
        yield f"Wrote {moving}"
