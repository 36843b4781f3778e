"""Reports on run folders. They read files only, never a live run.

The names are loaded when they are first used: a start of a training reads records of runs, and draws nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast import _lazy

if TYPE_CHECKING:
    from outlast.report.curves import draw_curves as draw_curves
    from outlast.report.runs import RunInfo as RunInfo
    from outlast.report.runs import list_runs as list_runs
    from outlast.report.runs import read_run as read_run

_HOMES = {
    "RunInfo": "runs",
    "draw_curves": "curves",
    "list_runs": "runs",
    "read_run": "runs",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are texts

__getattr__ = _lazy.names(__name__, _HOMES)
