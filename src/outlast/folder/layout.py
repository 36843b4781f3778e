"""The names of a run folder's files. docs/reference/format.md is the specification."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from outlast.errors import UnsafeFolder, UsageError
from outlast.folder.plain import entries, kind_of

FORMAT = 2
"""Version of the run folder that is written; docs/reference/format.md says what may change without raising it."""


FORMATS = (1, 2)
"""Versions that are read."""


MANIFEST = "MANIFEST.json"


SHARED = "shared"
"""Folder of the files to which several checkpoints refer, beside theirs."""


STATE = "state.json"


TENSORS = ".safetensors"


TEMPORARY = ".tmp-"


RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


_STEP = re.compile(r"step-([0-9]{8,18})")


_ATTEMPT = re.compile(r"([0-9]{4,9})\.json")


_PLAIN = re.compile(r"[^./\\\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]{0,199}")


class _Place:
    """A path inside a run folder, made at the first use of the attribute."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set_name__(self, _: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, folder: RunFolder, _: type | None = None) -> Path:
        place: Path = folder.path / self._name
        folder.__dict__[self._attribute] = place
        return place


class RunFolder:
    """Paths inside one run folder. Each is made when it is asked for: a list of a thousand runs needs few of them."""

    run = _Place("run.json")
    config = _Place("config.json")
    lock = _Place("lock")
    ranks = _Place("ranks")
    journal = _Place("journal.jsonl")
    pushed = _Place("pushed.json")
    attempts = _Place("attempts")
    launches = _Place("launches")
    checkpoints = _Place("checkpoints")
    set_aside = _Place("set-aside")
    artifacts = _Place("artifacts")
    logs = _Place("logs")
    trackers = _Place("trackers")
    slots = _Place("slots")
    stop = _Place("stop")

    def __init__(self, path: Path) -> None:
        self.path = path

    def attempt(self, number: int) -> Path:
        """Path of one attempt's record."""
        return self.attempts / f"{number:04d}.json"

    def events(self, number: int) -> Path:
        """Path of the events of one attempt."""
        return self.attempts / f"{number:04d}.events.jsonl"

    def attempt_numbers(self) -> list[int]:
        """Numbers of the attempts on disk, ascending."""
        return numbers_in(self.attempts)

    def free_attempt(self, number: int) -> int:
        """This number, or the next higher one at which nothing is but a plain file."""
        return free_number(self.attempts, number)

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint at a step."""
        return self.checkpoints / step_name(step)

    def check(self) -> list[str]:
        """Refuse to write where a link or a special file is in the place of a file or folder of ours.

        Returns:
            Sentences about links that are named like checkpoints or attempts: they are left alone.

        Raises:
            UnsafeFolder: names what is there, and that nothing was touched.
        """
        folders = (
            self.attempts,
            self.launches,
            self.checkpoints,
            self.set_aside,
            self.artifacts,
            self.logs,
            self.trackers,
            self.slots,
            self.checkpoints / SHARED,
        )
        for path in (self.run, self.config, self.lock, self.ranks, self.journal, self.pushed, self.stop, *folders):
            kind, wanted = kind_of(path), "folder" if path in folders else "file"
            if kind not in (None, wanted):
                raise UnsafeFolder(
                    f"{path} is a {kind} where outlast expects its own {wanted}; outlast does not follow links out of "
                    f"a run folder. Nothing was changed. Remove it, or replace it with the real {wanted}."
                )
        named = [*entries(self.checkpoints), *entries(self.attempts)]
        return [
            f"{path} is a {kind_of(path)}, which outlast does not write there; it is ignored."
            for path in named
            if (step_of(path) is not None and kind_of(path) != "folder")
            or (_ATTEMPT.fullmatch(path.name) and kind_of(path) != "file")
        ]


def runs_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the run folders: the given one, or that of OUTLAST_ROOT, or "runs"."""
    return Path(given or os.environ.get("OUTLAST_ROOT") or "runs")


def check_run_id(run_id: str) -> str:
    """Return run_id if it can name a folder everywhere; raises UsageError otherwise."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"{run_id!r} cannot name a run: use up to 100 letters, digits, '.', '_' and '-', beginning with a letter "
            "or digit."
        )
    return run_id


def step_of(path: Path) -> int | None:
    """The step that a checkpoint folder's name states, or None for any other name."""
    return step_in(path.name)


def step_in(name: str) -> int | None:
    """The step that the name of a checkpoint's folder states, or None for any other name."""
    match = _STEP.fullmatch(name)
    step = int(match.group(1)) if match else 0
    return step if match and name == step_name(step) else None  # one name for each


def step_name(step: int) -> str:
    """The name of the folder of the checkpoint at a step."""
    return f"step-{step:08d}"


def is_plain(name: str) -> bool:
    """Whether a name can be that of a file of a checkpoint: no folders, no control characters, not hidden."""
    return bool(_PLAIN.fullmatch(name)) and len(name.encode(errors="replace")) <= 255


def number_in(name: str) -> int | None:
    """The number that the name of a record (0001.json) states, or None for any other name."""
    match = _ATTEMPT.fullmatch(name)
    number = int(match[1]) if match else 0
    return number if match and name == record_name(number) else None  # one name for each


def record_name(number: int) -> str:
    """The name of the record of an attempt or a launch."""
    return f"{number:04d}.json"


def numbers_in(folder: Path) -> list[int]:
    """Numbers of the records 0001.json and so on in a folder, ascending.

    What is no plain file of such a name does not count.
    """
    if kind_of(folder) != "folder":
        return []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        return sorted(
            number
            for each in found
            if (number := number_in(each.name)) is not None and each.is_file(follow_symlinks=False)
        )
    return []


def free_number(folder: Path, number: int) -> int:
    """This number, or the next higher one at which no folder, link or special file is in the way of a record."""
    while kind_of(folder / f"{number:04d}.json") not in (None, "file"):
        number += 1
    return number
