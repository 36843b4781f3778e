"""What a run says about itself: the journal, and sinks that mirror it."""

from outlast.tracking.csvview import CsvView
from outlast.tracking.journal import Journal, Unwritten, read
from outlast.tracking.sink import Fanout, Progress, Sink

__all__ = ["CsvView", "Fanout", "Journal", "Progress", "Sink", "Unwritten", "read"]
