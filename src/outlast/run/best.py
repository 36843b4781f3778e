"""The best checkpoint in a training script: a warning that nobody logs its metric, and loading its weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from outlast.checkpoint import CheckpointStore, open_checkpoint
from outlast.checkpoint.best import best_of
from outlast.config.words import nearest
from outlast.errors import UnknownName, UsageError
from outlast.run.parts import Parts
from outlast.terminal import shortened


def complaint(store: CheckpointStore, logged: Collection[str]) -> str | None:
    """A sentence if neither these metrics nor a checkpoint have the one by which the best is chosen.

    Args:
        store: the checkpoints, and the metric.
        logged: names of the metrics that were logged so far.
    """
    metric, names = store.retention.metric, sorted(logged)
    if not metric or metric in names or store.best is not None:
        return None
    words = ", ".join(shortened(name, 60) for name in names[:12]) or "nothing"
    return (
        f"The best checkpoint is kept by {metric!r}, which no step has logged so far; logged are: {words}."
        f"{nearest(metric, names)}"
    )


def load_best(store: CheckpointStore, parts: Parts, names: Sequence[str]) -> int:
    """Load the best checkpoint's state into tracked objects; see `Run.load_best`. All ranks call it.

    Returns:
        Its step.
    """
    chosen = list(names) or parts.networks
    if not chosen:
        raise UsageError(
            f"load_best() finds no model among {', '.join(parts.names)}: name the part to load, such as "
            f"run.load_best({parts.names[0]!r})."
        )
    for name in chosen:
        if name in parts.trees:
            raise UsageError(
                f"{name!r} is a pytree, which cannot be loaded into; get it with "
                f'outlast.open_saved({str(store.folder.path)!r}, step="best").restore(initial, {name!r}).'
            )
        if name not in parts.names:
            raise UnknownName(
                f"load_best() was asked for {name!r}, which is not tracked; tracked are "
                f"{', '.join(parts.names)}.{nearest(name, parts.names)}"
            )
    best = best_of(store.committed(), store.retention, store.folder.path)
    parts.load_again(open_checkpoint(best.path), chosen)
    return best.step
