"""A command that is launched: `outlast launch --on PROVIDER --keep out -- python train.py`.

The session runs it with `outlast run`, in a folder that has the user's code. Outputs that `--keep` names travel as
checkpoints. Where a session can read the folders of this machine, everything else that lies beside the code, such as
data, is a link in its folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.checkpoint import Checkpoint, Retention
from outlast.errors import SecretFound, UsageError
from outlast.folder import plain
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.launch import bundle
from outlast.launch.inside import COMMAND
from outlast.publish import secrets
from outlast.report import read_run
from outlast.terminal import shortened

LARGEST_TEXT = 2**20
"""Bytes of a file, other than Python code, above which it counts as data, and is sent only when it is named."""

MOST_LINKS = 500
"""Entries beside the code, of which each becomes a link in the folder of a session."""


@dataclass(frozen=True)
class CommandWork:
    """The run of a command (see `outlast.launch.work.Work`).

    Attributes:
        words: the command.
        digest: what `outlast run` records of it.
        here: the folder in which it was typed.
        folder: the run folder.
        kept: whether `--keep` names a path in that folder.
        reaches: whether a folder may have something that `--keep` names.
        flags: the flags of `outlast run` in a session.
        send: further files that are sent.
        left: whether `--leave-out` names a path in the folder.
        links: whether a session can read the folders of this machine.
        seconds: the budget of a session, or None.
        remote: the remote that follows the run, or None.
    """

    words: Sequence[str]
    digest: str
    here: Path
    folder: RunFolder
    kept: Callable[[str], bool]
    reaches: Callable[[str], bool]
    flags: Sequence[str] = ()
    send: Sequence[str] = ()
    left: Callable[[str], bool] = lambda _: False
    links: bool = False
    seconds: float | None = None
    remote: str | None = None
    fork_of: Checkpoint | None = None
    best: Retention = field(default_factory=Retention)

    def __post_init__(self) -> None:
        """Raise SecretFound if the words hold a secret: the files of a session have them."""
        kinds = secrets.in_text("\n".join(self.words), secrets.known_values())
        if kinds:
            raise SecretFound(
                f"The words of the command hold {kinds[0]}, and a session keeps them in a file. Nothing was started. "
                "Let the command read it from a variable of the environment."
            )

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.folder.path.name

    def remote_in(self, file: Path | None) -> str | None:  # noqa: ARG002 - as all
        """None: `outlast run` reads no environment file."""
        return None

    def files(self) -> bundle.Files:
        """Code in the folder of the command, and files that its words or `--send` name.

        Raises:
            UsageError: they are too large, or --send names a file that is not there or may hold keys.
        """
        found = bundle.code_below(self.here, COMMAND, skip=lambda path: self._stays(path) or self._is_data(path))
        paths, left_out = dict(found.paths), list(found.left_out)
        for name in (*self.send, *self._named()):
            asked = name in self.send
            if not asked and (self._stays(name) or name in left_out or (self.links and self._is_data(name))):
                continue
            if bundle.may_hold_keys(Path(name).name) and Path(name).suffix != ".py":
                if asked:
                    raise UsageError(
                        f"--send {shortened(name)}: its name looks like that of a file with keys, which are not sent. "
                        "Nothing was started."
                    )
                left_out.append(name)
                continue
            paths[f"{COMMAND}/{name}"] = self.here / name
        files = bundle.Files(paths, tuple(sorted(set(left_out))))
        bundle.check_size(
            files,
            f"The folder {self.here}",
            "Leave out what is no code with --leave-out GLOB, and give data to the session in another way: on this "
            "machine and on Slurm it gets links to what is not sent, on Kaggle attach a dataset (--dataset "
            "OWNER/SLUG).",
        )
        return files

    def asked(self, *, budget: float, step: int = 0) -> dict[str, Any]:
        """The command, its flags, and the links to what is not sent."""
        return {
            "command": list(self.words),
            "flags": list(self.flags),
            "links": dict(self._linked()) if self.links else {},
            "run": self.run_id,
            "budget": budget,
            "values": {"remote": self.remote} if self.remote else {},
            "ranks": False,
            "packages": [],
            "step": step,
        }

    def recorded(self, *, budget: float) -> dict[str, Any]:
        """The digest in place of the words, which may hold something private."""
        return {"command": self.digest, "flags": list(self.flags), "run": self.run_id, "budget": budget}

    def inputs(self) -> Mapping[RunFolder, int]:
        """None."""
        return {}

    def is_finished(self) -> bool:
        """Whether this very command has finished."""
        if not plain.kind_of(self.folder.run) or read_run(self.folder.path).status != "finished":
            return False
        records = (read_record(self.folder, number) for number in reversed(self.folder.attempt_numbers()))
        newest = next((record for record in records if "command" in record), {})
        return bool(newest.get("command", {}).get("digest") == self.digest)

    def stays_here(self) -> list[str]:
        """Words of the command that name a file or folder of this machine which is neither sent nor kept."""
        sent = self.files().paths
        found = []
        for word in self.words[1:]:
            for text in {word, word.partition("=")[2]}:
                if text and _exists(self.here / text) and f"{COMMAND}/{os.path.normpath(text)}" not in sent:
                    path = self._inside(text)
                    folder_of_sent = path and any(name.startswith(f"{COMMAND}/{path}/") for name in sent)
                    if path is None or not (path == "." or self.kept(path) or self.reaches(path) or folder_of_sent):
                        found.append(text)
        return found

    def _named(self) -> Iterator[str]:
        """Paths of files in the folder that the words name."""
        for word in self.words:
            for text in (word, word.partition("=")[2]):
                path = self._inside(text)
                if path and plain.kind_of(self.here / path) == "file":
                    yield path

    def _inside(self, text: str) -> str | None:
        """A word as a path in the folder, or None."""
        path = os.path.normpath(text) if text and "\0" not in text else ""
        if not path or os.path.isabs(path) or path.split("/")[0] == "..":  # noqa: PTH117
            return None
        return path

    def _stays(self, path: str) -> bool:
        """Whether a path is an output, or a run folder."""
        return (
            self.kept(path)
            or self.left(path)
            or (self.here / path).resolve().is_relative_to(self.folder.path.parent.resolve())
        )

    def _is_data(self, path: str) -> bool:
        """Whether a file is too large for code that is text."""
        place = self.here / path
        return not path.endswith(".py") and plain.kind_of(place) == "file" and place.stat().st_size > LARGEST_TEXT

    def _linked(self) -> Iterator[tuple[str, str]]:
        """What lies beside the code: path in the folder -> where it is.

        Raises:
            UsageError: there are too many.
        """
        sent = {name.partition("/")[2] for name in self.files().paths}
        folders = {parent.as_posix() for name in sent for parent in Path(name).parents}
        runs, waiting, count = self.folder.path.parent.resolve(), [""], 0
        while waiting:
            place = waiting.pop()
            for entry in sorted(os.scandir(self.here / place), key=lambda each: each.name):
                path = f"{place}{entry.name}"
                if path in sent or self.kept(path) or entry.name == "__pycache__":
                    continue
                if Path(entry.path).resolve() == runs:
                    continue
                if entry.is_dir(follow_symlinks=False) and path in folders:
                    waiting.append(f"{path}/")
                    continue
                if self.reaches(path):
                    continue  # outputs of this machine, beside those that are kept
                count += 1
                if count > MOST_LINKS:
                    raise UsageError(
                        f"{self.here} has more than {MOST_LINKS} files and folders beside the code, and the session "
                        "would get a link to each. Put data into a folder. Nothing was started."
                    )
                yield path, str(Path(entry.path).absolute())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
