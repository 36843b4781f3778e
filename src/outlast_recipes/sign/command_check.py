"""`outlast data check sign`: every file and every row of a dataset that is wrong, with its reason."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import outlast
from outlast_recipes.common import problems as found_problems
from outlast_recipes.common.problems import Problems, counted
from outlast_recipes.sign import labels, npz, sources
from outlast_recipes.sign.labels import Names
from outlast_recipes.sign.sources import Source

KINDS = ("keypoints", "features")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of .npz files, or of keypoints_train, train_labels.csv, ...")
    parser.add_argument("--require-x2048", action="store_true", help="refuse files without features in X2048")
    parser.add_argument("--kp-key", default="X", metavar="KEY", help="array of the keypoints (default: X)")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="labels of a folder of .npz files")
    parser.add_argument("--num-gloss", type=int, metavar="N", help="number of glosses, which labels must be below")
    parser.add_argument("--num-cat", type=int, metavar="N", help="number of categories, which labels must be below")
    found_problems.arguments(parser)


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    root: Path = values.folder
    if not root.is_dir():
        raise outlast.DataError(f"{root} is not a folder; expected a folder of .npz files.")
    problems, splits = Problems(), _splits(root, values.labels)
    if splits:
        yield from _check_labels(values, splits, problems)
    else:
        yield f"{root}: its labels are not checked; --labels CSV checks them."
        for path in sorted(root.glob("*/**/*.npz")):
            problems.error("nested file", path, f"lies in a folder inside {root}; expected the files directly in it.")
    folders = [source.folder for source in splits.values()] or [root]
    files = [path for folder in folders for path in sorted(folder.glob("*.npz"))]
    if not files and not splits:
        problems.error("folder", root, "holds no .npz files.")
    yield from _check_files(values, files, problems, progress)
    yield from problems.report(every=values.all)
    errors, warnings = counted(len(problems.errors), "error"), counted(len(problems.warnings), "warning")
    if problems.errors:
        raise outlast.DataError(f"{root} has {errors} and {warnings}.")
    yield f"{root}: no errors, {warnings}."
    if splits and values.labels is None:
        model = "" if any(name.startswith("keypoints") for name in splits) else " --model iv3_gru"
        yield f"Train on it: outlast train sign{model} --data-root {shlex.quote(str(root))}"


def _check_labels(values: Namespace, splits: Mapping[str, Source], problems: Problems) -> Iterator[str]:
    """Compare labels with files; yields what each split has."""
    for kind in KINDS:
        own = {name: source for name, source in splits.items() if name.startswith(kind)}
        if own and values.labels is None:
            for split in ("train", "val"):
                if f"{kind}_{split}" not in own:
                    problems.warning("split", values.folder, f"has no {kind}_{split}.")
        found = sources.read_sources(
            own, problems, glosses=values.num_gloss, categories=values.num_cat, names=_names(own, problems)
        )
        yield from _counts(found.files)


def _names(splits: Mapping[str, Source], problems: Problems) -> Names | None:
    """The names of glosses and categories beside the labels, as a training takes them."""
    tables = [source.labels for name, source in splits.items() if name.endswith("train")]
    tables += [source.labels for source in splits.values()]
    return sources.names_beside(tables[0], problems) if tables else None


def _check_files(
    values: Namespace, files: Sequence[Path], problems: Problems, progress: Callable[[int, int], None]
) -> Iterator[str]:
    """Read every file; yields how many hold what."""
    holds: Counter[str] = Counter()
    for number, path in enumerate(files):
        try:
            found = npz.check(path, key=values.kp_key, require_x2048=values.require_x2048)
            holds[found.kinds] += 1
            if found.fault:
                problems.warning("meta", path, f"{found.fault}. The clip is read as 16:9.")
        except outlast.DataError as error:
            problems.error("file", path, str(error).removeprefix(str(path)).lstrip(": "))
        progress(number + 1, len(files))
    for what, count in sorted(holds.items()):
        yield f"{counted(count, 'file')} {'holds' if count == 1 else 'hold'} {what}."


def _splits(root: Path, table: Path | None) -> dict[str, Source]:
    """KIND_SPLIT -> source; none for a folder of .npz files without labels."""
    if table is not None:
        return {"keypoints": Source(root, table)}
    return {f"{kind}_{name}": source for kind in KINDS for name, source in sources.sources_in(root, kind).items()}


def _counts(files: Mapping[str, Mapping[Path, labels.Label]]) -> Iterator[str]:
    """A line for each split: clips, glosses, categories, occluded clips, signers."""
    for name, rows in files.items():
        found = rows.values()
        glosses, categories = {row.gloss for row in found}, {row.category for row in found}
        signers = {row.group for row in found} - {""}
        yield (
            f"{name}: {counted(len(found), 'clip')} of {counted(len(glosses), 'gloss', 'glosses')} in "
            f"{counted(len(categories), 'category', 'categories')}, {sum(row.occluded for row in found):,} occluded"
            f"{', ' + counted(len(signers), 'signer') if signers else ''}"
        )
