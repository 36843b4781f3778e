"""`outlast data check skeleton`: the contents of a clip store by split and class, and its integrity."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import outlast
from outlast_recipes.common.clips import duplicates, hash_points
from outlast_recipes.skeleton import ntu
from outlast_recipes.skeleton.command_prepare import refused_lines, usual_split
from outlast_recipes.skeleton.splits import split
from outlast_recipes.skeleton.store import Store, open_store


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="folder of a clip store")
    parser.add_argument("--split", help="split: xsub, xview, xset, cameras, or subjects (default: by the data set)")
    parser.add_argument(
        "--train-subjects", metavar="N,N,...", default="", help="training subjects, with --split subjects"
    )
    parser.add_argument(
        "--validate-subjects", type=int, metavar="N", help="number of validation subjects (default: a tenth)"
    )
    parser.add_argument("--quick", action="store_true", help="skip the comparison of all positions with their hashes")


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    store = open_store(values.store)
    parts = _parts(values, store)
    yield f"{values.store}: {len(store)} clips of {len(store.classes)} classes, {store.layout}, hash {store.hash[:12]}"
    yield ""
    yield from _counts(store, parts)
    yield ""
    trained = {store.entries[number].label for number in parts["train"]}
    never = [name for label, name in enumerate(store.classes) if label not in trained]
    if never:
        yield f"warning: {len(never)} classes have no training clips: {', '.join(never[:5])}"
    yield from _missing(store)
    yield from refused_lines(store, len(store.refused))
    yield from _copies(store, parts)
    if not values.quick:
        yield from _hashes(store, progress)


def _parts(values: Namespace, store: Store) -> Mapping[str, list[int]]:
    words = [word.strip() for word in values.train_subjects.split(",") if word.strip()]
    if not all(word.isdigit() for word in words):
        raise outlast.ConfigError(
            f"--train-subjects is {values.train_subjects!r}; expected numbers, such as 1,3,5,7,9."
        )
    subjects = [int(word) for word in words]
    protocol = values.split or usual_split(store).partition(" ")[0]
    if protocol == "subjects" and not subjects and values.split is None:
        subjects = [1, 2, 3, 4, 5]
    return split(store.entries, protocol, train_subjects=subjects, validate=values.validate_subjects)


def _counts(store: Store, parts: Mapping[str, list[int]]) -> Iterable[str]:
    """A table of clips, frames, subjects and classes by part."""
    yield f"{'':32}{''.join(f'{name:>9}' for name in parts)}"
    for title, value in (
        ("clips", len),
        ("frames", lambda numbers: sum(store.entries[number].length for number in numbers)),
        ("subjects", lambda numbers: len({store.entries[number].subject for number in numbers})),
        ("with two bodies", lambda numbers: sum(store.entries[number].bodies > 1 for number in numbers)),
    ):
        yield f"{title:32}{''.join(f'{value(numbers):>9,}' for numbers in parts.values())}"
    counts = {name: Counter(store.entries[number].label for number in numbers) for name, numbers in parts.items()}
    for label, name in enumerate(store.classes):
        yield f"  {name[:29]:30}{''.join(f'{found[label]:>9}' for found in counts.values())}"


def _copies(store: Store, parts: Mapping[str, list[int]]) -> Iterable[str]:
    found = duplicates(store.entries, parts)
    if found:
        yield (
            f"warning: {len(found)} test clips are copies of training clips, such as {found[0][1]} of {found[0][0]}; "
            "`outlast evaluate` also reports without them"
        )
    else:
        yield "No test clip is a copy of a training clip."
    validated = duplicates(store.entries, parts, ("train",), "val")
    if validated:
        yield (
            f"warning: {len(validated)} validation clips are copies of training clips, such as {validated[0][1]} of "
            f"{validated[0][0]}"
        )


def _missing(store: Store) -> Iterable[str]:
    inside = [entry.name for entry in store.entries if entry.name in ntu.missing()]
    if inside:
        yield f"warning: {len(inside)} clips are on NTU's list of missing skeletons, such as {inside[0]}"


def _hashes(store: Store, progress: Callable[[int, int], None]) -> Iterable[str]:
    wrong = []
    for number, entry in enumerate(store.entries):
        joints, _ = store[number]
        if hash_points(joints) != entry.hash:
            wrong.append(entry.name)
        progress(number + 1, len(store))
    yield from (f"error: {name}: its positions do not match their hash" for name in wrong)
    if wrong:
        raise outlast.DataError(
            f"{store.folder} is damaged: the positions of {len(wrong)} clips do not match their hashes, such as "
            f"{wrong[0]}. Prepare it again, with --replace."
        )
    yield f"The positions of all {len(store)} clips match their hashes."
