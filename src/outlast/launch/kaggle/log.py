"""The log of a session: the stored log, and the live log, which each connection sends from the beginning."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from outlast.launch.provider import Line


def entries(answer: Any) -> Iterator[dict[str, Any]]:
    """The records of a log. A stored log is one array; a live log arrives event by event."""
    if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        yield from json.loads(answer.content or b"[]")
        return
    for raw in answer.iter_lines(
        chunk_size=1
    ):  # larger chunks would wait until they are full; bytes, because requests would decode text as Latin-1
        data = raw.removeprefix(b"data:").strip() if raw.startswith(b"data:") else b""
        if data == b"END_OF_LOG":
            return
        if data:
            yield json.loads(data)


def joined(events: Iterator[dict[str, Any]]) -> Iterator[Line]:
    """Complete lines from pieces, because a process may write a line in several pieces."""
    begun: dict[str, str] = {}
    seconds = 0.0
    for entry in events:
        name, seconds = str(entry.get("stream_name", "")), float(entry.get("time") or 0)
        *whole, rest = (begun.pop(name, "") + str(entry["data"])).split("\n")
        begun[name] = rest
        yield from (Line(seconds, text.rstrip("\r")) for text in whole)
    yield from (Line(seconds, text) for text in begun.values() if text)


def so_far(lines: Iterator[Line], longest: float) -> Iterator[Line]:
    """The lines so far of an iterator that may continue for hours. Reads for at most `longest` seconds."""
    heard: queue.SimpleQueue[Line | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for line in lines:
                heard.put(line)
        finally:
            heard.put(None)

    threading.Thread(target=listen, name="outlast-log", daemon=True).start()
    end, patience = time.monotonic() + longest, 10.0
    while (left := min(patience, end - time.monotonic())) > 0:
        try:
            line = heard.get(timeout=left)
        except queue.Empty:
            return
        if line is None:
            return
        yield line
        patience = 2.0  # the first line may take longer
