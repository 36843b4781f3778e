"""Take away what a run has left on Kaggle: its sessions with their outputs, and the datasets that were made for them."""

from __future__ import annotations

from outlast.errors import UsageError
from outlast.folder import plain
from outlast.folder.layout import RunFolder
from outlast.launch.kaggle import datasets
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.kaggle.setup import check_user
from outlast.launch.records import LaunchRecord, all_launches
from outlast.report import read_run

_GONE = ("deleted", "refused", "abandoned", "lost")


def down(kaggle: Kaggle, folder: RunFolder, *, unfinished: bool = False) -> list[str]:
    """Delete a run's sessions and datasets there. Only what its own records name, and only when what they left is here.

    Args:
        kaggle: the account.
        folder: the run folder.
        unfinished: also of a run that is not finished, which then continues from what is here.

    Returns:
        The names that were deleted.

    Raises:
        UsageError: a session is alive, or was not fetched, or the run is not finished.
    """
    name, here = folder.path.name, True
    for each in all_launches(folder):
        check_user(kaggle, each.record.get("user"))
        status = kaggle.status(each.record["slug"]) if each.record["state"] != "deleted" else None
        if status is None:
            continue
        if not status.over:
            raise UsageError(
                f"{each.record['slug']} is {status.state} still: end it with `outlast cancel {name}` first."
            )
        here = each.record["state"] == "fetched"  # a later session has what the ones before it had
    if not here:
        raise UsageError(
            f"What the last session of {name} has left is not here, and would be destroyed: `outlast fetch {name}` first."
        )
    if not unfinished and (not folder.run.exists() or read_run(folder.path).status != "finished"):
        raise UsageError(
            f"{name} is not finished. With --unfinished it is taken down all the same, and continues from what is here."
        )
    gone = []
    for each in all_launches(folder):
        if each.record["state"] != "deleted":
            gone += delete(kaggle, each)
    return gone


def delete(kaggle: Kaggle, record: LaunchRecord) -> list[str]:
    """Delete one session with its outputs, and its datasets unless another launch on record here uses them."""
    gone, slug = [], str(record.record["slug"])
    if kaggle.status(slug) is not None:
        kaggle.delete(slug)
        gone.append(slug)
    others = _used_elsewhere(record)
    for name in record.record.get("datasets", []):
        if name not in others and datasets.state(kaggle, name) is not None:
            datasets.delete(kaggle, name)
            gone.append(name)
    record.learn(state="deleted")
    return gone


def _used_elsewhere(record: LaunchRecord) -> set[str]:
    """Datasets that launches of all runs in this folder name, other than deleted ones and this one."""
    found: set[str] = set()
    for folder in plain.entries(record.folder.path.parent):
        for other in (each.record for each in all_launches(RunFolder(folder))):
            if other["state"] not in _GONE and other["slug"] != record.record["slug"]:
                found |= set(other.get("datasets", []))
    return found
