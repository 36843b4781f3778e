"""Deletes a run's sessions, their outputs and their data at its providers."""

from __future__ import annotations

from collections.abc import Iterator

from outlast.errors import UsageError
from outlast.folder import plain
from outlast.folder.layout import RunFolder
from outlast.launch import providers
from outlast.launch.provider import Handle, Provider
from outlast.launch.records import LaunchRecord, all_launches, command_for
from outlast.report import read_run

_GONE = ("deleted", "refused", "abandoned", "lost")


def down(folder: RunFolder, *, unfinished: bool = False) -> list[str]:
    """Delete a run's sessions. Only what its own records name, and only when what they left is here.

    Args:
        folder: the run folder.
        unfinished: also of a run that is not finished, which then continues from what is here.

    Returns:
        The names that were deleted.

    Raises:
        UsageError: a session is alive, or was not fetched, or the run is not finished.
    """
    name, fetched = folder.path.name, True
    launches = [(each, providers.of(each)) for each in all_launches(folder)]
    for each, provider in launches:
        state = provider.state(each.handle) if each.record["state"] != "deleted" else None
        if state is None:
            continue
        if not state.over:
            raise UsageError(f"{each.name} is still {state.word}: end it with `{each.command('cancel')}` first.")
        fetched = each.record["state"] in ("fetched", "rejected")  # a later session has what the ones before it had
    if not fetched:
        raise UsageError(
            f"The files of the last session of {name} are not on this machine, and would be deleted: run "
            f"`{command_for(folder, 'fetch')}` first."
        )
    if not unfinished and (not folder.run.exists() or read_run(folder.path).status != "finished"):
        raise UsageError(
            f"{name} is not finished. With --unfinished its sessions are deleted anyway, and the run continues from "
            "the files on this machine."
        )
    gone = []
    for each, provider in launches:
        if each.record["state"] != "deleted":
            gone += delete(provider, each)
    return gone


def delete(provider: Provider, record: LaunchRecord) -> list[str]:
    """Delete one session with its outputs, and what was made for it unless another launch on record here uses it."""
    gone = provider.delete(record.handle, list(_others(record)))
    record.learn(state="deleted")
    return gone


def _others(record: LaunchRecord) -> Iterator[Handle]:
    """Handles of the same provider in launches of all runs in this folder, other than deleted ones and this one."""
    for folder in plain.entries(record.folder.path.parent):
        for other in all_launches(RunFolder(folder)):
            if other.record["state"] not in _GONE and other.name != record.name and other.provider == record.provider:
                yield other.handle
