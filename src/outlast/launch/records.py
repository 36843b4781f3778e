"""launches/0003.json in a run folder: one attempt that was, or was to be, started on another machine. Written before it is started."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from outlast import files
from outlast.attempt import utc
from outlast.files import RunFolder


@dataclass
class LaunchRecord:
    """One launch.

    Attributes:
        folder: the run folder.
        number: counts from 1.
        record: what the file holds: `on`, `slug`, `accelerator`, `datasets`, `state` ("preparing", "pushing", "pushed", "refused",
            "abandoned", "lost", "fetched", "deleted"), and what is learnt of it later: `session`, `seconds`, `exit`, `step`, `end`.
    """

    folder: RunFolder
    number: int
    record: dict[str, Any]

    @classmethod
    def begin(cls, folder: RunFolder, number: int, **facts: Any) -> LaunchRecord:
        """Write down what is about to be started."""
        files.make_folder(folder.launches)
        launch = cls(
            folder, number, {"format": files.FORMAT, "number": number, "time": utc(), "state": "preparing", **facts}
        )
        launch.write()
        return launch

    def learn(self, **facts: Any) -> None:
        """Add what is known now, and write it."""
        self.record |= facts
        self.write()

    def write(self) -> None:
        """Put the record on disk."""
        files.write_json(self.folder.launches / f"{self.number:04d}.json", self.record)


def all_launches(folder: RunFolder) -> list[LaunchRecord]:
    """The launches of a run, oldest first."""
    if not folder.launches.is_dir():
        return []
    paths = sorted(path for path in folder.launches.iterdir() if path.suffix == ".json" and path.stem.isdigit())
    return [LaunchRecord(folder, int(path.stem), files.read_json(path)) for path in paths]


def mark_in(line: str, word: str) -> str:
    """What a session says of itself in a line such as "::outlast session 12345"; empty when this line does not."""
    match = re.fullmatch(rf"::outlast {word} (.*)", line.strip())
    return match[1] if match else ""
