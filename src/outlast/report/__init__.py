"""Reports on run folders. They read files only, never a live run."""

from outlast.report.archive import archive
from outlast.report.curves import draw_curves
from outlast.report.runs import RunInfo, list_runs, read_run

__all__ = ["RunInfo", "archive", "draw_curves", "list_runs", "read_run"]
