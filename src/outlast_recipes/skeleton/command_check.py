"""`outlast data check skeleton`: the contents of a clip store by split and class, and its integrity."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import outlast
from outlast_recipes.common import problems as found_problems
from outlast_recipes.common.clips import duplicates, hash_points
from outlast_recipes.common.problems import Problems, counted
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
    found_problems.arguments(parser)


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    store = open_store(values.store)
    parts = _parts(values, store)
    yield f"{values.store}: {len(store)} clips of {len(store.classes)} classes, {store.layout}, hash {store.hash[:12]}"
    yield ""
    yield from _counts(store, parts)
    yield ""
    problems = Problems()
    trained = {store.entries[number].label for number in parts["train"]}
    for label, name in enumerate(store.classes):
        if label not in trained:
            problems.warning("class", name, "this class has no training clips.")
    for entry in store.entries:
        if entry.name in ntu.missing():
            problems.warning("missing", entry.name, "it is on NTU's list of missing skeletons.")
    yield from refused_lines(store, len(store.refused))
    yield from _copies(store, parts, problems)
    if not values.quick:
        _check_hashes(store, problems, progress)
    yield from problems.report(every=values.all)
    if problems.errors:
        raise outlast.DataError(
            f"{store.folder} is damaged: the positions of {counted(len(problems.errors), 'clip')} do not match their "
            "hashes. Prepare it again, with --replace."
        )
    if not values.quick:
        yield f"The positions of all {len(store)} clips match their hashes."
    yield f"{values.store}: no errors, {counted(len(problems.warnings), 'warning')}."


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


def _copies(store: Store, parts: Mapping[str, list[int]], problems: Problems) -> Iterable[str]:
    found = duplicates(store.entries, parts)
    for first, second in found:
        problems.warning("copy", second, f"this test clip is a copy of {first}, which is seen in training.")
    for first, second in duplicates(store.entries, parts, ("train",), "val"):
        problems.warning("copy-in-validation", second, f"this validation clip is a copy of the training clip {first}.")
    yield (
        "`outlast evaluate` also reports without the test clips that are copies."
        if found
        else "No test clip is a copy of a training clip."
    )


def _check_hashes(store: Store, problems: Problems, progress: Callable[[int, int], None]) -> None:
    for number, entry in enumerate(store.entries):
        joints, _ = store[number]
        if hash_points(joints) != entry.hash:
            problems.error("hash", entry.name, "its positions do not match their hash.")
        progress(number + 1, len(store))
