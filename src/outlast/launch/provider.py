"""The interface of a provider, through which `launch`, `relay` and the other verbs start attempts.

A provider runs a bundle for a limited time and keeps the files that the session wrote. `launch`, `relay`, `logs`,
`fetch`, `cancel`, `down` and `quota` know nothing else of it. docs/providers.md says how to write one;
tests/conformance/test_providers.py is what each one must pass.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from outlast.launch.bundle import Bundle

Handle = Mapping[str, Any]
"""What a provider needs to find one of its sessions again: a JSON object. Only the provider that made it reads it."""

Tell = Callable[[str], None]
"""Takes a sentence for the user."""


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of a provider.

    Attributes:
        quota: it counts accelerator hours, and `quotas` says how many are left.
        live_logs: `log` gives lines while the session runs.
        secrets: it can hand keys to a session.
        folders: its sessions see the folders of this machine.
        accelerators: names that `--accelerator` takes; empty when there is no choice.
        inputs: of which sessions the outputs can be attached to the next one: those that "completed", all that "ended",
            or "none".
        settles: seconds for which a submission without an answer may still turn up.
        ask: seconds between two looks at a session that it well bears.
        longer: the flag that makes sessions longer, such as "--session"; empty when their length is fixed.
    """

    quota: bool = False
    live_logs: bool = False
    secrets: bool = False
    folders: bool = False
    accelerators: tuple[str, ...] = ()
    inputs: Literal["completed", "ended", "none"] = "none"
    settles: float = 0.0
    ask: float = 45.0
    longer: str = ""


@dataclass(frozen=True)
class Terms:
    """The terms of a session.

    Attributes:
        seconds: of training; None: as many as the provider's limit leaves.
        options: the provider's own options by name, as JSON. `wheels` is a folder of wheels that goes into the bundle.
    """

    seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """The limits of a session with certain terms.

    Attributes:
        session: seconds after which the provider ends it.
        overhead: seconds of those that are not for training, such as for storing the outputs.
        least: seconds of quota below which a session is not worth its start.
        accelerator: what it computes on.
        metered: the kind of hours that it uses up, such as "GPU"; None when it uses none.
    """

    session: float
    overhead: float = 0.0
    least: float = 0.0
    accelerator: str = "this machine"
    metered: str | None = None

    def training(self, terms: Terms) -> float:
        """Seconds that a session with these terms trains."""
        return terms.seconds or self.session - self.overhead

    def within(self, terms: Terms, left: float) -> Terms:
        """The terms of a session, shortened to the remaining seconds of the quota.

        Never less than a minute of training.
        """
        seconds = max(left - self.overhead, 60.0)
        return replace(terms, seconds=seconds) if left - self.overhead < self.training(terms) else terms


@dataclass(frozen=True)
class Quota:
    """Accelerator time of one kind: seconds used and in all, and when it is renewed.

    The time of renewal is in UTC; None when the provider does not say.
    """

    kind: str
    used: float
    total: float
    refresh: dt.datetime | None = None

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(0.0, self.total - self.used)


Word = Literal[
    "queued", "running", "saving", "completed", "failed", "cancelled", "timed-out", "out-of-memory", "lost"
]  # fmt: skip


@dataclass(frozen=True)
class State:
    """The state of a session.

    Attributes:
        word: queued, running or saving; or how it ended. "lost": its machine went down.
        message: the provider's sentence on a failure.
        exit: the exit code of the training, where the provider knows it.
        seconds: how long it has run, where the provider knows it.
    """

    word: Word
    message: str = ""
    exit: int | None = None
    seconds: float | None = None

    @property
    def over(self) -> bool:
        """Whether the session has ended, so that its outputs are complete."""
        return self.word not in ("queued", "running", "saving")


@dataclass(frozen=True)
class Line:
    """A line that a session has printed, and how many seconds after its start."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Output:
    """A file that a session left.

    Attributes:
        name: its path, such as "runs/digits/run.json".
        save: writes its bytes into a file of this path; raises OSError when they do not come whole.
    """

    name: str
    save: Callable[[Path], None] = field(repr=False)


@dataclass(frozen=True)
class Request:
    """One attempt that is to be started.

    Attributes:
        name: of this attempt alone, such as "outlast-digits-003".
        run: the run's name.
        bundle: the code.
        asked: what `outlast.launch.inside` is to train (`bundle.request_of`).
        terms: what the session is to have.
        after: the session whose outputs are attached to it, if any.
        files: files of the run that are sent along: path such as "runs/digits/run.json" -> the file.
        step: the step that it continues from.
    """

    name: str
    run: str
    bundle: Bundle
    asked: Mapping[str, Any]
    terms: Terms
    after: Handle | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    step: int = 0

    @property
    def training(self) -> float:
        """Seconds that it trains."""
        return float(self.asked["budget"])


class Provider(Protocol):
    """A provider of sessions.

    All methods that take a handle raise UsageError for one of another provider or account. `log`, `outputs` and
    `cancel` raise UnknownName for a session that is not there; `state` returns None and `delete` does nothing.

    Attributes:
        name: in the table of providers, in records and after `--on`.
        title: what messages call it.
        environment: whose preferences (configs/environment/NAME.yaml) travel with the code.
        capabilities: what it can do.
    """

    name: str
    title: str
    environment: str
    capabilities: Capabilities

    def account(self) -> str:
        """Whose sessions these are, and how that is known, for the user; empty when there are no accounts."""
        ...

    def limits(self, terms: Terms) -> Limits:
        """The limits of a session with these terms."""
        ...

    def metered(self, accelerator: str) -> str | None:
        """The kind of hours that a session on this accelerator uses up; None: none."""
        ...

    def quotas(self) -> Sequence[Quota]:
        """The remaining hours of each kind; empty without the capability."""
        ...

    def check(self, handle: Handle) -> None:
        """Raise UsageError when a handle is not one of this provider and account."""
        ...

    def preview(self, request: Request, folder: Path) -> str:
        """Write what would be sent into a folder, send nothing, and say what was written."""
        ...

    def plan(self, request: Request) -> Handle:
        """The handle that the session will have, and the names of all that `submit` makes. It makes nothing.

        Raises:
            UsageError: the terms ask for something that is not there.
        """
        ...

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:
        """Start a session; returns its handle, with what is known of it now.

        Args:
            request: what to start.
            handle: as `plan` returned it.
            begun: called just before the one call that must not be made twice. What comes before may be repeated.
            tell: called with messages about long operations.

        Raises:
            AnswerLost: it may have been started. Ask `state` before starting another.
            LaunchRefused: the provider does not start it; nothing runs.
            LaunchError: another failure; nothing runs.
        """
        ...

    def label(self, handle: Handle) -> str:
        """The provider's name of the session."""
        ...

    def address(self, handle: Handle) -> str:
        """The address of the session for the user: a URL or a folder."""
        ...

    def state(self, handle: Handle) -> State | None:
        """The state of the session; None if it does not exist."""
        ...

    def log(
        self,
        handle: Handle,
        since: int = 0,
        *,
        live: bool = False,
        pause: float = 5.0,
        seen: Callable[[State | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """The lines that the session has printed, from number `since`, each once.

        Args:
            handle: the session.
            since: how many lines to leave out.
            live: continue until the session is over.
            pause: seconds between two looks.
            seen: called with the session's state after each query.
        """
        ...

    def outputs(self, handle: Handle) -> Iterator[Output]:
        """The files that the session left; none while it runs."""
        ...

    def cancel(self, handle: Handle) -> None:
        """End the session. Its files are kept. One that is over stays as it is.

        Raises:
            UsageError: it cannot be ended now.
            LaunchRefused: the provider does not do it.
        """
        ...

    def clear(self, handle: Handle) -> None:
        """Let go of what a session left, as it was fetched and no session continues from it.

        Files on this machine are deleted; those at a service may stay. The session's state and its log stay. One that
        is not over, or not there, is left alone.
        """
        ...

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:
        """Delete the session with its files, ending it when it runs.

        What was made for it is deleted too, unless one of `others` uses it.

        Returns:
            The names of what was deleted; empty when nothing was there.
        """
        ...
