"""outlast run [flags] -- COMMAND ..."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from outlast.cli.parser import Parser, seconds, split
from outlast.config.units import parse_seconds
from outlast.environment import detect
from outlast.errors import EXIT_RUN_AGAIN, UsageError
from outlast.folder.layout import RunFolder, check_run_id
from outlast.integrations import child, repeat
from outlast.integrations.command import Wrapped
from outlast.integrations.patterns import Patterns
from outlast.remote.address import open_remote
from outlast.remote.follow import Destination
from outlast.run.session import Session
from outlast.terminal import command, say

_GRACE, _SHARE = 20.0, 0.25  # seconds that a command may take to stop, and the part of a short budget at most
_MOST_RANKS = 1000


def run(argv: list[str]) -> int:
    """Run a command as an attempt of a run. Returns 0, 75, 1 or 130."""
    own, words = split(argv)
    values = _parser().parse(own)
    if not words:
        raise UsageError("outlast run needs a command after `--`, such as `outlast run -- python train.py`.")
    name, root = values.name or os.environ.get("OUTLAST_RUN") or _name_of(words), _root(values.checkpoint_dir)
    budget = values.budget or _budget(os.environ.get("OUTLAST_BUDGET"))
    grace = values.grace or min(_GRACE, _SHARE * (budget or _GRACE / _SHARE))
    address = values.remote or os.environ.get("OUTLAST_REMOTE")
    folder, here = RunFolder(root / check_run_id(name)), Path.cwd()
    patterns = Patterns(values.keep, [place for place in (root, folder.path) if place.resolve() != here])
    child.check_program(words[0], here, os.environ)
    session = Session(detect(), budget=budget)
    session.observe_step(grace)  # so that the command is asked to stop this much earlier
    _check_budget(budget, grace, session)
    wrapped = Wrapped(
        tuple(words),
        here,
        folder,
        patterns,
        ranks=values.nproc,
        signal=values.signal,
        grace=grace,
        every=values.save_every or None,
        follow=Destination(open_remote(address)) if address else None,
    )
    code = repeat.run(wrapped, session, until_finished=values.until_finished)
    where = () if str(root) == "runs" else ("--checkpoint-dir", str(root))
    if code != EXIT_RUN_AGAIN:
        say(f"Look at it with: {command('outlast', 'status', name, *where)}", error=True)
    return code


def _parser() -> Parser:
    parser = Parser(
        "outlast run",
        "Run any command as a run that outlives its session: `outlast run --keep 'out' -- python train.py`. The "
        "command needs no change; it must continue from the files that it has written. Exit code 0: it has "
        "finished (it ended with 0, unasked). 75: run it again.",
    )
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
        help="time of this session, such as 4h (default: OUTLAST_BUDGET)",
    )
    add("--grace", type=seconds, metavar="TIME", help="time that the command gets to stop (default: 20s)")
    add(
        "--signal",
        choices=child.SIGNALS,
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
    add("--nproc", type=_ranks, default=1, metavar="N", help="processes with the variables of torchrun (default: 1)")
    add("--until-finished", action="store_true", help="start the command again until it has finished")
    add("--remote", metavar="ADDRESS", help="push checkpoints there, and continue from there (default: OUTLAST_REMOTE)")
    add("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: OUTLAST_ROOT, or runs)")
    return parser


def _root(given: str | None) -> Path:
    return Path(given or os.environ.get("OUTLAST_ROOT") or "runs")


def _budget(text: str | None) -> float | None:
    try:
        return parse_seconds(text) if text else None
    except ValueError as error:
        raise UsageError(f"OUTLAST_BUDGET is {text!r:.100}: {error}.") from None


def _interval(text: str) -> float:
    return 0.0 if text == "never" else seconds(text)


def _ranks(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_RANKS:
        raise argparse.ArgumentTypeError(f"is {text}; expected 1 to {_MOST_RANKS}")
    return int(text)


def _name_of(words: list[str]) -> str:
    """The name of the script in a command, or else of the program."""
    script = next((word for word in words if word.endswith((".py", ".sh"))), words[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(script).stem).lstrip("._-")[:100]
    if not name:
        raise UsageError(f"{script!r:.100} gives the run no name; give --name.")
    return name


def _check_budget(budget: float | None, grace: float, session: Session) -> None:
    if budget is not None and budget <= grace + session.reserve:
        raise UsageError(
            f"The budget of {budget:g} s leaves the command no time: {grace:g} s (--grace) are "
            f"reserved for it to stop, and {session.reserve:.1f} s for the save. Give a longer --budget or a shorter "
            "--grace. Nothing was started."
        )
