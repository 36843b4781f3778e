"""What a run reports: the journal, the attempt's events, and their sinks."""

from outlast.tracking.csvview import CsvView
from outlast.tracking.events import EventLog, read_events, spent_in
from outlast.tracking.fanout import Fanout
from outlast.tracking.journal import Journal, NullJournal
from outlast.tracking.reading import Latest, latest, read, records
from outlast.tracking.sink import Progress, RunFacts, SaveFacts, Sink, without_secrets
from outlast.tracking.timing import Stopwatch, TimeSpent

__all__ = [
    "CsvView",
    "EventLog",
    "Fanout",
    "Journal",
    "Latest",
    "NullJournal",
    "Progress",
    "RunFacts",
    "SaveFacts",
    "Sink",
    "Stopwatch",
    "TimeSpent",
    "latest",
    "read",
    "read_events",
    "records",
    "spent_in",
    "without_secrets",
]
