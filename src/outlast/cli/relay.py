"""outlast relay RECIPE --on PROVIDER [flags]."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.cli.launch import LaunchArguments, read
from outlast.cli.parser import positive
from outlast.errors import EXIT_FINISHED, EXIT_INTERRUPTED, EXIT_RUN_AGAIN
from outlast.folder.layout import RunFolder
from outlast.launch.provider import Provider
from outlast.launch.records import all_launches, command_for
from outlast.recipe import publishing
from outlast.terminal import say

_OWN: Mapping[str, Mapping[str, Any]] = {
    "max-sessions": {"type": int, "metavar": "N",
        "help": "maximum number of launches (default: no limit)"},
    "max-gpu-hours": {"type": positive, "metavar": "H",
        "help": "maximum GPU hours of the run (default: no limit)"},
    "keep": {"type": int, "metavar": "N",
        "help": "number of fetched sessions that stay at the provider; older ones are deleted (default: all)"},
    "wait": {"action": "store_true",
        "help": "wait for the quota to renew, or for a free slot, instead of stopping"},
    "ask-every": {"type": positive, "metavar": "SECONDS",
        "help": "seconds between two queries (default: that of the provider, 1 to 45)"},
}  # fmt: skip

_PATIENCE = 6 * 3600.0  # seconds: a laptop is offline for hours at times, and nothing is lost by waiting


def run(argv: list[str]) -> int:
    """Launch sessions one after the other until the run, or each stage of a recipe, is finished."""
    asked = read("outlast relay", argv, _OWN, leave_out=("dry-run", "json"))
    runs = asked.runs()
    for each in runs:
        publishing.check(each)
    for each in runs:
        if each.resolved.config.publish.when == "finished":
            say(
                "When the run is finished and here, this machine publishes it; nothing for that is sent to a session. "
                f"By hand: {publishing.again(each)}"
            )
    provider, sessions = asked.provider(runs[0], _PATIENCE), asked.values.max_sessions
    for each in runs:
        if each.chain and each.recipe.stage:
            say(f"stage {each.recipe.stage.name} of {each.chain}")
        before = len(all_launches(each.folder))
        others = [other.folder for other in runs if other is not each]
        if code := _relay(asked.of(each), provider, each.folder, others, sessions):
            return code
        if sessions is not None:
            sessions = max(0, sessions - (len(all_launches(each.folder)) - before))
    for line in itertools.chain.from_iterable(map(publishing.publish, runs)):
        say(line)
    return EXIT_FINISHED


def _relay(
    asked: LaunchArguments, provider: Provider, folder: RunFolder, others: Sequence[RunFolder], sessions: int | None
) -> int:
    """Relay one run; returns the exit code.

    Args:
        asked: the arguments for it.
        provider: the provider.
        folder: of the run.
        others: of the other stages, whose GPU hours count as well.
        sessions: most launches that are left to this command; None: no limit.
    """
    from outlast.launch.relay import Bounds, Pace, relay

    values = asked.values
    bounds = Bounds(sessions, values.max_gpu_hours, others, values.keep, wait=values.wait)
    pace = Pace(values.ask_every or provider.capabilities.ask)
    try:
        finished = relay(provider, asked.prepared, asked.terms(asked.prepared()), bounds=bounds, tell=say, pace=pace)
    except KeyboardInterrupt:
        end = command_for(folder, "cancel")
        how = f"Run the same command to follow it, or end it with: {end}"
        say(f"A session that was started continues. {how}", error=True)
        return EXIT_INTERRUPTED
    return EXIT_FINISHED if finished else EXIT_RUN_AGAIN
