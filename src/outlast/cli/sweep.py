"""outlast sweep RECIPE --lr 1e-3,5e-4 --seed 0..4 [flags]."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from outlast.cli import flags, relay, show, stages, wrapped
from outlast.cli.launch import provider_flags
from outlast.cli.parser import dashed
from outlast.config import Leaf, leaves
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, UsageError
from outlast.folder import lock, plain
from outlast.folder.layout import RunFolder, check_run_id
from outlast.launch.sweep import Member, Sweep
from outlast.launch.work import RecipeWork
from outlast.recipe import prepare, registry
from outlast.recipe.recipe import Recipe
from outlast.report import read_run
from outlast.terminal import command, counted, say, say_json, shortened

MOST = 1000
"""Runs of a sweep."""

_SHOWN = 4  # metrics in the table besides the one that sorts it
_NEVER = ("checkpoint_dir", "experiment_name", "budget", "reserve", "remote", "device", "results_dir", "log_dir")
_OWN: Mapping[str, Mapping[str, Any]] = {
    "jobs": {"type": int, "metavar": "N", "help": "runs at a time (default: 1; with --on, 2)"},
    "metric": {
        "metavar": "NAME[:min|:max]",
        "help": "the metric by which the table is sorted, best first (default: the recipe's own)",
    },
    "json": {"action": "store_true", "help": "print the table as one JSON object per run"},
}


@dataclass(frozen=True)
class _Axis:
    """A value in which the runs differ.

    Attributes:
        key: of the config.
        name: the shortest of its flags, without dashes.
        texts: its values as they were typed.
    """

    key: str
    name: str
    texts: Sequence[str]

    @property
    def flag(self) -> str:
        return self.key.replace("_", "-")


@dataclass(frozen=True)
class _Row:
    """A run of the sweep, as it is."""

    member: Member
    runs: Sequence[prepare.PreparedRun]  # one, or one for each stage

    @property
    def folder(self) -> RunFolder:
        return self.runs[-1].folder

    @property
    def finished(self) -> bool:
        return all(RecipeWork(run).is_finished() for run in self.runs)

    @property
    def status(self) -> str:
        if self.finished:
            return "finished"
        known = [read_run(run.folder.path).status for run in self.runs if plain.kind_of(run.folder.run)]
        unfinished = [status for status in known if status != "finished"]
        return unfinished[0] if unfinished else "interrupted" if known else "pending"

    @property
    def step(self) -> int:
        return read_run(self.folder.path).step if plain.kind_of(self.folder.run) else 0

    @property
    def metrics(self) -> Mapping[str, float]:
        found = read_run(self.folder.path).metrics if plain.kind_of(self.folder.run) else {}
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


@dataclass(frozen=True)
class _Asked:
    """What was typed.

    Attributes:
        recipe: the recipe, as it was named, and found.
        axes: the values in which the runs differ.
        fixed: the flags that all runs have.
        values: all flags, with those of the sweep.
        name: what the names of the runs begin with.
        budget: seconds of this call, or of each session with --on; None without one.
    """

    source: str
    recipe: Recipe
    axes: Sequence[_Axis]
    fixed: Sequence[str]
    values: argparse.Namespace
    name: str
    budget: float | None

    def rows(self) -> list[_Row]:
        """The runs as they are now: all combinations, in the order of the flags.

        Raises:
            UsageError: there are too many, or a name is too long.
            ConfigError: a combination is refused.
        """
        if (count := math.prod(len(axis.texts) for axis in self.axes)) > MOST:
            raise UsageError(f"outlast sweep: these values make {count} runs; expected at most {MOST}.")
        rows = []
        for texts in itertools.product(*(axis.texts for axis in self.axes)):
            chosen = {axis.name: text for axis, text in zip(self.axes, texts, strict=True)}
            name = check_run_id("-".join([self.name, *(f"{key}-{_short(text)}" for key, text in chosen.items())]))
            own = [*(f"--{axis.flag}={text}" for axis, text in zip(self.axes, texts, strict=True))]
            words = [*self.fixed, *own, f"--experiment-name={name}"]
            request = _parsed(self.recipe, words)[0]
            runs = (
                stages.trained(self.recipe, request) if self.recipe.stages else [prepare.prepare(self.recipe, request)]
            )
            member = Member(name, chosen, ["relay" if self.values.on else "train", self.source, *words])
            rows.append(_Row(member, runs))
        if len({row.member.name for row in rows}) < len(rows):
            raise UsageError(
                "outlast sweep: two of these values would give a run the same name, which has only letters, digits, "
                "'.', '_' and '-' of a value. Sweep them one after the other, with --experiment-name."
            )
        return rows


def run(argv: list[str]) -> int:
    """Train a recipe with every combination of some values. Returns 0, 75, 1, 2 or 130."""
    if not argv or argv[0].startswith("-"):
        if {"-h", "--help"} & set(argv):
            flags.read("outlast sweep", "Train with all combinations.", argv, more=_more(), leave_out=("json",))
        raise UsageError(
            "outlast sweep needs a recipe and values, as in `outlast sweep digits --lr 1e-3,5e-4 --seed 0..4`."
        )
    asked = _read(argv[0], argv[1:])
    metric, rows, quiet = _metric(asked), asked.rows(), asked.values.json
    jobs = asked.values.jobs if asked.values.jobs is not None else 2 if asked.values.on else 1
    if jobs < 1:
        raise UsageError(f"outlast sweep: --jobs is {jobs}; expected at least 1.")
    if asked.values.dry_run:
        _print(asked, rows, metric)
        say(f"Dry run: {counted(len(rows), 'run')}; nothing was trained or written.", error=quiet)
        return EXIT_FINISHED
    todo = [row.member for row in rows if not row.finished and not _is_busy(row)]
    say(f"{counted(len(rows), 'run')}: {sum(row.finished for row in rows)} finished, {len(todo)} to train", error=quiet)
    seconds = None if asked.values.on else asked.budget
    code = Sweep(todo, jobs, lambda words: say(words, error=quiet), seconds, relays=bool(asked.values.on)).run()
    rows = asked.rows()
    _print(asked, rows, metric)
    if left := sum(not row.finished for row in rows):
        say(f"{left} of {counted(len(rows), 'run')} not finished. Run the same command to continue.", error=True)
        return code or EXIT_RUN_AGAIN
    return code


def _more() -> dict[str, Any]:
    """The flags besides those of the recipe."""
    return {**provider_flags(), **relay.OWN, **_OWN}


def _parsed(recipe: Recipe, words: Sequence[str]) -> tuple[prepare.Request, argparse.Namespace]:
    _, request, values = flags.read("outlast sweep", "", list(words), recipe, more=_more(), leave_out=("json",))
    return request, values


def _read(source: str, argv: Sequence[str]) -> _Asked:
    """Tell the values that differ, the flags of the sweep, and the flags of all runs apart."""
    recipe = registry.find(source)
    parser = flags.training_parser(
        f"outlast sweep {source}",
        f"{recipe.summary}: every combination of values. A list (1e-3,5e-4), a range of whole numbers (0..4), or a "
        "flag that is given several times makes a run for each of its values.",
        recipe.Config,
        _more(),
        leave_out=("json",),
    )
    if {"-h", "--help"} & set(argv):
        parser.parse(list(argv))
    known = {leaf.key: leaf for leaf in leaves(recipe.Config)}
    given: dict[str, list[str]] = {}
    fixed: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, text = dashed(word).partition("=")
        action = parser.action_of(name)
        if action is None or action.nargs == 0:
            fixed.append(word)
            continue
        text = text if equals else next(words, "")
        if action.dest in known:
            given.setdefault(action.dest, []).append(text)
        else:
            fixed.append(f"{name}={text}")
    axes = []
    for key, texts in given.items():
        found = list(dict.fromkeys(value for text in texts for value in _values_of(known[key], text)))
        if len(found) == 1:
            fixed.append(f"--{key.replace('_', '-')}={found[0]}")
        elif key in _NEVER:
            raise UsageError(f"outlast sweep: {key} is the same for all runs; {', '.join(found)} was given.")
        else:
            axes.append(_Axis(key, _shortest(known[key]), found))
    request, values = _parsed(recipe, fixed)
    if not axes:
        raise UsageError(
            f"outlast sweep {source} needs a value that differs, as in `outlast sweep {source} --seed 0..4`. "
            f"`{command('outlast', 'train', source)}` trains one run."
        )
    if request.resume is not None:
        raise UsageError("outlast sweep takes no --resume: each run goes on by its name.")
    _check_providers(values)
    name = str(request.flags.get("experiment_name") or recipe.name)
    budget = request.flags.get("budget")
    seconds = wrapped.budget_of(str(budget) if budget else os.environ.get("OUTLAST_BUDGET"))
    own = {"--jobs", "--metric", "--json", "--dry-run", "--experiment-name", *([] if values.on else ["--budget"])}
    kept = [word for word in fixed if dashed(word).partition("=")[0] not in own]
    return _Asked(source, recipe, axes, kept, values, name, seconds)


def _check_providers(values: argparse.Namespace) -> None:
    """Raise UsageError for flags of providers and of relays without --on."""
    more = [name.replace("-", "_") for name in (*provider_flags(), *relay.OWN) if name != "on"]
    given = [name for name in more if getattr(values, name, None) not in (None, False)]
    if given and not values.on:
        raise UsageError(f"outlast sweep: --{given[0].replace('_', '-')} needs --on, which says where the runs train.")


def _values_of(leaf: Leaf, text: str) -> list[str]:
    """The values that a text of a flag gives: of numbers and choices, a list or a range."""
    choices = typing.get_args(leaf.info.annotation) if typing.get_origin(leaf.info.annotation) is typing.Literal else ()
    if not choices and not leaf.kinds <= {int, float, type(None)}:
        return [text]
    found = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(-?\d{1,9})\.\.(-?\d{1,9})\s*", part)
        if ends is None or int not in leaf.kinds:
            found.append(_number(part.strip()) if not choices else part.strip())
            continue
        first, last = int(ends[1]), int(ends[2])
        if not 0 <= last - first < MOST:
            raise UsageError(
                f"outlast sweep: {leaf.key} is {text!r:.100}; expected a range such as 0..4, of at most {MOST} numbers."
            )
        found += map(str, range(first, last + 1))
    return found


def _number(text: str) -> str:
    """A number in the same words, however it was typed; other text as it is."""
    try:
        return str(int(text)) if re.fullmatch(r"-?\d+", text) else repr(float(text))
    except ValueError:
        return text


def _shortest(leaf: Leaf) -> str:
    names = [f"--{leaf.key.rpartition('.')[2].replace('_', '-')}", *leaf.extra["flags"]]
    found: str = min((name[2:] for name in names if name.startswith("--")), key=len)
    return found


def _short(text: str) -> str:
    """A value as a part of a run's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_") or "none"


def _is_busy(row: _Row) -> bool:
    """Whether another process trains the run; says so."""
    for each in row.runs:
        if lock.holder(each.folder.lock):
            say(f"{row.member.name} is being trained by another process, and is left to it.", error=True)
            return True
    return False


def _metric(asked: _Asked) -> tuple[str | None, str]:
    """The metric that sorts the table, and whether "max" or "min" is best."""
    recipe = asked.recipe
    last = recipe.links[-1] if recipe.links else recipe
    own, mode = last.metric, last.mode
    if asked.values.metric is None:
        return own, mode
    name, colon, order = asked.values.metric.partition(":")
    if not name or (colon and order not in ("min", "max")):
        raise UsageError(
            f"outlast sweep: --metric is {shortened(asked.values.metric)}; expected a name, such as val_loss:min."
        )
    return name, order or (mode if name == own else "max")


def _print(asked: _Asked, rows: Sequence[_Row], metric: tuple[str | None, str]) -> None:
    """The table, best first; runs without the metric last."""
    name, mode = metric
    sign = -1.0 if mode == "max" else 1.0

    def place(row: _Row) -> tuple[bool, float]:
        value = row.metrics.get(name, math.nan) if name else math.nan
        return (math.isnan(value), 0.0 if math.isnan(value) else sign * value)

    rows = sorted(rows, key=place)
    if asked.values.json:
        for row in rows:
            values, metrics = dict(row.member.values), dict(row.metrics)
            say_json(
                {"run": row.member.name, "values": values, "status": row.status, "step": row.step, "metrics": metrics}
            )
        return
    seen = dict.fromkeys(key for row in rows for key in sorted(row.metrics))
    axes = [axis.name for axis in asked.axes]
    others = [key for key in seen if key != name and key not in axes]
    columns = [*([name] if name else []), *others[:_SHOWN]]
    table = show.table("run", *axes, "status", "step", *columns, right=("step", *axes, *columns))
    for row in rows:
        metrics = dict(row.metrics)
        figures = [f"{metrics[key]:.4g}" if key in metrics else "" for key in columns]
        cells: list[str | Text] = [*row.member.values.values(), show.word(row.status), str(row.step), *figures]
        table.add_row(row.member.name, *cells)
    show.console().print(table)
    if name and not any(name in row.metrics for row in rows) and seen:
        say(f"No run has logged {shortened(name)}; logged are {', '.join(map(shortened, seen))}.", error=True)
