"""Clips as one memory-mapped store: what text takes seconds to parse is read in microseconds, in any order, by any number of workers.

    STORE/index.json      format, layout, classes, and for each clip its name, label, subject, camera, set-up, place, length and hash; what was refused
    STORE/joints.npy      (N, V, 3) float32: the positions of all bodies that were seen, clip after clip, frame after frame
    STORE/mask.npy        (F, M) bool: which bodies were seen in which frame of which clip
    STORE/bones.npy       (clips, M, V) float32: mean length of the bone that ends in each joint; 0 where there is none

Only what was seen is stored, without loss: absent second bodies, which most clips have, take no space. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import shlex
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import outlast
from outlast_recipes.skeleton.bodies import BODIES, Clip, Floats
from outlast_recipes.skeleton.layouts import LAYOUTS

FORMAT = 1
SHARD = 200  # files that one worker reads before it writes them down, so that a cut-off preparation goes on there

# What a store's folder holds; under these names with a dot before them while it is being made.
OWN = frozenset(("index.json", "joints.npy", "mask.npy", "bones.npy", "shards"))

Reader = Callable[[Path], Clip | list[Clip]]


@dataclass(frozen=True)
class Entry:
    """A clip without its positions. `rows`, `frames`: where it begins in joints.npy and in mask.npy."""

    name: str
    label: int
    subject: int
    camera: int
    setup: int
    bodies: int
    length: int
    rows: int
    frames: int
    hash: str


@dataclass(frozen=True)
class Refused:
    """A file that is left out, and why."""

    name: str
    why: str


class Store:
    """A prepared data set; cheap to open and to hand to workers.

    Args:
        folder: of the store.

    Attributes:
        entries: the clips, by name.
        refused: what was left out.
        layout: name of the joints' layout.
        classes: names of the classes.
        bones: (clips, M, V) mean lengths in metres of the bones that end in each joint; 0 where there is none.
        hash: of all positions, labels and the layout; equal for equal data, whoever prepared it.

    Raises:
        outlast.DataError: it is not a whole store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = json.loads((folder / "index.json").read_bytes())
            self._joints: Floats = np.load(folder / "joints.npy", mmap_mode="r", allow_pickle=False)
            self._mask: NDArray[np.bool_] = np.load(folder / "mask.npy", mmap_mode="r", allow_pickle=False)
            self.bones: Floats = np.load(folder / "bones.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise outlast.DataError(
                f"{folder} is a damaged store of skeletons ({error}). Prepare it anew, with --replace."
                if (folder / "index.json").exists()
                else f"{folder} is not a prepared store of skeletons ({error}). Make one with: outlast data prepare skeleton"
            ) from error
        if index.get("format") != FORMAT:
            raise outlast.DataError(
                f"{folder} has format {index.get('format')}; this version reads {FORMAT}. Prepare it anew."
            )
        self.layout: str = index["layout"]
        self.hash: str = index["hash"]
        self.classes: list[str] = index["classes"]
        self.entries = [Entry(**each) for each in index["clips"]]
        self.refused = [Refused(**each) for each in index["refused"]]
        whole = len(self.bones) == len(self.entries) and len(self._mask) == sum(entry.length for entry in self.entries)
        if not whole:
            raise outlast.DataError(f"{folder} is not whole: its parts do not fit together. Prepare it anew.")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Positions (T, M, V, 3) in metres, and mask (T, M), of one clip."""
        entry = self.entries[number]
        mask = np.array(self._mask[entry.frames : entry.frames + entry.length])
        joints = np.zeros((*mask.shape, *self._joints.shape[1:]), np.float32)
        joints[mask] = self._joints[entry.rows : entry.rows + int(mask.sum())]
        return joints, mask


def find_store(root: Path) -> Path:
    """The store in a folder: the folder itself, or the only one a few levels below it, as Kaggle attaches data sets below /kaggle/input.

    Raises:
        outlast.DataError: there is none, or several.
    """
    if (root / "index.json").is_file():
        return root
    levels = ("/".join(["*"] * depth) for depth in range(1, 5))
    found = [
        path.parent
        for level in levels
        for path in root.glob(f"{level}/index.json")
        if (path.parent / "joints.npy").is_file()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise outlast.DataError(
            f"{root} holds {len(found)} prepared stores: {', '.join(map(str, sorted(found)))}. Give one of them."
        )
    raw = next(itertools.chain(*(root.glob(f"{level}*.skeleton") for level in ("", "*/", "*/*/"))), None)
    what = (
        f"holds files such as {raw.relative_to(root)}, which are no store yet"
        if raw
        else "is not a prepared store of skeletons"
    )
    raise outlast.DataError(
        f"{root} {what}. Make one with: outlast data prepare skeleton {shlex.quote(str(root)) if raw else 'FOLDER'} --to STORE"
    )


def prepare(
    files: Sequence[Path],
    read: Reader,
    folder: Path,
    *,
    layout: str,
    classes: Sequence[str] = (),
    workers: int | None = None,
    replace: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Store:
    """Read files into a store. What a cut-off call has read is not read again; the store appears whole or not at all.

    Args:
        files: of one data set.
        read: turns a file into a clip or several; raises outlast.DataError on what it refuses.
        folder: of the store.
        layout: name of the joints' layout.
        classes: names of the classes, from the first; A001, A002 and so on when there are none.
        workers: processes; as many as there are cores by default.
        replace: an older store in the folder.
        progress: hears how many files of how many are read.

    Raises:
        outlast.DataError: no file could be read, the folder holds something else or an older store, or cannot be written.
    """
    _refuse_to_overwrite(folder, replace=replace)
    shards = _shards(files, folder, layout)
    ordered, places = list(shards.values()), list(shards)
    total = sum(map(len, ordered))
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise outlast.DataError(f"{folder} cannot be made ({error.strerror}); give another place to --to.") from error
    done = 0
    with ProcessPoolExecutor(workers or len(os.sched_getaffinity(0)), initializer=_end_with_parent) as pool:
        for count in pool.map(_read_shard, ordered, places, [read] * len(shards), [layout] * len(shards)):
            done += count
            progress(done, total)
    _join(places, folder, layout, classes)
    shutil.rmtree(folder / "shards")
    return Store(folder)


def unread(files: Sequence[Path], folder: Path, layout: str) -> list[Path]:
    """The files that `prepare` would still read: all but those that a cut-off call has read."""
    return [path for place, shard in _shards(files, folder, layout).items() if not place.exists() for path in shard]


def _refuse_to_overwrite(folder: Path, *, replace: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise outlast.DataError(f"{folder} is a file; a store is a folder: give another name to --to.")
    others = sorted({path.name for path in folder.iterdir()} - OWN - {f".{name}" for name in OWN})
    if (folder / "joints.npy").exists() and not any((folder / name).exists() for name in ("index.json", "shards")):
        others.append("joints.npy")  # somebody's own
    if others:
        raise outlast.DataError(
            f"{folder} holds {others[0]}, which no store made; it stays as it is. Give a new folder to --to."
        )
    if (folder / "index.json").exists() and not replace:
        raise outlast.DataError(
            f"{folder} is a prepared store already; it stays as it is. Give a new folder to --to, or --replace to make this one anew."
        )


def _shards(files: Sequence[Path], folder: Path, layout: str) -> dict[Path, list[Path]]:
    """Where what is read is kept until all is read, and of which files."""
    ordered = sorted(files, key=lambda path: path.name)
    shards = [ordered[start : start + SHARD] for start in range(0, len(ordered), SHARD)]
    return {folder / "shards" / f"{_identity(shard, layout)}.npz": shard for shard in shards}


def _end_with_parent() -> None:
    """In a worker: end when the process that began it is gone, were it killed; nobody else would tell a worker that waits for work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _identity(shard: Sequence[Path], layout: str) -> str:
    """Of what a shard is made from: names, sizes and times of its files; a link to nowhere has none, and is refused when it is read."""
    facts = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else (path.name, 0, 0)
        for path in shard
    ]
    return hashlib.blake2b(json.dumps([FORMAT, layout, facts]).encode(), digest_size=12).hexdigest()


def write(clips: Sequence[Clip], folder: Path, *, layout: str, classes: Sequence[str] = ()) -> Store:
    """A store of clips that are in memory already; see `prepare` for files."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    place = folder / "shards" / "all.npz"
    _write_shard(place, clips, [], layout)
    _join([place], folder, layout, classes)
    shutil.rmtree(folder / "shards")
    return Store(folder)


def _read_shard(shard: Sequence[Path], place: Path, read: Reader, layout: str) -> int:
    if not place.exists():
        clips: list[Clip] = []
        refused: list[dict[str, str]] = []
        for path in shard:
            try:
                found = read(path)
            except outlast.DataError as error:
                refused.append({"name": path.name, "why": str(error)})
                continue
            clips += found if isinstance(found, list) else [found]
        _write_shard(place, clips, refused, layout)
    return len(shard)


def bone_lengths(clip: Clip, parents: Sequence[int]) -> Floats:
    """(M, V) metres: mean over the frames in which a body was seen, 0 for bodies that never were."""
    lengths = np.linalg.norm(clip.joints - clip.joints[:, :, list(parents)], axis=-1)
    seen = np.maximum(clip.mask.sum(axis=0), 1)[:, None]
    return np.float32((lengths * clip.mask[..., None]).sum(axis=0) / seen)


def _write_shard(place: Path, clips: Sequence[Clip], refused: list[dict[str, str]], layout: str) -> None:
    about = [
        {
            "name": clip.name,
            "label": clip.label,
            "subject": clip.subject,
            "camera": clip.camera,
            "setup": clip.setup,
            "bodies": int(clip.mask.any(axis=0).sum()),
            "length": len(clip.mask),
            "hash": clip.hash,
        }
        for clip in clips
    ]
    text = np.frombuffer(json.dumps({"clips": about, "refused": refused}).encode(), np.uint8)
    masks = [clip.mask for clip in clips] or [np.zeros((0, BODIES), bool)]
    joints = [clip.joints[clip.mask] for clip in clips] or [np.zeros((0, 0, 3), np.float32)]
    parents = LAYOUTS[layout].parents
    bones = np.array([bone_lengths(clip, parents) for clip in clips], np.float32).reshape(-1, BODIES, len(parents))
    temporary = place.with_suffix(".tmp.npz")
    np.savez(temporary, about=text, mask=np.concatenate(masks), joints=np.concatenate(joints), bones=bones)
    temporary.replace(place)


def _join(places: Sequence[Path], folder: Path, layout: str, classes: Sequence[str]) -> None:
    """Put the shards together, under temporary names until all is well; an older store there is replaced, the index last."""
    clips: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    shapes = []
    for place in places:
        with np.load(place, allow_pickle=False) as shard:
            about = json.loads(shard["about"].tobytes())
            shapes.append((shard["joints"].shape, len(shard["mask"])))
        clips += about["clips"]
        refused += about["refused"]
    if not clips:
        first = f" The first: {refused[0]['why']}" if refused else ""
        raise outlast.DataError(f"None of the {len(refused)} files could be read.{first}")
    count = 1 + max(clip["label"] for clip in clips)
    names = list(classes) or [f"A{number + 1:03d}" for number in range(count)]
    if len(names) < count:
        raise outlast.DataError(f"{len(names)} names of classes were given, and there are clips of class {count}.")
    twice = [name for name, times in Counter(clip["name"] for clip in clips).items() if times > 1]
    if twice:
        raise outlast.DataError(
            f"{len(twice)} names of clips are there twice, such as {twice[0]}: is the same archive unpacked in two folders? Keep one of them."
        )
    joints = next(shape[1] for shape, _ in shapes if shape[1])
    rows, frames = sum(shape[0] for shape, _ in shapes), sum(count for _, count in shapes)
    all_joints = np.lib.format.open_memmap(folder / ".joints.npy", "w+", np.float32, (rows, joints, 3))
    all_masks = np.lib.format.open_memmap(folder / ".mask.npy", "w+", np.bool_, (frames, BODIES))
    row = frame = 0
    entries: list[Entry] = []
    bones: list[Floats] = []
    for place in places:
        with np.load(place, allow_pickle=False) as shard:
            mask, positions = shard["mask"], shard["joints"]
            bones.append(shard["bones"])
            about = json.loads(shard["about"].tobytes())["clips"]
        if not about:
            continue
        all_joints[row : row + len(positions)], all_masks[frame : frame + len(mask)] = positions, mask
        seen = 0
        for each in about:
            entries.append(Entry(**each, rows=row, frames=frame + seen))
            row += int(mask[seen : seen + each["length"]].sum())
            seen += each["length"]
        frame += seen
    all_joints.flush()
    all_masks.flush()
    np.save(folder / ".bones.npy", np.concatenate(bones), allow_pickle=False)
    clip_facts = [asdict(entry) for entry in entries]
    whole = hashlib.blake2b(json.dumps([clip_facts, layout]).encode(), digest_size=16).hexdigest()
    index = {
        "format": FORMAT,
        "layout": layout,
        "hash": whole,
        "classes": names,
        "clips": clip_facts,
        "refused": refused,
    }
    (folder / ".index.json").write_text(json.dumps(index))
    (folder / "index.json").unlink(missing_ok=True)
    for name in ("joints.npy", "mask.npy", "bones.npy", "index.json"):
        (folder / f".{name}").replace(folder / name)


def stands_twice(
    entries: Sequence[Entry],
    parts: Mapping[str, list[int]],
    before: Sequence[str] = ("train", "val"),
    after: str = "test",
) -> list[tuple[str, str]]:
    """Pairs of names of equal positions, one in one of the parts `before` and one in the part `after`."""
    known = {entries[number].hash: entries[number].name for part in before for number in parts[part]}
    found = ((known.get(entries[number].hash), entries[number].name) for number in parts[after])
    return [(first, second) for first, second in found if first is not None]
