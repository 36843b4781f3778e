"""What every tracker implements, and what it is told of a run. One file per tracker implements it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from outlast.errors import UsageError

TRACKERS = {
    "tensorboard": "TensorBoard",
    "wandb": "W&B",
    "mlflow": "MLflow",
    "trackio": "trackio",
}
"""Name of a tracker, of its module here and of its extra -> its title in messages."""


@dataclass(frozen=True, order=True)
class Sent:
    """The lines of a journal that a tracker has: all up to a step, and so many of that step's own.

    Attributes:
        step: the step; -1 for none.
        lines: the number of lines of this step.
    """

    step: int = -1
    lines: int = 0


@dataclass(frozen=True)
class Mirrored:
    """A run as a tracker shows it.

    Attributes:
        id: the run's name.
        uid: 32 hex digits, the same in every copy of the run.
        folder: the run folder.
        journal: journal.jsonl.
        config: dotted key -> value, without secrets.
        about: recipe, grade and chain of the run.
    """

    id: str
    uid: str
    folder: Path
    journal: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture among the artifacts of a run.

    Attributes:
        name: its path below the artifacts.
        step: the step that it was made at.
        path: the file.
    """

    name: str
    step: int
    path: Path


class Client(Protocol):
    """One tracker, which shows one run.

    Attributes:
        final: whether a point cannot be taken back, so that only lines which no later attempt repeats are sent.
        notes: sentences for the user, such as where the curves are.
    """

    final: bool
    notes: list[str]

    def begin(self, run: Mirrored, state: Mapping[str, Any], known: Sent, last: Sent) -> Sent:
        """Open the tracker, and say which lines it has.

        Args:
            run: the run.
            state: what `flush` returned last; empty if that is not known. A file from outside: not to be trusted.
            known: the lines that it was sent and that the journal still has, as far as that is remembered.
            last: the last lines that it was sent, as far as that is remembered. They are other than `known` if an
                attempt has changed the journal since.

        Returns:
            All later lines are sent.
        """

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add lines of the journal: step, epoch if any, and the metrics."""

    def picture(self, picture: Picture) -> None:
        """Add a picture."""

    def flush(self) -> Mapping[str, Any]:
        """Make durable what was sent; returns what `begin` wants to know next time."""

    def ended(self, reason: str, step: int) -> None:
        """An attempt has ended."""

    def close(self) -> None:
        """Close the tracker; also after an error."""


def client_of(name: str, options: Mapping[str, Any]) -> Client:
    """The client of a tracker; it imports the tracker's library.

    Raises:
        UsageError: the library is not installed.
    """
    module = importlib.import_module(f"outlast.tracking.sinks.{name}")
    try:
        made: Client = module.open_client(**options)
    except ModuleNotFoundError as error:
        package = (error.name or name).partition(".")[0]
        raise UsageError(
            f"{TRACKERS[name]} cannot be used: the package {package} is not installed. Install it with "
            f"`pip install 'outlast[{name}]'`."
        ) from error
    return made
