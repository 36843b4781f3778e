"""Sinks that send a run elsewhere: the queue of every sink, and one file per tracker."""

from outlast.tracking.sinks.queue import Queue

__all__ = ["Queue"]
