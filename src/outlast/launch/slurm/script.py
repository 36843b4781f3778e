"""The batch script of a session."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from outlast.errors import UsageError
from outlast.launch.keeper import LOG
from outlast.terminal import shortened

SCRIPT = "job.sh"

_OWN = (
    "array", "chdir", "clusters", "error", "help", "input", "job-name", "open-mode", "output", "parsable", "signal",
    "test-only", "time", "usage", "version", "wait", "wrap",
)  # fmt: skip
"""Flags of sbatch that outlast sets, or that would make another kind of job."""

_FLAG = re.compile(r"(?:--)?([a-z][a-z-]*)(?:=([^\x00-\x1f\x7f]*))?")


def flags_of(given: Sequence[str]) -> list[str]:
    """Flags of sbatch, such as "--partition=gpu", from what a user gives: with or without the two dashes.

    Raises:
        UsageError: it is no long flag, or one that outlast sets.
    """
    flags = []
    for text in given:
        found = _FLAG.fullmatch(text)
        if not found:
            raise UsageError(
                f"--sbatch {shortened(repr(text))} is no flag of sbatch; expected its long form, such as "
                "partition=gpu, gres=gpu:1 or exclusive. Nothing was started."
            )
        if found[1] in _OWN:
            why = "give --time" if found[1] == "time" else "leave it out, because outlast sets it"
            raise UsageError(f"--sbatch {found[1]} is not taken: {why}. Nothing was started.")
        flags.append(f"--{found[1]}" + (f"={found[2]}" if found[2] is not None else ""))
    return flags


def partition_of(given: Sequence[str]) -> str | None:
    """The partition that the flags name."""
    named = [flag.partition("=")[2] for flag in flags_of(given) if flag.startswith("--partition=")]
    return named[-1] if named else None


def script(name: str, folder: Path, seconds: float | None, given: Sequence[str], nodes: int | None = None) -> str:
    """The text of the script.

    Args:
        name: the job's name.
        folder: the session's folder, on a disk that the nodes see.
        seconds: the limit; None: that of the partition.
        given: flags of the user.
        nodes: number of nodes; None: one, unless a flag says otherwise.

    Raises:
        UsageError: a flag is not taken, the nodes are given twice, or Slurm could not write into a folder of this name.
    """
    if re.search(r"[\\\x00-\x1f\x7f]", str(folder)):
        raise UsageError(
            f"The folder {str(folder)!r:.300} has a backslash or a control character in its name, with which Slurm "
            "cannot name a log. Use another --checkpoint-dir. Nothing was started."
        )
    flags = flags_of(given)
    if nodes is not None and any(flag.partition("=")[0] == "--nodes" for flag in flags):
        raise UsageError(f"--nodes {nodes} and --sbatch nodes are given; expected one of them. Nothing was started.")
    minutes = None if seconds is None else max(1, -(-int(seconds) // 60))
    warning = 60 if minutes is None else min(60, 6 * minutes)
    lines = [
        f"--job-name={name}",
        f"--chdir={_quoted(str(folder))}",
        f"--output={_quoted(str(folder / LOG).replace('%', '%%'))}",  # % begins a pattern
        "--open-mode=append",  # a job that Slurm starts again would truncate it
        "--requeue",
        f"--signal=B:USR1@{warning}",
        *([] if minutes is None else [f"--time={minutes}"]),
        *([] if nodes is None else [f"--nodes={nodes}"]),
        *map(_quoted, flags),
    ]
    command = shlex.join([sys.executable, "-P", "-m", "outlast.launch.slurm.job", str(folder)])
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in lines),
            f"export PYTHONPATH={shlex.quote(str(folder / 'code'))}${{PYTHONPATH:+:$PYTHONPATH}}",
            f"exec {command}",
            "",
        ]
    )


def _quoted(text: str) -> str:
    """A value in a line of #SBATCH, which understands double quotes and backslashes as a shell does."""
    return text if re.fullmatch(r"[\w./:=,@%+-]+", text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
