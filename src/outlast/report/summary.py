"""What a report shows of one run, as plain values for JSON. It comes from the run folder alone."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.config.paths import origin_without_folders, sentence_without_folders, without_folders
from outlast.config.units import is_finite
from outlast.errors import OutlastError
from outlast.folder import plain, reading
from outlast.folder.layout import RunFolder
from outlast.folder.schemas import CONFIG
from outlast.report.chain import chain_of, line
from outlast.report.runs import RunInfo
from outlast.report.thinning import RANGES, Curve, Curves
from outlast.terminal import counted, visible
from outlast.tracking.events import lasted

MOST_ATTEMPTS = 500
"""The newest attempts that a report shows."""

_TOLD = 20  # warnings of one attempt
_LONGEST = 500  # characters of a text
_VALUES = 2_000  # values of a configuration
_POINTS = 60_000  # points of all curves of a report


def summary(
    info: RunInfo, curves: Curves, *, launches: Sequence[Mapping[str, Any]] = (), ranges: int = RANGES
) -> dict[str, Any]:
    """A run for a report.

    Args:
        info: the run.
        curves: its curves, read.
        launches: its launch records, for the time that a provider counts.
        ranges: ranges of steps of each curve at most.
    """
    attempts = info.last_attempts(MOST_ATTEMPTS)
    best_by: Mapping[str, Any] = next((each["best_by"] for each in reversed(attempts) if each.get("best_by")), {})
    reached = max([info.step, *(int(curve.last[0]) for curve in curves.by_name.values())])
    return {
        "id": info.id,
        "recipe": text(info.about["recipe"] or "(script)"),
        "grade": info.about["grade"],
        "status": info.status,
        "step": info.step,
        "reached": reached,
        "total_steps": info.total_steps,
        "chain": line(links) if (links := chain_of(info)) else None,
        "parent": info.about.get("parent"),
        "best_by": {"metric": text(best_by["metric"]), "mode": best_by["mode"]} if best_by.get("metric") else None,
        "metrics": [_metric(name, curve, best_by) for name, curve in curves.by_name.items() if curve.count],
        "curves": [
            {"name": text(name), **drawn(curve, ranges)} for name, curve in curves.by_name.items() if curve.count
        ],
        "sessions": sessions(attempts, reached),
        "attempts": _attempts(info, attempts),
        "earlier_attempts": len(info.numbers) - len(attempts),
        "saves": [checkpoint.step for checkpoint in info.last_checkpoints(MOST_ATTEMPTS)],
        "config": _config(RunFolder(info.folder)),
        "launches": [_launch(record) for record in launches],
        "notes": _notes(curves),
    }


def row(info: RunInfo) -> dict[str, Any]:
    """A run for the table of runs alone."""
    return {
        "id": info.id,
        "recipe": text(info.about["recipe"] or "(script)"),
        "status": info.status,
        "reached": info.step,
        "total_steps": info.total_steps,
        "earlier_attempts": len(info.numbers),
    }


def ranges_for(curves: Sequence[Curves]) -> int:
    """Ranges for each curve such that the points of all curves stay within the bound of one report."""
    number = sum(len(each.by_name) for each in curves)
    return max(16, min(RANGES, _POINTS // max(1, 3 * number)))


def text(value: object) -> str:
    """Any text, visible and not too long."""
    words = visible(value)
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def number(value: float) -> float | int:
    """A number with the digits that a picture needs."""
    if not math.isfinite(value):
        return 0
    short = float(f"{value:.6g}")
    return int(short) if short == int(short) and abs(short) < 2**53 else short


def drawn(curve: Curve, ranges: int = RANGES) -> dict[str, Any]:
    """The points of a curve: `of` is the number of values; `means` only if there are fewer points than values."""
    steps, values = curve.points(ranges)
    found: dict[str, Any] = {
        "of": curve.count,
        "steps": [int(step) for step in steps],
        "values": [number(value) for value in values],
    }
    if (means := curve.means(ranges)) is not None:
        found["means"] = {"steps": [int(step) for step in means[0]], "values": [number(value) for value in means[1]]}
    return found


def _metric(name: str, curve: Curve, best_by: Mapping[str, Any]) -> dict[str, Any]:
    mode = best_by.get("mode") if best_by.get("metric") == name else None
    return {
        "name": text(name),
        "latest": _point(curve.last),
        "lowest": _point(curve.lowest),
        "highest": _point(curve.highest),
        "best": {"min": "lowest", "max": "highest"}.get(str(mode)),
        "count": curve.count,
        "odd": curve.odd,
        "odd_at": int(curve.odd_at) if curve.odd else None,
    }


def _point(found: tuple[float, float]) -> dict[str, Any]:
    return {"step": int(found[0]), "value": number(found[1])}


def sessions(attempts: Sequence[Mapping[str, Any]], reached: int) -> list[dict[str, Any]]:
    """The range of steps that each attempt contributed to the journal, in order.

    Steps after the checkpoint from which the next attempt continued were repeated, and count for that one.
    """
    trained = [each for each in attempts if each.get("trained") or each.get("resume")]
    begins = [int(each["resume"]["step"]) if each.get("resume") else 0 for each in trained]
    found = []
    for index, (attempt, begin) in enumerate(zip(trained, begins, strict=True)):
        after = begins[index + 1 :]
        end = min([reached, *after]) if after else reached
        if end > begin or not after:
            found.append(
                {
                    "attempt": attempt["number"],
                    "from": begin,
                    "to": max(begin, end),
                    "resumed": bool(attempt.get("resume")),
                }
            )
    return found


def _attempts(info: RunInfo, attempts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found, before = [], None
    following: list[Mapping[str, Any]] = [*attempts[1:], {}]
    for attempt, after in zip(attempts, following, strict=False):
        end, environment = attempt.get("end", {}), attempt.get("environment", {})
        limits, resume = environment.get("limits") or {}, attempt.get("resume") or {}
        session = attempt.get("session", {})
        began, ended = _time(attempt.get("started")), _time(end.get("time"))
        spent = info.spent(attempt)
        seconds = end.get("seconds")
        if seconds is None and began is not None and ended is not None and ended >= began:
            seconds = ended - began
        least = seconds is None  # killed, or still running: its events say how long it lived at least
        if least:
            by_events = lasted(RunFolder(info.folder), attempt["number"], attempt.get("id"))
            known = [each for each in (by_events, spent.total if spent else None) if each is not None]
            seconds = max(known, default=None)
        next_step = (after.get("resume") or {}).get("step", 0 if after.get("trained") else None)
        step = end.get("step")
        found.append(
            {
                "number": attempt["number"],
                "where": text(environment.get("name", "unknown")),
                "host": text(attempt.get("host", "")),
                "gpus": [text(each) for each in _list(_map(limits).get("gpus"))][:16],
                "began": text(attempt.get("started", "")),
                "ended": text(end.get("time", "")),
                "seconds": seconds,
                "least": least and seconds is not None,
                "away": began - before if began is not None and before is not None and began >= before else None,
                "limit": limit if is_finite(limit := _map(limits).get("seconds")) else None,
                "budget": session.get("budget"),
                "quota": text(session["quota"]) if session.get("quota") else None,
                "resume": {"step": resume["step"], "grade": resume["grade"]} if resume else None,
                "reason": end.get("reason") or ("running" if info.status == "running" and not after else "lost"),
                "step": step,
                "repeated": step - next_step if step is not None and next_step is not None and step > next_step else 0,
                "error": sentence(end["error"]) if end.get("error") else None,
                "spent": {name: value for name, value in spent._asdict().items() if value is not None}
                if spent
                else None,
                "advice": spent.sentences()[1:] if spent else [],
                "differences": [sentence(each) for each in resume.get("differences", [])[:_TOLD]],
                "changes": [sentence(each) for each in attempt.get("changes", [])[:_TOLD]],
                "told": [sentence(each) for each in attempt.get("told", [])[-_TOLD:]],
                "facts": _facts(attempt),
            }
        )
        before = ended if ended is not None else before
    return found


def sentence(words: object) -> str:
    """A sentence of an attempt, without folders of its machine."""
    return text(sentence_without_folders(str(words)))


def _facts(attempt: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Environment and software of an attempt."""
    environment = attempt.get("environment", {})
    limits = _map(environment.get("limits"))
    found: dict[str, Any] = {"outlast": attempt.get("outlast"), **_map(attempt.get("software"))}
    found |= {f"environment {name}": value for name, value in _map(environment.get("facts")).items()}
    found |= {f"limit {name}": value for name, value in limits.items() if value not in (None, [], ())}
    return [
        (text(name), text(without_folders(value))) for name, value in list(found.items())[:100] if value is not None
    ]


def _config(folder: RunFolder) -> list[dict[str, str]]:
    """Values and origins. Of absolute paths only the last component is shown, because reports are passed on."""
    try:
        stored = reading.read_record(folder.config, CONFIG) if plain.kind_of(folder.config) else {}
    except (OutlastError, OSError):
        return []
    origins = _map(stored.get("origins"))
    return [
        {
            "key": text(key),
            "value": text(words(without_folders(value))),
            "origin": text(origin_without_folders(str(origins.get(key, "")))),
        }
        for key, value in list(_map(stored.get("values")).items())[:_VALUES]
    ]


def words(value: Any) -> str:
    """A value of a configuration as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)


def _launch(record: Mapping[str, Any]) -> dict[str, Any]:
    seconds, budget = record.get("seconds"), record.get("budget")
    return {
        "name": text(record.get("name") or record.get("slug", "")),
        "provider": text(record.get("provider") or record.get("on", "")),
        "accelerator": text(record.get("accelerator", "")),
        "state": text(record.get("state", "")),
        "time": text(record.get("time", "")),
        "seconds": seconds if is_finite(seconds) else None,
        "budget": budget if is_finite(budget) else None,
        "step": record.get("step"),
    }


def _notes(curves: Curves) -> list[str]:
    found = [
        f"{text(name)} has no number that can be drawn: {counted(curve.odd, 'value')} at or after step "
        f"{int(curve.odd_at):,}, all NaN or infinite."
        for name, curve in curves.by_name.items()
        if not curve.count
    ][:20]
    if curves.trouble:
        found.append(f"The journal cannot be read, so there are no curves: {sentence(curves.trouble)}")
    if curves.broken:
        found.append(f"{counted(curves.broken, 'line')} of the journal could not be read.")
    if curves.left_out:
        found.append(
            f"The run logged more than {len(curves.by_name)} metrics. The first {len(curves.by_name)} are shown, and "
            f"{len(curves.left_out):,} are not."
        )
    return found


def _time(stored: Any) -> float | None:
    try:
        return dt.datetime.strptime(str(stored), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def differing(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The configuration values in which runs differ: key, and one value per run (None if it has no such key).

    A run without a configuration, as of a script, differs in none.
    """
    tables = [{each["key"]: each["value"] for each in run["config"]} for run in runs]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    apart = [key for key in keys if len({table.get(key) for table in tables if table}) > 1]
    return [{"key": key, "values": [table.get(key) for table in tables]} for key in apart]
