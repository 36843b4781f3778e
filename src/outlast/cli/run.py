"""outlast run [flags] -- COMMAND ..."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.cli import wrapped
from outlast.cli.parser import Parser, split
from outlast.environment import detect
from outlast.errors import EXIT_RUN_AGAIN, UsageError
from outlast.folder.layout import RunFolder, check_run_id, runs_root
from outlast.integrations import child, repeat
from outlast.integrations.command import Wrapped
from outlast.integrations.patterns import Patterns
from outlast.run.session import Session
from outlast.terminal import command, say

if TYPE_CHECKING:
    from outlast.remote.follow import Destination

_GRACE, _SHARE = 20.0, 0.25  # seconds that a command may take to stop, and the part of a short budget at most


def run(argv: list[str]) -> int:
    """Run a command as an attempt of a run. Returns 0, 75, 1 or 130."""
    own, words = split(argv)
    values = _parser().parse(own)
    if not words:
        raise UsageError("outlast run needs a command after `--`, such as `outlast run -- python train.py`.")
    name, root = wrapped.name_of(values.name, words), runs_root(values.checkpoint_dir)
    budget = values.budget or wrapped.budget_of(os.environ.get("OUTLAST_BUDGET"))
    grace = values.grace or min(_GRACE, _SHARE * (budget or _GRACE / _SHARE))
    address = values.remote or os.environ.get("OUTLAST_REMOTE")
    folder, here = RunFolder(root / check_run_id(name)), Path.cwd()
    patterns = Patterns(values.keep, [place for place in (root, folder.path) if place.resolve() != here])
    child.check_program(words[0], here, os.environ)
    if folder.launches.exists():
        from outlast.launch.records import check_closed

        check_closed(folder)
    session = Session(detect(), budget=budget)
    session.observe_step(grace)  # so that the command is asked to stop this much earlier
    _check_budget(budget, grace, session)
    asked = Wrapped(
        tuple(words),
        here,
        folder,
        patterns,
        ranks=values.nproc,
        signal=values.signal,
        grace=grace,
        every=values.save_every or None,
        follow=_destination(address) if address else None,
    )
    code = repeat.run(asked, session, until_finished=values.until_finished)
    where = () if str(root) == "runs" else ("--checkpoint-dir", str(root))
    if code != EXIT_RUN_AGAIN:
        say(f"Look at it with: {command('outlast', 'status', name, *where)}", error=True)
    return code


def _destination(address: str) -> Destination:
    from outlast.remote.address import open_remote
    from outlast.remote.follow import Destination

    return Destination(open_remote(address))


def _parser() -> Parser:
    parser = Parser(
        "outlast run",
        "Run any command as a run that outlives its session: `outlast run --keep 'out' -- python train.py`. The "
        "command needs no change; it must continue from the files that it has written. Exit code 0: it has "
        "finished (it ended with 0, unasked). 75: run it again.",
    )
    add = parser.add_argument
    wrapped.add_flags(parser)
    add("--until-finished", action="store_true", help="start the command again until it has finished")
    return parser


def _check_budget(budget: float | None, grace: float, session: Session) -> None:
    if budget is not None and budget <= grace + session.reserve:
        raise UsageError(
            f"The budget of {budget:g} s leaves the command no time: {grace:g} s (--grace) are "
            f"reserved for it to stop, and {session.reserve:.1f} s for the save. Give a longer --budget or a shorter "
            "--grace. Nothing was started."
        )
