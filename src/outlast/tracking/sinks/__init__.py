"""Sinks that send a run elsewhere: the queue of every sink, and one file per tracker."""

from outlast.tracking.sinks.queue import Queue, in_sink_thread

__all__ = ["Queue", "in_sink_thread"]
