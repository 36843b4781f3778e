"""The arguments of `open_run`, and the environment variables below them.

Checked before anything is written.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.checkpoint import Retention
from outlast.config.units import Interval, parse_interval, parse_seconds
from outlast.config.words import nearest
from outlast.environment import Environment, without_folder
from outlast.errors import UsageError
from outlast.folder import layout
from outlast.folder.layout import RunFolder
from outlast.folder.records import LARGEST
from outlast.remote.address import open_remote
from outlast.terminal import number
from outlast.tracking import Sink
from outlast.tracking.progress import STYLES
from outlast.tracking.sink import misspelt

if TYPE_CHECKING:
    from outlast.remote.follow import Destination

VARIABLES = ("OUTLAST_RUN", "OUTLAST_ROOT", "OUTLAST_BUDGET", "OUTLAST_RESUME_FROM", "OUTLAST_REMOTE")
"""The lowest layer of open_run: what a job script says and the program does not."""

GRADES = ("exact", "statistical", "restart-epoch")


@dataclass(frozen=True)
class Arguments:
    """The arguments of open_run that need a look, as they count.

    Attributes:
        folder: the run folder.
        save: when to save.
        budget: seconds, or None.
        reserve: seconds, or None.
        total_steps: total number of steps, or None.
        begin_from: a run folder or a checkpoint folder, for a run that has nothing yet.
        notices: level and sentence about arguments and variables that do nothing.
        renamed: former name -> name of metrics.
        follow: the remote that follows the run, or None.
    """

    folder: RunFolder
    save: Interval
    budget: float | None
    reserve: float | None
    total_steps: int | None
    begin_from: Path | None
    notices: Sequence[tuple[str, str]] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    follow: Destination | None = None


def read(
    *,
    name: Any,
    root: Any,
    save: Any,
    budget: Any,
    reserve: Any,
    total_steps: Any,
    resume_from: Any,
    keep: Any,
    grade: Any,
    environment: Any,
    progress: Any,
    sinks: Any,
    results: Any,
    recipe: str | None,
    renamed: Any = None,
    remote: Any = None,
    remote_rate: Any = None,
    variables: Mapping[str, str] = os.environ,
) -> Arguments:
    """Check the arguments of open_run, and fill those that were left out from the environment variables.

    Raises:
        UsageError: one of them cannot be; it is named, argument or variable.
    """
    given = {key: variables[key] for key in VARIABLES if variables.get(key)}
    said = _Lookup({} if recipe else given)
    name, words = said("name", name, "OUTLAST_RUN")
    if name is None:
        raise UsageError("open_run was given no name, and OUTLAST_RUN is not set: give the run a name.")
    _instance(words, name, str, "expected text, which names the run and its folder")
    try:
        layout.check_run_id(name)
    except UsageError as error:
        raise UsageError(f"{words}: {error}") from None
    root, words = said("root", root, "OUTLAST_ROOT")
    root = Path(_instance(words, "runs" if root is None else root, str | os.PathLike, "expected a folder"))
    _folder(words, root)
    begin_from, words = said("resume_from", resume_from, "OUTLAST_RESUME_FROM")
    if begin_from is not None:
        begin_from = Path(
            _instance(words, begin_from, str | os.PathLike, "expected a run folder or a checkpoint folder")
        )
        _source(words, begin_from)
    budget, words = _Lookup(given)("budget", budget, "OUTLAST_BUDGET")
    budget = seconds(words, budget, least=0.0)
    _instance(f"open_run was given keep={keep!r}", keep, Retention | None, _KEEP)
    _instance(f"open_run was given environment={environment!r}", environment, Environment | None, _ENVIRONMENT)
    _instance(f"open_run was given results={results!r}", results, str | os.PathLike | None, "expected a folder")
    _choice("grade", grade, GRADES)
    _choice("progress", progress, STYLES)
    if not isinstance(sinks, Sequence) or not all(isinstance(sink, Sink) for sink in sinks):
        raise UsageError(
            f"open_run was given sinks={sinks!r:.100}; expected a list of outlast.Sink, such as sinks=[MySink()]."
        )
    _instance(f"open_run was given renamed={renamed!r:.100}", renamed, Mapping | None, _RENAMED)
    renamed = dict(renamed or {})
    if not all(isinstance(text, str) and text for pair in renamed.items() for text in pair):
        raise UsageError(f"open_run was given renamed={renamed!r:.100}; {_RENAMED}.")
    return Arguments(
        folder=RunFolder(root / name),
        save=_interval(save),
        budget=budget,
        reserve=seconds(f"open_run was given reserve={reserve!r}", reserve, least=-1.0),
        total_steps=steps("open_run", total_steps),
        begin_from=begin_from,
        notices=[
            *(("warning", words) for words in [*without_folder(variables), *itertools.chain(*map(misspelt, sinks))]),
            *(("info", words) for words in _ignored(given, recipe, name)),
        ],
        renamed=renamed,
        follow=_follow(*_Lookup(given)("remote", remote, "OUTLAST_REMOTE"), remote_rate),
    )


def remote_address(given: str | None, variables: Mapping[str, str] = os.environ) -> str | None:
    """The address of the remote that follows a run: what is given, or else that of OUTLAST_REMOTE."""
    return given or variables.get("OUTLAST_REMOTE") or None


def _follow(address: Any, words: str, rate: Any) -> Destination | None:
    if address is None:
        return None
    _instance(words, address, str, "expected the address of a remote, such as 'gs://bucket/prefix' or a folder")
    real = isinstance(rate, int | float) and not isinstance(rate, bool)
    if rate is not None and not (real and 0 < rate < math.inf):
        raise UsageError(f"open_run was given remote_rate={rate!r:.100}; expected MB a second, such as 20.")
    from outlast.remote.follow import Destination  # most runs have no remote

    return Destination(open_remote(address), rate and rate * 1e6)


_KEEP = "expected an outlast.Retention, such as outlast.Retention(last=3, best=1, metric='val_loss', mode='min')"
_RENAMED = "expected former names of metrics and their new ones, such as renamed={'val_acc': 'val_accuracy'}"
_ENVIRONMENT = "expected an outlast.Environment, such as outlast.detect('local'), or nothing"


class _Lookup:
    """An argument, or else a variable; and the words that name whichever it was."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = given

    def __call__(self, argument: str, value: Any, variable: str) -> tuple[Any, str]:
        if value is None and variable in self.given:
            return self.given[variable], f"{variable} is {self.given[variable]!r}"
        return value, f"open_run was given {argument}={value!r}"


def steps(call: str, value: Any) -> int | None:
    """A total number of steps, as open_run, steps and begin take it."""
    if value is None:
        return None
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < 1:
        raise UsageError(
            f"{call} was given total_steps={number(value)}; expected a whole number of at least 1, the steps in all."
        )
    if whole > LARGEST:
        raise UsageError(f"{call} was given total_steps={number(value)}; no record holds more than 2**62 steps.")
    return whole


def seconds(words: str, value: Any, *, least: float) -> float | None:
    """A duration that must be finite and more than `least` seconds."""
    found: float | None = _parsed(words, parse_seconds, value)
    if found is not None and not (math.isfinite(found) and found > least):
        raise UsageError(
            f"{words}; expected a duration with units, such as '11h30m', or a number of "
            f"seconds{' above 0' if least >= 0 else ''}."
        )
    return found


def _interval(save: Any) -> Interval:
    words = f"open_run was given save={save!r}"
    if not isinstance(save, str):
        meant = (
            f"'{save} steps'"
            if isinstance(save, int) and not isinstance(save, bool)
            else "'never'"
            if save is None
            else "'10m'"
        )
        raise UsageError(f"{words}; expected an interval with units, such as {meant}, or 'auto'.")
    found: Interval = _parsed(words, parse_interval, save)
    return found


def _parsed(words: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise UsageError(f"{words}; {error}.") from None


def _instance(words: str, value: Any, kind: Any, expected: str) -> Any:
    if not isinstance(value, kind):
        raise UsageError(f"{words}; {expected}.")
    return value


def _choice(argument: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        close = nearest(value, choices) if isinstance(value, str) else ""
        raise UsageError(f"open_run was given {argument}={value!r}; expected one of {', '.join(choices)}.{close}")


def _folder(words: str, root: Path) -> None:
    """Refuse what no folder can be made at: below a file, or a name that the system does not take."""
    for place in (root, *root.parents):
        try:
            if not stat.S_ISDIR(place.stat().st_mode):
                raise UsageError(f"{words}; {place} is not a folder.")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{words}; that path cannot be a folder: {getattr(error, 'strerror', None) or error}."
            ) from None
        return


def _source(words: str, path: Path) -> None:
    try:
        run = path.resolve().parents[1] if layout.step_of(path) is not None and path.is_dir() else path
        found = (run / "run.json").is_file()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise UsageError(
            f"{words:.300}; that path cannot hold a run: {getattr(error, 'strerror', None) or error}."
        ) from None
    if not found:
        raise UsageError(
            f"{words}; expected a run folder, such as runs/NAME, or one of its checkpoint folders, such as "
            "runs/NAME/checkpoints/step-00001200. "
            f"There is no {run / 'run.json'}."
        )


def _ignored(given: Mapping[str, str], recipe: str | None, name: str) -> list[str]:
    """For recipes these are values of their config, with flags and files."""
    if recipe is None:
        return []
    found = {"OUTLAST_RUN": "--experiment-name"} if given.get("OUTLAST_RUN", name) != name else {}
    if "OUTLAST_RESUME_FROM" in given:
        found["OUTLAST_RESUME_FROM"] = "--resume"
    return [f"{key} is set, and recipes do not read it; give {flag}" for key, flag in found.items()]
