"""What a run says about itself: the journal, and sinks that mirror it."""

from outlast.tracking.csvview import CsvView
from outlast.tracking.journal import Journal, Unwritten
from outlast.tracking.reading import Latest, latest, read, records
from outlast.tracking.sink import Fanout, Progress, Sink

__all__ = ["CsvView", "Fanout", "Journal", "Latest", "Progress", "Sink", "Unwritten", "latest", "read", "records"]
