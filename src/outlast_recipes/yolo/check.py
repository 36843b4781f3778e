"""`outlast data check yolo`: everything that is wrong with a dataset, in one report."""

from __future__ import annotations

import hashlib
import os
import shlex
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import outlast
from outlast_recipes.common import problems as found_problems
from outlast_recipes.common.problems import Problems, counted
from outlast_recipes.yolo import corners
from outlast_recipes.yolo.data import Dataset, Sample
from outlast_recipes.yolo.duplicates import Fingerprint, copies_across, fingerprint
from outlast_recipes.yolo.images import ImageRefused, decode, quiet
from outlast_recipes.yolo.reading import read_with_problems, without_objects

_SHOWN = 10  # names in a sentence
_FEW = 10  # objects of a class, below which the report says so
_TURNED = 45.0  # degrees


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="folder with data.yaml or COCO JSON, or such a file")
    parser.add_argument(
        "--outside", action="store_true", help="read also files outside the folder, by a path or a link"
    )
    parser.add_argument(
        "--quick", action="store_true", help="skip checks of pixels: damaged images, and copies across splits"
    )
    found_problems.arguments(parser)


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    problems = Problems()
    dataset = read_with_problems(values.dataset, problems, outside=values.outside)
    for split in ("train", "val"):
        if not dataset.splits.get(split):
            problems.error("split", values.dataset, f"has no images for {split!r}; expected both train and val.")
    if problem := without_objects(dataset):
        problems.error("labels", values.dataset, problem)
    _check_names(dataset, problems)
    _check_labels(dataset, problems)
    yield from _summary(dataset)
    yield ""
    yield from _classes(dataset, problems)
    if dataset.keypoints == 4:
        yield from _angles(dataset, problems)
    yield ""
    if not values.quick:
        _check_pixels(dataset, problems, progress)
    yield from problems.report(every=values.all)
    errors, warnings = len(problems.errors), len(problems.warnings)
    if errors:
        raise outlast.DataError(
            f"{values.dataset} has {counted(errors, 'error')} and {counted(warnings, 'warning')}. Mend the errors, and "
            "check again: a training refuses them, but for copies in two splits, which make its figures too good."
        )
    quick = ", of what --quick checks" if values.quick else ""
    yield f"{values.dataset}: no errors and {counted(warnings, 'warning')}{quick}."
    yield f"Train on it: outlast train yolo --data-path {shlex.quote(str(values.dataset))}"


def _summary(dataset: Dataset) -> Iterator[str]:
    kind = {0: "boxes", 4: "boxes and four corners"}.get(dataset.keypoints, f"boxes and {dataset.keypoints} keypoints")
    yield f"{dataset.root}: {counted(len(dataset.names), 'class', 'classes')}, {kind}, hash {dataset.hash[:12]}"
    yield ""
    yield f"{'':30}{''.join(f'{split:>9}' for split in dataset.splits)}"
    rows: tuple[tuple[str, Callable[[tuple[Sample, ...]], int]], ...] = (
        ("images", len),
        ("  without objects", lambda samples: sum(not len(sample.boxes) for sample in samples)),
        ("  without a label file", lambda samples: sum(sample.source is None for sample in samples)),
        ("objects", lambda samples: sum(len(sample.boxes) for sample in samples)),
    )
    for title, count in rows:
        yield f"{title:30}{''.join(f'{count(samples):>9,}' for samples in dataset.splits.values())}"


def _classes(dataset: Dataset, problems: Problems) -> Iterator[str]:
    """Objects of each class by split, and the classes that a training cannot learn."""
    counts = {
        split: Counter(number for sample in samples for number in sample.classes.tolist())
        for split, samples in dataset.splits.items()
    }
    used = [number for number in range(len(dataset.names)) if any(found[number] for found in counts.values())]
    for number in used:
        yield f"  {dataset.names[number][:27]:28}{''.join(f'{found[number]:>9,}' for found in counts.values())}"
    unused = len(dataset.names) - len(used)
    if unused:
        yield f"  {counted(unused, 'class', 'classes')} without an object"
    trained = counts.get("train", Counter())
    missing = [dataset.names[number] for number in used if not trained[number]]
    if missing:
        problems.warning(
            "class-not-in-train",
            dataset.root,
            f"has no object in train of {', '.join(missing[:_SHOWN])}{', ...' if len(missing) > _SHOWN else ''}, which "
            "cannot be learned.",
        )
    few = [dataset.names[number] for number in used if 0 < trained[number] < _FEW]
    if few:
        yield f"Fewer than {_FEW} objects in train: {', '.join(few[:_SHOWN])}"
    if len(used) > 1 and trained:
        most, least = max(trained.values()), min(trained[number] for number in used if trained[number])
        yield f"The most frequent class of train has {most / least:.1f} times the objects of the rarest."


def _angles(dataset: Dataset, problems: Problems) -> Iterator[str]:
    """How the texts are rotated: a first corner that is not the text's shows as a rotation of 90 or 180 degrees."""
    found = [
        (abs(corners.angle(points)), sample, line)
        for samples in dataset.splits.values()
        for sample in samples
        if sample.keypoints is not None and sample.visible is not None
        for points, seen, line in zip(sample.keypoints, sample.visible, sample.lines, strict=True)
        if seen.all()
    ]
    if not found:
        return
    degrees = np.array([angle for angle, *_ in found])
    yield (
        f"Corners: {len(found)} quadrilaterals in reading order, rotated by {np.median(degrees):.0f} degrees in the "
        f"median, {degrees.max():.0f} at most."
    )
    for angle, sample, line in sorted(found, key=lambda each: -each[0]):
        if angle <= _TURNED:
            break
        problems.warning(
            "rotated",
            f"{sample.source}:{line}",
            f"the text is rotated by {angle:.0f} degrees, more than {_TURNED:.0f}. Where it is upright, the first "
            "corner of the label is not the upper left; correct its order.",
        )


def _check_names(dataset: Dataset, problems: Problems) -> None:
    """An image file that belongs to two splits."""
    first: dict[Path, str] = {}
    for split, samples in dataset.splits.items():
        for sample in samples:
            other = first.setdefault(sample.path.resolve(), split)
            if other != split:
                problems.error("copy", sample.path, f"is in {other!r} and in {split!r}; expected in one of them.")


def _check_labels(dataset: Dataset, problems: Problems) -> None:
    """Files of labels that are copies of each other: one of them is probably another image's."""
    known: dict[bytes, Sample] = {}
    for samples in dataset.splits.values():
        for sample in samples:
            if len(sample.boxes) < 2 or sample.source is None:
                continue
            shares = sample.boxes / np.array([sample.width, sample.height] * 2, np.float32)
            made = np.round(shares, 5).tobytes() + sample.classes.tobytes()
            other = known.setdefault(made, sample)
            if other is not sample:
                problems.warning(
                    "same-labels", sample.path, f"has the same {len(sample.boxes)} objects as {other.path}."
                )


@dataclass(frozen=True)
class _Looked:
    """What the pixels of an image say: the hash of its file, and its fingerprint; or why it cannot be decoded."""

    digest: bytes = b""
    print: Fingerprint | None = None
    wrong: str = ""


def _look(path: Path) -> _Looked:
    try:
        image = decode(path)
        return _Looked(hashlib.sha256(path.read_bytes()).digest(), fingerprint(image))
    except ImageRefused as error:
        return _Looked(wrong=f"{error}.")
    except OSError as error:
        return _Looked(wrong=f"cannot be read: {error.strerror}.")


def _check_pixels(dataset: Dataset, problems: Problems, progress: Callable[[int, int], None]) -> None:
    """Decode every image; find those that are copies of others."""
    paths = {split: [sample.path for sample in samples] for split, samples in dataset.splits.items()}
    total = sum(map(len, paths.values()))
    prints: dict[str, dict[Path, Fingerprint]] = {split: {} for split in paths}
    known: dict[bytes, tuple[str, Path]] = {}
    done = 0
    with quiet(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for split, own in paths.items():
            for path, looked in zip(own, pool.map(_look, own), strict=True):
                done += 1
                progress(done, total)
                if looked.print is None:
                    problems.error("image", path, looked.wrong)
                    continue
                other_split, other = known.setdefault(looked.digest, (split, path))
                if other == path:
                    prints[split][path] = looked.print
                elif other_split != split:
                    problems.error("copy", path, f"of {split!r} is the same file as {other} of {other_split!r}.")
                else:
                    problems.warning("repeated-image", path, f"is the same file as {other}.")
    for copy in copies_across(prints):
        if copy.first == copy.second:  # a file in two splits is an error already
            continue
        problems.warning(
            "near-copy",
            copy.second,
            f"shows the same as {copy.first}, which is in another split (agreement {copy.agreement:.2f}; 1 is equal).",
        )
