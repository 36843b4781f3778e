"""Writes a clip store: first shards of a number of files each, then all of them merged under temporary names.

A shard is written whole or not at all, so a preparation that is cut off continues after the last one. The index appears
last.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import outlast
from outlast_recipes.common.clip_store import FORMAT, INDEX
from outlast_recipes.common.clips import C, ClipFormat, E, Floats, Mask, hash_points


class Shard(NamedTuple):
    """The clips of one shard: what the index says of each, and their arrays one after the other."""

    clips: list[dict[str, Any]]
    refused: list[dict[str, str]]
    arrays: dict[str, Any]


def write_shard(
    place: Path, clips: Sequence[C], refused: list[dict[str, str]], form: ClipFormat[C, E], layout: str
) -> None:
    """Write clips to one .npz file, under a temporary name until it is whole."""
    about = [form.facts(clip) | {"length": len(clip.mask), "hash": hash_points(clip.points)} for clip in clips]
    text = np.frombuffer(json.dumps({"clips": about, "refused": refused}).encode(), np.uint8)
    arrays: dict[str, Any] = {}
    if clips:
        arrays["mask"] = np.concatenate([clip.mask for clip in clips])
        arrays[form.points] = np.concatenate([clip.points[clip.mask] for clip in clips])
        arrays |= {name: np.stack([of(clip, layout) for clip in clips]) for name, of in form.fixed.items()}
    temporary = place.with_suffix(".tmp.npz")
    np.savez(temporary, about=text, **arrays)
    temporary.replace(place)


def read_shard(place: Path, form: ClipFormat[Any, Any]) -> Shard:
    """A shard that `write_shard` wrote; without arrays when it has no clips."""
    with np.load(place, allow_pickle=False) as shard:
        about = json.loads(shard["about"].tobytes())
        arrays = {name: shard[name] for name in form.arrays} if about["clips"] else {}
    return Shard(about["clips"], about["refused"], arrays)


def merge(
    places: Sequence[Path], folder: Path, form: ClipFormat[Any, E], layout: str, classes: Sequence[str] = ()
) -> None:
    """Merge shards into a store. An older store in the folder is replaced, its index last.

    Args:
        places: the shards.
        folder: folder of the store.
        form: format of the recipe's clips.
        layout: name of what the points are.
        classes: names of the classes, from the first; A001, A002 and so on when there are none.

    Raises:
        outlast.DataError: there are no clips, two have the same name, or there are fewer names of classes than classes.
    """
    clips, refused, shapes = _facts(places, form)
    names = _class_names(clips, refused, classes)
    points = np.lib.format.open_memmap(folder / f".{form.points}.npy", "w+", np.float32, shapes.points)
    masks = np.lib.format.open_memmap(folder / ".mask.npy", "w+", np.bool_, shapes.mask)
    fixed: dict[str, list[Floats]] = {name: [] for name in form.fixed}
    entries: list[E] = []
    row = frame = 0
    for shard in (read_shard(place, form) for place in places):
        if not shard.clips:
            continue
        mask, packed = shard.arrays["mask"], shard.arrays[form.points]
        points[row : row + len(packed)], masks[frame : frame + len(mask)] = packed, mask
        for name, arrays in fixed.items():
            arrays.append(shard.arrays[name])
        entries += _entries(shard.clips, mask, row, frame, form)
        row, frame = row + len(packed), frame + len(mask)
    points.flush()
    masks.flush()
    for name, arrays in fixed.items():
        np.save(folder / f".{name}.npy", np.concatenate(arrays), allow_pickle=False)
    rows: list[dict[str, Any]] = [asdict(entry) for entry in entries]  # type: ignore[call-overload]
    index = {
        "format": FORMAT,
        "layout": layout,
        "hash": hashlib.blake2b(json.dumps([rows, layout]).encode(), digest_size=16).hexdigest(),
        "classes": names,
        "clips": rows,
        "refused": refused,
    }
    (folder / f".{INDEX}").write_text(json.dumps(index))
    (folder / INDEX).unlink(missing_ok=True)
    for name in (*(f"{name}.npy" for name in form.arrays), INDEX):
        (folder / f".{name}").replace(folder / name)


class _Shapes(NamedTuple):
    points: tuple[int, ...]
    mask: tuple[int, ...]


def _facts(
    places: Sequence[Path], form: ClipFormat[Any, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, str]], _Shapes]:
    """The merged index of all shards, and the total shapes of points and masks."""
    clips: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    points, mask = [0], [0]
    for shard in (read_shard(place, form) for place in places):
        clips += shard.clips
        refused += shard.refused
        if shard.clips:
            packed, seen = shard.arrays[form.points].shape, shard.arrays["mask"].shape
            points, mask = [points[0] + packed[0], *packed[1:]], [mask[0] + seen[0], *seen[1:]]
    return clips, refused, _Shapes(tuple(points), tuple(mask))


def _class_names(clips: list[dict[str, Any]], refused: list[dict[str, str]], classes: Sequence[str]) -> list[str]:
    if not clips:
        first = f" The first: {refused[0]['why']}" if refused else ""
        raise outlast.DataError(f"None of the {len(refused)} files could be read.{first}")
    count = 1 + max(clip["label"] for clip in clips)
    names = list(classes) or [f"A{number + 1:03d}" for number in range(count)]
    if len(names) < count:
        raise outlast.DataError(
            f"{len(names)} class names were given, and there are clips of class {count}. Give a name for each class."
        )
    twice = [name for name, times in Counter(clip["name"] for clip in clips).items() if times > 1]
    if twice:
        raise outlast.DataError(
            f"{len(twice)} clips have the name of another clip, such as {twice[0]}. If the same archive was unpacked "
            "in two folders, keep one of them."
        )
    return names


def _entries(
    clips: Sequence[dict[str, Any]], mask: Mask, row: int, frame: int, form: ClipFormat[Any, E]
) -> Iterator[E]:
    """The entries of a shard, whose points begin at `row` of the store and its masks at `frame`."""
    seen = 0
    for each in clips:
        yield form.entry(**each, rows=row, frames=frame + seen)
        row += int(mask[seen : seen + each["length"]].sum())
        seen += each["length"]
