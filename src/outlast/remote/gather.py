"""Other places where a run may lie: folders that a platform attaches read-only, such as the output of an earlier Kaggle session.

What is found there is brought home before training: the checkpoints that verify, the journal, the config and the records of
the attempts, so that the run folder is whole again on this machine. It is copied into a temporary folder inside the run folder,
verified there, and gets its place by renames. Two histories of one run are never mixed: what does not continue the newest
checkpoint here stays where it is, and is told.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.checkpoint import Checkpoint, Identity, Store, open_checkpoint
from outlast.checkpoint.committed import SHARED
from outlast.errors import ANOTHER_NAME, CheckpointError, CorruptCheckpoint, OutlastError, SaveFailed, UsageError
from outlast.folder import durable, hashing, layout, plain, reading
from outlast.folder.attempt import read_record
from outlast.folder.hashing import Written
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.folder.records import CONFIG, RUN

_DEPTH = 6  # /kaggle/input/notebooks/OWNER/SLUG/working/runs/ID is as deep as it gets
_FOLDERS = 50_000  # that are looked into below each input: data sets may have any number
_TAIL = 64 * 2**20  # bytes of a journal behind the checkpoint's that are copied with it
_SAID = 3  # of equal complaints about one copy, the others are counted
_COMING = f"{layout.TEMPORARY}coming"


@dataclass
class Brought:
    """What became of the copies elsewhere.

    Attributes:
        told: sentences for the user.
        apart: the folders of copies that were not taken, because they are another history or another run.
    """

    told: list[str] = field(default_factory=list)
    apart: list[Path] = field(default_factory=list)


def others(run_id: str, inputs: Iterable[Path], told: list[str] | None = None) -> list[RunFolder]:
    """Folders below the inputs that hold this run, whatever the mount's layout.

    Args:
        run_id: its name.
        inputs: where to look. What lies directly in one may be a link, as mounts are; links below are not followed.
        told: takes a sentence when an input has more folders than are looked into.
    """
    found = []
    for root in inputs:
        here, complete = _holding(run_id, root)
        found += [RunFolder(path) for path in sorted(here, key=lambda path: (len(path.parts), path))]
        if not complete and told is not None:
            told.append(
                f"{root} has more than {_FOLDERS:,} folders, and only so many were searched for a copy of {run_id}; give the copy itself with "
                "--resume or resume_from if there is one."
            )
    return found


def _holding(run_id: str, root: Path) -> tuple[list[Path], bool]:
    """Folders of a name with a run.json, and whether all were looked into; those with many beside them come last."""
    found: list[Path] = []
    waiting, seen = [(0, 0, str(root))], set()
    for _ in range(_FOLDERS):
        if not waiting:
            return found, True
        crowd, depth, folder = heapq.heappop(waiting)
        try:
            state = os.stat(folder)  # noqa: PTH116
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as each:
                inside = [entry for entry in each if entry.is_dir(follow_symlinks=depth == 0)]
        except OSError:  # nobody may look there
            continue
        found += [
            Path(entry.path)
            for entry in inside
            if entry.name == run_id and plain.kind_of(Path(entry.path) / "run.json")
        ]
        if depth < _DEPTH:
            deeper = [entry.path for entry in inside if layout.step_in(entry.name) is None]
            for path in deeper:
                heapq.heappush(waiting, (crowd + len(deeper), depth + 1, path))
    return found, not waiting


def stored_config(folder: RunFolder, inputs: Iterable[Path]) -> dict[str, Any] | None:
    """The config that the run was last trained with, here or elsewhere; None for a new run.

    Raises:
        CorruptCheckpoint: the config.json here is none; or those elsewhere are none, and there is none here.
    """
    with contextlib.suppress(FileNotFoundError):
        return reading.read_record(folder.config, CONFIG)
    bad: OutlastError | None = None
    for place in others(folder.path.name, inputs):
        try:
            return reading.read_record(place.config, CONFIG)
        except FileNotFoundError:
            continue
        except OutlastError as error:
            bad = bad or error
    if bad:
        raise bad
    return None


def identify(folder: RunFolder) -> Identity:
    """What makes a checkpoint one of this run.

    A run that began under format 1 has no uid. It gets one that is the same wherever its folder was copied to before: from its name and
    the id of its first attempt.

    Raises:
        FileNotFoundError: there is no run.json.
        CorruptCheckpoint: it is none.
    """
    about = reading.read_record(folder.run, RUN)
    parent = about.get("parent", {}).get("digest")
    if "uid" in about:
        return Identity(about["uid"], parent, about.get("format_1_until", -1))
    first = next((read_record(folder, number).get("id") for number in folder.attempt_numbers()), None)
    uid = hashing.digest(f"{about['id']} {first}".encode()) if first else uuid.uuid4().hex
    return Identity(uid, parent, Store(folder).newest_step())


def know(folder: RunFolder, about: Mapping[str, Any]) -> Identity:
    """Write run.json of a new run, or give that of an older outlast the uid that checkpoints of this format name; returns who it is.

    Args:
        folder: the run folder.
        about: `recipe` and `grade` of a new run.
    """
    if not plain.kind_of(folder.run):
        durable.write_json(
            folder.run, {"format": layout.FORMAT, "id": folder.path.name, "uid": uuid.uuid4().hex, **about}
        )
        return identify(folder)
    identity, known = identify(folder), reading.read_record(folder.run, RUN)
    if "uid" not in known:
        new = {"format": layout.FORMAT, "uid": identity.uid, "format_1_until": identity.format_1_until}
        durable.write_json(folder.run, known | new)
    return identity


def bring_home(folder: RunFolder, inputs: Iterable[Path]) -> Brought:
    """Copy the run into its folder when an input holds a checkpoint that continues the newest one here; else only what its attempts say.

    Returns:
        Sentences for the user: what was taken from where, what was found damaged, and what was left alone and why.

    Raises:
        CorruptCheckpoint: the run.json here is none.
        SaveFailed: there is no room for the copy; what is here is as it was.
    """
    brought = Brought()
    elsewhere = others(folder.path.name, inputs, brought.told)
    if not elsewhere:
        return brought
    here = identify(folder) if plain.kind_of(folder.run) else None
    own = _newest_good(folder, here, None)
    looked = (_look(place, folder, here, own, brought) for place in elsewhere)
    found = [copy for copy in looked if copy]
    if not found:
        return brought
    best = max(found, key=lambda copy: copy.newest.step)
    for copy in found:
        if copy is not best and copy.newest.is_ancestor_of(best.newest) is False:
            _leave(brought, copy.place, _apart(copy.newest, best.newest))
    if own is None or best.newest.step > own.step:
        _take(best, folder, here, brought.told)
        brought.told.append(f"step {best.newest.step} comes from {best.place.path}")
    elif best.newest.step == own.step and _began_last(best.place) > _began_last(folder):
        # It saved nothing, and may yet have finished (its last step was saved before) or failed: that is news.
        with _coming_to(folder, "What was done there", best.place.path) as coming:
            _stage_attempts(best.place, folder, coming, brought.told)
            _stage_config(best.place, coming, brought.told)
        _give_places(coming, folder)
    return brought


@dataclass(frozen=True)
class _Copy:
    """A copy of the run elsewhere, with its newest checkpoint that verifies."""

    place: RunFolder
    newest: Checkpoint
    identity: Identity


def _look(
    place: RunFolder, folder: RunFolder, here: Identity | None, own: Checkpoint | None, brought: Brought
) -> _Copy | None:
    """What a place holds that may be taken; None when that is nothing, and a sentence when it is something that does not belong here."""
    try:
        identity = identify(place)
    except (OutlastError, FileNotFoundError) as error:
        brought.told.append(f"{error} What lies there is left alone.")
        return None
    if here and identity.uid != here.uid and (own or plain.entries(folder.checkpoints)):
        _leave(
            brought, place, f"{place.path} is another run of the same name than {folder.path}, and is left where it is."
        )
        return None
    newest = _newest_good(place, identity, brought.told)
    if newest is None or (own and newest.digest != own.digest and _is_behind(newest, own)):
        return None
    if own and own.is_ancestor_of(newest) is False:
        _leave(brought, place, _apart(newest, own))
        return None
    return _Copy(place, newest, identity)


def _is_behind(newest: Checkpoint, own: Checkpoint) -> bool:
    """Whether the newest one elsewhere has nothing that is not here; by their steps alone where the manifests say no more."""
    behind = newest.is_ancestor_of(own)
    return newest.step < own.step if behind is None else behind


def _apart(theirs: Checkpoint, ours: Checkpoint) -> str:
    return (
        f"The checkpoint at step {theirs.step} in {theirs.path.parents[1]} does not continue the one at step {ours.step} in "
        f"{ours.path.parents[1]}: two attempts went on from an older one. It was left where it is. To go on from it instead, begin a run from it under "
        f"{ANOTHER_NAME}: resume_from={str(theirs.path)!r} in open_run, or --resume {theirs.path}."
    )


def _leave(brought: Brought, place: RunFolder, sentence: str) -> None:
    brought.told.append(sentence)
    brought.apart.append(place.path)


def fork(source: RunFolder, checkpoint: Checkpoint, target: RunFolder) -> None:
    """Begin a run from a checkpoint of another one, unless it has begun so already.

    The new run has the checkpoint, the config and the journal up to it; it has no attempts yet and remembers its parent.

    Raises:
        UsageError: another run has that name.
        CorruptCheckpoint: the checkpoint does not verify, or the config is none.
        SaveFailed: there is no room for it; nothing of it is left.
        UnsafeFolder: a link stands where a file of the new run belongs.
    """
    parent = {"run": source.path.name, "step": checkpoint.step}
    if plain.kind_of(target.run) and Store(target).committed():
        known = reading.read_record(target.run, RUN).get("parent") or {}
        same = {"run": known.get("run"), "step": known.get("step")} == parent
        if not same or known.get("digest", checkpoint.digest) != checkpoint.digest:
            raise UsageError(
                f"{target.path} is another run already, not one that began from step {checkpoint.step} of {source.path.name}. Choose "
                f"{ANOTHER_NAME}, or leave resume_from or --resume out to continue it."
            )
        return
    identity = identify(source)
    target.check()
    with _coming_to(target, f"Step {checkpoint.step}", source.path) as coming:
        _copy_verified(checkpoint, coming, must=True)
        about = {
            **reading.read_record(source.run, RUN),
            "format": layout.FORMAT,
            "id": target.path.name,
            "uid": uuid.uuid4().hex,
            "parent": parent | {"uid": identity.uid, "digest": checkpoint.digest},
        }
        about.pop("format_1_until", None)
        durable.write_json(coming.run, about)
        _stage_config(source, coming, None)
        _stage_journal(source, coming, _remembered(coming, checkpoint.step))
    _give_places(coming, target)


def _began_last(place: RunFolder) -> str:
    """When the last attempt of a run began, as its record says; empty when it has none."""
    return max((str(read_record(place, number).get("started", "")) for number in place.attempt_numbers()), default="")


def _newest_good(place: RunFolder, identity: Identity | None, told: list[str] | None) -> Checkpoint | None:
    """The newest checkpoint of the run that verifies, None when there is none; with `told`, what is passed over is told."""
    store = Store(place)
    store.identity = identity
    passed: list[tuple[int, str]] = []
    good = None
    for checkpoint in store.newest_first(None if told is None else passed):
        try:
            good = open_checkpoint(checkpoint.path).checkpoint
            break
        except CorruptCheckpoint as error:
            passed.append((checkpoint.step, str(error)))
    rest = f"the newest good one there is step {good.step}." if good else f"no good one is in {place.path}."
    if told is not None:
        told += _complaints(passed, f"It is passed over; {rest}", place)
    return good


def _complaints(passed: Sequence[tuple[int, str]], then: str, place: RunFolder) -> list[str]:
    """A sentence about each of some checkpoints, and how many more there are."""
    said = [f"{complaint} {then}" for _, complaint in passed[:_SAID]]
    more = [str(step) for step, _ in passed[_SAID:]]
    names = ", ".join(more[:20]) + (", ..." if len(more) > 20 else "")
    return said + ([f"So it is with {len(more)} more in {place.path} (steps {names})."] if more else [])


@contextlib.contextmanager
def _coming_to(target: RunFolder, what: str, source: Path) -> Iterator[RunFolder]:
    """An empty folder inside the target in which all that comes is made ready. Only renames are left to be done after it.

    Raises:
        SaveFailed: there was no room, or another error of the system; nothing is left of it.
    """
    coming = RunFolder(target.path / _COMING)
    try:
        durable.remove_any(coming.path)
        durable.make_folder(coming.checkpoints)
        durable.make_folder(coming.attempts)
        yield coming
        for folder in (target.checkpoints, target.attempts, target.set_aside):
            durable.make_folder(folder)
        if plain.entries(coming.checkpoints / SHARED):
            durable.make_folder(target.checkpoints / SHARED)
    except BaseException as error:
        with contextlib.suppress(OSError):
            durable.remove_any(coming.path)
        if isinstance(error, OSError):
            raise SaveFailed(
                f"{what} could not be copied from {source} to {target.path}: {error.strerror or error}. What is here is as it was. Free disk space or check the "
                "folder's permissions, and start again."
            ) from error
        raise


def _take(copy: _Copy, target: RunFolder, here: Identity | None, told: list[str]) -> None:
    """Bring the newest checkpoint home, those of its history that verify (the platform kept what retention wanted), and what is beside them.

    Raises:
        SaveFailed: there is no room for it; what is here is as it was.
    """
    with _coming_to(target, f"Step {copy.newest.step}", copy.place.path) as coming:
        told += _stage_checkpoints(copy, target, coming)
        _stage_attempts(copy.place, target, coming, told)
        known = reading.read_record((target if here and here.uid == copy.identity.uid else copy.place).run, RUN)
        until = max(copy.identity.format_1_until, here.format_1_until if here else -1)
        about = known | {"format": layout.FORMAT, "id": target.path.name, "uid": copy.identity.uid}
        durable.write_json(coming.run, about | ({"format_1_until": until} if until >= 0 else {}))
        _stage_config(copy.place, coming, told)
        place = coming if plain.kind_of(coming.checkpoint(copy.newest.step)) else target
        complaint = _stage_journal(copy.place, coming, _remembered(place, copy.newest.step))
        if complaint and plain.kind_of(target.journal) == "file":
            durable.remove_any(coming.journal)
            told.append(
                f"{complaint} {target.journal} stays as it was, and has no lines of the steps that are missing."
            )
        elif complaint:
            told.append(f"{complaint} Its lines that can be read are kept.")
    _give_places(coming, target)


def _stage_checkpoints(copy: _Copy, target: RunFolder, coming: RunFolder) -> list[str]:
    """Copy what the newest continues, and itself; returns sentences about those that were left out."""
    store = Store(copy.place)
    store.identity = copy.identity
    passed: list[tuple[int, str]] = []
    for checkpoint in list(store.newest_first(passed)):
        must = checkpoint.digest == copy.newest.digest
        if checkpoint.is_ancestor_of(copy.newest) is False or _is_here(checkpoint, target):
            continue
        if checkpoint.step > copy.newest.step:
            continue
        if complaint := _copy_verified(checkpoint, coming, must=must):
            passed.append((checkpoint.step, complaint))
    home = Store(target)
    older = [(step, words) for step, words in passed if step < copy.newest.step and not home.exists(step)]
    return _complaints(sorted(older, reverse=True), "It was not copied.", copy.place)


def _remembered(place: RunFolder, step: int) -> Mapping[str, Any]:
    """What a verified checkpoint remembers of the journal: its length and hash."""
    mark: Mapping[str, Any] = open_checkpoint(place.checkpoint(step), parts=()).state["journal"]
    return mark


def _copy_verified(checkpoint: Checkpoint, coming: RunFolder, *, must: bool) -> str | None:
    """Copy a checkpoint and read the copy. One that does not verify leaves nothing; it is an error only if it must, else what is wrong is returned."""
    try:
        _copy_checkpoint(checkpoint, coming)
        open_checkpoint(coming.checkpoint(checkpoint.step))
    except CorruptCheckpoint as error:
        durable.remove_folder(coming.checkpoint(checkpoint.step))
        if must:
            raise
        return str(error)
    return None


def _is_here(checkpoint: Checkpoint, target: RunFolder) -> bool:
    """Whether this very checkpoint lies at home already, whole."""
    try:
        return open_checkpoint(target.checkpoint(checkpoint.step)).checkpoint.digest == checkpoint.digest
    except CheckpointError:
        return False


def _copy_checkpoint(checkpoint: Checkpoint, coming: RunFolder) -> None:
    """Copy exactly the files that the manifest names, of all ranks, each compared with it; raises CorruptCheckpoint."""
    place = coming.checkpoint(checkpoint.step)
    durable.make_folder(place)
    for name, entry in checkpoint.manifest["files"].items():
        expected = Written.from_json(entry)
        if "shared" not in entry:
            durable.copy_file(checkpoint.path / name, place / name, expected=expected, durable_name=False)
            continue
        durable.make_folder(coming.checkpoints / SHARED)
        for source in checkpoint.paths[name]:
            _copy_shared(source, checkpoint.paths[name], coming.checkpoints / SHARED / source.name, expected)
    durable.copy_file(checkpoint.path / MANIFEST, place / MANIFEST)


def _copy_shared(source: Path, copies: Sequence[Path], target: Path, expected: Written) -> None:
    """Copy one of two equal files; from the other one when it is damaged."""
    if plain.kind_of(target) == "file":
        return
    for each in (source, *copies):
        with contextlib.suppress(CorruptCheckpoint):
            durable.copy_file(each, target, expected=expected)
            return
    raise CorruptCheckpoint(f"{source} is damaged, and so is its copy.")


def _give_places(coming: RunFolder, target: RunFolder) -> None:
    """Move what was verified to where it belongs; a checkpoint that lies there is set aside and not deleted.

    The attempts come from the highest number down: none moves to a lower one, so each lies at its new place before its old one is
    taken. The checkpoints come last, oldest first: what the one here remembers of the journal is the beginning of the new one, too.
    """
    for path in reversed(plain.entries(coming.attempts)):
        durable.replace(path, target.attempts / path.name)
    for name in ("run", "config", "journal"):
        if plain.kind_of(getattr(coming, name)):
            durable.replace(getattr(coming, name), getattr(target, name))
    for path in plain.entries(coming.checkpoints / SHARED):
        durable.replace(path, target.checkpoints / SHARED / path.name)
    store = Store(target)
    for path in plain.entries(coming.checkpoints):
        if layout.step_of(path) is None:
            continue
        place = target.checkpoints / path.name
        if plain.kind_of(place / MANIFEST) and plain.kind_of(place) == "folder":
            store.set_aside(place)
        durable.remove_folder(place)
        durable.move(path, place)
    durable.remove_any(coming.path)


def _stage_config(source: RunFolder, coming: RunFolder, told: list[str] | None) -> None:
    """Copy the config when there is one; with `told`, a damaged one is told and not an error."""
    try:
        durable.write_json(coming.config, reading.read_record(source.config, CONFIG))
    except FileNotFoundError:
        return
    except OutlastError as error:
        if told is None:
            raise
        told.append(f"{error} It was not copied.")


def _stage_journal(source: RunFolder, coming: RunFolder, mark: Mapping[str, Any]) -> str | None:
    """Copy the journal; returns what is wrong when its beginning is not what a checkpoint remembers."""
    size = int(mark["bytes"])
    try:
        durable.copy_file(source.journal, coming.journal, most=size + _TAIL)
    except CorruptCheckpoint as error:
        return str(error) if size else None
    if coming.journal.stat().st_size >= size and hashing.hash_beginning(coming.journal, size) == mark["xxh3_128"]:
        return None
    return f"{source.journal} is not what its own checkpoint remembers of it: it was damaged after it was written, or is another run's."


def _stage_attempts(source: RunFolder, target: RunFolder, coming: RunFolder, told: list[str]) -> None:
    """Make ready both folders' attempts, in the order in which they began.

    Those here keep their order, and move to a higher number where one from there belongs before them.
    """
    ours = {number: read_record(target, number) for number in target.attempt_numbers()}
    last = {
        _key(record, number): number for number, record in ours.items()
    }  # a merge that was killed may have left one twice
    theirs = []
    for number in source.attempt_numbers():
        record = read_record(source, number)
        if "damaged" in record:
            told.append(f"{source.attempt(number)} is damaged and was not copied.")
        elif (known := last.get(_key(record, 0))) is None:
            theirs.append(record)
        elif _says_more(record, ours[known]):
            ours[known] = record
    merged: list[tuple[int, dict[str, Any]]] = []
    theirs.sort(key=lambda record: str(record.get("started", "")))
    for number in sorted(last.values()):
        while theirs and str(theirs[0].get("started", "")) < str(ours[number].get("started", "")):
            merged.append((0, theirs.pop(0)))
        merged.append((number, ours[number]))
    merged += [(0, record) for record in theirs]
    taken = 0
    for old, record in merged:
        taken = target.free_attempt(max(taken + 1, old))
        if "damaged" not in record:
            durable.write_json(coming.attempt(taken), {**record, "number": taken})
        elif taken != old:
            durable.copy_file(target.attempt(old), coming.attempt(taken))


def _key(record: Mapping[str, Any], number: int) -> object:
    """What makes two records those of one attempt."""
    if "damaged" in record:
        return number
    return record.get("id") or tuple(str(record.get(name)) for name in ("started", "host", "process"))


def _says_more(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether a copy of an attempt's record knows better how it ended; that it was lost is what others thought of it."""
    known = [("end" in record) + (record.get("end", {}).get("reason", "lost") != "lost") for record in (theirs, ours)]
    return bool(known[0] > known[1])
