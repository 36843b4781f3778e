"""Copies a run from other places into its run folder.

Of all places that hold a copy of it, the newest checkpoint is taken that verifies and continues the one here.

With it come the checkpoints that it continues, the journal, the config and the records of the attempts, so that the run
folder is whole again on this machine. Two histories of one run are never mixed: what does not continue the newest
checkpoint here stays where it is, and is reported. A checkpoint elsewhere is read once: it is verified while it is
copied, and the copy is read again before anything moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outlast.checkpoint import Checkpoint, CheckpointStore, Identity, verify
from outlast.errors import (
    ANOTHER_NAME,
    CheckpointError,
    CorruptCheckpoint,
    ObjectMissing,
    OutlastError,
    RemoteUnavailable,
)
from outlast.folder import durable, layout, plain
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import RUN
from outlast.remote.attached import copies_of
from outlast.remote.identity import identify
from outlast.remote.incoming import Incoming
from outlast.remote.merge import stage_attempts
from outlast.remote.place import Place
from outlast.remote.revision import PushedRun

_SAID = 3  # of equal complaints about one copy, the others are counted


@dataclass
class GatherResult:
    """The result of gathering copies.

    Attributes:
        told: sentences for the user.
        rejected: addresses of the copies that were not taken, because they are another history or another run.
    """

    told: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


class _Copy:
    """A copy of the run elsewhere.

    Attributes:
        newest: its newest checkpoint that has not been found damaged so far, None when it has none.
        verified: whether that one was read whole.
    """

    def __init__(self, place: Place, identity: Identity) -> None:
        self.place, self.identity, self.verified = place, identity, False
        self._passed: list[tuple[int, str]] = []
        self._rest = place.newest_first(identity, self._passed)
        self.newest: Checkpoint | None = next(self._rest, None)

    def pass_over(self, complaint: str) -> None:
        """The newest one does not verify: the one before it is the newest now."""
        if self.newest:
            self._passed.append((self.newest.step, complaint))
        self.newest = next(self._rest, None)

    def complaints(self) -> list[str]:
        """Sentences about the checkpoints above the newest."""
        if self.newest is None:
            rest = f"{self.place.address()} holds no valid checkpoint."
        else:
            rest = (
                f"the newest {'valid' if self.verified else 'readable'} checkpoint of that copy is at step "
                f"{self.newest.step}."
            )
        passed = [each for each in self._passed if self.newest is None or each[0] > self.newest.step]
        return _sentences(passed, f"It is skipped; {rest}", self.place)

    def stage(self, incoming: Incoming) -> list[str]:
        """Make the newest ready, and those that it continues; returns sentences about those that were left out.

        Raises:
            CorruptCheckpoint: the newest does not verify.
        """
        newest, target = self.newest, incoming.target
        assert newest is not None  # noqa: S101 - asked by the caller
        incoming.checkpoint(newest)
        self.verified = True
        for checkpoint in self._rest:
            if checkpoint.is_ancestor_of(newest) is False or _is_present(checkpoint, target):
                continue
            try:
                incoming.checkpoint(checkpoint)
            except CorruptCheckpoint as error:
                self._passed.append((checkpoint.step, str(error)))
        home = CheckpointStore(target)
        older = [(step, words) for step, words in self._passed if step < newest.step and not home.exists(step)]
        return _sentences(sorted(older, reverse=True), "It was not copied.", self.place)


def bring_home(folder: RunFolder, inputs: Iterable[Path], remotes: Iterable[PushedRun] = ()) -> GatherResult:
    """Copy the run into its folder when a place holds a checkpoint that continues the newest one here.

    Else only what its attempts say is copied.

    Args:
        folder: the run folder.
        inputs: folders that are searched for copies of the run.
        remotes: the run as remotes hold it.

    Returns:
        Sentences for the user: what was taken from where, what was found damaged, and what was left alone and why.

    Raises:
        CorruptCheckpoint: the run.json here is none.
        SaveFailed: there is no room for the copy; what is here is as it was.
        RemoteUnavailable: a remote does not answer, so what is newest cannot be known; what is here is as it was.
    """
    brought = GatherResult()
    attached = copies_of(folder.path.name, inputs, brought.told)
    brought.told += [sentence for copy in attached for sentence in _strange(copy)]
    places = [Place.at(copy.path, left=True) for copy in attached]
    for pushed in remotes:
        brought.told += pushed.told
        places.append(pushed.place)
    if not places:
        return brought
    here = identify(Place.at(folder.path)) if plain.kind_of(folder.run) else None
    own = _newest_good(folder, here)
    copies = [copy for copy in (_look(place, folder, here, own, brought) for place in places) if copy]
    left, taken = GatherResult(), list[str]()
    found = [copy for copy in copies if _continues(copy, own, left)]
    while found:
        best = max(found, key=_step)
        if own and _step(best) <= own.step:
            break
        try:
            taken = _take(best, folder, here)
            break
        except CorruptCheckpoint as error:
            best.pass_over(str(error))
            found = [copy for copy in found if copy is not best or _continues(copy, own, left)]
    for copy in found:
        if copy.newest and best.newest and copy.newest.is_ancestor_of(best.newest) is False:
            _leave(left, copy.place, _diverged(copy.newest, best.newest))
    if found and not taken and own and _step(best) == own.step and _last_start_at(best.place) > _last_start(folder):
        taken = _take_attempts(best.place, folder)
    complaints = [sentence for copy in copies for sentence in copy.complaints()]
    return GatherResult([*brought.told, *complaints, *left.told, *taken], brought.rejected + left.rejected)


def _strange(copy: RunFolder) -> list[str]:
    """Sentences about what is where a copy's checkpoints and attempts should be, and is no folder."""
    kinds = [(path, plain.kind_of(path)) for path in (copy.checkpoints, copy.attempts)]
    return [
        f"{path} is a {kind} where a folder was expected; nothing was copied from it."
        for path, kind in kinds
        if kind not in ("folder", None)
    ]


def _look(
    place: Place, folder: RunFolder, here: Identity | None, own: Checkpoint | None, brought: GatherResult
) -> _Copy | None:
    """A place's copy of this very run.

    None when it holds none, and a sentence when it holds something that does not belong here.
    """
    try:
        identity = identify(place)
        if here and identity.uid != here.uid and (own or plain.entries(folder.checkpoints)):
            words = f"{place.address()} is another run with the same name as {folder.path}. It was not copied."
            _leave(brought, place, words)
            return None
        return _Copy(place, identity)
    except RemoteUnavailable:
        raise
    except ObjectMissing:
        return None
    except OutlastError as error:
        brought.told.append(f"{error} That copy is not used.")
        return None


def _continues(copy: _Copy, own: Checkpoint | None, left: GatherResult) -> bool:
    """Whether a copy has anything that may be taken; another history is reported."""
    newest = copy.newest
    if newest is None or (own and newest.digest != own.digest and _is_behind(newest, own)):
        return False
    if own and own.is_ancestor_of(newest) is False:
        _leave(left, copy.place, _diverged(newest, own))
        return False
    return True


def _step(copy: _Copy) -> int:
    assert copy.newest is not None  # noqa: S101 - `_continues` has looked
    return copy.newest.step


def _is_behind(newest: Checkpoint, own: Checkpoint) -> bool:
    """Whether the newest one elsewhere has nothing that is not here.

    By their steps alone where the manifests say no more.
    """
    behind = newest.is_ancestor_of(own)
    return newest.step < own.step if behind is None else behind


def _diverged(theirs: Checkpoint, ours: Checkpoint) -> str:
    return (
        f"The checkpoint at step {theirs.step} in {theirs.path.parents[1]} does not continue the one at step "
        f"{ours.step} in {ours.path.parents[1]}: two attempts continued from an older checkpoint. It was not copied. "
        f"To continue from it instead, start a run from it under {ANOTHER_NAME}: resume_from={str(theirs.path)!r} in "
        f"open_run, or --resume {theirs.path}."
    )


def _leave(left: GatherResult, place: Place, sentence: str) -> None:
    left.told.append(sentence)
    left.rejected.append(place.address())


def _last_start_at(place: Place) -> str:
    """When the last attempt of a run began, as its record says; empty when it has none, or none that can be read."""
    try:
        numbers = place.attempt_numbers()
    except CorruptCheckpoint:
        return ""
    return max((str(place.attempt(number).get("started", "")) for number in numbers), default="")


def _last_start(folder: RunFolder) -> str:
    return max((str(read_record(folder, number).get("started", "")) for number in folder.attempt_numbers()), default="")


def _newest_good(folder: RunFolder, identity: Identity | None) -> Checkpoint | None:
    """The newest checkpoint here that verifies, None when there is none."""
    store = CheckpointStore(folder)
    store.identity = identity
    for checkpoint in store.newest_first():
        try:
            return verify(checkpoint.path)
        except CorruptCheckpoint:
            continue
    return None


def _sentences(passed: Sequence[tuple[int, str]], then: str, place: Place) -> list[str]:
    """A sentence about each of some checkpoints that do not verify, and how many more there are."""
    said = [complaint if complaint.endswith(then) else f"{complaint} {then}" for _, complaint in passed[:_SAID]]
    more = [str(step) for step, _ in passed[_SAID:]]
    names = ", ".join(more[:20]) + (", ..." if len(more) > 20 else "")
    return said + ([f"{len(more)} more in {place.address()} have the same problem (steps {names})."] if more else [])


def _take(copy: _Copy, folder: RunFolder, here: Identity | None) -> list[str]:
    """Bring the newest checkpoint home, with its history and what is beside them.

    Of the history come the checkpoints that verify (the platform kept what retention wanted).

    Returns:
        Sentences about what was taken, and what was not.

    Raises:
        CorruptCheckpoint: the newest does not verify; nothing has changed.
        SaveFailed: there is no room for it; what is here is as it was.
    """
    step, place = _step(copy), copy.place
    incoming = Incoming(place, folder)
    with incoming.collect(f"Step {step}"):
        told = copy.stage(incoming)
        told += stage_attempts(place, folder, incoming.ready)
        known = (Place.at(folder.path) if here and here.uid == copy.identity.uid else place).read_record(
            "run.json", RUN
        )
        until = max(copy.identity.format_1_until, here.format_1_until if here else -1)
        about = known | {"format": layout.FORMAT, "id": folder.path.name, "uid": copy.identity.uid}
        durable.write_json(incoming.ready.run, about | ({"format_1_until": until} if until >= 0 else {}))
        told += _stage_config(incoming)
        complaint = incoming.journal(step)
        if complaint and plain.kind_of(folder.journal) == "file":
            durable.remove_any(incoming.ready.journal)
            told.append(f"{complaint} {folder.journal} is unchanged and has no lines for the missing steps.")
        elif complaint:
            told.append(f"{complaint} Its readable lines are kept.")
    return [*told, f"step {step} was copied from {place.address()}"]


def _take_attempts(place: Place, folder: RunFolder) -> list[str]:
    """Bring home what an attempt says that saved nothing.

    It may yet have finished (its last step was saved before) or failed.
    """
    incoming = Incoming(place, folder)
    with incoming.collect("The records of its attempts"):
        told = stage_attempts(place, folder, incoming.ready)
        told += _stage_config(incoming)
    return told


def _stage_config(incoming: Incoming) -> list[str]:
    complaint = incoming.config()
    return [f"{complaint} It was not copied."] if complaint else []


def _is_present(checkpoint: Checkpoint, target: RunFolder) -> bool:
    """Whether this checkpoint is already in the run folder, complete."""
    try:
        return verify(target.checkpoint(checkpoint.step)).digest == checkpoint.digest
    except CheckpointError:
        return False
