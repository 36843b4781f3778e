"""Where the files of a dataset are: inside its folder, unless the user has allowed others."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outlast_recipes.common.problems import Problems
from outlast_recipes.yolo.images import SUFFIXES

MOST_TEXT = 512 * 2**20  # bytes of a file with labels


@dataclass(frozen=True)
class Place:
    """The folder of a dataset.

    Attributes:
        root: its path, as the user gave it.
        outside: whether its files may lie outside it, by a path or behind a link.
        problems: receives what is wrong.
    """

    root: Path
    outside: bool
    problems: Problems

    def holds(self, path: Path) -> bool:
        """Whether a path, with its links followed, is in the folder."""
        try:
            return self.outside or path.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError, ValueError):  # a loop of links, or what no path can be
            return False

    def shown(self, path: Path) -> str:
        """The path for a message: from the dataset's folder on."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def check(self, path: Path, said_by: object) -> bool:
        """Whether a file or folder may be read; otherwise a problem is noted."""
        if self.holds(path):
            return True
        self.problems.error(
            "outside",
            said_by,
            f"{self.shown(path)!r:.200} is outside {self.root}, or behind a link that leads out of it. Copy it into "
            "the folder, or allow such files with --outside.",
        )
        return False

    def images_in(self, folder: Path) -> Iterator[Path]:
        """Image files below a folder, sorted. Folders that are links are entered only when `outside` is allowed."""
        entered: set[Path] = set()  # a link may lead back up
        for here, folders, names in os.walk(folder, followlinks=self.outside):
            if (there := Path(here).resolve()) in entered:
                folders.clear()
                continue
            entered.add(there)
            folders.sort()
            for name in sorted(names):
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                    yield Path(here, name)
            for name in folders if not self.outside else ():
                if Path(here, name).is_symlink():
                    self.problems.error(
                        "outside",
                        self.shown(Path(here, name)),
                        "is a link to a folder, which is not entered. Copy the folder, or allow links with --outside.",
                    )

    def read_text(self, path: Path) -> str | None:
        """The text of a file in UTF-8, with or without a byte order mark; None after a problem was noted."""
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    self.problems.error("unreadable", self.shown(path), "is no ordinary file; expected a text file.")
                    return None
                if found.st_size > MOST_TEXT:
                    self.problems.error(
                        "unreadable", self.shown(path), f"has more than {MOST_TEXT // 2**20} MiB; expected less."
                    )
                    return None
                data = file.read()
        except OSError as error:
            self.problems.error("unreadable", self.shown(path), f"cannot be read: {error.strerror}.")
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.problems.error(
                "encoding", f"{self.shown(path)}:{line}", f"holds the byte {data[error.start]:#x}; expected UTF-8."
            )
            return None


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; no for a name that none can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; no for a name that none can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def text_lines(text: str) -> list[str]:
    """The lines of a text, however they end."""
    return re.split(r"\r\n|\n|\r", text)
