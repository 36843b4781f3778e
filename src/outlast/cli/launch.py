"""outlast launch RECIPE --on kaggle [flags]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast import recipe as recipes
from outlast.cli import flags
from outlast.config.units import format_bytes, format_seconds
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.launch.records import all_launches
from outlast.launch.settings import Settings, read_settings

MORE: Mapping[str, Mapping[str, Any]] = {
    "on": {"choices": ("kaggle",), "help": "where to train (default: as `outlast kaggle setup` has written)"},
    "accelerator": {"choices": ("t4x2", "tpu", "cpu"), "help": "what the session gets (default: t4x2)"},
    "internet": {
        "action": argparse.BooleanOptionalAction,
        "default": None,
        "help": "whether the session may reach the outside (default: it may)",
    },
    "secrets": {
        "action": argparse.BooleanOptionalAction,
        "default": None,
        "help": "attach the keys of `outlast kaggle secrets push` (default: not)",
    },
    "wheels": {"type": Path, "metavar": "FOLDER", "help": "install from these wheels, for a session without internet"},
}
"""Flags that launch and relay share."""

_OWN: Mapping[str, Mapping[str, Any]] = {
    **MORE,
    "new": {"action": "store_true", "help": "refuse when this run was launched before"},
    "if-idle": {"action": "store_true", "help": "do nothing, and say so, while a session of this run is alive"},
}


def run(argv: list[str]) -> int:
    """Push one attempt, or with --dry-run write what would be pushed."""
    found, request, values, settings = read("outlast launch", argv, _OWN)
    prepared = recipes.prepare(found, request)
    from outlast.launch.kaggle import Kaggle, check_user, find_credential, launch, listen, script

    terms, name = terms_of(values, settings, prepared), prepared.run_id
    before = all_launches(prepared.folder)
    if values.new and before:
        raise UsageError(
            f"{name} was launched {len(before)} times already. Leave --new out to continue it, or choose another --experiment-name."
        )
    if values.dry_run:
        made = script(prepared, terms)
        place = prepared.folder.path.parent / f"{name}-launch.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(made.text)
        beside = (
            f", and the private dataset {made.dataset} with {format_bytes(len(made.bundle.data))}"
            if made.dataset
            else ""
        )
        print(
            f"{place} is what would be pushed: {len(made.bundle.files)} files, {format_bytes(len(made.text))}, bundle {made.bundle.hash[:12]}{beside}. It "
            f"would train {name} for {format_seconds(terms.budget)} at most, on {terms.accelerator}. Nothing was sent."
        )
        return EXIT_FINISHED
    kaggle = Kaggle(find_credential())
    check_user(kaggle, settings.user)
    if values.if_idle and before and (state := listen(kaggle, before[-1])) in ("queued", "running", "saving"):
        print(f"{before[-1].record['slug']} is {state}; pushing has started it. Follow it with: outlast logs {name} -f")
        return EXIT_FINISHED
    quota = kaggle.quota()
    if terms.accelerator == "t4x2" and quota.gpu_left < terms.budget:
        print(
            f"warning: {quota.gpu_left / 3600:.1f} GPU hours are left this week and the session may take {terms.budget / 3600:.1f}; Kaggle stops it when "
            "they are used up, and what is not saved by then may be lost.",
            file=sys.stderr,
        )
    record = launch(kaggle, prepared, terms, tell=lambda words: print(words, flush=True))
    after = f", continuing {record.record['after']}" if record.record["after"] else ""
    print(f"pushed {kaggle.user}/{record.record['slug']}{after}\n{record.record['url']}")
    print(f"Follow it with: outlast logs {name} -f · when it has ended: outlast fetch {name}")
    return EXIT_FINISHED


def read(
    prog: str, argv: list[str], more: Mapping[str, Mapping[str, Any]]
) -> tuple[recipes.Recipe, recipes.Request, argparse.Namespace, Settings]:
    """Parse `RECIPE [flags]`; what was not typed comes from outlast-launch.yaml."""
    settings = read_settings()
    named = argv and not argv[0].startswith("-")
    recipe = settings.recipe if not named and not {"-h", "--help"} & set(argv) else None
    found, request, values = flags.read(prog, "Train on another machine.", argv, recipe, more=more)
    values.on = values.on or settings.where
    if found is None or values.on is None:
        raise UsageError(
            f"{prog} needs a recipe and a place, such as `{prog} digits --on kaggle`; `outlast kaggle setup --recipe digits` writes both down."
        )
    return found, request, values, settings


def terms_of(values: argparse.Namespace, settings: Settings, prepared: recipes.Prepared) -> Any:
    """What a session is to have: flags, else settings, else defaults."""
    from outlast.launch.kaggle import Terms

    return Terms(
        values.accelerator or settings.accelerator,
        internet=settings.internet if values.internet is None else values.internet,
        seconds=prepared.resolved.config.budget,
        secrets=settings.secrets if values.secrets is None else values.secrets,
        wheels=values.wheels,
    )
