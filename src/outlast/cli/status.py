"""outlast status [RUN] [--watch]."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from outlast.cli import show
from outlast.cli.flags import Parser, positive
from outlast.cli.named import last_launched, launched_or_trained
from outlast.config.units import format_bytes, format_seconds
from outlast.errors import EXIT_FINISHED, OutlastError, UsageError
from outlast.folder.layout import RunFolder
from outlast.launch import providers
from outlast.launch.records import LaunchRecord, all_launches
from outlast.recipe import registry
from outlast.report import RunInfo, read_run
from outlast.report.chain import chain_of, line
from outlast.terminal import command, counted, measures, say, say_json, visible
from outlast.tracking import Latest


def run(argv: list[str]) -> int:
    """One run, whole."""
    parser = Parser("outlast status", "Show a run: attempts, launches, checkpoints, last metrics.")
    parser.add_argument("run", nargs="?", help="a run's name or folder (default: the last launched run)")
    parser.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--watch", action="store_true", help="repeat until the launched session ends; Ctrl-C does not stop the session"
    )
    parser.add_argument(
        "--interval", type=positive, default=60.0, metavar="SECONDS", help="seconds between two updates (default: 60)"
    )
    values = parser.parse(argv)
    root = show.root_of(values.checkpoint_dir)
    named = values.run or ((found := last_launched(root)) and found.path.name)
    if not named:
        raise UsageError(
            f"outlast status needs a run, as none in {root} was launched elsewhere; `outlast runs` lists those there "
            "are."
        )
    place = launched_or_trained(named, values.checkpoint_dir)
    if values.watch:
        _watch(RunFolder(place), values.interval)
    if not (place / "run.json").is_file():
        if values.json:
            say_json(
                {"run": place.name, "launches": [each.record for each in all_launches(RunFolder(place))]}, indent=1
            )
        else:
            _print_launches(RunFolder(place))
        return EXIT_FINISHED
    info = read_run(place)
    if values.json:
        say_json(as_json(info), indent=1)
    else:
        _print(info)
    return EXIT_FINISHED


def _watch(folder: RunFolder, interval: float) -> None:
    """Print how the newest launch stands, whenever that changes, until it is over."""
    records = all_launches(folder)
    if not records:
        raise UsageError(f"{folder.path.name} was never launched elsewhere, so there is nothing to watch.")
    from outlast.launch.watch import ALIVE, follow, state_of

    provider, said = providers.of(records[-1]), ""
    try:
        while True:
            lines = [line for line in follow(provider, records[-1], until_over=False) if line.strip()]
            state = state_of(provider, records[-1])
            words = f"{records[-1].name} is {state}" + (f": {lines[-1].strip()}" if lines else "")
            if words != said:
                said = words
                say(f"{time.strftime('%H:%M:%S')} {words}")
            if state not in ALIVE:
                return
            time.sleep(interval)
    except KeyboardInterrupt:
        say(f"{records[-1].name} goes on; this has only stopped looking.")


@dataclass(frozen=True)
class _Launches:
    """The launches of a run elsewhere.

    Attributes:
        records: oldest first; there is at least one.
        state: how the newest one stands, asked of its provider when it is open.
    """

    records: Sequence[LaunchRecord]
    state: str

    @classmethod
    def of(cls, folder: RunFolder) -> _Launches | None:
        """Those of a run; None when it has none."""
        records = all_launches(folder)
        if not records:
            return None
        state, newest = records[-1].record["state"], records[-1]
        if newest.is_open:
            from outlast.launch.watch import listen

            try:
                state = listen(providers.of(newest, patience=20.0), newest)
            except OutlastError as error:
                state = f"{state} (not known: {error})"
        return cls(records, state)

    @property
    def newest(self) -> LaunchRecord:
        return self.records[-1]

    @property
    def runs(self) -> bool:
        """Whether the newest one runs, or is about to."""
        from outlast.launch.watch import ALIVE

        return self.newest.is_open and self.state in ALIVE

    def print(self) -> None:
        """The table, and what to do next."""
        rows = show.table("launch", "on", "as", "with", "took", "state", "to step", right=("launch", "took", "to step"))
        for each in self.records[-_SHOWN:]:
            record = each.record
            took = format_seconds(record["seconds"]) if "seconds" in record else ""
            state, step = (self.state if each is self.newest else record["state"]), str(record.get("step", ""))
            if state == "rejected":
                state, step = "not taken", f"({record.get('reached', '?')})"
            rows.add_row(str(each.number), each.provider, each.name, record["accelerator"], took, state, step)
        show.console().print(rows)
        if (more := len(self.records) - _SHOWN) > 0:
            say(f"and {more} more before these; --json gives all of them")
        if self.runs:
            say(f"Next: {self.newest.command('logs', '-f')}", f"To end it: {self.newest.command('cancel')}")
        elif self.newest.is_open:
            say(f"Next: {self.newest.command('fetch')}")


def _print_launches(folder: RunFolder) -> None:
    if launches := _Launches.of(folder):
        launches.print()


def _address(folder: Path) -> str:
    """The argument that names a run: its name if it is in ./runs, else its path."""
    return folder.name if folder == Path("runs") / folder.name else str(folder)


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
    for attempt in reversed(info.last_attempts(_SHOWN)):
        if spent := info.spent(attempt):
            say(*spent.sentences(f"attempt {attempt['number']}"))
            return


def attempts_table(info: RunInfo) -> Any:
    """Attempts with where they ran, how they began and how they ended."""
    rows = show.table("attempt", "where", "began", "continues", "ended", "at step", right=("attempt", "at step"))
    shown = info.last_attempts(_SHOWN)
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


_SHOWN = 20  # attempts, launches and checkpoints, the newest


def not_looked_further(found: Latest) -> str:
    """A note that a long journal was not read to its beginning, and what may be missing."""
    where = "its last lines, which cannot be read" if found.since is None else f"step {found.since}"
    return (
        f"(the journal was not looked at further back than {where}: "
        "a metric that was logged last before that may be missing or older)"
    )


def _print_metrics(info: RunInfo) -> None:
    """The last values, how far back they were looked for, and what was set aside."""
    say("", f"last metrics: {measures(info.metrics) or 'none yet'}")
    if not info.latest.whole:
        say(not_looked_further(info.latest))
    if info.set_aside:
        say(
            f"set aside: {counted(len(info.set_aside), 'folder')} in {info.folder / 'set-aside'}, never used again; "
            "delete them when you do not want to look at them"
        )


def _print_origins(info: RunInfo) -> None:
    """The chain that the run is a stage of, what it is trained on, and what it began from."""
    if links := chain_of(info):
        say(f"stages: {line(links)}")
    for name, found in info.about.get("inputs", {}).items():
        say(f"trained on {name}: step {found['step']} of {found['run']} ({found['digest'][:12]})")
    if parent := info.about.get("parent"):
        say(f"begun from step {parent['step']} of {parent['run']}")


def _print_pushed(info: RunInfo) -> None:
    """How far the remote is that follows the run."""
    pushed = info.pushed
    if pushed is None:
        return
    there, behind = (", ".join(map(str, pushed[key][-_SHOWN:])) for key in ("steps", "behind"))
    say("", f"at {pushed['address']}: steps {there or '(none)'}, as of {pushed['time']}")
    if behind:
        say(f"not there yet: steps {behind}; {command('outlast', 'push', _address(info.folder), pushed['address'])}")
    if pushed.get("trouble"):
        say(f"the last try failed: {pushed['trouble']}")


def _print(info: RunInfo) -> None:
    console = show.console()
    of = f" of {info.total_steps}" if info.total_steps else ""
    launches = _Launches.of(RunFolder(info.folder))
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
    if (more := len(info.numbers) - _SHOWN) > 0:
        say(f"and {counted(more, 'attempt')} before these; --json gives all of them")
    _print_time(info)
    say()
    if launches:
        launches.print()
        say()
    rows = show.table("checkpoint", "why", "size", "metrics", right=("size",))
    for checkpoint in info.last_checkpoints(_SHOWN):
        rows.add_row(
            checkpoint.path.name, checkpoint.reason, format_bytes(checkpoint.nbytes), measures(checkpoint.metrics)
        )
    console.print(rows)
    if (more := info.checkpoint_count - _SHOWN) > 0:
        say(
            f"and {counted(more, 'checkpoint')} before these: "
            f"{command('outlast', 'checkpoints', _address(info.folder), '--quick')}"
        )
    _print_pushed(info)
    _print_metrics(info)
    for attempt in info.last_attempts(_SHOWN):
        if error := attempt.get("end", {}).get("error"):
            say(f"attempt {attempt['number']} failed: {error}")
    open_elsewhere = launches and launches.newest.is_open  # then training is refused, with what to do instead
    if info.status not in ("finished", "running") and info.about["recipe"] and not open_elsewhere:
        own = () if registry.is_installed(info.about["recipe"]) else ("--recipe", info.about["recipe"])
        chain = info.about.get("chain")
        folder = info.folder.with_name(chain["name"]) if chain and chain_of(info) else info.folder
        say(f"Go on with: {command('outlast', 'resume', _address(folder), *own)}")
