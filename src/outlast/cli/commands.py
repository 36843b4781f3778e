"""The arguments of `launch` and `relay` for a command: `[flags] -- COMMAND ...`."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.checkpoint import CheckpointStore
from outlast.cli import wrapped
from outlast.cli.parser import Parser, split
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.layout import RunFolder, check_run_id, runs_root
from outlast.folder.lock import Lock
from outlast.integrations.command import digest_of
from outlast.integrations.patterns import Patterns
from outlast.integrations.restore import restore
from outlast.launch import providers
from outlast.launch.command import CommandWork
from outlast.launch.records import LaunchRecord, all_launches
from outlast.terminal import command, counted, say, shortened

_SHOWN = 6  # names of files in a line


@dataclass(frozen=True)
class CommandArguments:
    """The arguments of a launched command.

    Attributes:
        words: the command.
        on: the provider's name.
        options: the provider's options.
        user: the account that is expected, or None.
        values: all flags.
    """

    words: Sequence[str]
    on: str
    options: Mapping[str, Any]
    user: str | None
    values: argparse.Namespace

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return _folder_of(self.values, self.words)

    @property
    def patterns(self) -> Patterns:
        """The patterns of `--keep`."""
        return Patterns(self.values.keep, [self.folder.path.parent])

    def work(self) -> CommandWork:
        """The command as it is launched."""
        values, patterns = self.values, self.patterns
        provider = providers.connect(self.on, self.folder.path.parent, user=self.user)
        return CommandWork(
            self.words,
            digest_of(self.words, values.nproc),
            Path.cwd(),
            self.folder,
            patterns.match,
            patterns.reaches,
            flags=wrapped.flags_of(values),
            send=_paths(values.send),
            left=Patterns(values.leave_out, flag="--leave-out").match,
            links=provider.capabilities.folders,
            seconds=values.budget,
            remote=values.remote,
        )

    def announce(self) -> None:
        """Say which files are sent and kept, and what the session will lack."""
        work = self.work()
        files, here = work.files(), self.patterns.find(Path.cwd()).files
        sizes = {name.partition("/")[2]: path.stat().st_size for name, path in sorted(files.paths.items())}
        total = f", {counted(len(sizes), 'file')}, {format_bytes(sum(sizes.values()))}" if sizes else ""
        say(f"sent: {_named(list(sizes)) or 'no file'}{total}")
        if not self.values.keep:
            say(
                "warning: no --keep, so nothing that the command writes comes back, and each session begins anew.",
                error=True,
            )
        elif here and not CheckpointStore(work.folder).newest_step():
            again = command("outlast", "run", *self._same(), "--", *self.words)
            say(
                f"warning: {_named(sorted(here))}: here already, and in no checkpoint of {work.run_id}, so the session "
                f"begins without. To begin with them, start `{again}` here, and stop it with Ctrl-C.",
                error=True,
            )
        if stays := [] if work.links else work.stays_here():
            say(
                f"warning: the command names {_named(stays)}, which are not sent. Small files are sent with --send; "
                "attach data to the session.",
                error=True,
            )

    def bring_home(self) -> int:
        """Restore the kept files of the newest checkpoint into this folder, as `outlast run` does."""
        folder = self.folder
        lock = Lock(folder.lock)
        lock.take("a restore")
        try:
            opened, _ = CheckpointStore(folder).open_newest()
            if opened is None:
                return EXIT_FINISHED
            asides = (folder.set_aside / f"files-relay-{number}" for number in itertools.count(1))
            aside = next(place for place in asides if not place.exists())
            done = restore(opened, Path.cwd(), self.patterns, aside, keep_newer=False)
        finally:
            lock.release()
        if changed := sorted([*done.written, *done.replaced]):
            say(f"{counted(len(changed), 'file')} of step {opened.checkpoint.step} restored here: {_named(changed)}")
        if done.replaced:
            say(f"warning: copies of what was there before are in {aside}: {_named(done.replaced)}", error=True)
        return EXIT_FINISHED

    def _same(self) -> list[str]:
        return [f"--name={self.folder.path.name}", *(f"--keep={glob}" for glob in self.values.keep)]


def parse(prog: str, argv: list[str], more: Mapping[str, Mapping[str, Any]]) -> tuple[argparse.Namespace, list[str]]:
    """The flags and the command; `more`: flags of providers and of the verb, by name."""
    own, words = split(argv)
    parser = Parser(
        prog,
        f"Run a command on another machine: `{prog} --on local --keep out -- python train.py`. The code in this folder "
        "is sent, and `outlast run` runs the command there.",
    )
    wrapped.add_flags(parser)
    parser.add_argument(
        "--send",
        action="append",
        default=[],
        metavar="FILE",
        help="a file of this folder that is sent as well; code, and files that the command names, are sent in any "
        "case; may be repeated",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="GLOB",
        help="files of this folder that are not sent, such as data; may be repeated",
    )
    if prog.endswith("launch"):
        parser.add_argument("--dry-run", action="store_true", help="check everything, start nothing")
    for name, options in more.items():
        parser.add_argument("--keep-sessions" if name == "keep" else f"--{name}", **options)
    if own and not own[0].startswith("-"):
        raise UsageError(f"{prog} takes a recipe or a command after `--`, and got both: {shortened(own[0])}, and --.")
    values = parser.parse(own)
    if not words:
        raise UsageError(f"{prog} needs a command after `--`, such as `{prog} --on local -- python train.py`.")
    values.budget = values.budget or wrapped.budget_of(os.environ.get("OUTLAST_BUDGET"))
    Patterns(values.keep)
    Patterns(values.leave_out, flag="--leave-out")
    return values, words


def last_launch(values: argparse.Namespace, words: Sequence[str]) -> LaunchRecord | None:
    """The last launch of the run, or None."""
    records = all_launches(_folder_of(values, words))
    if records and "command" not in records[-1].record.get("asked", {}):
        name = records[-1].folder.path.name
        raise UsageError(f"{name} was launched as the run of a recipe. Give --name another name.")
    return records[-1] if records else None


def again(prog: str, before: LaunchRecord) -> str:
    """How a command is launched again whose words are not known."""
    flags = before.record["asked"].get("flags", [])
    root = before.folder.path.parent
    place = () if str(root) == "runs" else (f"--checkpoint-dir={root}",)
    return f"{command(*prog.split(), f'--name={before.folder.path.name}', *place, *flags)} -- COMMAND"


def _folder_of(values: argparse.Namespace, words: Sequence[str]) -> RunFolder:
    return RunFolder(runs_root(values.checkpoint_dir) / check_run_id(wrapped.name_of(values.name, words)))


def _paths(given: Sequence[str]) -> list[str]:
    """The values of --send as paths in this folder."""
    found = []
    for text in given:
        path = os.path.normpath(text)
        if os.path.isabs(path) or path.split("/")[0] == ".." or not Path(path).is_file():  # noqa: PTH117
            raise UsageError(f"--send {shortened(text)} is no file in this folder. Nothing was started.")
        found.append(path)
    return found


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(shortened, names[:_SHOWN])) + more
