"""Slurm's commands: sbatch, squeue, scancel and scontrol, with bounds on their time.

Source: the manual pages of Slurm 22.05 and 24.11. The text of errors was read from 22.05.8.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.config.units import format_seconds
from outlast.errors import AnswerLost, LaunchError, LaunchRefused, UsageError
from outlast.launch.keeper import inherited_from
from outlast.terminal import shortened

_PAUSE = 5.0  # seconds between two tries

_SILENT = re.compile("Unable to contact slurm controller|Connection refused", re.IGNORECASE)
_LOST = re.compile("Socket timed out|Zero Bytes were transmitted", re.IGNORECASE)
_FULL = re.compile("(Max|Grp)SubmitJob|queue full|temporarily unable to accept job", re.IGNORECASE)
"""Answers of sbatch: nothing was submitted; it may have been; as many jobs as allowed are there."""

_PAIR = re.compile(r"(\w+)=(\S*)")
_ROW = re.compile(r"([1-9][0-9]{0,11})(?:_\S*)?\|([A-Z_]{1,40})\|([^|]*)\|(.*)")
_NUMBER = re.compile(r"[1-9][0-9]{0,11}")  # of a job


@dataclass(frozen=True)
class Job:
    """A job that Slurm knows.

    Attributes:
        number: its id.
        state: the state, such as PENDING or RUNNING.
        reason: why it waits or how it ended, such as Resources; "None" without a reason.
    """

    number: int
    state: str
    reason: str


class Scheduler:
    """The Slurm cluster of this machine.

    Args:
        patience: seconds for which a question is repeated while Slurm does not answer.
        sleep: waits some seconds.
        timeout: seconds that one command may take. A client of Slurm repeats its question by itself.
    """

    def __init__(
        self, patience: float = 600.0, sleep: Callable[[float], None] = time.sleep, timeout: float = 60.0
    ) -> None:
        self._patience, self._sleep, self._timeout = patience, sleep, timeout

    def submit(self, name: str, script: Path) -> int:
        """Submit a script as a job of this name; returns the job's id.

        Raises:
            UsageError: there is no Slurm on this machine.
            LaunchRefused: Slurm refused the job.
            AnswerLost: the job may have been submitted.
        """
        try:
            done = self._run(["sbatch", "--parsable", f"--job-name={name}", str(script)])
            told, number = _told(done.stderr, done.returncode), done.stdout.strip().partition(";")[0]
        except subprocess.TimeoutExpired as error:
            told, number = _told((error.stderr or b"").decode("utf-8", errors="replace")), ""
            if not _FULL.search(told):
                raise AnswerLost(
                    f"sbatch has not answered for {self._timeout:g} s, so the job may have been submitted."
                ) from error
            if job := self.find(name, script):  # it was told to wait, tries again by itself, and was ended
                return job.number
        if _NUMBER.fullmatch(number):
            return int(number)
        if _LOST.search(told):
            raise AnswerLost(f"sbatch answered {shortened(told, 300)!r}, so the job may have been submitted.")
        if _SILENT.search(told):
            raise LaunchRefused(f"Slurm does not answer: {shortened(told, 300)}. Nothing was started.", "moment")
        raise LaunchRefused(
            f"Slurm refused the job: {shortened(told, 500)}. Nothing was started. The job's flags are those of "
            "--sbatch and --time.",
            "full" if _FULL.search(told) else "",
        )

    def find(self, name: str, script: Path) -> Job | None:
        """The newest own job of this name that runs this script; None if Slurm knows none (any more)."""
        words = ["squeue", "--noheader", "--me", "--states=all", f"--name={name}", "--format=%i|%T|%r|%o"]
        rows = [_ROW.fullmatch(line) for line in self._ask(words).splitlines()]
        found = [Job(int(row[1]), row[2], shortened(row[3], 200)) for row in rows if row and row[4] == str(script)]
        return max(found, key=lambda job: job.number, default=None)

    def cancel(self, job: int, *, signal: str | None = None) -> None:
        """End a job, or send a signal to its script alone. A job that has ended is unchanged."""
        words = ["scancel", *([f"--signal={signal}", "--batch"] if signal else []), str(job)]
        self._ask(words, harmless=re.compile("Invalid job id|already completing or completed", re.IGNORECASE))

    def longest(self, partition: str | None) -> float | None:
        """Seconds that a job may run if it does not say how long: the partition's limit; None if it has none.

        Args:
            partition: its name; None: the default partition.

        Raises:
            UsageError: there is no such partition.
        """
        rows = [dict(_PAIR.findall(line)) for line in self._ask(["scontrol", "show", "partition", "-o"]).splitlines()]
        names = (partition or "").split(",")
        chosen = [
            row for row in rows if (row.get("PartitionName") in names if partition else row.get("Default") == "YES")
        ]
        if not chosen:
            known = ", ".join(sorted(row["PartitionName"] for row in rows if "PartitionName" in row))
            what = f"no partition {shortened(repr(partition))}" if partition else "no default partition"
            raise UsageError(f"Slurm has {what}; expected one of {known or 'none'}. Give --sbatch partition=NAME.")
        return min((limit for row in chosen if (limit := _limit(row)) is not None), default=None)

    def _ask(self, words: Sequence[str], harmless: re.Pattern[str] | None = None) -> str:
        """What a command prints. It is repeated while Slurm does not answer.

        Raises:
            UsageError: there is no Slurm on this machine.
            LaunchError: it did not answer in time, or with an error.
        """
        until = time.monotonic() + self._patience
        while True:
            try:
                done = self._run(words)
            except subprocess.TimeoutExpired:
                told, silent = f"no answer for {self._timeout:g} s", True
            else:
                told = _told(done.stderr, done.returncode)
                if done.returncode == 0 or (harmless and harmless.search(told)):
                    return done.stdout
                silent = bool(_SILENT.search(told) or _LOST.search(told))
            if not silent:
                raise LaunchError(f"{words[0]} failed: {shortened(told, 500)}. The session is unchanged.")
            if time.monotonic() >= until:
                raise LaunchError(
                    f"Slurm has not answered for {format_seconds(self._patience)}: {shortened(told, 300)}. Run the "
                    "same command when it does; nothing is lost."
                )
            self._sleep(_PAUSE)

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        program = shutil.which(words[0])
        if program is None:
            raise UsageError(
                f"There is no program {words[0]} on this machine; expected a login node of a Slurm cluster. Run the "
                "same command there, or choose another --on."
            )
        return subprocess.run(
            [program, *words[1:]],
            env=variables(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=self._timeout,
            check=False,
        )


def _limit(row: Mapping[str, str]) -> float | None:
    """The limit of a job without --time in a partition, in seconds; None without one."""
    found = [seconds_of(row.get(name, "")) for name in ("DefaultTime", "MaxTime")]
    return next((seconds for seconds in found if seconds is not None), None)


def seconds_of(text: str) -> float | None:
    """A time of Slurm (`days-hours:minutes:seconds`) in seconds; None for UNLIMITED, NONE and any other text."""
    found = re.fullmatch(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,9}):([0-9]{1,2})", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 86400.0 * days + 3600 * hours + 60 * minutes + seconds


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of Slurm's commands, which a job inherits.

    Those of a job in which this process may run are omitted: SLURM_MEM_PER_NODE would limit the new one. Times are
    printed as Unix time.
    """
    kept = {
        name: value
        for name, value in inherited_from(environ).items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }
    return {**kept, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"}


def _told(text: str, code: int = 0) -> str:
    """What a command said on stderr, as one line without its name."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in text.splitlines() if line.strip()]
    return " ".join(dict.fromkeys(lines)) or f"exit code {code}"
