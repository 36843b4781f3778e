"""Applies a run's own retention to checkpoints that were copied here: no save does so on this machine."""

from __future__ import annotations

from outlast.checkpoint import CheckpointStore, Retention
from outlast.checkpoint.best import measure_of
from outlast.errors import UsageError
from outlast.folder import plain, reading
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG
from outlast.remote.identity import identify
from outlast.remote.place import Place


def apply_retention(folder: RunFolder) -> list[str]:
    """Delete the checkpoints that the run's config does not keep. The caller holds the lock of the run.

    The run of a script has no config, and keeps all.

    Returns:
        A sentence when the config does not say what is kept.
    """
    if not plain.kind_of(folder.config) or not plain.kind_of(folder.run):
        return []
    values = reading.read_record(folder.config, CONFIG)["values"]
    measure = measure_of(read_record(folder, number) for number in folder.attempt_numbers()) or Retention()
    try:
        keep = Retention(
            last=values.get("keep_last", measure.last),
            best=values.get("keep_best", 1) if measure.metric else 0,
            metric=measure.metric,
            mode=measure.mode,
            every=values.get("keep_every"),
            former=measure.former,
        )
    except UsageError as error:
        return [f"{folder.config}: {error} No checkpoint was deleted."]
    store = CheckpointStore(folder, keep)
    store.identity = identify(Place.at(folder.path))
    store.forget()
    return []
