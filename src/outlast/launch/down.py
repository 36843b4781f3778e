"""Deletes a run's sessions, their outputs and their data at its providers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outlast.errors import UsageError
from outlast.folder import plain
from outlast.folder.layout import RunFolder
from outlast.launch import providers
from outlast.launch.fetch import steps_left
from outlast.launch.provider import Handle, Provider
from outlast.launch.records import LaunchRecord, all_launches, command_for
from outlast.report import read_run

_GONE = ("deleted", "refused", "abandoned", "lost")
_UNSTARTED = ("preparing", "refused", "abandoned")
_FETCHED = ("fetched", "rejected")


def down(folder: RunFolder, *, unfinished: bool = False) -> list[str]:
    """Delete a run's sessions, after their files were fetched.

    Args:
        folder: the run folder.
        unfinished: delete them also if the run is not finished. It then continues from the files on this machine.

    Returns:
        The names that were deleted.

    Raises:
        UsageError: a session is running, was not fetched or belongs to another run, or the run is not finished.
    """
    name = folder.path.name
    launches = [(each, providers.of(each)) for each in all_launches(folder) if each.record["state"] != "deleted"]
    started, alive = [], []
    for each, provider in launches:
        state = provider.state(each.handle)
        if state and each.record["state"] in _UNSTARTED:
            continue  # this launch started no session, so the session with its name belongs to another launch
        if state and not state.over:
            raise UsageError(f"{each.name} is still {state.word}. End it with `{each.command('cancel')}` first.")
        started.append((each, provider))
        if state:
            alive.append((each, provider))
    here = _fetched([each for each, _ in launches])
    unfetched = [
        each.name
        for each, provider in alive[:-1]
        if each.name not in here and steps_left(provider, each.handle, folder)
    ]
    unfetched += [each.name for each, _ in alive[-1:] if each.name not in here]
    if unfetched:
        raise UsageError(
            f"The files of the session {unfetched[-1]} of {name} are not on this machine and would be lost. Run "
            f"`{command_for(folder, 'fetch')}` first."
        )
    if not unfinished and (not folder.run.exists() or read_run(folder.path).status != "finished"):
        raise UsageError(
            f"{name} is not finished. Give --unfinished to delete its sessions anyway; the run then continues from "
            "the files on this machine."
        )
    gone = []
    for each, provider in started:
        gone += delete(provider, each)
    return gone


def _fetched(launches: Sequence[LaunchRecord]) -> set[str]:
    """Names of sessions that were fetched, or that a fetched session continued."""
    names: set[str] = set()
    for each in reversed(launches):
        if each.name in names or each.record["state"] in _FETCHED:
            names |= {each.name, str(each.record.get("after") or "")}
    return names


def delete(provider: Provider, record: LaunchRecord) -> list[str]:
    """Delete one session with its outputs and inputs. Inputs that another recorded launch uses are kept."""
    gone = provider.delete(record.handle, list(_others(record)))
    record.learn(state="deleted")
    return gone


def _others(record: LaunchRecord) -> Iterator[Handle]:
    """Handles of the same provider in the launches of all runs in this folder, except this one and deleted ones."""
    for folder in plain.entries(record.folder.path.parent):
        for other in all_launches(RunFolder(folder)):
            if other.record["state"] not in _GONE and other.name != record.name and other.provider == record.provider:
                yield other.handle
