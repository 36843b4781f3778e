"""The report of one or several runs as one HTML file without references: charts, styles and pictures are in it."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from outlast._version import __version__
from outlast.errors import OutlastError, UsageError
from outlast.folder import durable
from outlast.folder.attempt import utc
from outlast.folder.layout import RunFolder
from outlast.report.pictures import inlined, pictures_in
from outlast.report.runs import RunInfo, read_run
from outlast.report.summary import differing, ranges_for, row, sentence, summary
from outlast.report.thinning import Curves

LARGEST = 3_000_000
"""Bytes of a report, unless another size is asked for."""

MOST_RUNS = 24
"""Runs of a report that are shown in full: those that trained last. Of further ones, one row is shown."""

_MOST_LEFT_OUT = 20  # runs that cannot be read, of which a page says why


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        path: the file.
        size: its bytes.
        runs: how many it shows, in full or as a row.
        told: sentences about what it does not contain.
    """

    path: Path
    size: int
    runs: int
    told: list[str]


def report(
    folders: Sequence[Path],
    target: Path,
    *,
    launches: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    largest: int = LARGEST,
    skip_damaged: bool = False,
) -> Report:
    """Write the report of runs.

    Args:
        folders: the run folders.
        target: the file. An existing one is replaced only by a complete one.
        launches: launch records by the run's name.
        largest: bytes of the file at most; pictures that do not fit are left out.
        skip_damaged: leave out runs that cannot be read, and say so, instead of raising.

    Raises:
        UsageError: the text alone is larger than `largest`.
        OutlastError: a folder is not a run folder, or its run.json cannot be read.
    """
    infos, told = read_runs(folders, skip_damaged=skip_damaged)
    shown, others = in_full(infos)
    found = contents(shown, launches or {}, others=others) | {"left_out": left_out(told)}
    page = document(found)
    room = largest - len(page)
    if room < 0:
        raise UsageError(
            f"The report needs {(largest - room) / 1e6:.1f} MB without pictures, and {largest / 1e6:.1f} MB are "
            "allowed. Name fewer runs, or allow more with --max-mb."
        )
    if others:
        told.append(f"The {len(shown)} runs that trained last are shown in full, and the other {len(others)} as a row.")
    for info, run in zip(shown, found["runs"], strict=True):
        run["pictures"], lacking = inlined(pictures_in(RunFolder(info.folder).artifacts), room)
        room -= sum(len(json.dumps(picture)) for picture in run["pictures"])
        room -= sum(len(words) + 8 for words in lacking)
        run["pictures_left_out"] = lacking
        told += [f"{run['id']}: {words}" for words in lacking]
    if any(run["pictures"] or run["pictures_left_out"] for run in found["runs"]):
        page = document(found)
    durable.make_folder(target.parent)
    durable.write_file(target, [page])
    return Report(target, len(page), len(infos), told)


def read_runs(folders: Sequence[Path], *, skip_damaged: bool) -> tuple[list[RunInfo], list[str]]:
    """The runs of folders, and a sentence about each that cannot be read.

    Raises:
        OutlastError: one cannot be read, and `skip_damaged` is not set.
    """
    infos, told = [], list[str]()
    for folder in folders:
        try:
            infos.append(read_run(folder))
        except (OutlastError, OSError) as error:
            if not skip_damaged:
                raise
            told.append(f"{folder.name} is left out: {error}")
    return infos, told


def left_out(told: Sequence[str]) -> list[str]:
    """Sentences about runs that cannot be read, as a page shows them: without folders, and not too many."""
    more = [f"{len(told) - _MOST_LEFT_OUT} more are left out."] if len(told) > _MOST_LEFT_OUT else []
    return [*map(sentence, told[:_MOST_LEFT_OUT]), *more]


def in_full(infos: Sequence[RunInfo]) -> tuple[list[RunInfo], list[RunInfo]]:
    """The runs to be shown in full, which trained last, and the others; each in their order."""
    if len(infos) <= MOST_RUNS:
        return list(infos), []
    newest = sorted(infos, key=lambda info: _written(RunFolder(info.folder).journal))[-MOST_RUNS:]
    chosen = {id(info) for info in newest}
    return [info for info in infos if id(info) in chosen], [info for info in infos if id(info) not in chosen]


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def contents(
    infos: Sequence[RunInfo],
    launches: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    others: Sequence[RunInfo] = (),
) -> dict[str, Any]:
    """What a page shows, without pictures.

    Args:
        infos: the runs in full.
        launches: launch records by the run's name.
        others: runs of which a row is shown.
    """
    curves = []
    for info in infos:
        curves.append(Curves(info.renamed))
        curves[-1].more(RunFolder(info.folder).journal)
    ranges = ranges_for(curves)
    runs = [
        summary(info, each, launches=launches.get(info.id, ()), ranges=ranges)
        | {"pictures": [], "pictures_left_out": []}
        for info, each in zip(infos, curves, strict=True)
    ]
    more = len(infos) + len(others) - 4
    names = ", ".join(info.id for info in infos[:4]) + (f" and {more} more" if more > 0 else "")
    return {
        "title": names,
        "made": f"Read on {utc().replace('T', ' at ').replace('Z', ' UTC')} by outlast {__version__}.",
        "runs": runs,
        "others": [row(info) for info in others],
        "differs": differing(runs) if len(runs) > 1 else [],
    }


def document(data: Mapping[str, Any], *, policy: str = "") -> bytes:
    """The page as HTML.

    Its policy (CSP) lets only the two scripts and the styles of outlast run, by their hashes, and forbids every
    connection. Text of a run cannot end the data's element, as it holds no "<".

    Args:
        data: as `contents` gives it.
        policy: further directives, such as those of a page that is served.
    """
    scripts, style = (asset("uPlot.iife.min.js"), asset("page.js")), asset("uPlot.min.css") + "\n" + asset("page.css")
    allowed = " ".join(_source(script) for script in scripts)
    rules = (
        f"default-src 'none'; script-src {allowed}; style-src {_source(style)}; img-src data:; media-src data:; "
        f"base-uri 'none'; form-action 'none'{policy}"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(rules)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        '<link rel="icon" href="data:,">',
        f"<title>{html.escape(str(data['title']))} · outlast</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        '<main id="page"><noscript>A script in this file draws the curves and tables.</noscript></main>',
        f'<script type="application/json" id="data">{as_data(data)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts).encode("utf-8", "backslashreplace") + b"\n"


def as_data(data: Any) -> str:
    """JSON that can stand in an HTML element: no "<", ">" or "&", no line separator, and no NaN."""
    try:
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # all other letters as escapes
    except (TypeError, ValueError):  # rare: NaN, an infinity, or a mapping that is no dict
        text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache
def asset(name: str) -> str:
    """A file of the page, as text."""
    return resources.files("outlast.report").joinpath("assets", name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
