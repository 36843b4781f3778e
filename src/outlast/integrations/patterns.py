"""The patterns of `--keep`, and the files of a folder that match them.

A pattern is a relative path with `/`. `*`, `?` and `[...]` match within a name, `**` matches folders. A pattern that
matches a folder names all files below it. Wildcards do not match names that begin with a dot.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from outlast.errors import SaveFailed, UsageError
from outlast.folder.layout import TEMPORARY

MOST = 100_000
"""Number of files that a checkpoint of kept files may have."""

DEEPEST = 100
"""Number of folders in the path of a kept file."""

_HARMFUL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")

Pattern = tuple[str, ...]


class FileChanged(SaveFailed):
    """A file was changed while it was copied into a checkpoint."""


class KeptFile(NamedTuple):
    """A file that matches a pattern, as it was when it was looked at.

    Attributes:
        path: its path in the folder, with `/`.
        size: bytes.
        mtime: time of the last change, in nanoseconds.
        mode: permission bits.
    """

    path: str
    size: int
    mtime: int
    mode: int


class Found:
    """The files that match, by path; and sentences about what matches and cannot be kept."""

    def __init__(self) -> None:
        self.files: dict[str, KeptFile] = {}
        self.strange: list[str] = []

    @property
    def nbytes(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files.values())


class Patterns:
    """The patterns of a user.

    Args:
        texts: the patterns.
        without: folders that are never searched: run folders.
        flag: the flag that gives them, for messages.

    Raises:
        UsageError: a pattern is absolute, empty, or leaves the folder.
    """

    def __init__(self, texts: Sequence[str], without: Iterable[Path] = (), flag: str = "--keep") -> None:
        self._patterns = frozenset(_parsed(text, flag) for text in texts)
        self._without = {os.path.realpath(path) for path in without}

    def __bool__(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._patterns)

    def match(self, path: str) -> bool:
        """Whether a path names a file that the patterns name. False for any path that could leave the folder."""
        parts = path.split("/")
        if len(parts) > DEEPEST or not all(map(_is_name, parts)):
            return False
        states = self._patterns
        for part in parts:
            states = _after(states, part)
        return () in states

    def reaches(self, path: str) -> bool:
        """Whether a pattern names something below this path by the names of its folders, and not by `**`."""
        states = self._patterns
        for part in path.split("/"):
            states = _after(states, part)
        return any(state and state[0] != "**" for state in states)

    def find(self, folder: Path) -> Found:
        """The files below a folder that match. Links are not followed.

        Raises:
            UsageError: there are too many.
            OSError: a folder cannot be read.
        """
        found = Found()
        waiting = [(folder, "", self._patterns)] if self._patterns else []
        while waiting:
            place, before, patterns = waiting.pop()
            for entry in _entries(place):
                states = _after(patterns, entry.name)
                if not states or entry.name.startswith(TEMPORARY):
                    continue
                path, mode = before + entry.name, entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode) and _is_name(entry.name) and path.count("/") < DEEPEST - 1:
                    if os.path.realpath(entry.path) not in self._without:
                        waiting.append((Path(entry.path), f"{path}/", states))
                elif stat.S_ISREG(mode) and () in states and _is_name(entry.name):
                    self._add(found, path, entry)
                elif () in states or stat.S_ISLNK(mode):
                    found.strange.append(_complaint(path, mode))
        return found

    def around(self, folder: Path) -> Iterator[tuple[str, bool]]:
        """Paths of all that no pattern names; and whether each is a folder that may have something that one names.

        Nothing below the other folders is named, and they come without their contents.
        """
        waiting = [(folder, "", self._patterns)]
        while waiting:
            place, before, patterns = waiting.pop()
            for entry in _entries(place):
                states, path = _after(patterns, entry.name), before + entry.name
                if () in states or os.path.realpath(entry.path) in self._without:
                    continue
                inside = bool(states) and entry.is_dir(follow_symlinks=False)
                yield path, inside
                if inside:
                    waiting.append((Path(entry.path), f"{path}/", states))

    def _add(self, found: Found, path: str, entry: os.DirEntry[str]) -> None:
        about = entry.stat(follow_symlinks=False)
        found.files[path] = KeptFile(path, about.st_size, about.st_mtime_ns, stat.S_IMODE(about.st_mode) & 0o777)
        if len(found.files) > MOST:
            raise UsageError(
                f"--keep matches more than {MOST} files, the limit of one checkpoint. Keep fewer, or write them into "
                "one archive."
            )


def _parsed(text: str, flag: str) -> Pattern:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith(("/", "~")) or ".." in parts or not parts or _HARMFUL.search(text):
        raise UsageError(
            f"{flag} {text!r:.200} does not name files in the folder in which the command runs; expected a relative "
            "path or pattern without '..', such as 'out' or 'checkpoints/*.pt'. Nothing was started."
        )
    kept: list[str] = []
    for part in parts:
        if part != "**" or kept[-1:] != ["**"]:
            kept.append(part)
    if kept[-1] == "**":
        kept[-1] = "*"  # a matched folder is kept with all that is in it
    return tuple(kept)


def _after(patterns: frozenset[Pattern], name: str) -> frozenset[Pattern]:
    """What is left of the patterns after a folder or file of this name; () stands for a complete match."""
    return frozenset(rest for pattern in patterns for rest in _rest(pattern, name))


def _rest(pattern: Pattern, name: str) -> Iterator[Pattern]:
    if not pattern:
        yield ()
    elif pattern[0] == "**":
        yield from _rest(pattern[1:], name)
        if not name.startswith("."):
            yield pattern
    elif _fits(name, pattern[0]):
        yield pattern[1:]


def _fits(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return bool(_compiled(pattern).match(name))


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def _is_name(name: str) -> bool:
    """Whether this can be a name of a kept file: on every system, and in JSON."""
    if name in ("", ".", "..") or _HARMFUL.search(name):
        return False
    try:
        return len(name.encode()) <= 255
    except UnicodeEncodeError:
        return False


def _entries(place: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
        return sorted(entries, key=lambda entry: entry.name)
    return []


def _complaint(path: str, mode: int) -> str:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return (
            f"{path!r:.300} is not kept: its name has a control character or backslash, is no UTF-8, or is nested too "
            "deep."
        )
    kind = "a link" if stat.S_ISLNK(mode) else "a special file"
    return f"{path!r:.300} is {kind} and is not kept: --keep takes plain files in the folder in which the command runs."
