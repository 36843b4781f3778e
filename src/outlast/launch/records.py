"""launches/0003.json in a run folder: the record of one attempt on another machine. It is written before the start."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.errors import ANOTHER_NAME, RunBusy, UsageError
from outlast.folder import durable, hashing, layout, plain, reading
from outlast.folder.attempt import utc
from outlast.folder.layout import RunFolder
from outlast.folder.lock import Lock, holder
from outlast.launch.provider import Handle, Provider
from outlast.launch.schema import LAUNCH
from outlast.terminal import command

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@dataclass
class LaunchRecord:
    """One launch.

    Attributes:
        folder: the run folder.
        number: counts from 1.
        record: the contents of the file: `provider`, `name`, `handle`, `accelerator`, `state` ("preparing", "pushing",
            "pushed", "refused", "abandoned", "lost", "fetched", "rejected", "deleted"), and facts that become known
            later: `url`, `session`, `seconds`, `exit`, `step`, `reached`, `end`, and `owed`: a relay starts the next
            session before it fetches this one. Records of early versions have `on`,
            `slug`, `user` and `datasets` instead of `provider` and `handle`.
    """

    folder: RunFolder
    number: int
    record: dict[str, Any]

    @classmethod
    def begin(cls, folder: RunFolder, number: int, **facts: Any) -> LaunchRecord:
        """Write the record of an attempt that is about to be started."""
        durable.make_folder(folder.launches)
        launch = cls(
            folder, number, {"format": layout.FORMAT, "number": number, "time": utc(), "state": "preparing", **facts}
        )
        launch.write()
        return launch

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder.launches / f"{self.number:04d}.json"

    @property
    def provider(self) -> str:
        """The name of the provider that runs it."""
        return str(self.record.get("provider") or self.record["on"])

    @property
    def name(self) -> str:
        """The name of this attempt, such as "outlast-digits-003"."""
        return str(self.record.get("name") or self.record["slug"])

    @property
    def is_open(self) -> bool:
        """Whether its session may be running, or has files that were not fetched yet."""
        return self.record["state"] in ("pushing", "pushed")

    @property
    def is_owed(self) -> bool:
        """Whether a relay has gone on without its files, so that they are still to be fetched."""
        return self.is_open and self.record.get("owed") is True

    @property
    def began(self) -> bool:
        """Whether it may have started a session."""
        return self.record["state"] not in ("preparing", "refused", "abandoned")

    @property
    def handle(self) -> Handle:
        """The handle by which its provider finds it."""
        if "handle" in self.record:
            handle: Handle = self.record["handle"]
            return handle
        return {key: self.record[key] for key in ("slug", "user", "datasets") if self.record.get(key)}

    @property
    def options(self) -> Mapping[str, Any]:
        """The provider's options of this launch, as in the file. Their types are not checked."""
        terms: dict[str, Any] = self.record.get("terms", {})
        return terms if "provider" in self.record else {**terms, "dataset": terms.get("datasets")}

    def is_own(self, provider: Provider) -> bool:
        """Whether its session belongs to this run: the record and the provider name it after the run."""
        ours = re.fullmatch(rf"{re.escape(session_name(self.folder.path.name))}-\d{{3,}}", self.name)
        return bool(ours) and provider.label(self.handle).rpartition("/")[2] == self.name

    def check_own(self, provider: Provider) -> None:
        """Check that the record names a session of this run, this provider and this account.

        It may not, because a run folder can be copied or renamed.

        Raises:
            UsageError: it names another session.
        """
        provider.check(self.handle)
        if not self.is_own(provider):
            run = self.folder.path.name
            raise UsageError(
                f"{self.path} names the session {provider.label(self.handle)}; expected a session of the run {run}, "
                f"such as {session_name(run, self.number)}. Nothing was done. If this folder was renamed, give it its "
                "old name."
            )

    def command(self, verb: str, *flags: str) -> str:
        """The command for a verb on the run's newest launch, such as "outlast logs digits -f"."""
        return command_for(self.folder, verb, *flags)

    def learn(self, **facts: Any) -> None:
        """Add facts to the file. It is read again first, because another process may have added others."""
        with _alone(self.folder.launches):
            known = reading.read_record(self.path, LAUNCH) if plain.kind_of(self.path) else {}
            self.record = self.record | known | facts
            self.write()

    def write(self) -> None:
        """Write the record to the disk."""
        durable.write_json(self.path, self.record)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock between the processes of this machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def launching(folder: RunFolder, who: str) -> Iterator[None]:
    """Hold the launch lock of a run. `who` names the holder in messages, such as "a relay".

    Raises:
        RunBusy: another process holds it.
    """
    durable.make_folder(folder.launches)
    lock = Lock(folder.launches / "lock")
    lock.take(who)
    try:
        yield
    finally:
        lock.release()


def short(run_id: str, length: int) -> str:
    """A run's name in lower-case letters, digits and dashes."""
    return "-".join(re.findall(r"[a-z0-9]+", run_id.lower()))[:length].strip("-")


def session_name(run_id: str, number: int | None = None) -> str:
    """The name of a run's attempt, such as "outlast-digits-003"; without a number, the common prefix of its attempts.

    It has at most 50 characters, the smallest limit of any provider. If the run's name does not fit, a hash is added.
    """
    name = short(run_id, 36)
    if name != run_id:
        name = f"{short(run_id, 27)}-{hashing.digest(run_id.encode())[:8]}".lstrip("-")
    return f"outlast-{name}" if number is None else f"outlast-{name}-{number:03d}"


def command_for(folder: RunFolder, verb: str, *flags: str) -> str:
    """The command for a verb on a launched run."""
    root = folder.path.parent
    place = () if root == layout.runs_root() else ("--checkpoint-dir", root)
    return command("outlast", verb, folder.path.name, *flags, *place)


def newest_begun(records: Sequence[LaunchRecord]) -> LaunchRecord | None:
    """The newest launch that may have started a session; otherwise the newest of all, or None if there is none."""
    return next((each for each in reversed(records) if each.began), records[-1] if records else None)


def open_launch(folder: RunFolder) -> LaunchRecord | None:
    """The newest launch of a run that may have started a session, if it is open; otherwise None.

    Or the one before it, whose files are owed.
    """
    records = all_launches(folder)
    newest = newest_begun(records)
    if newest and newest.is_open:
        return newest
    return next((each for each in reversed(records) if each.is_owed), None)


def check_closed(folder: RunFolder) -> None:
    """Check that no launch of the run is open, because two machines would continue it from the same step.

    Only the records are read. Whether a session still runs is known only to its provider, which may be unreachable.

    Raises:
        RunBusy: a launch is open, or another process is launching the run.
    """
    name = folder.path.name
    if newest := open_launch(folder):
        raise RunBusy(
            f"{name} was launched on {newest.provider} as {newest.name}, and the files of that session are not fetched "
            f"yet ({newest.path}), so training it on this machine would begin a second history. Follow the session "
            f"with `{newest.command('logs', '-f')}`, end it with `{newest.command('cancel')}`, and fetch its files "
            f"with `{newest.command('fetch')}`; or train under {ANOTHER_NAME}."
        )
    if owner := holder(folder.launches / "lock"):
        raise RunBusy(
            f"{name} is being launched by {owner.get('attempt', 'another process')} (process "
            f"{owner.get('pid', '?')}), and a run has one writer. Stop that process first, or train under "
            f"{ANOTHER_NAME}."
        )


def all_launches(folder: RunFolder) -> list[LaunchRecord]:
    """The launches of a run, oldest first.

    Raises:
        CorruptCheckpoint: a record cannot be read. It may name a session that is running.
    """
    numbers = layout.numbers_in(folder.launches)
    return [LaunchRecord(folder, n, reading.read_record(folder.launches / f"{n:04d}.json", LAUNCH)) for n in numbers]
