"""outlast launch RECIPE --on kaggle [flags]."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.cli import flags
from outlast.config import leaves
from outlast.config.units import format_bytes, format_seconds
from outlast.config.yamlfile import nearest
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch import bundle
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.settings import Settings, read_settings
from outlast.recipe import prepare, recipe, registry
from outlast.terminal import command, say, shortened

if TYPE_CHECKING:
    from outlast.launch.kaggle import Terms

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
    "dataset": {
        "action": "append",
        "metavar": "OWNER/SLUG",
        "help": "attach a dataset of yours below /kaggle/input; may be given several times",
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
    found, request, values, settings = read("outlast launch", argv, _OWN, leave_out=("json",))
    prepared = prepare.prepare(found, request)
    from outlast.launch.kaggle import Kaggle, check_user, find_credential, launch, listen, script

    terms, name = terms_of(values, prepared), prepared.run_id
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
        if made.bundle.left_out:
            say(f"left out, as their names say that they are keys: {', '.join(made.bundle.left_out)}")
        beside = (
            f", and the private dataset {made.dataset} with {format_bytes(len(made.bundle.data))}"
            if made.dataset
            else ""
        )
        say(
            f"{place} is what would be pushed: {len(made.bundle.files)} files, {format_bytes(len(made.text))}, bundle {made.bundle.hash[:12]}{beside}. It "
            f"would train {name} for {format_seconds(terms.budget)} at most, on {terms.accelerator}. Nothing was sent."
        )
        return EXIT_FINISHED
    kaggle = Kaggle(find_credential())
    check_user(kaggle, settings.user)
    if values.if_idle and before and (state := listen(kaggle, before[-1])) in ("queued", "running", "saving"):
        say(
            f"{before[-1].record['slug']} is {state}; pushing has started it. Follow it with: {command('outlast', 'logs', name, '-f')}"
        )
        return EXIT_FINISHED
    left = kaggle.quota().left(terms.accelerator)
    if (cut := terms.within(kaggle.quota())) != terms:
        say(
            f"warning: {left / 3600:.1f} hours are left this week, so this session trains for {format_seconds(cut.budget)} at most; Kaggle stops it when "
            "they are used up.",
            error=True,
        )
        terms = cut
    record = launch(kaggle, prepared, terms, tell=say)
    after = f", continuing {record.record['after']}" if record.record["after"] else ""
    say(f"pushed {kaggle.user}/{record.record['slug']}{after}", record.record["url"])
    say(
        f"Follow it with: {command('outlast', 'logs', name, '-f')} · when it has ended: {command('outlast', 'fetch', name)}"
    )
    return EXIT_FINISHED


def read(
    prog: str, argv: list[str], more: Mapping[str, Mapping[str, Any]], leave_out: Sequence[str] = ()
) -> tuple[recipe.Recipe, prepare.Request, argparse.Namespace, Settings]:
    """Parse `RECIPE [flags]` or `RUN [flags]`; what was not typed is as in the run's last launch, else as in outlast-launch.yaml."""
    settings = read_settings()
    terms: Mapping[str, Any] = {}
    named = argv and not argv[0].startswith("-")
    own, argv = flags.pull(argv, "--recipe")
    recipe = registry.find(own) if own else None
    if not named and recipe is None and settings.recipe and not {"-h", "--help"} & set(argv):
        recipe = registry.find(
            settings.recipe
        )  # `outlast kaggle setup --recipe` wrote it: of this project, and of no run
    if named and (before := _launched(argv[0])):
        recipe = recipe or registry.stored(before.record["asked"]["source"], before.path)
        terms = before.record["terms"]
        argv = _as_before(recipe, before, argv)
    found, request, values = flags.read(prog, "Train on another machine.", argv, recipe, more=more, leave_out=leave_out)
    values.on = values.on or settings.where
    for name, usual in (
        ("accelerator", settings.accelerator),
        ("internet", settings.internet),
        ("secrets", settings.secrets),
    ):
        if getattr(values, name) is None:
            setattr(values, name, terms.get(name, usual))
    if terms.get("wheels") and values.wheels is None:  # code: which one is installed over there is for the user to say
        raise UsageError(
            f"The last launch of this run installed from {shortened(terms['wheels'])}. Say whether this one does: {command('--wheels', terms['wheels'])}."
        )
    values.dataset = values.dataset or terms.get("datasets") or []
    if found is None or values.on is None:
        raise UsageError(
            f"{prog} needs a recipe and a place, such as `{prog} digits --on kaggle`; `outlast kaggle setup --recipe digits` writes both down."
        )
    return found, request, values, settings


def _as_before(recipe: recipe.Recipe, before: LaunchRecord, argv: list[str]) -> list[str]:
    """The flags that give a run's last launch again, before those that were typed. Of its record only values of the recipe are taken."""
    asked, seconds = before.record["asked"], before.record["terms"]["seconds"]
    known = {leaf.key for leaf in leaves(recipe.Config)}
    if strange := sorted(set(asked["values"]) - known):
        raise UsageError(
            f"{before.path} gives {shortened(repr(strange[0]))}, which the recipe {recipe.source} does not have.{nearest(strange[0], known)}"
        )
    return [
        *bundle.flags_of(asked["values"]),
        f"--experiment-name={argv[0]}",
        f"--on={before.record['on']}",
        *([f"--budget={seconds:g}s"] if seconds else []),
        *argv[1:],
    ]


def _launched(name: str) -> LaunchRecord | None:
    """The last launch of a run in ./runs of this name, unless there is a recipe of this name."""
    if name in registry.names() or Path(name).exists():
        return None
    found = all_launches(RunFolder(Path("runs") / name))
    return found[-1] if found else None


def terms_of(values: argparse.Namespace, prepared: prepare.Prepared) -> Terms:
    """What a session is to have."""
    from outlast.launch.kaggle import Terms

    return Terms(
        values.accelerator,
        internet=values.internet,
        seconds=prepared.resolved.config.budget,
        secrets=values.secrets,
        wheels=values.wheels,
        datasets=tuple(values.dataset),
    )
