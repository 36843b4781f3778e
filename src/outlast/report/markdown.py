"""A summary of runs in Markdown, to be pasted into a pull request or an issue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.config.units import format_seconds
from outlast.report.page import contents
from outlast.report.runs import RunInfo, read_run
from outlast.terminal import counted, measured

_MARKS = re.compile(r"([\\`*_{}\[\]<>|~&])")
_NAMES = re.compile(r"[@#]|:(?=//)")  # after a backslash, they would still mention a person, name an issue, or link
_MOST_METRICS, _MOST_VALUES = 12, 40


def markdown(folders: Sequence[Path]) -> str:
    """As `markdown_of`, for the runs in folders.

    Raises:
        OutlastError: a folder is not a run folder, or its run.json cannot be read.
    """
    return markdown_of([read_run(folder) for folder in folders])


def markdown_of(infos: Sequence[RunInfo]) -> str:
    """The summary: a table of runs and their metrics, the config values in which they differ, and their sessions.

    Text of a run is escaped: it mentions nobody, and is no link and no HTML.
    """
    data = contents(infos, {})
    runs = data["runs"]
    names = list(dict.fromkeys(metric["name"] for run in runs for metric in run["metrics"]))
    lines = _table(
        ["run", "status", "step", "attempts", "time", *names[:_MOST_METRICS]],
        [[run["id"], run["status"], _step(run), str(_attempts(run)), _time(run), *_values(run, names)] for run in runs],
    )
    if len(names) > _MOST_METRICS:
        lines += ["", f"{len(names) - _MOST_METRICS} more metrics are not in this table."]
    if data["differs"]:
        rows = [[row["key"], *("" if value is None else value for value in row["values"])] for row in data["differs"]]
        lines += ["", *_table(["value", *(run["id"] for run in runs)], rows[:_MOST_VALUES])]
        if len(rows) > _MOST_VALUES:
            lines += ["", f"{len(rows) - _MOST_VALUES} more values differ."]
    for run in runs:
        lines += ["", _sessions(run)]
        lines += [escaped(note) for note in run["notes"]]
    return "\n".join([*lines, "", data["made"]]) + "\n"


def escaped(text: object) -> str:
    """Text that Markdown shows as it is."""
    return _NAMES.sub(r"\g<0><!-- -->", _MARKS.sub(r"\\\1", str(text))).replace("\n", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(map(escaped, head))} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(escaped, row))} |" for row in rows),
    ]


def _step(run: Mapping[str, Any]) -> str:
    return f"{run['reached']:,}" + (f" of {run['total_steps']:,}" if run["total_steps"] else "")


def _attempts(run: Mapping[str, Any]) -> int:
    return len(run["attempts"]) + int(run["earlier_attempts"])


def _time(run: Mapping[str, Any]) -> str:
    return format_seconds(sum(attempt["seconds"] or 0 for attempt in run["attempts"]))


def _values(run: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The best value of the metric by which the run chooses, and the latest of each other one."""
    found = {metric["name"]: metric for metric in run["metrics"]}
    return [_value(found[name]) if name in found else "" for name in names[:_MOST_METRICS]]


def _value(metric: Mapping[str, Any]) -> str:
    point = metric[metric["best"] or "latest"]
    return f"{measured(point['value'])} (best, step {point['step']:,})" if metric["best"] else measured(point["value"])


def _sessions(run: Mapping[str, Any]) -> str:
    """A sentence about the attempts of a run."""
    reasons = [attempt["reason"] for attempt in run["attempts"]]
    ended = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    repeated = sum(attempt["repeated"] for attempt in run["attempts"])
    again = f"; {counted(repeated, 'step')} repeated" if repeated else ""
    grade = escaped(run["grade"])
    quotas: dict[str, float] = {}
    for attempt in run["attempts"]:
        if attempt["quota"]:
            quotas[attempt["quota"]] = quotas.get(attempt["quota"], 0.0) + (attempt["seconds"] or 0.0)
    used = "".join(f"; {format_seconds(seconds)} of {escaped(kind)} quota" for kind, seconds in quotas.items())
    return (
        f"{escaped(run['id'])}: {counted(_attempts(run), 'attempt')} ({escaped(ended)}){again}{used}; "
        f"resume grade {grade}."
    )
