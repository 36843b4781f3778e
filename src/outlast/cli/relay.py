"""outlast relay RECIPE --on kaggle [flags]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.cli.flags import positive
from outlast.cli.launch import MORE, read, terms_of
from outlast.errors import EXIT_FINISHED
from outlast.recipe import prepare
from outlast.terminal import say

_OWN: Mapping[str, Mapping[str, Any]] = {
    **MORE,
    "max-sessions": {"type": int, "metavar": "N", "help": "launch so many at most, then stop (default: as many as it takes)"},
    "max-gpu-hours": {"type": positive, "metavar": "H", "help": "stop when the run has had so many GPU hours (default: no bound)"},
    "keep": {"type": int, "metavar": "N", "help": "keep so many fetched sessions on Kaggle, and delete older ones (default: all)"},
    "wait": {"action": "store_true", "help": "wait for next week's hours, and for a place, instead of stopping"},
    "ask-every": {"type": positive, "default": 45.0, "metavar": "SECONDS", "help": "how often to ask how it goes (default: 45)"},
}  # fmt: skip

_PATIENCE = 6 * 3600.0  # seconds: a laptop is offline for hours at times, and nothing is lost by waiting


def run(argv: list[str]) -> int:
    """Launch sessions one after the other until the run is finished."""
    found, request, values, settings = read("outlast relay", argv, _OWN, leave_out=("dry-run", "json"))
    from outlast.launch.kaggle import Bounds, Kaggle, Pace, check_user, find_credential, relay

    kaggle = Kaggle(find_credential(), patience=_PATIENCE)
    check_user(kaggle, settings.user)
    relay(
        kaggle,
        lambda: prepare.prepare(found, request),
        terms_of(values, prepare.prepare(found, request)),
        bounds=Bounds(values.max_sessions, values.max_gpu_hours, values.keep, wait=values.wait),
        tell=say,
        pace=Pace(values.ask_every),
    )
    return EXIT_FINISHED
