"""Other places where a run may lie: folders that a platform attaches read-only, such as the output of an earlier Kaggle session.

What is found there is brought home before training: the checkpoints that verify, the journal, the config and the records of
the attempts, so that the run folder is whole again on this machine. It is copied into a temporary folder inside the run folder,
verified there, and gets its place by renames. Two histories of one run are never mixed: what does not continue the newest
checkpoint here stays where it is, and is told.
"""

from __future__ import annotations

import contextlib
import glob
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast import files
from outlast.attempt import read_record
from outlast.checkpoint import Checkpoint, Identity, Store, open_checkpoint
from outlast.checkpoint.committed import SHARED
from outlast.errors import CheckpointError, CorruptCheckpoint, OutlastError, SaveFailed, UsageError
from outlast.files import MANIFEST, RunFolder, Written
from outlast.records import CONFIG, RUN

_DEPTH = 6  # /kaggle/input/notebooks/OWNER/SLUG/working/runs/ID is as deep as it gets
_COMING = f"{files.TEMPORARY}coming"


@dataclass
class Brought:
    """What became of the copies elsewhere.

    Attributes:
        told: sentences for the user.
        apart: the folders of copies that were not taken, because they are another history or another run.
    """

    told: list[str] = field(default_factory=list)
    apart: list[Path] = field(default_factory=list)


def others(run_id: str, inputs: Iterable[Path]) -> list[RunFolder]:
    """Folders below the inputs that hold this run, whatever the mount's layout."""
    found = []
    for root in inputs:
        for depth in range(_DEPTH + 1):
            pattern = "*/" * depth + f"{glob.escape(run_id)}/run.json"
            found += [RunFolder(path.parent) for path in sorted(root.glob(pattern))]
    return found


def stored_config(folder: RunFolder, inputs: Iterable[Path]) -> dict[str, Any] | None:
    """The config that the run was last trained with, here or elsewhere; None for a new run.

    Raises:
        CorruptCheckpoint: a config.json is none.
    """
    for place in (folder, *others(folder.path.name, inputs)):
        with contextlib.suppress(FileNotFoundError):
            return files.read_record(place.config, CONFIG)
    return None


def identify(folder: RunFolder) -> Identity:
    """What makes a checkpoint one of this run.

    A run that began under format 1 has no uid. It gets one that is the same wherever its folder was copied to before: from its name and
    the id of its first attempt.

    Raises:
        FileNotFoundError: there is no run.json.
        CorruptCheckpoint: it is none.
    """
    about = files.read_record(folder.run, RUN)
    parent = about.get("parent", {}).get("digest")
    if "uid" in about:
        return Identity(about["uid"], parent, about.get("format_1_until", -1))
    first = next((read_record(folder, number).get("id") for number in folder.attempt_numbers()), None)
    uid = files.digest(f"{about['id']} {first}".encode()) if first else uuid.uuid4().hex
    return Identity(uid, parent, Store(folder).newest_step())


def know(folder: RunFolder, about: Mapping[str, Any]) -> Identity:
    """Write run.json of a new run, or give that of an older outlast the uid that checkpoints of this format name; returns who it is.

    Args:
        folder: the run folder.
        about: `recipe` and `grade` of a new run.
    """
    if not files.kind_of(folder.run):
        files.write_json(folder.run, {"format": files.FORMAT, "id": folder.path.name, "uid": uuid.uuid4().hex, **about})
        return identify(folder)
    identity, known = identify(folder), files.read_record(folder.run, RUN)
    if "uid" not in known:
        new = {"format": files.FORMAT, "uid": identity.uid, "format_1_until": identity.format_1_until}
        files.write_json(folder.run, known | new)
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
    elsewhere = others(folder.path.name, inputs)
    if not elsewhere:
        return brought
    here = identify(folder) if files.kind_of(folder.run) else None
    own = _newest_good(folder, here, [])
    looked = (_look(place, folder, here, own, brought) for place in elsewhere)
    found = [copy for copy in looked if copy]
    if not found:
        return brought
    best = max(found, key=lambda copy: copy.newest.step)
    for copy in found:
        if copy is not best and copy.newest.is_ancestor_of(best.newest) is False:
            _leave(brought, copy.place, _apart(copy.newest, best.newest))
    if own is None or best.newest.step > own.step:
        _take(best, folder, here)
        brought.told.append(f"step {best.newest.step} comes from {best.place.path}")
    elif best.newest.step == own.step and _began_last(best.place) > _began_last(folder):
        # It saved nothing, and may yet have finished (its last step was saved before) or failed: that is news.
        _merge_attempts(best.place, folder)
        _copy_config(best.place, folder)
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
    except OutlastError as error:
        brought.told.append(f"{error} What lies there is left alone.")
        return None
    if here and identity.uid != here.uid and (own or files.entries(folder.checkpoints)):
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
    """Whether the newest one elsewhere has nothing that is not here; by their steps alone where format 1 says no more."""
    behind = newest.is_ancestor_of(own)
    return newest.step < own.step if behind is None and own.is_ancestor_of(newest) is None else bool(behind)


def _apart(theirs: Checkpoint, ours: Checkpoint) -> str:
    return (
        f"The checkpoint at step {theirs.step} in {theirs.path.parents[1]} does not continue the one at step {ours.step} in "
        f"{ours.path.parents[1]}: two attempts went on from an older one. It was left where it is. To go on from it instead, begin a run from it: "
        f"--resume {theirs.path} --experiment-name NEW-NAME."
    )


def _leave(brought: Brought, place: RunFolder, sentence: str) -> None:
    brought.told.append(sentence)
    brought.apart.append(place.path)


def fork(source: RunFolder, checkpoint: Checkpoint, target: RunFolder) -> None:
    """Begin a run from a checkpoint of another one, unless it has begun so already.

    The new run has the checkpoint, the config and the journal up to it; it has no attempts yet and remembers its parent.

    Raises:
        UsageError: another run has that name.
        CorruptCheckpoint: the checkpoint does not verify.
        UnsafeFolder: a link stands where a file of the new run belongs.
    """
    parent = {"run": source.path.name, "step": checkpoint.step}
    if files.kind_of(target.run) and Store(target).committed():
        known = files.read_record(target.run, RUN).get("parent") or {}
        same = {"run": known.get("run"), "step": known.get("step")} == parent
        if not same or known.get("digest", checkpoint.digest) != checkpoint.digest:
            raise UsageError(
                f"{target.path} is another run already, not one that began from step {checkpoint.step} of {source.path.name}. Choose another "
                "--experiment-name, or leave --resume out to continue it."
            )
        return
    identity = identify(source)
    files.make_folder(target.path)
    target.check()
    coming = RunFolder(target.path / _COMING)
    _begin_copy(coming)
    _copy_verified(checkpoint, coming, must=True)
    about = {
        **files.read_record(source.run, RUN),
        "format": files.FORMAT,
        "id": target.path.name,
        "uid": uuid.uuid4().hex,
        "parent": parent | {"uid": identity.uid, "digest": checkpoint.digest},
    }
    about.pop("format_1_until", None)
    files.write_json(target.run, about)
    _copy_config(source, target)
    _copy_journal(source, target)
    _give_places(coming, target)


def _began_last(place: RunFolder) -> str:
    """When the last attempt of a run began, as its record says; empty when it has none."""
    return max((str(read_record(place, number).get("started", "")) for number in place.attempt_numbers()), default="")


def _newest_good(place: RunFolder, identity: Identity | None, told: list[str]) -> Checkpoint | None:
    """The newest checkpoint of the run that verifies, None when there is none; what is damaged is told."""
    store = Store(place)
    store.identity = identity
    for checkpoint in store.newest_first():
        try:
            return open_checkpoint(checkpoint.path).checkpoint
        except CorruptCheckpoint as error:
            told.append(f"{error} An older checkpoint is used.")
    return None


def _committed(place: RunFolder, identity: Identity | None) -> Sequence[Checkpoint]:
    store = Store(place)
    store.identity = identity
    return store.committed()


def _take(copy: _Copy, target: RunFolder, here: Identity | None) -> None:
    """Bring the newest checkpoint home, those of its history that verify (the platform kept what retention wanted), and what is beside them.

    Raises:
        SaveFailed: there is no room for it; what is here is as it was.
    """
    coming = RunFolder(target.path / _COMING)
    try:
        _begin_copy(coming)
        for checkpoint in _committed(copy.place, copy.identity):
            if checkpoint.is_ancestor_of(copy.newest) is not False and not _is_here(checkpoint, target):
                _copy_verified(checkpoint, coming, must=checkpoint.digest == copy.newest.digest)
    except OSError as error:
        with contextlib.suppress(OSError):
            files.remove_any(coming.path)
        raise SaveFailed(
            f"Step {copy.newest.step} could not be copied from {copy.place.path} to {target.path}: {error.strerror or error}. What is here is "
            "as it was. Free disk space or check the folder's permissions, and start again."
        ) from error
    _merge_attempts(copy.place, target)
    known = files.read_record((target if here and here.uid == copy.identity.uid else copy.place).run, RUN)
    until = max(copy.identity.format_1_until, here.format_1_until if here else -1)
    about = known | {"format": files.FORMAT, "id": target.path.name, "uid": copy.identity.uid}
    files.write_json(target.run, about | ({"format_1_until": until} if until >= 0 else {}))
    _copy_config(copy.place, target)
    # The checkpoints come last, and what the one here remembers of the journal is the beginning of the new one too.
    _copy_journal(copy.place, target)
    _give_places(coming, target)


def _copy_verified(checkpoint: Checkpoint, coming: RunFolder, *, must: bool) -> None:
    """Copy a checkpoint and read the copy; one that does not verify leaves nothing, and is an error only if it must."""
    try:
        _copy_checkpoint(checkpoint, coming)
        open_checkpoint(coming.checkpoint(checkpoint.step))
    except CorruptCheckpoint:
        files.remove_folder(coming.checkpoint(checkpoint.step))
        if must:
            raise


def _is_here(checkpoint: Checkpoint, target: RunFolder) -> bool:
    """Whether this very checkpoint lies at home already, whole."""
    try:
        return open_checkpoint(target.checkpoint(checkpoint.step)).checkpoint.digest == checkpoint.digest
    except CheckpointError:
        return False


def _begin_copy(coming: RunFolder) -> None:
    """Make an empty folder inside the target, where what comes is verified first."""
    files.remove_any(coming.path)
    files.make_folder(coming.checkpoints)


def _copy_checkpoint(checkpoint: Checkpoint, coming: RunFolder) -> None:
    """Copy exactly the files that the manifest names, of all ranks, each compared with it; raises CorruptCheckpoint."""
    place = coming.checkpoint(checkpoint.step)
    files.make_folder(place)
    for name, entry in checkpoint.manifest["files"].items():
        expected = Written.from_json(entry)
        if "shared" not in entry:
            files.copy_file(checkpoint.path / name, place / name, expected=expected, durable_name=False)
            continue
        files.make_folder(coming.checkpoints / SHARED)
        for source in checkpoint.paths[name]:
            _copy_shared(source, checkpoint.paths[name], coming.checkpoints / SHARED / source.name, expected)
    files.copy_file(checkpoint.path / MANIFEST, place / MANIFEST)


def _copy_shared(source: Path, copies: Sequence[Path], target: Path, expected: Written) -> None:
    """Copy one of two equal files; from the other one when it is damaged."""
    if files.kind_of(target) == "file":
        return
    for each in (source, *copies):
        with contextlib.suppress(CorruptCheckpoint):
            files.copy_file(each, target, expected=expected)
            return
    raise CorruptCheckpoint(f"{source} is damaged, and so is its copy.")


def _give_places(coming: RunFolder, target: RunFolder) -> None:
    """Move what was verified to where it belongs, oldest first; what lies there is set aside and not deleted."""
    for path in files.entries(coming.checkpoints / SHARED):
        files.make_folder(target.checkpoints / SHARED)
        files.replace(path, target.checkpoints / SHARED / path.name)
    store = Store(target)
    for path in files.entries(coming.checkpoints):
        if files.step_of(path) is None:
            continue
        place = target.checkpoints / path.name
        files.make_folder(target.checkpoints)
        if files.kind_of(place / MANIFEST) and files.kind_of(place) == "folder":
            store.set_aside(place)
        files.remove_folder(place)
        files.move(path, place)
    files.remove_any(coming.path)


def _copy_config(source: RunFolder, target: RunFolder) -> None:
    with contextlib.suppress(FileNotFoundError):
        files.write_json(target.config, files.read_record(source.config, CONFIG))


def _copy_journal(source: RunFolder, target: RunFolder) -> None:
    if files.kind_of(source.journal) == "file":
        files.copy_file(source.journal, target.journal)


def _merge_attempts(source: RunFolder, target: RunFolder) -> None:
    """Both folders' attempts in the order in which they began, numbered anew where two have one number."""
    records = {}
    for place in (target, source):
        for number in place.attempt_numbers():
            record = read_record(place, number)
            records[record.get("started", ""), record.get("id", f"{place.path}{number}")] = record
    files.make_folder(target.attempts)
    for number, (_, record) in enumerate(sorted(records.items(), key=lambda item: item[0]), start=1):
        files.write_json(target.attempt(number), {**record, "number": number})
