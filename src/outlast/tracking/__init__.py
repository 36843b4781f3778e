"""What a run reports: the journal, the attempt's events, and their sinks.

The names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast import _lazy

if TYPE_CHECKING:
    from outlast.tracking.csvview import CsvView as CsvView
    from outlast.tracking.events import EventLog as EventLog
    from outlast.tracking.events import read_events as read_events
    from outlast.tracking.events import spent_in as spent_in
    from outlast.tracking.fanout import Fanout as Fanout
    from outlast.tracking.journal import Journal as Journal
    from outlast.tracking.journal import NullJournal as NullJournal
    from outlast.tracking.reading import Latest as Latest
    from outlast.tracking.reading import latest as latest
    from outlast.tracking.reading import read as read
    from outlast.tracking.reading import records as records
    from outlast.tracking.sink import Progress as Progress
    from outlast.tracking.sink import RunFacts as RunFacts
    from outlast.tracking.sink import SaveFacts as SaveFacts
    from outlast.tracking.sink import Sink as Sink
    from outlast.tracking.sink import without_secrets as without_secrets
    from outlast.tracking.timing import Stopwatch as Stopwatch
    from outlast.tracking.timing import TimeSpent as TimeSpent

_HOMES = {
    "CsvView": "csvview",
    "EventLog": "events",
    "Fanout": "fanout",
    "Journal": "journal",
    "Latest": "reading",
    "NullJournal": "journal",
    "Progress": "sink",
    "RunFacts": "sink",
    "SaveFacts": "sink",
    "Sink": "sink",
    "Stopwatch": "timing",
    "TimeSpent": "timing",
    "latest": "reading",
    "read": "reading",
    "read_events": "events",
    "records": "reading",
    "spent_in": "events",
    "without_secrets": "sink",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are texts

__getattr__ = _lazy.names(__name__, _HOMES)
