"""Starts an attempt at a provider: builds its bundle, collects its inputs, and writes its record first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outlast.checkpoint import Checkpoint, CheckpointStore, read_manifest, verify
from outlast.errors import AnswerLost, CorruptCheckpoint, LaunchError, RunBusy, UsageError
from outlast.folder import layout, plain
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.folder.lock import holder
from outlast.launch import bundle
from outlast.launch.fetch import fetch, steps_left
from outlast.launch.inside import MISSING_CHECKPOINT
from outlast.launch.provider import Handle, Provider, Request, Tell, Terms
from outlast.launch.records import LaunchRecord, all_launches, launching, session_name
from outlast.launch.remote import address_for
from outlast.launch.work import Work
from outlast.publish import secrets
from outlast.remote.fork import fork


def launch(
    provider: Provider, work: Work, terms: Terms, *, tell: Callable[[str], None] = lambda _: None
) -> LaunchRecord:
    """Start one attempt. Its record is written first, so that a lost answer cannot lose the session.

    The session continues from the outputs of the run's last session if the provider can attach them. Otherwise, or if
    it is newer, the newest checkpoint of this folder is sent.

    Args:
        provider: the provider.
        work: the run.
        terms: the terms of the session.
        tell: called with messages about long operations.

    Raises:
        RunBusy: another process launches this run, or trains it on this machine.
        UsageError: a session of this run is running, or the provider refuses these terms.
        LaunchError: as in `Provider.submit`.
    """
    with launching(work.folder, "a launch"):
        return launch_next(provider, work, terms, tell=tell)


def launch_next(
    provider: Provider, work: Work, terms: Terms, *, tell: Callable[[str], None] = lambda _: None
) -> LaunchRecord:
    """As `launch`. The caller holds the launch lock."""
    folder = work.folder
    if owner := holder(folder.lock):
        raise RunBusy(
            f"{folder.path} is being trained on this machine by {owner.get('attempt', 'an attempt')}, and a run has "
            "one writer. Stop that attempt first."
        )
    if work.fork_of:
        fork(RunFolder(work.fork_of.path.parents[1]), work.fork_of, folder)
    source = _continues(provider, work, tell)
    request = request_for(provider, work, terms, source)
    if request.bundle.left_out:
        tell(f"not sent, because their names look like those of keys: {', '.join(request.bundle.left_out)}")
    request, record = _begin(provider, work, request, source)
    try:
        handle = provider.submit(request, record.handle, begun=lambda: record.learn(state="pushing"), tell=tell)
    except AnswerLost:
        raise
    except LaunchError as error:
        record.learn(state="refused", end={"reason": "refused", "words": str(error)})
        raise
    record.learn(state="pushed", handle=dict(handle), url=provider.address(handle))
    return record


@dataclass(frozen=True)
class Source:
    """The starting point of a session.

    Attributes:
        name: name of the attempt whose outputs are attached; empty if there is none.
        handle: handle of that attempt.
        files: files of the run, with some checkpoints, that are sent.
        step: step of the newest checkpoint in either.
    """

    name: str = ""
    handle: Handle | None = None
    files: dict[str, Path] = field(default_factory=dict)
    step: int = 0


def request_for(provider: Provider, work: Work, terms: Terms, source: Source | None = None) -> Request:
    """The request to a provider. It has the first attempt's name; `launch` replaces it by an unused one.

    Raises:
        UsageError: the user's files cannot be sent, or the folder of wheels holds none.
        SecretFound: one of them holds a secret, and would leave this machine.
    """
    source = source or Source()
    wheels, files = terms.options.get("wheels"), work.files()
    if not provider.capabilities.folders:
        secrets.check(files.paths.items(), secrets.known_values(), done="sent")
    return Request(
        name=session_name(work.run_id, 1),
        run=work.run_id,
        bundle=bundle.make(files, environments=[provider.environment], wheels=Path(wheels) if wheels else None),
        asked=_wanted(provider, work, terms, source),
        terms=terms,
        after=source.handle,
        files=source.files,
        step=source.step,
    )


def _wanted(provider: Provider, work: Work, terms: Terms, source: Source) -> dict[str, Any]:
    """What the session is to train, and the remote that follows the run there."""
    asked = work.asked(budget=provider.limits(terms).training(terms), step=source.step)
    if address := address_for(provider, work, terms, asked["values"].get("remote")):
        asked["values"]["remote"] = address
    return asked


def _begin(provider: Provider, work: Work, request: Request, source: Source) -> tuple[Request, LaunchRecord]:
    """Write the record under an unused name. The name of a refused attempt is used again."""
    folder = work.folder
    number = max((each.number for each in all_launches(folder) if each.record["state"] != "refused"), default=0) + 1
    while True:
        number = layout.free_number(folder.launches, number)
        request = replace(request, name=session_name(work.run_id, number))
        handle = provider.plan(request)
        if provider.state(handle) is None:
            break
        number += 1  # a session with this name exists; another machine launched it
    record = LaunchRecord.begin(
        folder,
        number,
        provider=provider.name,
        name=request.name,
        handle=dict(handle),
        accelerator=provider.limits(request.terms).accelerator,
        budget=request.training,
        after=source.name,
        **_asked(work, request),
    )
    return request, record


def _asked(work: Work, request: Request) -> dict[str, Any]:
    """The request in a record: hash of the code, values and options."""
    return {
        "bundle": request.bundle.hash,
        "asked": work.recorded(budget=request.training),
        "terms": {**request.terms.options, "seconds": work.seconds},
    }


def repeats(provider: Provider, work: Work, terms: Terms, record: LaunchRecord) -> bool:
    """Whether the next session would have the same code, values and options as a recorded one."""
    asked = json.loads(json.dumps(_asked(work, request_for(provider, work, terms))))
    known = {name: record.record.get(name) for name in asked}
    for each in (asked, known):  # the remaining quota may have shortened it
        each["asked"] = {name: value for name, value in (each["asked"] or {}).items() if name != "budget"}
    return record.provider == provider.name and bool(asked == known)


def _continues(provider: Provider, work: Work, tell: Tell) -> Source:
    """The starting point of the next session.

    Outputs that the provider may be unable to attach are fetched first, and sent.
    """
    folder, attached = work.folder, provider.capabilities.inputs
    without = ("refused", "abandoned", "deleted", "rejected")  # they left nothing, or another history
    records = [each for each in all_launches(folder) if each.record["state"] not in without]
    last, known, mounts = None, 0, attached != "none"
    for record in reversed(records):
        if record.provider != provider.name:
            if record.is_open or record.record["state"] == "preparing":
                raise UsageError(
                    f"{record.name} ran on the provider {record.provider}, and its files are not on this machine yet. "
                    f"Run `{record.command('fetch')}` first, or end it with `{record.command('cancel')}`."
                )
            break
        if not record.is_open and not record.is_own(provider):
            continue  # launched under another name of this folder; its files are here
        record.check_own(provider)
        state = provider.state(record.handle)
        if state is None:
            continue
        if not state.over:
            raise UsageError(
                f"{record.name} is still {state.word}, and a run has one writer: follow it with "
                f"`{record.command('logs')}`, or end it with `{record.command('cancel')}`."
            )
        mounts = mounts and record.record.get("exit") != str(MISSING_CHECKPOINT)
        if steps := steps_left(provider, record.handle, folder):
            last, known = record, max(steps)
            mounts = mounts and (attached == "ended" or state.word == "completed")
            if not mounts and record.record["state"] != "fetched":
                tell(f"fetching {record.name} first, because the next session may not find its files")
                fetch(provider, record)
            break
    if mounts and last:
        return _with_what_is_newer(Source(last.name, last.handle, step=known), work)
    local = _good(folder, work)
    files = _contents(folder, local) if local else {}
    return Source(files=files | _of_earlier_stages(work), step=local[-1].step if local else 0)


def _with_what_is_newer(source: Source, work: Work) -> Source:
    """The attached outputs, with the newest checkpoint of this folder if it is newer and verifies."""
    if CheckpointStore(work.folder).newest_step() <= source.step:
        return source  # nothing needs to be read
    local = _good(work.folder, work)
    if not local or local[-1].step <= source.step:
        return source
    return replace(source, files=_contents(work.folder, local), step=local[-1].step)


def _of_earlier_stages(work: Work) -> dict[str, Path]:
    """The checkpoints that a stage is trained on, with the records of their runs.

    A session that continues the one before has them in its outputs.
    """
    files: dict[str, Path] = {}
    for place, step in work.inputs().items():
        files |= _contents(place, [read_manifest(place.checkpoint(step))])
    return files


def _good(folder: RunFolder, work: Work) -> list[Checkpoint]:
    """The best and the newest checkpoint of this folder that verify, ascending by step."""
    found = CheckpointStore(folder).committed()
    best = work.best.best_step([checkpoint.kept for checkpoint in found])
    chosen: list[Checkpoint] = []
    for checkpoint in reversed(found):
        if chosen and checkpoint.step != best:
            continue
        try:
            verify(checkpoint.path)
        except CorruptCheckpoint:
            continue
        chosen.insert(0, checkpoint)
    return chosen


def _contents(folder: RunFolder, checkpoints: Sequence[Checkpoint]) -> dict[str, Path]:
    """The files of the run with only these checkpoints, in the layout of a session's outputs."""
    paths = [folder.run, folder.config, folder.journal, *map(folder.attempt, folder.attempt_numbers())]
    for checkpoint in checkpoints:
        paths += [path for places in checkpoint.paths.values() for path in places]
        paths.append(checkpoint.path / MANIFEST)
    # Plain files only: the target of a link is never sent.
    inside = {path.relative_to(folder.path).as_posix(): path for path in paths if plain.kind_of(path) == "file"}
    return {f"runs/{folder.path.name}/{name}": path for name, path in inside.items()}
