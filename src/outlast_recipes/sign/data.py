"""The data of a run: its files are packed into a clip store once, and cut into train, val and test."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import outlast
from outlast import Run
from outlast_recipes.common.buckets import LengthBuckets, padding
from outlast_recipes.common.clip_store import INDEX, ClipStore
from outlast_recipes.common.clips import RawFiles
from outlast_recipes.common.locking import exclusive
from outlast_recipes.common.preparing import SHARDS, prepare
from outlast_recipes.common.problems import Problems, counted
from outlast_recipes.common.splits import split_by_group, spread
from outlast_recipes.sign import clips, sources
from outlast_recipes.sign.augment import Strength
from outlast_recipes.sign.batch import SignData
from outlast_recipes.sign.clips import FORM, Clip, Entry, Store
from outlast_recipes.sign.config import SignConfig
from outlast_recipes.sign.generated import generated_data
from outlast_recipes.sign.labels import Names
from outlast_recipes.sign.loading import loader_options
from outlast_recipes.sign.parts import ClipSubset, Views, first

SHARE = 10  # one clip of so many is for validation, and one for the test, with --split random
_SHOWN = 5  # refused files that are named
_MANY, _SPARSE = 1000, 10  # labels may have gaps, but not nine of ten and more than a thousand


def load_data(config: SignConfig, *, run: Run | None = None) -> SignData:
    """The clips and labels that a config names.

    The store of a run's clips is beside its folder of runs and has the files' names, sizes and times in its own name,
    so it is made once. Without a run it is made in a temporary folder when there is none.

    Args:
        config: the values of a run.
        run: that is told what is done.

    Raises:
        outlast.ConfigError: no data are named, or no clips are left to train on.
        outlast.DataError: files and labels do not match, or no file can be read.
    """
    if config.data.smoke_test:
        return generated_data(config)
    found, problems = sources.sources_of(config), Problems()
    names = sources.names_of(config.data, found, problems)
    labelled = sources.read_sources(
        found, problems, glosses=config.data.num_gloss, categories=config.data.num_cat, names=names
    )
    problems.refuse(config.data_root or found["train"].folder, "sign")
    kind = sources.kind_of(config)
    key = config.data.feature_key if kind == "features" else config.data.kp_key
    raw = clips.raw_files(labelled.files, key, features=kind == "features")
    store, keep = _store(raw, config.checkpoint_dir, key, run)
    parts = split(store.entries, config)
    if config.debug:
        parts = {name: spread(numbers, 4 * config.batch_size) for name, numbers in parts.items()}
    subsets = {
        name: ClipSubset(
            store,
            numbers,
            frames=config.data.frames,
            aspect=config.data.aspect,
            normalise=config.data.normalise,
            keep=keep,
        )
        for name, numbers in parts.items()
    }
    train = subsets["train"]
    if not len(train):
        raise outlast.ConfigError(f"--split {config.data.split} leaves no clips to train on, of {len(store)}.")
    size = min(config.batch_size, len(train))
    order = LengthBuckets(train.lengths, size, config.seed)
    if run is not None:
        _tell(run, store, train, order, config.data.aspect)
    glosses = config.data.num_gloss or _count({*labelled.category_of, *names.glosses}, "gloss")
    categories = config.data.num_cat or _count({*labelled.category_of.values(), *names.categories}, "cat")
    return SignData(
        parts=subsets,
        loader=outlast.DataLoader(
            train, size, seed=config.seed, sampler=order, drop_last=True, collate_fn=first, **loader_options(config)
        ),
        view=Views(train, Strength(**config.augment.model_dump()), config.seed),
        glosses=tuple(names.glosses.get(number, f"gloss {number}") for number in range(glosses)),
        categories=tuple(names.categories.get(number, f"category {number}") for number in range(categories)),
        category_of=tuple(_category(number, labelled.category_of, names, categories) for number in range(glosses)),
        hash=store.hash,
    )


def _category(gloss: int, labelled: Mapping[int, int], names: Names, categories: int) -> int:
    """Category of a gloss by its clips, else by the table of names; -1 when neither says one of the categories."""
    found = labelled.get(gloss, names.category_of.get(gloss, -1))
    return found if found < categories else -1


def _count(labels: set[int], column: str) -> int:
    """One more than the largest label.

    Raises:
        outlast.DataError: nearly all labels up to the largest one are missing, so it is probably mistyped.
    """
    count = 1 + max(labels)
    if count > max(_MANY, _SPARSE * len(labels)):
        raise outlast.DataError(
            f"The largest label in the column {column} is {count - 1}, and there are {len(labels)} different ones, so "
            f"most of the network's outputs would never be right. Correct the label, or give --num-{column} {count}."
        )
    return count


def split(entries: Sequence[Entry], config: SignConfig) -> dict[str, list[int]]:
    """Numbers of the clips under "train", "val" and "test".

    Raises:
        outlast.ConfigError: signers are named that there are not, or none.
        outlast.DataError: a split by signer, and a clip without one.
    """
    data = config.data
    if data.split != "group" and (data.test_groups or data.validate_groups):
        raise outlast.ConfigError(f"Signers are given, and --split is {data.split}. Add --split group.")
    if data.split == "given":
        return {name: [n for n, each in enumerate(entries) if each.split == name] for name in sources.SPLITS}
    if data.split == "random":
        return _random(entries, config.seed)
    nobody = [entry.name for entry in entries if not entry.group]
    if nobody:
        raise outlast.DataError(
            f"--split group needs the signer of each clip, and {len(nobody)} have none, such as {nobody[0]}. Add the "
            "column group to the CSV."
        )
    known = {entry.group for entry in entries}
    if not data.test_groups or set(data.test_groups) - known:
        raise outlast.ConfigError(
            f"--data.test-groups is {','.join(data.test_groups) or 'empty'}; expected some of the signers "
            f"{','.join(sorted(known))}."
        )
    return split_by_group(
        entries,
        lambda entry: entry.group not in data.test_groups,
        lambda entry: entry.group,
        data.validate_groups or None,
        protocol="--split group",
        flag="--data.validate-groups",
        groups="signers",
    )


def _random(entries: Sequence[Entry], seed: int) -> dict[str, list[int]]:
    """A tenth of the clips of each gloss for validation and one for the test, by a hash of seed and name."""
    glosses: dict[int, list[int]] = {}
    for number, entry in enumerate(entries):
        glosses.setdefault(entry.label, []).append(number)
    parts: dict[str, list[int]] = {name: [] for name in sources.SPLITS}
    for numbers in glosses.values():
        mixed = sorted(numbers, key=lambda n: hashlib.blake2b(f"{seed}/{entries[n].name}".encode()).digest())
        share = round(len(mixed) / SHARE)
        parts["val"] += mixed[:share]
        parts["test"] += mixed[share : 2 * share]
        parts["train"] += mixed[2 * share :]
    return {name: sorted(numbers) for name, numbers in parts.items()}


def _store(raw: RawFiles[Clip], runs: Path, key: str, run: Run | None) -> tuple[Store, Any]:
    """The store of some files, and what must live as long as it."""
    place = runs.parent / "outlast-data" / f"sign-{_identity(raw, key)}"
    if (place / INDEX).is_file():
        with contextlib.suppress(outlast.DataError):  # a damaged one is made again
            return ClipStore(place, FORM), None
    if run is None:
        folder = tempfile.TemporaryDirectory(prefix="outlast-sign-")
        return prepare(raw, Path(folder.name) / "store", FORM, workers=1), folder
    are = "is" if len(raw.files) == 1 else "are"
    run.tell(f"{counted(len(raw.files), '.npz file')} {are} packed into {place}, once.")
    (place / SHARDS).mkdir(parents=True, exist_ok=True)
    with exclusive(place / SHARDS / "lock"):
        cores = outlast.detect("auto").limits.cores or 1
        return prepare(raw, place, FORM, workers=cores, replace=True), None


def _identity(raw: RawFiles[Clip], key: str) -> str:
    """Hash of the files' places, sizes and times, and of their labels."""
    read: Any = raw.read
    labels: Mapping[Path, tuple[str, Any]] = read.keywords["labels"]
    facts = []
    for path in raw.files:
        about = path.stat()
        split, label = labels[path]
        row = [split, label.gloss, label.category, label.occluded, label.group]
        facts.append([str(path.resolve()), about.st_size, about.st_mtime_ns, row])
    return hashlib.blake2b(json.dumps([raw.layout, key, facts]).encode(), digest_size=8).hexdigest()


def _tell(run: Run, store: Store, train: ClipSubset, order: LengthBuckets, aspect: float | None) -> None:
    """What the store holds, what was refused or resampled, and how much of the batches is padding."""
    run.tell(f"{store.folder}: {counted(len(store), 'clip')} ({store.layout})")
    silent = sum(not entry.aspect for entry in store.entries)
    if silent and aspect is None and store.layout == clips.KEYPOINTS:
        run.tell(
            f"The files of {silent:,} of {counted(len(store), 'clip')} do not say the aspect of the video (width and "
            "height in meta), and 16:9 is taken. --data.aspect sets another; `outlast data check sign` names each file "
            "whose meta cannot be read."
        )
    if store.refused:
        shown = "\n".join(f"  {each.why}" for each in store.refused[:_SHOWN])
        were, are = ("was", "is") if len(store.refused) == 1 else ("were", "are")
        run.tell(f"{counted(len(store.refused), 'file')} {were} refused and {are} not used:\n{shown}")
    long = [entry.length for entry in store.entries if entry.length > train.frames]
    if long:
        are = "is" if len(long) == 1 else "are"
        run.tell(
            f"{counted(len(long), 'clip')} {are} longer than {train.frames} frames (up to {max(long)}) and {are} "
            f"resampled to {train.frames}; --data.frames sets another limit."
        )
    lengths, size = train.lengths, order.batch_size
    random = padding(lengths, order_of(len(lengths), order.seed), size)
    run.tell(
        f"Batches of clips of similar length: {padding(lengths, order, size):.1%} of their frames are padding "
        f"({random:.1%} in random batches)."
    )


def order_of(count: int, seed: int) -> list[int]:
    """A random order of so many clips, to compare with."""
    return list(LengthBuckets([1] * count, max(1, count), seed))
