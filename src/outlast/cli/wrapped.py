"""The flags of a wrapped command, which `run`, `launch` and `relay` share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from outlast.cli.parser import Parser, seconds, whole
from outlast.config.units import parse_seconds
from outlast.errors import UsageError
from outlast.integrations.child import SIGNALS

_MOST_RANKS = 1000


def add_flags(parser: Parser) -> None:
    """Add the flags of a wrapped command."""
    add = parser.add_argument
    add("--name", metavar="NAME", help="the run's name (default: OUTLAST_RUN, or the name of the script)")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="GLOB",
        help="outputs that are kept as checkpoints and restored before the command starts: a file, a folder or a "
        "pattern, relative to the working folder; may be repeated",
    )
    add(
        "--budget",
        type=seconds,
        metavar="TIME",
        help="time of a session, such as 4h (default: OUTLAST_BUDGET)",
    )
    add("--grace", type=seconds, metavar="TIME", help="time that the command gets to stop (default: 20s)")
    add(
        "--signal",
        choices=SIGNALS,
        default="TERM",
        help="signal that asks the command to stop; a file at the path in OUTLAST_STOP_FILE appears as well "
        "(default: TERM)",
    )
    add(
        "--save-every",
        type=_interval,
        default=600.0,
        metavar="TIME",
        help="time between two checkpoints while the command runs, or never (default: 10m)",
    )
    add("--nproc", type=ranks, default=1, metavar="N", help="processes with the variables of torchrun (default: 1)")
    add("--remote", metavar="ADDRESS", help="push checkpoints there, and continue from there (default: OUTLAST_REMOTE)")
    parser.add_runs_folder()


def budget_of(text: str | None) -> float | None:
    """The budget in OUTLAST_BUDGET, in seconds."""
    try:
        return parse_seconds(text) if text else None
    except ValueError as error:
        raise UsageError(f"OUTLAST_BUDGET is {text!r:.100}: {error}.") from None


def flags_of(values: argparse.Namespace) -> list[str]:
    """The flags that say how a command is run, for another machine: those that were given."""
    usual = {"signal": "TERM", "save_every": 600.0, "nproc": 1, "grace": None}
    given = {name: getattr(values, name) for name, default in usual.items() if getattr(values, name) != default}
    if "grace" in given:
        given["grace"] = f"{given['grace']:g}s"
    if "save_every" in given:
        given["save_every"] = f"{given['save_every']:g}s" if given["save_every"] else "never"
    keep = [f"--keep={glob}" for glob in values.keep]
    return [*keep, *(f"--{name.replace('_', '-')}={value}" for name, value in given.items())]


def _interval(text: str) -> float:
    return 0.0 if text == "never" else seconds(text)


def ranks(text: str) -> int:
    """The value of --nproc."""
    return whole(text, 1, _MOST_RANKS)


def name_of(given: str | None, words: Sequence[str]) -> str:
    """The name of a run: --name, OUTLAST_RUN, or that of the script in a command, or else of the program."""
    if given or (given := os.environ.get("OUTLAST_RUN")):
        return given
    script = next((word for word in words if word.endswith((".py", ".sh"))), words[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(script).stem).lstrip("._-")[:100]
    if not name:
        raise UsageError(f"{script!r:.100} gives the run no name; give --name.")
    return name
