"""outlast checkpoints RUN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outlast.checkpoint import read_manifest, verify
from outlast.cli import show
from outlast.cli.named import runs_of
from outlast.cli.parser import Parser
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, CorruptCheckpoint
from outlast.folder.layout import RunFolder, step_of
from outlast.report import read_run
from outlast.terminal import measures, say, say_json


def run(argv: list[str]) -> int:
    """List a run's checkpoints; exit code 1 when one is damaged. Changes nothing."""
    parser = Parser("outlast checkpoints", "List a run's checkpoints, with the state of their hashes.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_runs_folder()
    parser.add_argument("--quick", action="store_true", help="read the manifests only and hash nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object per checkpoint")
    values = parser.parse(argv)
    found = runs_of(values.run, values.checkpoint_dir)
    codes = [_list(folder, values, named=len(found) > 1) for folder in found]
    return max(codes)


def _list(folder: Path, values: Any, *, named: bool) -> int:
    """List the checkpoints of one run; `named`: print its name, because several runs are listed."""
    place = RunFolder(read_run(folder).folder)
    paths = [path for path in place.checkpoints.glob("step-*") if step_of(path) is not None]
    rows = [_facts(path, quick=values.quick) for path in sorted(paths, key=lambda path: step_of(path) or 0)]
    if values.json:
        for row in rows:
            say_json({"run": place.path.name, **row} if named else row)
        return _code(rows)
    if named:
        say(f"{place.path.name}:")
    if not rows:
        say(f"{place.path} has no checkpoints yet.")
    else:
        _print(rows)
    return _code(rows)


def _code(rows: list[dict[str, Any]]) -> int:
    return EXIT_FAILED if any(row["state"].startswith("DAMAGED") for row in rows) else EXIT_FINISHED


def _facts(path: Any, *, quick: bool) -> dict[str, Any]:
    step = step_of(path)
    try:
        checkpoint = read_manifest(path) if quick else verify(path)
    except CorruptCheckpoint as error:
        return {"step": step, "state": f"DAMAGED: {error}"}
    manifest = checkpoint.manifest
    return {
        "step": step,
        "reason": checkpoint.reason,
        "state": "not hashed" if quick else "verified",
        "bytes": checkpoint.nbytes,
        "shared_bytes": sum(int(entry["size"]) for entry in manifest["files"].values() if "shared" in entry),
        "time": manifest["written"]["time"],
        "seconds": manifest["written"]["seconds"],
        "metrics": checkpoint.metrics,
    }


SHOWN_ROWS = 200  # rows, the newest


def _print(rows: list[dict[str, Any]]) -> None:
    numbers = ("step", "size", "shared", "seconds to write")
    table = show.table(
        "step", "why", "size", "shared", "written", "seconds to write", "hashes", "metrics", right=numbers
    )
    older = [row for row in rows[:-SHOWN_ROWS] if "reason" in row]  # a damaged one is always shown
    for row in [*(row for row in rows[:-SHOWN_ROWS] if "reason" not in row), *rows[-SHOWN_ROWS:]]:
        if "reason" not in row:
            table.add_row(str(row["step"]), "", "", "", "", "", row["state"], "")
            continue
        table.add_row(
            str(row["step"]),
            row["reason"],
            format_bytes(row["bytes"]),
            format_bytes(row["shared_bytes"]) if row["shared_bytes"] else "",
            row["time"],
            f"{row['seconds']:.2f}",
            row["state"],
            measures(row["metrics"]),
        )
    show.draw(table)
    if older:
        say(f"and {len(older)} before these; --json gives all of them")
