"""outlast relay RECIPE --on PROVIDER [flags], or outlast relay --on PROVIDER [flags] -- COMMAND ..."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.cli.commands import CommandArguments
from outlast.cli.launch import Arguments, connect, read
from outlast.cli.parser import positive
from outlast.errors import EXIT_FINISHED, EXIT_INTERRUPTED, EXIT_RUN_AGAIN, LaunchRefused, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch.provider import Provider, Terms
from outlast.launch.records import all_launches, command_for
from outlast.launch.work import RecipeWork
from outlast.recipe import publishing
from outlast.terminal import say

OWN: Mapping[str, Mapping[str, Any]] = {
    "max-sessions": {"type": int, "metavar": "N",
        "help": "maximum number of launches (default: no limit)"},
    "max-gpu-hours": {"type": positive, "metavar": "H",
        "help": "maximum GPU hours of the run (default: no limit)"},
    "keep": {"type": int, "metavar": "N",
        "help": "number of fetched sessions that stay at the provider; older ones are deleted (default: all)"},
    "yes": {"action": "store_true", "help": "start sessions that cost money"},
    "wait": {"action": "store_true",
        "help": "wait for the quota to renew, or for a free slot, instead of stopping"},
    "ask-every": {"type": positive, "metavar": "SECONDS",
        "help": "seconds between two queries (default: that of the provider, 1 to 45)"},
}  # fmt: skip

_PATIENCE = 6 * 3600.0  # seconds: a laptop is offline for hours at times, and nothing is lost by waiting


def run(argv: list[str]) -> int:
    """Launch sessions one after the other until the run, or each stage of a recipe, is finished."""
    asked = read("outlast relay", argv, OWN, leave_out=("dry-run", "json"))
    if isinstance(asked, CommandArguments):
        return _relay_command(asked)
    runs = asked.runs()
    for each in runs:
        publishing.check(each)
    for each in runs:
        if each.resolved.config.publish.when == "finished":
            say(
                "When the run is finished and here, this machine publishes it; nothing for that is sent to a session. "
                f"By hand: {publishing.again(each)}"
            )
    provider, sessions = connect(asked, RecipeWork(runs[0]), _PATIENCE), asked.values.max_sessions
    _check_paid(asked, provider)
    for each in runs:
        if each.chain and each.recipe.stage:
            say(f"stage {each.recipe.stage.name} of {each.chain}")
        before = len(all_launches(each.folder))
        others = [other.folder for other in runs if other is not each]
        if code := _relay(asked.of(each), provider, each.folder, others, sessions, asked.values.keep):
            return code
        if sessions is not None:
            sessions = max(0, sessions - (len(all_launches(each.folder)) - before))
    for line in itertools.chain.from_iterable(map(publishing.publish, runs)):
        say(line)
    return EXIT_FINISHED


def _check_paid(asked: Arguments, provider: Provider) -> None:
    """Raise UsageError if sessions cost money and the user has not agreed to it."""
    if provider.capabilities.paid and not asked.values.yes:
        raise UsageError(
            f"Sessions on {provider.title} cost money, and a relay starts as many as the run needs. Add --yes, and "
            "--max-sessions N to bound them. Nothing was started."
        )


def _relay_command(asked: CommandArguments) -> int:
    """Launch sessions until a command has finished; then its files are restored here."""
    work = asked.work()
    asked.announce()
    provider, values = connect(asked, work, _PATIENCE), asked.values
    _check_paid(asked, provider)
    code = _relay(asked, provider, work.folder, (), values.max_sessions, values.keep_sessions)
    return code or asked.bring_home()


def _relay(
    asked: Arguments,
    provider: Provider,
    folder: RunFolder,
    others: Sequence[RunFolder],
    sessions: int | None,
    keep: int | None,
) -> int:
    """Relay one run; returns the exit code.

    Args:
        asked: the arguments for it.
        provider: the provider.
        folder: of the run.
        others: of the other stages, whose GPU hours count as well.
        sessions: most launches that are left to this command; None: no limit.
        keep: fetched sessions that stay at the provider; None: all.
    """
    from outlast.launch.relay import Bounds, Pace, relay

    values = asked.values
    bounds = Bounds(sessions, values.max_gpu_hours, others, keep, wait=values.wait)
    terms = Terms(asked.work().seconds, asked.options)
    pace = Pace(values.ask_every or provider.capabilities.ask)
    try:
        finished = relay(provider, asked.work, terms, bounds=bounds, tell=say, pace=pace)
    except LaunchRefused as error:
        if error.again != "full":
            raise
        say(f"error: {error} Run the same command later, or wait with --wait.", error=True)
        return EXIT_RUN_AGAIN
    except KeyboardInterrupt:
        end = command_for(folder, "cancel")
        how = f"Run the same command to follow it, or end it with: {end}"
        say(f"A session that was started continues. {how}", error=True)
        return EXIT_INTERRUPTED
    return EXIT_FINISHED if finished else EXIT_RUN_AGAIN
