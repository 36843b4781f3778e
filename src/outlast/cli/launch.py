"""outlast launch RECIPE --on PROVIDER [flags], or outlast launch --on PROVIDER [flags] -- COMMAND ..."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from outlast.cli import commands, flags, parser, stages
from outlast.config import find_file, leaves
from outlast.config.units import format_seconds
from outlast.config.words import nearest
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder import layout
from outlast.folder.layout import RunFolder
from outlast.launch import bundle, providers
from outlast.launch.options import Option
from outlast.launch.provider import Provider, Terms
from outlast.launch.records import LaunchRecord, all_launches
from outlast.launch.settings import Settings, read_settings, stated_settings
from outlast.launch.work import RecipeWork, Work
from outlast.recipe import prepare, publishing, recipe, registry
from outlast.terminal import command, counted, say, shortened

_OWN: Mapping[str, Mapping[str, Any]] = {
    "new": {"action": "store_true", "help": "refuse when this run was launched before"},
    "yes": {
        "action": "store_true",
        "help": "start a session that costs money; without it, print what would be started",
    },
    "if-idle": {"action": "store_true", "help": "do nothing, with a message, while a session of this run is running"},
}


@dataclass(frozen=True)
class LaunchArguments:
    """The arguments of a launch: from the command line, then the run's last launch, then outlast-launch.yaml.

    Attributes:
        recipe: the recipe to train.
        request: the values of the training.
        on: the provider's name.
        options: the provider's options.
        user: the account that is expected, or None.
        values: all flags.
    """

    recipe: recipe.Recipe
    request: prepare.Request
    on: str
    options: Mapping[str, Any]
    user: str | None
    values: argparse.Namespace

    def prepared(self) -> prepare.PreparedRun:
        """The run as it is now; of a recipe with stages, that of the next stage."""
        if self.recipe.stages:
            return stages.next_to_launch(self.recipe, self.request)
        return prepare.prepare(self.recipe, self.request)

    def runs(self) -> list[prepare.PreparedRun]:
        """All runs that are trained: one, or one for each stage. Whether a stage's inputs are there is not asked."""
        return stages.trained(self.recipe, self.request) if self.recipe.stages else [self.prepared()]

    def of(self, run: prepare.PreparedRun) -> LaunchArguments:
        """The arguments for one of these runs."""
        stage = run.recipe.stage
        return replace(self, request=replace(self.request, stage=stage.name)) if stage else self

    def work(self) -> Work:
        """What is launched now."""
        return RecipeWork(self.prepared())

    def announce(self) -> None:
        """Say what a single launch does not do."""
        prepared = self.prepared()
        if prepared.resolved.config.publish.when == "finished":
            say(
                "A single launch publishes nothing, and nothing for it is sent. When the run is finished and here: "
                f"{publishing.again(prepared)}"
            )


Arguments = LaunchArguments | commands.CommandArguments


def run(argv: list[str]) -> int:
    """Start one attempt, or with --dry-run print what would be started."""
    asked = read("outlast launch", argv, _OWN, leave_out=("json",))
    work = asked.work()
    from outlast.launch import start, watch

    provider, terms, name = connect(asked, work), Terms(work.seconds, asked.options), work.run_id
    before = all_launches(work.folder)
    if asked.values.new and before:
        raise UsageError(
            f"{name} was launched {counted(len(before), 'time')} already. Leave --new out to continue it, or choose "
            "another --experiment-name."
        )
    unpaid = provider.capabilities.paid and not asked.values.yes
    if asked.values.dry_run or unpaid:
        if isinstance(asked, commands.CommandArguments):
            asked.announce()
        request = start.request_for(provider, work, terms)
        if request.bundle.left_out:
            say(f"not sent, because their names look like those of keys: {', '.join(request.bundle.left_out)}")
        say(*provider.preview(request, work.folder.path.parent).splitlines())
        if unpaid and not asked.values.dry_run:
            say(f"A session on {provider.title} costs money. Add --yes to start it.")
        return EXIT_FINISHED
    if asked.values.if_idle and before and (state := watch.listen(providers.of(before[-1]), before[-1])) in watch.ALIVE:
        say(f"{before[-1].name} is {state}; pushing has started it. Follow it with: {before[-1].command('logs', '-f')}")
        return EXIT_FINISHED
    terms = _within_quota(provider, terms)
    asked.announce()
    record = start.launch(provider, work, terms, tell=say)
    after = f", continuing {record.record['after']}" if record.record["after"] else ""
    say(f"started {provider.label(record.handle)}{after}", record.record["url"])
    say(f"Follow it with: {record.command('logs', '-f')} · when it has ended: {record.command('fetch')}")
    return EXIT_FINISHED


def connect(asked: Arguments, work: Work, patience: float = providers.PATIENCE) -> Provider:
    """The provider of the sessions."""
    return providers.connect(asked.on, work.folder.path.parent, user=asked.user, patience=patience)


def _within_quota(provider: Provider, terms: Terms) -> Terms:
    """The terms, shortened to the remaining hours of the provider's quota; prints a message if so."""
    limits = provider.limits(terms)
    left = next((quota.left for quota in provider.quotas() if quota.kind == limits.metered), None)
    if left is None or (cut := limits.within(terms, left)) == terms:
        return terms
    say(
        f"warning: {left / 3600:.1f} hours are left this week, so this session trains for "
        f"{format_seconds(limits.training(cut))} at most; "
        f"{provider.title} stops it when they are used up.",
        error=True,
    )
    return cut


def read(prog: str, argv: list[str], own: Mapping[str, Mapping[str, Any]], leave_out: Sequence[str] = ()) -> Arguments:
    """Parse `RECIPE [flags]`, `RUN [flags]`, or `[flags] -- COMMAND ...`.

    Values that are not given are taken from the run's last launch, or else from outlast-launch.yaml, or else from the
    environment file of the provider.
    """
    settings = read_settings()
    if "--" in argv:
        return _read_command(prog, argv, own, settings)
    before: LaunchRecord | None = None
    named = argv and not argv[0].startswith("-")
    source, argv = flags.pull(argv, "--recipe")
    recipe = registry.find(source) if source else None
    if not named and recipe is None and settings.recipe and not {"-h", "--help"} & set(argv):
        recipe = registry.find(settings.recipe)  # the user's own file names it: of this project, and of no run
    if named and (before := _launched(argv[0])):
        if "command" in before.record["asked"]:
            raise UsageError(
                f"{argv[0]} is the run of a command, whose words are not recorded. Give them again: "
                f"`{commands.again(prog, before)}`."
            )
        recipe = recipe or registry.stored(before.record["asked"]["source"], before.path)
        argv = _as_before(recipe, before, argv)
    more = {**provider_flags(), **own}
    found, request, values = flags.read(prog, "Train on another machine.", argv, recipe, more=more, leave_out=leave_out)
    on = values.on or settings.where
    if found is None or on is None:
        raise UsageError(
            f"{prog} needs a recipe or a command, and a place, as in `{prog} RECIPE --on local` or `{prog} --on local "
            f"--keep out -- python train.py`; `--on` takes {', '.join(providers.NAMES)}, and outlast-launch.yaml holds "
            "both for a project."
        )
    return LaunchArguments(found, request, on, options_of(on, values, before, settings), settings.user, values)


def _read_command(
    prog: str, argv: list[str], own: Mapping[str, Mapping[str, Any]], settings: Settings
) -> commands.CommandArguments:
    """Parse `[flags] -- COMMAND ...`."""
    values, words = commands.parse(prog, argv, {**provider_flags(), **own})
    on = values.on or settings.where
    if on is None:
        raise UsageError(
            f"{prog} needs a place: give --on, which takes {', '.join(providers.NAMES)}, or set `where` in "
            "outlast-launch.yaml."
        )
    before = commands.last_launch(values, words)
    options = options_of(on, values, before, settings)
    return commands.CommandArguments(words, on, options, settings.user, values)


def provider_flags() -> dict[str, dict[str, Any]]:
    """`--on`, and a flag for each option of each provider."""
    made: dict[str, dict[str, Any]] = {
        "on": {"choices": providers.NAMES, "help": "provider of the session (default: from outlast-launch.yaml)"}
    }
    for name in providers.NAMES:
        for option in providers.module(name).OPTIONS:
            made[option.name] = _flag(option, name)
    return made


def _flag(option: Option, of: str) -> dict[str, Any]:
    """The argparse arguments of an option; its value is None if not given."""
    words = {"help": f"{of}: {option.help} (default: {option.shown})".replace("%", "%%"), "default": None}
    kinds: dict[str, dict[str, Any]] = {
        "choice": {"choices": option.choices},
        "switch": {"action": argparse.BooleanOptionalAction},
        "list": {"action": "append", "metavar": option.metavar},
        "path": {"type": Path, "metavar": option.metavar},
        "text": {"metavar": option.metavar},
        "seconds": {"type": parser.seconds, "metavar": option.metavar},
        "whole": {"type": _whole(option), "metavar": option.metavar},
    }
    return {**words, **kinds[option.kind]}


def _whole(option: Option) -> Callable[[str], int]:
    """Reads the value of an option of kind "whole", for argparse."""

    def read(text: str) -> int:
        try:
            return int(option.read(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"is {text!r}; {error}") from None

    return read


def options_of(
    on: str, values: argparse.Namespace, before: LaunchRecord | None, settings: Settings
) -> Mapping[str, Any]:
    """The provider's options, from the first layer that has them. Those of another provider are refused."""
    for name in providers.NAMES:
        for option in providers.module(name).OPTIONS if name != on else ():
            if getattr(values, option.name) is not None and option not in providers.module(on).OPTIONS:
                raise UsageError(f"--{option.name} is an option of --on {name}, and this goes to {on}. Leave it out.")
    last = before.options if before and before.provider == on else {}
    stated = stated_settings(on, find_file(f"environment/{on}.yaml"))
    for sentence in stated.remarks:
        say(sentence, error=True)
    lower = {**stated.options, **settings.options}
    found = {}
    for option in providers.module(on).OPTIONS:
        given = getattr(values, option.name)
        if given is None and not option.repeated and last.get(option.name):
            raise UsageError(
                f"The last launch of this run had --{option.name} {shortened(last[option.name])}. Say whether this one "
                f"does: {command(f'--{option.name}', last[option.name])}."
            )
        if given is None and last.get(option.name) is not None and before:
            try:
                given = option.read(last[option.name])
            except ValueError as error:
                raise UsageError(
                    f"{before.path}: terms.{option.name} is {shortened(repr(last[option.name]))}: {error}. Give "
                    f"--{option.name}."
                ) from None
        if given is None:
            given = lower.get(option.name, option.default)
        found[option.name] = str(given) if isinstance(given, Path) else given
    return found


def _as_before(recipe: recipe.Recipe, before: LaunchRecord, argv: list[str]) -> list[str]:
    """The flags of a run's last launch, then the given ones. Only values of the recipe are read from its record."""
    asked, seconds = before.record["asked"], before.record["terms"]["seconds"]
    known = {leaf.key for leaf in leaves(recipe.Config)}
    # Of a chain that is named as a whole, the next stage; of one run, its stage again.
    of_stage = asked.get("stage") and argv[0] == before.folder.path.name
    name = (asked.get("chain") or argv[0]) if of_stage else argv[0]
    links = [stage.name for stage in recipe.links]  # the values ask for any other stage
    if strange := sorted(set(asked["values"]) - known):
        raise UsageError(
            f"{before.path} gives {shortened(repr(strange[0]))}, which the recipe {recipe.source} does not "
            f"have.{nearest(strange[0], known)}"
        )
    return [
        *bundle.flags_of(asked["values"]),
        f"--experiment-name={name}",
        *([f"--stage={asked['stage']}"] if of_stage and asked["stage"] in links else []),
        f"--on={before.provider}",
        *([f"--budget={seconds:g}s"] if seconds else []),
        *argv[1:],
    ]


def _launched(name: str) -> LaunchRecord | None:
    """The last launch of a run, or of a chain, of this name, unless there is a recipe of this name."""
    if name in registry.names() or Path(name).exists():
        return None
    found = all_launches(RunFolder(layout.runs_root() / name))
    if not found and layout.RUN_ID.fullmatch(name):
        every = [each for place in layout.runs_root().glob(f"{name}.*") for each in all_launches(RunFolder(place))]
        found = sorted(
            (each for each in every if each.record.get("asked", {}).get("chain") == name),
            key=lambda each: str(each.record.get("time", "")),
        )
    return found[-1] if found else None
