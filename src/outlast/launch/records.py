"""launches/0003.json in a run folder: the record of one attempt on another machine, written before it starts.

Written before it is started.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
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
        record: what the file holds: `provider`, `name`, `handle`, `accelerator`, `state` ("preparing", "pushing",
            "pushed", "refused", "abandoned", "lost", "fetched", "rejected", "deleted"), and what is learnt of it later:
            `url`, `session`, `seconds`, `exit`, `step`, `reached`, `end`. Records of outlast before there were
            providers have `on`, `slug`, `user` and `datasets` instead.
    """

    folder: RunFolder
    number: int
    record: dict[str, Any]

    @classmethod
    def begin(cls, folder: RunFolder, number: int, **facts: Any) -> LaunchRecord:
        """Write down what is about to be started."""
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
        """Whether it may run, or has files that were not fetched yet."""
        return self.record["state"] in ("pushing", "pushed")

    @property
    def handle(self) -> Handle:
        """The handle by which its provider finds it."""
        if "handle" in self.record:
            handle: Handle = self.record["handle"]
            return handle
        return {key: self.record[key] for key in ("slug", "user", "datasets") if self.record.get(key)}

    @property
    def options(self) -> Mapping[str, Any]:
        """The provider's options that it was launched with, as they were written: nobody has checked their types."""
        terms: dict[str, Any] = self.record.get("terms", {})
        return terms if "provider" in self.record else {**terms, "dataset": terms.get("datasets")}

    def is_own(self, provider: Provider) -> bool:
        """Whether its session is one of this run: named after it, in the record and at the provider."""
        ours = re.fullmatch(rf"{re.escape(session_name(self.folder.path.name))}-\d{{3,}}", self.name)
        return bool(ours) and provider.label(self.handle).rpartition("/")[2] == self.name

    def check_own(self, provider: Provider) -> None:
        """Refuse a record that names a session of another run, or of another provider or account.

        A run folder may have come from elsewhere, or may have been renamed.

        Raises:
            UsageError: it does.
        """
        provider.check(self.handle)
        if not self.is_own(provider):
            run = self.folder.path.name
            raise UsageError(
                f"{self.path} names the session {provider.label(self.handle)}; expected one of the run {run}, such as "
                f"{session_name(run, self.number)}. Nothing is done with a session of another run: if this folder was "
                "renamed, give it its name back."
            )

    def command(self, verb: str, *flags: str) -> str:
        """What a user types to do something with the run's newest launch, such as "outlast logs digits -f"."""
        return command_for(self.folder, verb, *flags)

    def learn(self, **facts: Any) -> None:
        """Add what is known now to what the file says: another process may have learnt something else meanwhile."""
        with _alone(self.folder.launches):
            known = reading.read_record(self.path, LAUNCH) if plain.kind_of(self.path) else {}
            self.record = self.record | known | facts
            self.write()

    def write(self) -> None:
        """Put the record on disk."""
        durable.write_json(self.path, self.record)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Between processes of this machine, one at a time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def launching(folder: RunFolder, who: str) -> Iterator[None]:
    """Be the only one who launches this run, such as "a relay".

    Raises:
        RunBusy: another process does.
    """
    durable.make_folder(folder.launches)
    lock = Lock(folder.launches / "lock")
    lock.take(who)
    try:
        yield
    finally:
        lock.release()


def short(run_id: str, length: int) -> str:
    """A run's name in small letters, digits and dashes."""
    return "-".join(re.findall(r"[a-z0-9]+", run_id.lower()))[:length].strip("-")


def session_name(run_id: str, number: int | None = None) -> str:
    """The name of a run's attempt, such as "outlast-digits-003"; without a number, what all its attempts begin with.

    At most 50 letters, the least that any provider allows. Where the run's name is not in it whole, a hash of it is.
    """
    name = short(run_id, 36)
    if name != run_id:
        name = f"{short(run_id, 27)}-{hashing.digest(run_id.encode())[:8]}".lstrip("-")
    return f"outlast-{name}" if number is None else f"outlast-{name}-{number:03d}"


def command_for(folder: RunFolder, verb: str, *flags: str) -> str:
    """What a user types to do something with a launched run."""
    root = folder.path.parent
    place = () if root == Path("runs") else ("--checkpoint-dir", root)
    return command("outlast", verb, folder.path.name, *flags, *place)


def open_launch(folder: RunFolder) -> LaunchRecord | None:
    """The newest launch of a run, when it is open; else None."""
    records = all_launches(folder)
    return records[-1] if records and records[-1].is_open else None


def check_closed(folder: RunFolder) -> None:
    """Refuse to train a run on this machine that goes on elsewhere, as each of the two would continue from one step.

    By the records alone: whether a session runs still, only its provider knows, and that may be out of reach.

    Raises:
        RunBusy: a launch of it is open, or another process launches it now.
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
            f"{name} is being launched by {owner.get('attempt', 'another process')} (process {owner.get('pid', '?')}), "
            f"and a run has one writer. Stop that first, or train under {ANOTHER_NAME}."
        )


def all_launches(folder: RunFolder) -> list[LaunchRecord]:
    """The launches of a run, oldest first.

    Raises CorruptCheckpoint when a record is none, as a session may run that it names.
    """
    numbers = layout.numbers_in(folder.launches)
    return [LaunchRecord(folder, n, reading.read_record(folder.launches / f"{n:04d}.json", LAUNCH)) for n in numbers]
