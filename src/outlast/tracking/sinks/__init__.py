"""What mirrors a run elsewhere: the queue that every such sink has, and one file per tracker."""

from outlast.tracking.sinks.queue import Queue

__all__ = ["Queue"]
