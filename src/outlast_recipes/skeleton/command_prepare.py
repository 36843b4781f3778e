"""`outlast data prepare skeleton`: writes a clip store from a folder of files."""

from __future__ import annotations

import shlex
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import outlast
from outlast_recipes.common import preparing
from outlast_recipes.common.plain_file import read_plain
from outlast_recipes.skeleton import formats, ntu
from outlast_recipes.skeleton.bodies import LARGEST
from outlast_recipes.skeleton.layouts import KINECT_2
from outlast_recipes.skeleton.store import FORM, Store

NTU_120 = 114_480  # clips
SHOWN = 20  # refused files that are named
SESSION = 2  # cores of the smallest session that a forecast is made for


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of the raw files, at any depth")
    parser.add_argument("--to", type=Path, required=True, metavar="STORE", help="folder of the new clip store")
    parser.add_argument(
        "--format", choices=formats.NAMES, default="auto", help="format of the files (default: auto, by their names)"
    )
    parser.add_argument(
        "--class-names",
        metavar="FILE",
        help='file with one line per class, or "ntu" for the published names (default: A001, A002, ...)',
    )
    parser.add_argument("--keep-missing", action="store_true", help="also read the 535 clips of NTU's list")
    parser.add_argument("--workers", type=int, metavar="N", help="number of processes (default: one per core)")
    parser.add_argument("--replace", action="store_true", help="replace an existing clip store")


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    raw = formats.find(values.folder, values.format)
    if values.class_names:
        names = _ntu_names(raw.files) if values.class_names == "ntu" else _lines(Path(values.class_names))
        raw = replace(raw, classes=names)
    complete = raw if values.keep_missing else formats.without_missing(raw)
    if left_out := len(raw.files) - len(complete.files):
        yield f"{left_out} files on NTU's list of missing skeletons were skipped (--keep-missing reads them)."
    if values.workers is not None and values.workers < 1:
        raise outlast.ConfigError(f"--workers is {values.workers}; expected at least 1.")
    workers = values.workers or outlast.detect("auto").limits.cores or 1
    now = preparing.unread(complete, values.to)
    nbytes = sum(path.stat().st_size for path in now if path.exists())
    begin = time.perf_counter()
    store = preparing.prepare(complete, values.to, FORM, workers=workers, replace=values.replace, progress=progress)
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in values.to.iterdir())
    yield f"{values.to}: {len(store)} clips of {len(store.classes)} classes ({store.layout}), {size / 1e6:.1f} MB"
    if already := len(complete.files) - len(now):
        yield f"{already} files were read by an earlier call."
    if now:
        processes = min(workers, -(-len(now) // preparing.SHARD))
        yield (
            f"Read {len(now)} files with {processes} {'process' if processes == 1 else 'processes'} in {seconds:.1f} "
            f"s: {nbytes / 1e6 / seconds:.1f} MB/s of text, {len(now) / seconds:.0f} files/s"
        )
    yield from refused_lines(store)
    if store.layout == KINECT_2.name and now:
        hours = NTU_120 / (len(now) / seconds) * processes / SESSION / 3600
        yield (
            f"At this rate the {NTU_120:,} clips of NTU RGB+D 120 take {hours:.2f} h on {SESSION} cores and "
            f"{NTU_120 * size / len(store) / 1e9:.1f} GB."
        )
    yield f"Look at it with: outlast data check skeleton {shlex.quote(str(values.to))} --split {usual_split(store)}"


def _ntu_names(files: Sequence[Path]) -> list[str]:
    """Published names, 60 when no file shows a later action and else 120."""
    names = [path.name.removesuffix(".skeleton") for path in files if path.suffix == ".skeleton"]
    if not names:
        raise outlast.ConfigError(
            "--class-names ntu is for .skeleton files of NTU RGB+D, and these files belong to another data set. Give "
            "a file with one name per line, or leave it out."
        )
    return ntu.actions()[: 120 if any(name[-3:] > "060" for name in names if name[-3:].isdigit()) else 60]


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in read_plain(path, LARGEST).decode("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise outlast.DataError(
            f"{path} cannot be read ({error}). Expected a text file with one class name per line."
        ) from error


def refused_lines(store: Store, shown: int = SHOWN) -> Iterable[str]:
    """The refused files of a store, the first of them with their reasons."""
    if store.refused:
        yield f"{len(store.refused)} files were refused:"
    yield from (f"  {each.why}" for each in store.refused[:shown])
    if len(store.refused) > shown:
        yield f"  and {len(store.refused) - shown} more, all listed in {store.folder / 'index.json'}"


def usual_split(store: Store) -> str:
    """The usual split of a data set, as it is given after --split."""
    if store.layout == KINECT_2.name:
        return "xsub"
    return "cameras" if any(entry.camera for entry in store.entries) else "subjects --train-subjects 1,2,3,4,5"
