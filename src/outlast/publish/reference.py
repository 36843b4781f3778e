"""The interface of a reference: the one thing whose creation makes a publication visible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from outlast.publish.plan import Plan, PlannedFile

Progress = Callable[[str, int], None]
"""Takes the name of an object, and the bytes of it that the service has now."""


class Reference(ABC):
    """What makes a publication visible. It is created once, and never replaced.

    Every method raises RemoteError for what a service refuses.
    """

    @property
    @abstractmethod
    def where(self) -> str:
        """Where it is, for a person to read."""

    @abstractmethod
    def blobs(self, plan: Plan) -> dict[str, PlannedFile]:
        """The objects that the store must hold before the reference may be created, by name."""

    @abstractmethod
    def place(self, plan: Plan, file: PlannedFile) -> str:
        """Where a file of the plan goes, for a person to read."""

    @abstractmethod
    def prepare(self, plan: Plan) -> str:
        """Build what will be created, here; returns its identity, which is the same for the same plan."""

    @abstractmethod
    def create(self, progress: Progress) -> int:
        """Create the reference in one request that is refused where one of this name exists.

        Returns how many objects were written together with it, itself not counted. It may have been created although
        this raises: only `read` gives the verdict.
        """

    @abstractmethod
    def read(self) -> str | None:
        """The identity of what the server holds now under the reference's name; None: nothing."""

    def check(self, plan: Plan) -> None:  # noqa: B027 - most references take no files with them
        """Look at the files that became visible together with the reference, as the gate does at those before it.

        Raises:
            RemoteRefused: one is missing or another one.
        """

    @abstractmethod
    def commands(self) -> list[str]:
        """What a person types to get the publication."""
