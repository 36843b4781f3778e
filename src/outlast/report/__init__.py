"""What run folders say. Reads files only; never a live run."""

from outlast.report.runs import RunInfo, list_runs, read_run

__all__ = ["RunInfo", "list_runs", "read_run"]
