"""outlast status [RUN] [--watch]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from outlast.cli import show
from outlast.cli.launched import SHOWN, Launches, print_launches, watch
from outlast.cli.named import last_launched, last_written, launched_or_trained
from outlast.cli.parser import Parser, positive
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.layout import RunFolder, runs_root
from outlast.launch.records import all_launches
from outlast.recipe import registry
from outlast.report import RunInfo, read_run
from outlast.report.chain import chain_of, line
from outlast.terminal import command, counted, measures, say, say_json, visible
from outlast.tracking import Latest


def run(argv: list[str]) -> int:
    """Show one run."""
    parser = Parser("outlast status", "Show a run: attempts, launches, checkpoints, last metrics.")
    parser.add_argument("run", nargs="?", help="a run's name or folder (default: the last launched run)")
    parser.add_runs_folder()
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="with RUN: repeat until its launched session ends. Without, in a terminal: all runs, local and launched. "
        "Ctrl-C ends only the display",
    )
    parser.add_argument(
        "--interval", type=positive, metavar="SECONDS", help="seconds between two updates (default: 60; all runs: 2)"
    )
    values = parser.parse(argv)
    root = runs_root(values.checkpoint_dir)
    if values.watch and values.run is None and (sys.stdout.isatty() or last_launched(root) is None):
        from outlast.cli.watching import watch_all

        watch_all(root, values.interval)
        return EXIT_FINISHED
    named = values.run or ((found := last_launched(root) or last_written(root)) and found.path.name)
    if not named:
        raise UsageError(
            f"{root} holds no run, so there is nothing to show; `outlast recipes` lists what can be trained."
        )
    place = launched_or_trained(named, values.checkpoint_dir)
    if values.watch:
        watch(RunFolder(place), values.interval or 60.0)
    if not (place / "run.json").is_file():
        if values.json:
            say_json(
                {"run": place.name, "launches": [each.record for each in all_launches(RunFolder(place))]}, indent=1
            )
        else:
            print_launches(RunFolder(place))
        return EXIT_FINISHED
    info = read_run(place)
    if values.json:
        say_json(as_json(info), indent=1)
    else:
        _print(info)
    return EXIT_FINISHED


def _address(folder: Path) -> str:
    """The argument that names a run: its name if it is in ./runs, else its path."""
    return folder.name if folder == runs_root() / folder.name else str(folder)


def as_json(info: RunInfo) -> dict[str, Any]:
    """The output of --json."""
    return {
        "run": info.id,
        **{key: info.about.get(key) for key in ("recipe", "grade", "parent")},
        "status": info.status,
        "step": info.step,
        "total_steps": info.total_steps,
        "metrics": info.metrics,
        "metrics_whole": info.latest.whole,
        "chain": [link.as_json() for link in chain_of(info)],
        "attempts": [{**attempt, "seconds": _seconds(info, attempt)} for attempt in info.attempts],
        "launches": [each.record for each in all_launches(RunFolder(info.folder))],
        "pushed": info.pushed,
        "checkpoints": [
            {"step": c.step, "reason": c.reason, "bytes": c.nbytes, "metrics": c.metrics} for c in info.checkpoints
        ],
    }


def _seconds(info: RunInfo, attempt: Mapping[str, Any]) -> dict[str, Any] | None:
    spent = info.spent(attempt)
    return spent.as_json() if spent else None


def _print_time(info: RunInfo) -> None:
    """The time of the newest trained attempt by activity, and advice."""
    for attempt in reversed(info.last_attempts(SHOWN)):
        if spent := info.spent(attempt):
            say(*spent.sentences(f"attempt {attempt['number']}"))
            return


def attempts_table(info: RunInfo) -> Any:
    """A table of attempts: machine, beginning and end."""
    rows = show.table("attempt", "where", "began", "continues", "ended", "at step", right=("attempt", "at step"))
    shown = info.last_attempts(SHOWN)
    following: list[Mapping[str, Any]] = [*shown[1:], {}]
    for attempt, after in zip(shown, following, strict=False):
        end, resume = attempt.get("end", {}), attempt.get("resume")
        came = f"step {resume['step']}, {resume['grade']}" if resume else "from nothing"
        where = attempt.get("environment", {}).get("name", "?")
        # A killed attempt could not say how far it came; where the next one continued is what it had saved.
        step = str(end["step"]) if "step" in end else f"{after['resume']['step']}+" if "resume" in after else ""
        rows.add_row(
            str(attempt["number"]),
            where,
            str(attempt.get("started", "?")),
            came,
            _ended(end, alive=info.status == "running" and after is following[-1]),
            step,
        )
    return rows


def _ended(end: Mapping[str, Any], *, alive: bool) -> Text:
    """The end of an attempt, in its colour. Without an end, it runs if the run's lock is held; else it was killed."""
    reason = str(end.get("reason", "running" if alive else "lost"))
    if reason == "preempted" and end.get("signal"):  # a user's own kill is not a preemption: name the signal
        return show.word(reason, f"{end['signal']} received")
    return show.word(reason)


def not_looked_further(found: Latest) -> str:
    """A note that a long journal was not read to its beginning, so that metrics may be missing."""
    where = "its last lines, which cannot be read" if found.since is None else f"step {found.since}"
    return (
        f"(the journal was not looked at further back than {where}: "
        "a metric that was logged last before that may be missing or older)"
    )


def _print_metrics(info: RunInfo) -> None:
    """Print the last metrics, how far back the journal was read, and the number of checkpoints set aside."""
    say("", f"last metrics: {measures(info.metrics) or 'none yet'}")
    if not info.latest.whole:
        say(not_looked_further(info.latest))
    if info.set_aside:
        say(
            f"set aside: {counted(len(info.set_aside), 'folder')} in {info.folder / 'set-aside'}, never used again; "
            "delete them when you do not want to look at them"
        )


def _print_origins(info: RunInfo) -> None:
    """Print the run's chain, its inputs, and the checkpoint from which it began."""
    if links := chain_of(info):
        say(f"stages: {line(links)}")
    for name, found in info.about.get("inputs", {}).items():
        say(f"trained on {name}: step {found['step']} of {found['run']} ({found['digest'][:12]})")
    if parent := info.about.get("parent"):
        say(f"begun from step {parent['step']} of {parent['run']}")


def _print_pushed(info: RunInfo) -> None:
    """Print the state of the run's remote."""
    pushed = info.pushed
    if pushed is None:
        return
    there, behind = (", ".join(map(str, pushed[key][-SHOWN:])) for key in ("steps", "behind"))
    say("", f"at {pushed['address']}: steps {there or '(none)'}, as of {pushed['time']}")
    if behind:
        say(f"not there yet: steps {behind}; {command('outlast', 'push', _address(info.folder), pushed['address'])}")
    if pushed.get("trouble"):
        say(f"the last try failed: {pushed['trouble']}")


def _print(info: RunInfo) -> None:
    console = show.console()
    of = f" of {info.total_steps}" if info.total_steps else ""
    launches = Launches.of(RunFolder(info.folder))
    console.print(
        show.word("running" if launches and launches.runs else info.status),
        visible(
            f"run {info.id} · recipe {info.about['recipe'] or '(script)'} · resume grade {info.about['grade']} · step "
            f"{info.step}{of}"
        ),
    )
    if launches and launches.newest.is_open:
        say(f"{launches.newest.name} on {launches.newest.provider} is {launches.state}; what it did is not fetched yet")
    _print_origins(info)
    say()
    console.print(attempts_table(info))
    if (more := len(info.numbers) - SHOWN) > 0:
        say(f"and {counted(more, 'attempt')} before these; --json gives all of them")
    _print_time(info)
    say()
    if launches:
        launches.print()
        say()
    rows = show.table("checkpoint", "why", "size", "metrics", right=("size",))
    for checkpoint in info.last_checkpoints(SHOWN):
        rows.add_row(
            checkpoint.path.name, checkpoint.reason, format_bytes(checkpoint.nbytes), measures(checkpoint.metrics)
        )
    console.print(rows)
    if (more := info.checkpoint_count - SHOWN) > 0:
        say(
            f"and {counted(more, 'checkpoint')} before these: "
            f"{command('outlast', 'checkpoints', _address(info.folder), '--quick')}"
        )
    _print_pushed(info)
    _print_metrics(info)
    for attempt in info.last_attempts(SHOWN):
        if error := attempt.get("end", {}).get("error"):
            say(f"attempt {attempt['number']} failed: {error}")
    open_elsewhere = launches and launches.newest.is_open  # then training is refused, with what to do instead
    if info.status not in ("finished", "running") and info.about["recipe"] and not open_elsewhere:
        own = () if registry.is_installed(info.about["recipe"]) else ("--recipe", info.about["recipe"])
        chain = info.about.get("chain")
        folder = info.folder.with_name(chain["name"]) if chain and chain_of(info) else info.folder
        say(f"Go on with: {command('outlast', 'resume', _address(folder), *own)}")
