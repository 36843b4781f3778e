"""The best checkpoint of a run: the metric that it is chosen by, as attempts record it, and its step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outlast.checkpoint.manifest import Checkpoint
from outlast.checkpoint.policy import Retention
from outlast.config.words import nearest
from outlast.errors import UnknownName, UsageError
from outlast.terminal import shortened


def record_of(keep: Retention) -> dict[str, Any]:
    """The entry in an attempt's record: `metric`, `mode` and `former` names, if any.

    Empty without a metric.
    """
    if not keep.metric:
        return {}
    former = {"former": list(keep.former)} if keep.former else {}
    return {"best_by": {"metric": keep.metric, "mode": keep.mode, **former}}


def measure_of(attempts: Iterable[Mapping[str, Any]]) -> Retention | None:
    """By which metric the newest attempt that says so chose the best; None when none did."""
    found = None
    for attempt in attempts:
        said = attempt.get("best_by")
        if isinstance(said, Mapping) and isinstance(said.get("metric"), str) and said.get("mode") in ("max", "min"):
            found = Retention(best=1, metric=said["metric"], mode=said["mode"], former=tuple(said.get("former", ())))
    return found


def best_of(checkpoints: Sequence[Checkpoint], keep: Retention | None, where: object) -> Checkpoint:
    """The best of these checkpoints.

    Args:
        checkpoints: committed ones.
        keep: names the metric; None when the run has none.
        where: the run, for sentences.

    Raises:
        UsageError: the run has no metric to choose by.
        UnknownName: no checkpoint logged it at its own step.
    """
    logged = sorted({name for checkpoint in checkpoints for name in checkpoint.metrics})
    there = f"Logged at the steps of its checkpoints: {', '.join(shortened(name, 60) for name in logged) or 'nothing'}."
    if keep is None or not keep.metric:
        raise UsageError(
            f"{where} has no metric to choose the best by: open it with keep=outlast.Retention(best=1, metric=...), or "
            f"give a step. {there}"
        )
    step = keep.best_step([checkpoint.kept for checkpoint in checkpoints])
    if step is None:
        raise UnknownName(
            f"{where} has no checkpoint that logged {keep.metric!r} at its own step; give a step. "
            f"{there}{nearest(keep.metric, logged)}"
        )
    return next(checkpoint for checkpoint in checkpoints if checkpoint.step == step)
