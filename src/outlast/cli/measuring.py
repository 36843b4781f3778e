"""`outlast doctor RECIPE --on PROVIDER` and `--find-batch`: a few steps are made, and what they mean is said."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from outlast.cli import launch, parser, stages, wrapped
from outlast.config.units import format_seconds
from outlast.environment import Environment
from outlast.errors import OutlastError, UsageError
from outlast.launch import forecast, providers
from outlast.launch.provider import Limits, Provider, Terms
from outlast.launch.settings import read_settings
from outlast.recipe import batch, measuring, prepare
from outlast.recipe.recipe import Recipe
from outlast.report import read_run
from outlast.run.arguments import remote_address
from outlast.terminal import say

Row = forecast.Row

_WITHIN = 300.0  # seconds of a measurement, if --within does not say
_PATIENCE = 10.0  # seconds for the quota of a provider


@dataclass
class Result:
    """What was found, for --json."""

    numbers: dict[str, Any] = field(default_factory=dict)


def flags() -> dict[str, Mapping[str, Any]]:
    """The flags of `outlast doctor RECIPE`, besides the recipe's."""
    return {
        **launch.provider_flags(),
        "on": {
            "choices": providers.NAMES,
            "help": "make a few steps of the recipe here, and say what the run needs of this provider's sessions",
        },
        "find-batch": {
            "action": "store_true",
            "help": "find the largest batch that fits into this machine's memory: powers of two, each in a process",
        },
        "nproc": {
            "type": wrapped.ranks,
            "metavar": "N",
            "help": "processes that train together here, as torchrun starts them, for a recipe with several ranks "
            "(default: 1, or as many as --on starts on this machine)",
        },
        "step-time": {
            "type": parser.seconds,
            "metavar": "TIME",
            "help": "with --on: time of a step there, such as 0.08s, if you know it (default: not known)",
        },
        "within": {
            "type": parser.seconds,
            "metavar": "TIME",
            "help": f"time after which a measurement is ended (default: {format_seconds(_WITHIN)})",
        },
    }


def wanted(values: argparse.Namespace) -> bool:
    """Whether something is to be measured.

    Raises:
        UsageError: nothing is, and a flag says how; or a flag is for --on, which is not given.
    """
    for name in ("step-time", *launch.provider_flags()):
        if not values.on and getattr(values, name.replace("-", "_"), None) is not None:
            raise UsageError(f"--{name} says something of --on, which was not given. Give --on, or leave it out.")
    for name in ("within", "nproc"):
        if not (values.on or values.find_batch) and getattr(values, name) is not None:
            raise UsageError(
                f"--{name} says how to measure, and nothing is measured without --on or --find-batch. Give one of "
                f"them, or leave --{name} out."
            )
    return bool(values.on or values.find_batch)


def check_has_recipe(argv: Sequence[str]) -> None:
    """Refuse flags of a measurement if no recipe is named.

    Raises:
        UsageError: one is among them.
    """
    for word in argv:
        name = parser.dashed(word).partition("=")[0].removeprefix("--")
        if word.startswith("--") and name in flags():
            raise UsageError(f"--{name} needs a recipe, which comes first: outlast doctor RECIPE --{name} ...")


def rows(found: Recipe, request: prepare.Request, values: argparse.Namespace, result: Result) -> Iterator[Row]:
    """Measure, and yield what was found.

    Args:
        found: the recipe.
        request: the user's values.
        values: all flags.
        result: gets the numbers.
    """
    prepared = stages.next_to_launch(found, request) if found.stages else prepare.prepare(found, request)
    if prepared.recipe.stage:
        request = replace(request, stage=prepared.recipe.stage.name)
        yield "-", "stage", f"{prepared.recipe.stage.name}: the others are not measured"
    place = _place(prepared, values) if values.on else None
    ranks = _ranks(prepared.recipe, values.nproc, place)
    limits = prepared.environment.limits
    bounds = measuring.bound(values.within or _WITHIN, limits.ram, limits.places.get("ram", ""))
    tell = _silent if values.json else _told

    def measure(bounds: measuring.Bounds, size: tuple[str, int] | None = None) -> measuring.Measured:
        root = prepared.resolved.config.checkpoint_dir.absolute()
        return measuring.run(prepared.recipe.source, request, root, bounds, size, ranks)

    if values.find_batch:
        measured = yield from _batch(prepared, measure, bounds, result, tell)
    else:
        own = "a process of its own" if ranks == 1 else f"{ranks} processes of their own"
        tell(f"Making a few steps of {found.name} in {own}, for at most {format_seconds(bounds.within)}")
        measured = measure(bounds)
    result.numbers["measured"] = asdict(measured)
    yield from forecast.here(measured)
    if place is not None and measured.first is not None:
        yield from _there(prepared, measured, place, values, result)


@dataclass(frozen=True)
class _Place:
    """Where the sessions are.

    Attributes:
        provider: it.
        terms: of a session.
        limits: of a session; or why they are not known.
    """

    provider: Provider
    terms: Terms
    limits: Limits | OutlastError


def _place(prepared: prepare.PreparedRun, values: argparse.Namespace) -> _Place:
    settings = read_settings()
    provider = providers.connect(values.on, prepared.folder.path.parent, user=settings.user, patience=_PATIENCE)
    options = launch.options_of(values.on, values, None, settings)
    terms = Terms(prepared.resolved.config.budget, options)
    try:
        return _Place(provider, terms, provider.limits(terms))
    except OutlastError as error:
        return _Place(provider, terms, error)


def _ranks(recipe: Recipe, given: int | None, place: _Place | None) -> int:
    """The ranks that train here.

    Raises:
        UsageError: several are asked for, and the recipe trains in one process.
    """
    if given is not None and given > 1 and not recipe.ranks:
        raise UsageError(
            f"--nproc is {given}, and the recipe {recipe.name!r} trains in one process (it has no ranks=True). Nothing "
            "was measured. Leave --nproc out."
        )
    if given is not None:
        return given
    limits = place.limits if place else None
    return (limits.ranks(several=recipe.ranks) or 1) if isinstance(limits, Limits) and limits.here else 1


def _batch(
    prepared: prepare.PreparedRun,
    measure: Callable[[measuring.Bounds, tuple[str, int]], measuring.Measured],
    bounds: measuring.Bounds,
    result: Result,
    tell: Callable[[str], None],
) -> Any:
    """Find the largest batch, and yield what else depends on it; returns what was measured with it."""
    key, config = batch.key_of(prepared.recipe), prepared.resolved.config
    short = replace(bounds, steps=3)
    what = f"{key} ({batch.meaning(prepared.recipe, key)})"
    tell(f"Looking for the largest {what} that fits: a process for each try, none above {bounds.why or 'any bound'}")
    flag = f"--{key.replace('_', '-')}"
    now = prepared.resolved.values[key]
    size = batch.search(now or batch.FIRST, lambda size: measure(short, (key, size)), tell)
    result.numbers["batch"] = {"key": key, "size": size.batch, "above": size.above}
    yield "ok", "largest batch", f"{flag} {size.batch}, of powers of two ({size.above})"
    for sentence in batch.depends(prepared.recipe, config, key, size.batch):
        yield "-", "", sentence
    of = "" if size.measured.ranks == 1 else f" of {size.measured.ranks} ranks together"
    yield "-", "", f"It{of} fits here; on another machine, or with another number of ranks, it has to be found again"
    return size.measured


def _there(
    prepared: prepare.PreparedRun,
    measured: measuring.Measured,
    place: _Place,
    values: argparse.Namespace,
    result: Result,
) -> Iterator[Row]:
    config: Any = prepared.resolved.config
    environment: Environment = prepared.environment
    provider, terms, limits = place.provider, place.terms, place.limits
    if isinstance(limits, OutlastError):
        yield "!", provider.title, str(limits)
        return
    begun = (prepared.folder.path / "run.json").is_file()
    done = (read_run(prepared.folder.path).step or 0) if begun else 0
    need = forecast.Need(
        None if measured.total is None else max(0, measured.total - done),
        config.keep_last + (config.keep_best if prepared.recipe.metric else 0),
        config.save_every,
        remote_address(config.remote) is not None,
        environment.failure_seconds,
        values.step_time,
        limits.ranks(several=prepared.recipe.ranks),
    )
    numbers = forecast.reckon(measured, limits, limits.training(terms), need)
    result.numbers["forecast"] = {"on": values.on, **numbers.as_json()}
    if environment.name != provider.environment:
        yield (
            "-",
            "values",
            (f"those of {environment.name}; --env {provider.environment} takes those that a session there has"),
        )
    if provider.capabilities.quota:
        yield _quota(provider, limits.metered)
    yield from forecast.there(measured, limits, provider.capabilities, provider.title, need, numbers)


def _quota(provider: Any, metered: str | None) -> Row:
    if metered is None:
        return "ok", "quota", "sessions of this kind use none"
    try:
        left = next((quota.left for quota in provider.quotas() if quota.kind == metered), None)
    except OutlastError as error:
        return "-", "quota", f"not known: {error}"
    if left is None:
        return "-", "quota", f"not known: {provider.title} names no {metered} hours"
    return "ok" if left > 0 else "!", "quota", f"{format_seconds(left)} of {metered} time are left this week"


def _told(sentence: str) -> None:
    say(sentence, error=True)


def _silent(_: str) -> None:
    return None
