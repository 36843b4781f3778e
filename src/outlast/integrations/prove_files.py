"""`outlast prove --keep GLOB`: a command without outlast, undisturbed and interrupted, must write the same.

Each training runs under `outlast run`, in a copy of the working folder, with links to what is large. What `--keep`
names is not in it: the command begins anew.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from outlast.checkpoint import CheckpointStore
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, OutlastError, UsageError
from outlast.folder import durable, lock
from outlast.folder.attempt import read_record
from outlast.folder.layout import RunFolder
from outlast.integrations.patterns import Patterns
from outlast.integrations.prove import WORDS, Asked, Verdict, tail_of
from outlast.integrations.traces import contents
from outlast.terminal import counted

_NAME = "prove"
_POLL = 0.02  # seconds between two looks
_SMALL, _MOST_COPIED, _FEW = 2**20, 2**27, 500  # bytes of a file, and of all, that are copied; entries of such a folder
_MOST_ENDS = 20  # ends with 75 that nobody asked for


_HOWS = ("kill", "term")  # at the end of a budget, `outlast run` does what it does at SIGTERM


def prove(asked: Asked, keep: Sequence[str]) -> Verdict:
    """Train and compare.

    Args:
        asked: what is proved; `steps` is not used.
        keep: the patterns of the files.

    Raises:
        UsageError: the command writes none of the files, or only at its end.
        OutlastError: it fails.
    """
    whole = _Training(asked, keep, "undisturbed")
    writing = whole.run()
    one = whole.files()
    draw, cut = random.Random(asked.seed), _Training(asked, keep, "interrupted")  # noqa: S311 - moments, no secrets
    done: list[str] = []
    for number in range(asked.kills):
        how = _HOWS[number % len(_HOWS)]
        if not cut.interrupt(how, writing / (asked.kills + 1) * draw.random()):
            break
        done.append(f"{WORDS[how]} after {cut.seconds:.1f} s")
        asked.tell(f"interruption {number + 1} of {asked.kills}: {done[-1]}")
    if not done:
        raise UsageError(
            "The command had finished before it could be interrupted: it writes what --keep names only at its end, or "
            "is too short. Nothing was proved."
        )
    cut.run()
    other, did = cut.files(), ", ".join(done)
    differing = _unlike(one, other)
    compared = f"compared byte for byte: {counted(len(one), 'file')}"
    if not differing:
        return Verdict(True, (f"identical: {did}", compared))
    asked.tell("they differ; training undisturbed once more, to see whether it equals itself")
    twice = _Training(asked, keep, "again")
    twice.run()
    noise = _unlike(one, twice.files())
    left = [path for path in differing if path not in noise]
    if left:
        cause = "state not kept"
        words = (
            "Two undisturbed trainings are equal. What the command does not write is lost at each stop: random "
            "generators, the position in the data, a scheduler, an average of the weights. Write them, or use "
            "outlast.open_run, for which `outlast prove` names the part."
        )
    else:
        cause = "not reproducible"
        words = (
            "Two undisturbed trainings differ there as well, so nothing is proved of it: a generator is not seeded, an "
            "operation is not deterministic, or the file holds a time. Seed it, or leave that file out of --keep."
        )
    lines = (f"differs: in {_named(left or differing)}", f"cause: {cause}. {words}", f"trained: {did}")
    return Verdict(False, lines, cause)


class _Training:
    """The command under `outlast run`, in one attempt or several.

    Attributes:
        seconds: how long the command ran in the last attempt that was interrupted.
    """

    def __init__(self, asked: Asked, keep: Sequence[str], what: str) -> None:
        self._asked, self._keep, self._what = asked, keep, what
        self._root, self._work = asked.place / what / "runs", asked.place / what / "work"
        self._run, self._patterns = RunFolder(self._root / _NAME), Patterns(keep, [asked.place])
        self._started, self.seconds = 0, 0.0
        _Copy(asked.folder, self._work, self._patterns)

    def run(self) -> float:
        """Run the command until it has finished; returns the seconds from its first file to its end."""
        for _ in range(_MOST_ENDS):
            process, begun = self._start()
            wrote = self._wait_for_files(process)
            code = self._wait(process, None)
            if code == EXIT_FINISHED:
                now = time.monotonic()
                self._asked.tell(f"{self._what}: done in {now - begun:.1f} s")
                return now - (wrote or now)
            if code != EXIT_RUN_AGAIN:
                raise self._failed(code)
        raise OutlastError(f"The command ended {_MOST_ENDS} times with exit code {EXIT_RUN_AGAIN} and never with 0.")

    def interrupt(self, how: str, after: float) -> bool:
        """Run the command and interrupt it, some seconds after it has written; returns whether it had not finished."""
        process, begun = self._start()
        wrote = self._wait_for_files(process)
        if wrote is not None and self._wait(process, wrote + after) is None:
            self.seconds = time.monotonic() - begun
            if how == "term":
                process.send_signal(signal.SIGTERM)
            else:
                self._kill_command()
        code = self._wait(process, None)
        if code not in (EXIT_FINISHED, EXIT_RUN_AGAIN):
            raise self._failed(code)
        return code == EXIT_RUN_AGAIN

    def files(self) -> dict[str, str]:
        """Path -> hash of what was kept at the end.

        Raises:
            UsageError: nothing was.
        """
        found = CheckpointStore(self._run).committed()
        files = contents(found[-1].path).get("files", {}) if found else {}
        if not files.keys() - {""}:
            raise UsageError(f"The command has written nothing that --keep names: {', '.join(self._keep)}.")
        return {path: hashed for path, hashed in files.items() if path}

    def _start(self) -> tuple[subprocess.Popen[bytes], float]:
        """Start `outlast run`, and wait until the command runs."""
        self._started += 1
        before = self._run.attempt_numbers()
        words = ["--name", _NAME, "--checkpoint-dir", str(self._root), "--save-every", "never"]
        words += [word for glob in self._keep for word in ("--keep", glob)]
        with open(self._output, "wb") as file:  # noqa: PTH123
            process = subprocess.Popen(
                [sys.executable, "-m", "outlast", "run", *words, "--", *self._asked.argv],
                cwd=self._work, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        while self._wait(process, time.monotonic() + _POLL) is None and not self._processes(before):
            pass
        return process, time.monotonic()

    def _wait_for_files(self, process: subprocess.Popen[bytes]) -> float | None:
        """When the command wrote to what is kept; None if it ended before."""
        before = self._patterns.find(self._work).files
        while self._wait(process, time.monotonic() + _POLL) is None:
            if self._patterns.find(self._work).files != before:
                return time.monotonic()
        return None

    def _processes(self, before: Sequence[int] = ()) -> list[list[int]]:
        """Number and beginning of the command's processes, in an attempt that was not there before."""
        numbers = [number for number in self._run.attempt_numbers() if number not in before]
        record = read_record(self._run, numbers[-1]) if numbers else {}
        return list(record.get("command", {}).get("processes", ()))

    def _kill_command(self) -> None:
        for pid, began in self._processes():
            if lock.start_of(pid) == began:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _wait(self, process: subprocess.Popen[bytes], until: float | None) -> int | None:
        """The exit code; None if the process runs at that time."""
        try:
            return process.wait(None if until is None else max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        except BaseException:
            process.terminate()  # it asks the command to stop
            process.wait()
            raise

    @property
    def _output(self) -> Path:
        return self._asked.place / f"{self._what}-{self._started}.log"

    def _failed(self, code: int | None) -> OutlastError:
        return OutlastError(
            f"The command failed in the {self._what} training (exit code {code}). Its output ends with:\n"
            f"{tail_of(self._output)}"
        )


class _Copy:
    """A folder with what is in another one, but for what the patterns name: small files, and links to what is large."""

    def __init__(self, folder: Path, target: Path, patterns: Patterns) -> None:
        self._left = _MOST_COPIED
        durable.make_folder(target)
        for path, is_folder in patterns.around(folder):
            if is_folder:
                (target / path).mkdir()
            else:
                self._bring(folder / path, target / path)

    def _bring(self, source: Path, target: Path) -> None:
        about = source.lstat()
        if stat.S_ISREG(about.st_mode) and about.st_size <= min(_SMALL, self._left):
            self._left -= about.st_size
            shutil.copy2(source, target)
        elif stat.S_ISDIR(about.st_mode) and source.name[0] != "." and len(inside := os.listdir(source)) <= _FEW:  # noqa: PTH208
            target.mkdir()
            for name in inside:
                self._bring(source / name, target / name)
        else:
            target.symlink_to(source)


def _unlike(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def _named(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
