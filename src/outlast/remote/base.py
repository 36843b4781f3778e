"""The interface of a remote: named objects that are written once, and read, listed and deleted by name.

A remote is a folder, a bucket, an sftp server, a data set. All drivers pass tests/conformance/test_remotes.py. A driver
retries what is transient within the bounds of retry.py, never what is permanent. It keeps the service's reason, and
never overwrites an object. Several threads may use one remote at a time.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import RemoteRefused
from outlast.folder import layout, plain

PIECE = 2**20
"""Bytes that are held at a time while an object is read or written."""

LONGEST_NAME = 1024
"""Bytes of a name in UTF-8: what S3 and GCS take."""


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of a remote; it refuses operations that it does not support.

    Attributes:
        writes: it can be written to.
        exclusive_put: of several writers of one name exactly one succeeds. Without it a name must have one writer.
        oldest_wins: instead, several objects may get one name, and all readers use the one that was made first. A
            writer learns which one that is by reading after `settle`.
        conditional_delete: an object is deleted only while it is the one that was listed.
        digest: name of the algorithm of the digests that `stat` reports, as hashlib has it.
        server_digest: `stat` gives the digest from what the service keeps, without reading the object back.
        freshens: an object that is put again is young again. Without it an object's age says nothing of its use, and
            what goes by age must not delete here.
        atomic_batch: `put_all_if_absent` makes all of its objects visible at once, or none.
    """

    writes: bool
    exclusive_put: bool
    conditional_delete: bool
    digest: str
    server_digest: bool = False
    freshens: bool = True
    atomic_batch: bool = False
    oldest_wins: bool = False


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it.

    Attributes:
        name: relative to the remote, with "/" between its components.
        size: bytes.
        generation: changes when the object is replaced, or put again; opaque.
        modified: seconds since 1970, by the remote's clock.
    """

    name: str
    size: int
    generation: str
    modified: float


@dataclass(frozen=True)
class Stat(Entry):
    """An object as the remote itself describes it.

    Attributes:
        digest: of its contents, in hex, by the algorithm that `Capabilities.digest` names.
    """

    digest: str


@dataclass(frozen=True)
class Pieces:
    """The bytes of an object that are in no file of their own.

    Attributes:
        size: bytes.
        read: yields them in order, anew at each call; raises an OutlastError when they cannot be read.
    """

    size: int
    read: Callable[[], Iterator[bytes]]

    def __str__(self) -> str:
        """In the place of a file's path, for messages."""
        return "what was to be written"


class ListingIncomplete(RemoteRefused):
    """A listing that left out folders which cannot be read. It is raised after all other objects were yielded.

    Args:
        message: as of every error.
        folders: the names of these folders, relative to the remote.
    """

    def __init__(self, message: str, folders: Sequence[str]) -> None:
        super().__init__(message)
        self.folders = folders


class Remote(ABC):
    """A place for named objects.

    Every method raises RemoteRefused for a name that `check_name` refuses and for what the service refuses, and
    RemoteUnavailable when it may succeed later.

    Attributes:
        typed: the address as the user wrote it, with its options, for commands; empty if nobody did.
    """

    typed: str = ""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """The capabilities of this remote."""

    @abstractmethod
    def address(self, name: str = "") -> str:
        """The address of an object for messages: a path or a URL."""

    @abstractmethod
    def put_if_absent(self, name: str, file: Path) -> bool:
        """Write a file under a name that nothing has yet, durably, whole or not at all.

        An object that is there already counts as written when its size and its digest are those of the file; its age
        then starts over, so that nobody deletes as forgotten what someone relies on again.

        Args:
            name: of the object.
            file: a plain file. It is read once or more and must not change meanwhile.

        Returns:
            Whether it was written; False: the same object was there.

        Raises:
            ObjectConflict: another object has this name; it was not changed.
            OutlastError: the file cannot be read.
        """

    def put_all_if_absent(self, files: Mapping[str, Path], last: str | None = None) -> set[str]:
        """Write several files under names that nothing has yet, each as `put_if_absent` does.

        They become visible one by one in the order of the mapping. Where `Capabilities.atomic_batch` is declared they
        become visible together.

        Args:
            files: the name of each object, and its file.
            last: the name that becomes visible when all others are durable, such as a manifest that names them.

        Returns:
            The names that were written; under the other ones the same object was there.

        Raises:
            ObjectConflict: another object has one of the names; it was not changed. Without `atomic_batch` those that
                come before it were written.
            ValueError: `last` is not among the files.
        """
        if last is not None and last not in files:
            raise ValueError(f"last is {last!r}; expected one of the {len(files)} names to be written")
        ordered = sorted(files, key=lambda name: name == last)
        return {name for name in ordered if self.put_if_absent(name, files[name])}

    @abstractmethod
    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of an object, or those of them that it has, in pieces of at most PIECE bytes.

        Raises:
            ObjectMissing: there is no such object; raised when the first piece is asked for.
            ValueError: start is negative, or stop is less than start; as above.
        """

    @abstractmethod
    def stat(self, name: str) -> Stat:
        """Size and digest as the remote reports them; where it reports none, the driver reads the object back.

        Raises:
            ObjectMissing: there is no such object.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose names begin with a text, which need not end at a "/", in no particular order.

        An object appears when it is whole. Objects that are written or deleted meanwhile may appear or not.

        Raises:
            ListingIncomplete: folders cannot be read; raised at the end.
        """

    @abstractmethod
    def delete_if_unchanged(self, name: str, generation: str) -> None:
        """Delete an object, if it is still of the generation that was listed.

        Raises:
            ObjectMissing: there is no such object.
            ObjectConflict: it was replaced or put again since; it was not deleted.
        """

    def keep_ids(self, known: Mapping[str, str], keep: Callable[[str, str], None]) -> None:  # noqa: B027
        """Use ids that an earlier process has kept, where a service knows an object by an id besides its name.

        So an object that a process was sending when it was killed is not made a second time. Other remotes do nothing.

        Args:
            known: what each id is for -> the id.
            keep: is called with the same pair for a new one, before the service sees it.
        """

    def tell_silence(self, tell: Callable[[str], None]) -> None:  # noqa: B027
        """Give sentences about a service that does not answer to a function, instead of printing them on stderr.

        Args:
            tell: is called by a thread of its own.
        """

    def settle(self, name: str) -> None:  # noqa: B027
        """Where the oldest object of a name wins, wait until a reader knows which one that is; otherwise do nothing."""

    def close(self) -> None:  # noqa: B027
        """Close the connections, if it holds any; it opens them again when it is used again."""


def check_name(name: str) -> str:
    """Return the name if every remote can take it.

    Each component is a plain file name: not empty, not beginning with a dot, without control characters and
    backslashes, of at most 200 characters. A name that begins with a dot is a driver's own.

    Raises:
        RemoteRefused: it cannot name an object.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = LONGEST_NAME + 1
    if size > LONGEST_NAME or not all(layout.is_plain(each) for each in name.split("/")):
        raise RemoteRefused(
            f"{name[:80]!r} cannot name an object of a remote: expected at most {LONGEST_NAME} bytes of UTF-8, file "
            "names with '/' between "
            "them, none empty or beginning with a dot, and no control characters or backslashes. Nothing was read or "
            "written."
        )
    return name


def digest_of(file: Path, algorithm: str) -> str:
    """The digest of a plain file in hex, to be compared with what a remote reports.

    Raises:
        UnsafeFolder: it is no plain file.
        OSError: it cannot be read.
    """
    with os.fdopen(plain.open_plain(file), "rb", buffering=0) as opened:
        import hashlib  # OpenSSL takes some milliseconds

        return hashlib.file_digest(opened, algorithm).hexdigest()
