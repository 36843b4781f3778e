"""logs/NNNN.log: what the command of an attempt has printed, bounded by rotation."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from outlast.folder import durable, plain
from outlast.folder.layout import RunFolder

LARGEST = 8 * 2**20
"""Bytes of a log after which it is renamed to NNNN.log.old, which replaces an older one."""

KEPT = 10
"""Attempts whose logs are kept."""


class OutputLog:
    """The log of an attempt. Any thread may write. An error stops it, and nothing else.

    Args:
        folder: the run folder.
        number: the attempt's number.

    Attributes:
        error: what stopped it, or None.
    """

    def __init__(self, folder: RunFolder, number: int) -> None:
        self.path = folder.logs / f"{number:04d}.log"
        self.error: OSError | None = None
        self._lock, self._size, self._descriptor = threading.Lock(), 0, -1
        try:
            durable.make_folder(folder.logs)
            self._descriptor = durable.open_to_append(self.path)
            _forget(folder.logs, number)
        except OSError as error:
            self.error = error

    def write(self, data: bytes) -> None:
        """Append some output."""
        with self._lock:
            if self.error is not None or self._descriptor < 0:
                return
            try:
                if self._size + len(data) > LARGEST:
                    self._rotate()
                durable.write_all(self._descriptor, memoryview(data))
                self._size += len(data)
            except OSError as error:
                self.error = error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _rotate(self) -> None:
        os.close(self._descriptor)
        self._descriptor, self._size = -1, 0
        durable.replace(self.path, self.path.with_name(f"{self.path.name}.old"))
        self._descriptor = durable.open_to_append(self.path)


def _forget(folder: Path, number: int) -> None:
    """Delete the logs of older attempts."""
    for path in plain.entries(folder):
        attempt = path.name.partition(".")[0]
        if attempt.isdecimal() and int(attempt) <= number - KEPT and plain.kind_of(path) == "file":
            durable.remove_file(path)
