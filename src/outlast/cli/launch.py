"""outlast launch RECIPE --on kaggle [flags]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from outlast import recipe as recipes
from outlast.cli import flags
from outlast.config.units import format_bytes, format_seconds
from outlast.errors import EXIT_FINISHED, UsageError

MORE: Mapping[str, Mapping[str, Any]] = {
    "on": {"choices": ("kaggle",), "help": "where to train (the only one so far: kaggle)"},
    "accelerator": {
        "choices": ("t4x2", "tpu", "cpu"),
        "default": "t4x2",
        "help": "what the session gets (default: t4x2)",
    },
    "no-internet": {"action": "store_true", "help": "start it without a connection to the outside"},
}


def run(argv: list[str]) -> int:
    """Push one attempt, or with --dry-run write what would be pushed."""
    found, request, values = flags.read("outlast launch", "Train on another machine.", argv, more=MORE)
    if found is None or values.on is None:
        raise UsageError("outlast launch needs a recipe and a place, such as `outlast launch digits --on kaggle`.")
    prepared = recipes.prepare(found, request)
    from outlast.launch.kaggle import Kaggle, find_credential
    from outlast.launch.kaggle.launch import launch, script, session_seconds

    seconds = prepared.resolved.config.budget or session_seconds(values.accelerator)
    name = prepared.run_id
    if values.dry_run:
        text, packed = script(prepared, values.accelerator, seconds)
        place = prepared.folder.path.parent / f"{name}-launch.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        print(
            f"{place} is what would be pushed: {len(packed.files)} files, {format_bytes(len(text))}, bundle {packed.hash[:12]}. It would train {name} "
            f"for {format_seconds(seconds)} at most, on {values.accelerator}. Nothing was sent."
        )
        return EXIT_FINISHED
    kaggle = Kaggle(find_credential())
    quota = kaggle.quota()
    if values.accelerator == "t4x2" and quota.gpu_left < seconds:
        print(
            f"warning: {quota.gpu_left / 3600:.1f} GPU hours are left this week and the session may take {seconds / 3600:.1f}; Kaggle stops it when they "
            "are used up, and what is not saved by then may be lost.",
            file=sys.stderr,
        )
    record = launch(kaggle, prepared, accelerator=values.accelerator, internet=not values.no_internet, seconds=seconds)
    after = f", continuing {record.record['after']}" if record.record["after"] else ""
    print(f"pushed {kaggle.user}/{record.record['slug']}{after}\n{record.record['url']}")
    print(f"Follow it with: outlast logs {name} -f · when it has ended: outlast fetch {name}")
    return EXIT_FINISHED
