"""outlast status RUN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from outlast.cli import show
from outlast.cli.flags import Parser
from outlast.config.units import format_bytes
from outlast.config.yamlfile import nearest
from outlast.errors import EXIT_FINISHED, UnknownName
from outlast.report import RunInfo, read_run


def run(argv: list[str]) -> int:
    """One run, whole."""
    parser = Parser("outlast status", "One run: attempts, checkpoints, last metrics.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    values = parser.parse(argv)
    info = read_run(folder_of(values.run, values.checkpoint_dir))
    if values.json:
        print(json.dumps(as_json(info), indent=1))
    else:
        _print(info)
    return EXIT_FINISHED


def folder_of(name: str, root: str | None) -> Path:
    """A run's folder, by path or by name."""
    path, place = Path(name), show.root_of(root)
    if (path / "run.json").is_file():
        return path
    if not (place / name / "run.json").is_file():
        there = sorted(found.parent.name for found in place.glob("*/run.json"))
        raise UnknownName(
            f"There is no run {name!r}: {place} holds {', '.join(there) or 'no runs yet'}.{nearest(name, there)}"
        )
    return place / name


def as_json(info: RunInfo) -> dict[str, Any]:
    """What --json prints."""
    return {
        "run": info.id,
        **{key: info.about.get(key) for key in ("recipe", "grade", "parent")},
        "status": info.status,
        "step": info.step,
        "total_steps": info.total_steps,
        "metrics": info.metrics,
        "attempts": info.attempts,
        "checkpoints": [
            {"step": c.step, "reason": c.reason, "bytes": c.nbytes, "metrics": c.metrics} for c in info.checkpoints
        ],
    }


def attempts_table(info: RunInfo) -> Any:
    """Attempts with where they ran, how they began and how they ended."""
    rows = show.table("attempt", "where", "began", "continues", "ended", "at step", right=("attempt", "at step"))
    following = [*info.attempts[1:], {}]
    for attempt, after in zip(info.attempts, following, strict=True):
        end, resume = attempt.get("end", {}), attempt.get("resume")
        came = f"step {resume['step']}, {resume['grade']}" if resume else "from nothing"
        where = attempt.get("environment", {}).get("name", "?")
        # A killed attempt could not say how far it came; where the next one went on is what it had saved.
        step = str(end["step"]) if "step" in end else f"{after['resume']['step']}+" if "resume" in after else ""
        rows.add_row(
            str(attempt["number"]),
            where,
            str(attempt.get("started", "?")),
            came,
            show.word(end.get("reason", "running")),
            step,
        )
    return rows


def _print(info: RunInfo) -> None:
    console = show.console()
    of = f" of {info.total_steps}" if info.total_steps else ""
    console.print(
        show.word(info.status),
        f"run {info.id} · recipe {info.about['recipe'] or '(script)'} · resume grade {info.about['grade']} · step {info.step}{of}",
    )
    if parent := info.about.get("parent"):
        print(f"begun from step {parent['step']} of {parent['run']}")
    print()
    console.print(attempts_table(info))
    print()
    rows = show.table("checkpoint", "why", "size", "metrics", right=("size",))
    for checkpoint in info.checkpoints:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in checkpoint.metrics.items())
        rows.add_row(checkpoint.path.name, checkpoint.reason, format_bytes(checkpoint.nbytes), metrics)
    console.print(rows)
    print("\nlast metrics: " + (", ".join(f"{name} {value:.4g}" for name, value in info.metrics.items()) or "none yet"))
    for attempt in info.attempts:
        if error := attempt.get("end", {}).get("error"):
            print(f"attempt {attempt['number']} failed: {error}")
    if info.status not in ("finished", "running") and info.about["recipe"]:
        print(f"Go on with: outlast resume {info.id}")
