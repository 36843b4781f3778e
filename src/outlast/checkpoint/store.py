"""The store: commits checkpoints, verifies them, finds the newest good one, forgets the others.

It knows files and hashes. It does not know what a step means, nor any framework. A checkpoint is a folder:

    step-00001200/model.safetensors  optimizer.safetensors  rng.safetensors  state.json  MANIFEST.json
    shared/HASH.safetensors  HASH.copy.safetensors

With several ranks, each writes what rank 0 does not hold beside it (model.rank-0001.safetensors, state.rank-0001.json), and
rank 0 writes the one manifest when all of them are done.

Data first, then the manifest, then retention. Without a manifest the folder does not count. Arrays that training does not
change lie in `shared`, twice, and the manifests of several checkpoints refer to them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast import files
from outlast.checkpoint import memory, tensors
from outlast.checkpoint.policy import Kept, Retention
from outlast.checkpoint.snapshot import Committable, Snapshot
from outlast.errors import CheckpointError, CorruptCheckpoint, NoGoodCheckpoint, RankFailed, SaveFailed
from outlast.files import MANIFEST, STATE, TENSORS, RunFolder, Written
from outlast.ranks import Ranks
from outlast.state.array import Array, Block, Blocks

SHARED = "shared"
_COPY = ".copy"

SPARE = 16 * 2**20
"""Bytes that must stay free beside a checkpoint: journal, attempt record, lock."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: its folder and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.manifest["step"])

    @property
    def reason(self) -> str:
        """Why it was saved."""
        return str(self.manifest["reason"])

    @property
    def metrics(self) -> dict[str, float]:
        """Values logged at its step."""
        return {name: float(value) for name, value in self.manifest["metrics"].items()}

    @property
    def nbytes(self) -> int:
        """Size of its files in bytes."""
        return sum(int(entry["size"]) for entry in self.manifest["files"].values())

    @property
    def paths(self) -> dict[str, list[Path]]:
        """The places of each of its files: one, or two for a shared one."""
        return {name: _places(self.path, name, entry) for name, entry in self.manifest["files"].items()}

    @property
    def kept(self) -> Kept:
        """What retention may know about it."""
        return Kept(self.step, self.metrics)


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose files have been read and found to be what the manifest says.

    Attributes:
        checkpoint: which.
        state: the structure, as it was on this rank.
        parts: part name -> array name -> array, as they were on this rank; blocks that others wrote are read when they are asked for.
        borrowed: whether this rank was not there when it was written, and is given the state of another one.
    """

    checkpoint: Checkpoint
    state: dict[str, Any]
    parts: dict[str, dict[str, Array]]
    borrowed: bool = False


class Store:
    """The checkpoints of one run folder.

    Args:
        folder: the run folder.
        retention: what to keep after each commit.
        allowance: bytes that the run folders beside this one and itself may take in all; None when only the disk limits them.
        ranks: who writes a checkpoint together; `commit` and `open_newest` are called by all of them.

    Attributes:
        dropped: steps of the checkpoints that the retention policy wanted and the allowance had no room for, since somebody
            emptied this list.
    """

    def __init__(
        self,
        folder: RunFolder,
        retention: Retention | None = None,
        allowance: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder = folder
        self.dropped: list[int] = []
        self._ranks = ranks or Ranks()
        self.allowance = allowance
        self.retention = retention or Retention()

    # writing ---------------------------------------------------------------------------------------------------

    def commit(self, state: Committable, before: Callable[[], None] = lambda: None) -> Checkpoint:
        """Write a checkpoint, durably and all or nothing, then apply retention.

        Args:
            state: what to write; of several ranks, each gives its own.
            before: makes durable what the checkpoint refers to: the journal.

        Raises:
            SaveFailed: it did not reach the disk. Nothing of it is visible and no earlier checkpoint was touched.
        """
        step, ranks = state.snapshot.step, self._ranks
        target = self.folder.checkpoint(step)
        moment, existed = f"saving step {step}", ranks.main and self.exists(step)
        try:
            begun = time.monotonic()
            nbytes = sum(size for (size,) in ranks.exchange(moment, state.nbytes))
            here = ranks.together(moment, lambda: self._begin(step, nbytes, target, before))
            if ranks.exchange(moment, here)[0] == (True,):
                return read_manifest(target)
            entries = ranks.together(moment, lambda: self._write_data(state, target))
            manifest = self._seal(moment, state.snapshot, target, entries, begun)
        except OSError as error:
            self._discard(target, existed=existed)
            raise SaveFailed(
                f"The checkpoint at step {step} ({state.nbytes / 2**20:.1f} MiB) could not be written: "
                f"{error.strerror or error} ({target}). Earlier checkpoints are intact. Free disk space or check the folder's permissions."
            ) from error
        except RankFailed as error:
            self._discard(target, existed=existed)
            raise SaveFailed(
                f"The checkpoint at step {step} was not written, because another rank failed. Earlier checkpoints are intact. {error}"
            ) from error
        except SaveFailed:
            self._discard(target, existed=existed)
            raise
        checkpoint = Checkpoint(target, manifest)
        if ranks.main:
            with contextlib.suppress(OSError):  # it is committed; deleting is tried again with the next one
                self.forget(room=nbytes)
        return checkpoint

    def _begin(self, step: int, nbytes: int, target: Path, before: Callable[[], None]) -> bool:
        """Make the folder ready for all ranks; returns whether the checkpoint is there already."""
        before()
        if not self._ranks.main:
            return False
        self._check_space(step, nbytes)
        files.make_folder(self.folder.checkpoints)
        if self.exists(step):
            return True
        files.remove_folder(target)  # what a killed attempt may have left; it has no manifest
        files.make_folder(target)
        return False

    def _seal(
        self, moment: str, snapshot: Snapshot, target: Path, entries: Mapping[str, Any], begun: float
    ) -> Mapping[str, Any]:
        """Write the manifest when the files of all ranks are durable; returns it on every rank."""
        written: dict[str, Any] = {}
        for each in self._ranks.gather(moment, json.dumps(entries).encode()):
            written |= json.loads(each)
        manifest = _manifest(snapshot, written, time.monotonic() - begun, self._ranks.count)
        sealed = []

        def write() -> None:
            if self._ranks.main:
                files.write_json(target / MANIFEST, manifest)
                sealed.append(True)

        try:
            self._ranks.together(moment, write)
        except RankFailed:
            if not sealed:
                raise
            # It is committed, whoever has not lived to hear of it.
        return manifest

    def forget(self, room: int = 0) -> list[int]:
        """Delete what the retention policy no longer wants; returns the steps deleted. A failure to delete is no harm.

        Args:
            room: bytes that the next checkpoint will take. Where the platform's allowance has no place for it, older ones go
                that the policy would keep; the newest stays, and the best as long as it can.
        """
        committed = self.committed()
        removable = self.retention.removable([checkpoint.kept for checkpoint in committed])
        dropped = []
        if self.allowance is not None and room:
            dropped = self._over_allowance([c for c in committed if c.step not in removable], removable, room)
        removed = []
        for step in [*removable, *dropped]:
            try:
                files.remove_folder(self.folder.checkpoint(step))
            except OSError:
                continue  # what is left lies there until the next commit tries again
            removed.append(step)
        self.dropped += [step for step in dropped if step in removed]
        if removed:
            self._forget_shared()
        return removed

    def _over_allowance(self, kept: list[Checkpoint], removable: Sequence[int], room: int) -> list[int]:
        assert self.allowance is not None  # noqa: S101 - asked by the caller
        gone = sum(_folder_bytes(self.folder.checkpoint(step)) for step in removable)
        excess = _folder_bytes(self.folder.path.parent) - gone + room + SPARE - self.allowance
        best = self.retention.best_step([checkpoint.kept for checkpoint in kept])
        order = sorted(kept[:-1], key=lambda checkpoint: (checkpoint.step == best, checkpoint.step))
        dropped = []
        for checkpoint in order:
            if excess <= 0:
                break
            excess -= _folder_bytes(checkpoint.path)
            dropped.append(checkpoint.step)
        return dropped

    def _forget_shared(self) -> None:
        """Delete shared files that no manifest refers to. One that cannot be read may refer to any of them."""
        place = self.folder.checkpoints / SHARED
        if not place.is_dir():
            return
        used = set()
        for path in self._folders():
            if (path / MANIFEST).exists():
                try:
                    entries = read_manifest(path).manifest["files"].values()
                except CheckpointError:
                    return
                used |= {entry["shared"] for entry in entries if "shared" in entry}
        for path in sorted(place.iterdir()):
            if path.name.split(".")[0] not in used:
                files.remove_file(path)

    def sweep(self) -> None:
        """Delete what killed writers left: temporary files, and checkpoint folders without a manifest."""
        files.sweep_temporaries(self.folder.checkpoints)
        for path in self._folders():
            if not (path / MANIFEST).exists():
                files.remove_folder(path)
            else:
                files.sweep_temporaries(path)
        files.sweep_temporaries(self.folder.checkpoints / SHARED)
        self._forget_shared()

    # reading ---------------------------------------------------------------------------------------------------

    def committed(self) -> list[Checkpoint]:
        """Committed checkpoints with a readable manifest, ascending by step. Their data is not verified here."""
        found = []
        for path in self._folders():
            try:
                found.append(read_manifest(path))
            except CheckpointError:
                continue
        return found

    def newest_step(self) -> int:
        """Step of the newest committed checkpoint, 0 when there is none."""
        return max((checkpoint.step for checkpoint in self.committed()), default=0)

    def exists(self, step: int) -> bool:
        """Whether a checkpoint with a manifest stands at this step."""
        return (self.folder.checkpoint(step) / MANIFEST).exists()

    def open_newest(self) -> tuple[Opened | None, list[CorruptCheckpoint]]:
        """Open the newest checkpoint that verifies and set aside the damaged ones above it.

        Of several ranks, each reads what it needs, and a checkpoint is good when it is on all of them.

        Returns:
            The checkpoint, or None when there is none at all; and what was wrong with each that was set aside.

        Raises:
            NoGoodCheckpoint: there are checkpoints and none verifies; nothing was moved.
        """
        names = [path.name for path in reversed(self._folders()) if (path / MANIFEST).exists()]
        names = json.loads(self._ranks.from_main("opening the run", json.dumps(names).encode()))
        damaged: list[CorruptCheckpoint] = []
        for index, name in enumerate(names):
            complaint, opened = "", None
            try:
                opened = open_checkpoint(self.folder.checkpoints / name, mend=self._ranks.main, ranks=self._ranks)
            except CorruptCheckpoint as error:
                complaint = str(error)
            complaints = [each.decode() for each in self._ranks.gather("opening the run", complaint.encode()) if each]
            if complaints:
                damaged.append(CorruptCheckpoint(complaints[0]))
                continue
            for bad in names[:index] if self._ranks.main else ():
                self._set_aside(self.folder.checkpoints / bad)
            return opened, damaged
        if damaged:
            raise NoGoodCheckpoint(
                f"None of the {len(damaged)} checkpoints in {self.folder.checkpoints} verifies, so training does not start: "
                "going on would mean beginning again in silence.\n"
                + "\n".join(f"  {error}" for error in damaged)
                + "\nBring back an intact copy, or begin a new run under another name (--experiment-name)."
            )
        return None, []

    def _folders(self) -> Sequence[Path]:
        if not self.folder.checkpoints.is_dir():
            return []
        found = [
            path for path in self.folder.checkpoints.iterdir() if files.step_of(path) is not None and path.is_dir()
        ]
        return sorted(found, key=lambda path: files.step_of(path) or 0)

    def _set_aside(self, path: Path) -> None:
        files.make_folder(self.folder.set_aside)
        number = 1
        while (target := self.folder.set_aside / f"{path.name}-{number}").exists():
            number += 1
        files.move(path, target)

    def _check_space(self, step: int, nbytes: int) -> None:
        place = self.folder.path
        free, needed = shutil.disk_usage(place).free, nbytes + SPARE
        if self.allowance is not None:
            taken = _folder_bytes(place.parent)
            if taken + needed > self.allowance:
                raise SaveFailed(
                    f"The checkpoint at step {step} needs {needed / 2**20:.0f} MiB, and of the {self.allowance / 2**20:.0f} MiB that "
                    f"this platform keeps, {place.parent} has taken {taken / 2**20:.0f}. Nothing was written and earlier checkpoints are "
                    "intact. Keep fewer with --keep-last, or delete other runs."
                )
        if free < needed:
            raise SaveFailed(
                f"The checkpoint at step {step} needs {needed / 2**20:.0f} MiB and {place} has {free / 2**20:.0f} MiB "
                "free. Nothing was written and earlier checkpoints are intact. Free space, or keep fewer with --keep-last."
            )

    def _write_data(self, state: Committable, target: Path) -> dict[str, dict[str, Any]]:
        """Write all files of this rank but the manifest, durably; returns what the manifest says of them."""
        entries: dict[str, dict[str, Any]] = {}
        own: list[tuple[str, Iterable[files.Buffer], bool]] = []
        mark = "" if self._ranks.main else f".rank-{self._ranks.rank:04d}"
        for file in state.files():
            if file.shared:
                entries[f"{file.part}.{SHARED}{TENSORS}"] = self._write_shared(file.pieces, file.part)
            else:
                name = f"{file.part}{mark}{TENSORS}"
                own.append((name, file.pieces(), file.direct))
                entries[name] = {"part": file.part, "rank": self._ranks.rank} if mark else {}
        name = f"{Path(STATE).stem}{mark}{Path(STATE).suffix}"
        own.append((name, [files.as_json(state.snapshot.state)], False))
        entries[name] = {"rank": self._ranks.rank} if mark else {}
        for name, written in files.write_files(target, own).items():
            entries[name] |= written.as_json()
        files.sync_folder(target)
        return entries

    def _write_shared(self, pieces: Callable[[], Iterator[files.Buffer]], part: str) -> dict[str, Any]:
        """Write a file under the name of its contents, and a second copy; nothing when they are there already.

        Two, because a single damaged file would otherwise take every checkpoint with it.
        """
        expected = files.hash_pieces(pieces())
        place = self.folder.checkpoints / SHARED
        files.make_folder(place)
        entry = {**expected.as_json(), "part": part, "shared": expected.name}
        for path in _places(self.folder.checkpoints / "step", "", entry):
            if not (path.exists() and path.stat().st_size == expected.size):
                files.write_file(path, pieces(), durable_name=False, direct=True)
        files.sync_folder(place)
        return entry

    @property
    def cut_off(self) -> bool:
        """Whether another rank is gone, so that no commit will succeed any more."""
        return self._ranks.broken

    def _discard(self, target: Path, *, existed: bool) -> None:
        if existed or not self._ranks.main:
            return
        try:
            files.remove_folder(target)
        except OSError:
            return  # without a manifest it does not count; the next attempt sweeps it


def read_manifest(path: Path) -> Checkpoint:
    """Read and check the manifest of a checkpoint folder; the data files are not read.

    Raises:
        CorruptCheckpoint: there is no manifest, or it was damaged.
    """
    place = path / MANIFEST
    try:
        manifest = files.read_json(place)
    except OSError as error:
        raise CorruptCheckpoint(
            f"{place} cannot be read ({error.strerror}); without it there is no checkpoint."
        ) from error
    files.check_format(manifest, place)
    if manifest.get("digest") != _manifest_digest(manifest):
        raise CorruptCheckpoint(f"{place} was changed after it was written: its own digest does not match.")
    return Checkpoint(path, manifest)


def open_checkpoint(
    path: Path, parts: Collection[str] | None = None, *, mend: bool = False, ranks: Ranks | None = None
) -> Opened:
    """Read a checkpoint and verify every byte of it against the manifest.

    Args:
        path: its folder.
        parts: read the arrays of these parts only, and verify only them and the structure.
        mend: write a damaged copy of a shared file anew from the good one.
        ranks: as one of so many ranks. When that many wrote it, the arrays of other ranks are not read. None: read all, and return
            what rank 0 had.

    Raises:
        CorruptCheckpoint: names the file that is missing, of another length or of another hash.
    """
    checkpoint = read_manifest(path)
    count = int(checkpoint.manifest.get("ranks", 1))
    rank = ranks.rank % count if ranks else 0
    read_now = {0, rank} if ranks and ranks.count == count else set(range(count))

    @functools.cache
    def arrays_of(owner: int, part: str) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, entry in checkpoint.manifest["files"].items():
            if name.endswith(TENSORS) and (_part(name, entry), entry.get("rank", 0)) == (part, owner):
                place, data = _read(checkpoint.paths[name], Written.from_json(entry), mend=mend)
                found |= tensors.decode(data, place)
        return found

    states: dict[int, dict[str, Any]] = {}
    held: dict[int, dict[str, dict[str, Array]]] = {0: {}, rank: {}}
    for name, entry in checkpoint.manifest["files"].items():
        owner, part = entry.get("rank", 0), _part(name, entry)
        if not name.endswith(TENSORS):
            states[owner] = json.loads(bytes(_read(checkpoint.paths[name], Written.from_json(entry), mend=mend)[1]))
        elif owner in read_now and (parts is None or part in parts):
            held.setdefault(owner, {})[part] = arrays_of(owner, part)
    found = {part: held[0].get(part, {}) | held[rank].get(part, {}) for part in held[0] | held[rank]}
    for part, blocks in _blocks(states, arrays_of).items():
        if part in found:
            found[part] |= blocks
    state = states[0]
    if rank:
        state |= {"rng": states[rank]["rng"], "parts": state["parts"] | states[rank]["parts"]}
    return Opened(checkpoint, state, found, borrowed=bool(ranks and ranks.rank >= count))


def _part(name: str, entry: Mapping[str, Any]) -> str:
    return str(entry.get("part", name.removesuffix(TENSORS)))


def _blocks(
    states: Mapping[int, Mapping[str, Any]], arrays_of: Callable[[int, str], Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    """The arrays that ranks hold together, from what each says of its block."""
    forms: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for owner, state in states.items():
        for part, table in state.get("shards", {}).items():
            for name, form in table.items():
                forms.setdefault((part, name), []).append((owner, form))
    found: dict[str, dict[str, Array]] = {}
    for (part, name), each in forms.items():

        def block(owner: int, form: Mapping[str, Any], part: str = part, name: str = name) -> Block:
            return Block(tuple(form["at"]), tuple(form["shape"]), lambda: arrays_of(owner, part)[name])

        shape, dtype = tuple(each[0][1]["of"]), each[0][1]["dtype"]
        nbytes = math.prod(shape) * tensors.ITEM_BITS[dtype] // 8
        found.setdefault(part, {})[name] = Blocks(dtype, shape, [block(*one) for one in each], nbytes)
    return found


def verify(path: Path) -> Checkpoint:
    """Re-read and re-hash every file of a checkpoint; raises CorruptCheckpoint as `open_checkpoint` does."""
    return open_checkpoint(path).checkpoint


def _read(places: Sequence[Path], expected: Written, *, mend: bool) -> tuple[Path, memoryview]:
    """Read a file from the first of its places that verifies."""
    for number, place in enumerate(places):
        try:
            data = files.read_verified(place, expected, memory.allocate)
        except CorruptCheckpoint:
            if place == places[-1]:
                raise
            continue
        for bad in places[:number] if mend else ():
            with contextlib.suppress(OSError):  # an input that is read-only
                files.write_file(bad, [data])
        return place, data
    raise AssertionError  # there is always one place


def _places(folder: Path, name: str, entry: Mapping[str, Any]) -> list[Path]:
    if "shared" not in entry:
        return [folder / name]
    shared = folder.parent / SHARED
    return [shared / f"{entry['shared']}{ending}{TENSORS}" for ending in ("", _COPY)]


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another run's file that has just been renamed
            total += path.stat().st_size if path.is_file() else 0
    return total


def _manifest(snapshot: Snapshot, written: Mapping[str, Any], seconds: float, ranks: int) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "format": files.FORMAT,
        "step": snapshot.step,
        "reason": snapshot.reason,
        "ranks": ranks,
        "files": dict(written),
        "chunk": files.CHUNK,
        "metrics": {name: value for name, value in snapshot.metrics.items() if math.isfinite(value)},
        "software": dict(snapshot.software),
        "written": {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds, 4)},
    }
    manifest["digest"] = _manifest_digest(manifest)
    return manifest


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return files.digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
