"""outlast relay RECIPE --on PROVIDER [flags]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.cli.flags import positive
from outlast.cli.launch import read
from outlast.errors import EXIT_FINISHED, EXIT_INTERRUPTED, EXIT_RUN_AGAIN
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
    """Launch sessions one after the other until the run is finished."""
    asked = read("outlast relay", argv, _OWN, leave_out=("dry-run", "json"))
    from outlast.launch.records import command_for
    from outlast.launch.relay import Bounds, Pace, relay

    prepared, values = asked.prepared(), asked.values
    publishing.check(prepared)
    if prepared.resolved.config.publish.when == "finished":
        say(
            "When the run is finished and here, this machine publishes it; nothing for that is sent to a session. By "
            f"hand: {publishing.again(prepared)}"
        )
    provider = asked.provider(prepared, _PATIENCE)
    bounds = Bounds(values.max_sessions, values.max_gpu_hours, values.keep, wait=values.wait)
    pace = Pace(values.ask_every or provider.capabilities.ask)
    try:
        finished = relay(provider, asked.prepared, asked.terms(prepared), bounds=bounds, tell=say, pace=pace)
    except KeyboardInterrupt:
        end = command_for(prepared.folder, "cancel")
        how = f"Run the same command to follow it, or end it with: {end}"
        say(f"A session that was started continues. {how}", error=True)
        return EXIT_INTERRUPTED
    if not finished:
        return EXIT_RUN_AGAIN
    for line in publishing.publish(prepared):
        say(line)
    return EXIT_FINISHED
