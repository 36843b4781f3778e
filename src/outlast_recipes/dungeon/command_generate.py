"""`outlast generate dungeon`: a dungeon that can be finished, with its map and the proof."""

from __future__ import annotations

import io
import shlex
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import outlast
from outlast_recipes.common.problems import counted
from outlast_recipes.common.run_options import add_checkpoint_arguments, add_seed, make_folder
from outlast_recipes.dungeon import dungeon_file, generate
from outlast_recipes.dungeon.dungeon import graph_text, level_text
from outlast_recipes.dungeon.map_picture import map_image
from outlast_recipes.dungeon.patterns import PatternSampler
from outlast_recipes.dungeon.solver import locks_that_matter


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--rooms", type=int, default=20, help="number of rooms, 4 to 60 (default: 20)")
    parser.add_argument("--keys", type=int, default=3, help="number of small keys, and of their locks (default: 3)")
    parser.add_argument(
        "--tension", type=float, default=0.6, help="share of rooms with monsters, 0 to 1 (default: 0.6)"
    )
    add_seed(parser)
    parser.add_argument(
        "--run", metavar="NAME", help="a trained run, or chain, that draws the rooms; rules draw them when not given"
    )
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="folder for the files (default: dungeon-SEED)"
    )
    parser.add_argument("--replace", action="store_true", help="replace the files of another dungeon there")


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterable[str]:
    sampler, words = _sampler(values)
    begin = time.perf_counter()
    made = generate.generate(
        sampler, values.rooms, values.keys, values.seed, tension=values.tension, sampled_by=words or "patterns"
    )
    seconds = time.perf_counter() - begin
    folder = values.output or Path(f"dungeon-{values.seed}")
    picture = io.BytesIO()
    map_image(made).save(picture, format="PNG")
    steps = "\n".join(dungeon_file.certificate_text(made)) + "\n"
    files: tuple[tuple[str, str | bytes], ...] = (
        ("level.txt", level_text(made)),
        ("graph.dot", graph_text(made.graph)),
        ("certificate.txt", steps),
        ("map.png", picture.getvalue()),
        ("dungeon.json", dungeon_file.to_json(made)),
    )
    _write(folder, files, replace=values.replace)
    spent = sum(step.key for step in made.certificate)
    matter, locks = locks_that_matter(made.graph)
    yield (
        f"{len(made.rooms)} rooms, {counted(values.keys, 'small key')}, {counted(locks, 'lock')} ({matter} of which "
        "cannot be avoided), in "
        f"{seconds:.2f} s; the rooms are drawn by {words or 'rules, not by a trained model'}"
    )
    yield (
        f"It can be finished: {counted(len(made.certificate), 'step')}, {counted(spent, 'key')} spent "
        f"(certificate.txt). Tiles repaired: {made.about['repaired_tiles']}."
    )
    yield f"Wrote {folder}: dungeon.json, level.txt, graph.dot, certificate.txt, map.png"
    yield f"Next: outlast play dungeon {shlex.quote(str(folder / 'dungeon.json'))}"


def _write(folder: Path, files: Sequence[tuple[str, str | bytes]], *, replace: bool) -> None:
    """Write the files of a dungeon; the last one has everything: where it is, the others are.

    Raises:
        outlast.DataError: there are other files of these names, or the system refused.
    """
    make_folder(folder)
    for name, data in files:
        path, own = folder / name, data.encode() if isinstance(data, str) else data
        if path.is_dir() and not path.is_symlink():
            raise outlast.DataError(f"{path} is a folder. Nothing was written. Give another folder with -o.")
        if not replace and (path.is_symlink() or path.exists()) and (path.is_symlink() or path.read_bytes() != own):
            raise outlast.DataError(
                f"{path} is there, and not of this dungeon. Nothing was written. Give another folder with -o, or "
                "--replace."
            )
    (folder / files[-1][0]).unlink(missing_ok=True)
    for name, data in files:
        dungeon_file.write_whole(folder / name, data)


def _sampler(values: Namespace) -> tuple[generate.Sampler, str]:
    """What draws the rooms, and the run and step of its weights; empty for rules."""
    if values.run is None:
        return PatternSampler(), ""
    from outlast_recipes.dungeon.saved import load_sampler, open_generator

    saved = open_generator(values.run, values.checkpoint_dir, values.step)
    return load_sampler(saved), f"{saved.run_id}, step {saved.step}"
