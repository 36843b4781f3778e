"""What the drivers of network services have in common.

Requests are repeated when that can help, verdicts are read from the service, and a read that broke off goes on where it
was.
"""

from __future__ import annotations

import contextlib
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from outlast.errors import (
    ObjectConflict,
    ObjectMissing,
    OutlastError,
    RemoteRefused,
    RemoteUnavailable,
    UnsafeFolder,
)
from outlast.folder import layout, plain
from outlast.remote import retry
from outlast.remote.answers import scrubbed
from outlast.remote.base import Entry, Remote, Stat, check_name, digest_of
from outlast.waiting import SentFile, Silence, Tell, Wait

T = TypeVar("T")

TIMEOUT = 60.0
"""Seconds in which a connection has to be made, and in which something of a reply has to arrive."""

SMALL = 2**18
"""Bytes up to which an object is sent without looking first whether it is there."""

MOST_PAGES = 100_000
"""Pages of a listing that are read at most."""

MOST_LISTED = 10_000_000
"""Objects in a listing at most. A service that shows more is not believed, as each takes memory."""


@dataclass(frozen=True)
class Opened:
    """Bytes of an object on their way.

    Attributes:
        generation: of the object, so that a later read of its rest can ask for the same one; opaque.
        pieces: in order. Raises RemoteUnavailable when it breaks off, also when the service ends it early.
    """

    generation: str
    pieces: Iterator[bytes]


class NetworkRemote(Remote):
    """A remote behind a network.

    A driver has the methods that begin with an underscore. Each makes one request, or few, and raises RemoteUnavailable
    for what may succeed later and RemoteRefused for what will not.

    Args:
        root: address of what the prefix is in, with "/" at its end.
        prefix: what the names of its objects begin with at the service: "", or a text with "/" at its end.
        writes: False for a remote that is only read.
        timeout: seconds in which something of a reply has to arrive.
        longest: seconds in which an operation ends when nothing is heard; None: as its tries take.
    """

    first_pause = retry.FIRST

    def __init__(
        self, root: str, prefix: str, *, writes: bool = True, timeout: float = TIMEOUT, longest: float | None = None
    ) -> None:
        self._root, self._prefix, self._writes, self._timeout = root, prefix, writes, timeout
        self._silence = Silence(root + prefix, retry.longest(timeout) if longest is None else longest)

    @abstractmethod
    def _create(self, name: str, file: Path, digest: str) -> bool:
        """Write an object, if nothing has its name; otherwise False."""

    @abstractmethod
    def _look(self, name: str) -> Stat:
        """Describe an object; its digest is "" where the service has none. Raises ObjectMissing."""

    @abstractmethod
    def _freshen(self, found: Stat) -> None:
        """Let its age begin anew. Raises ObjectMissing or ObjectConflict when it is gone or another one."""

    @abstractmethod
    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        """Begin to read [start, stop), which is not empty, of that generation, or of any one for "".

        Nothing is read when the object ends before its start. Raises ObjectMissing.
        """

    @abstractmethod
    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:
        """One page of a listing and where the next one begins: "" for the first page, and after the last one."""

    @abstractmethod
    def _delete(self, name: str, generation: str) -> None:
        """Delete an object of that generation. Raises ObjectMissing or ObjectConflict."""

    def address(self, name: str = "") -> str:
        """The URL of an object."""
        return self._root + self._prefix + name

    def put_if_absent(self, name: str, file: Path) -> bool:
        """Write a file under a name that nothing has yet, as `Remote.put_if_absent` says.

        What is there is not sent, unless it is so small that sending it takes no longer than looking first. When the
        reply to a write was lost, the object that is found counts as there already.
        """
        check_name(name)
        self._check_writes(name)
        size, digest = self._describe(file)
        with self._silence.waiting() as wait:
            return self._put(name, file, size, digest, wait)

    def _put(self, name: str, file: Path, size: int, digest: str, wait: Wait) -> bool:
        tries, refused = self._tries(wait), 0
        look = size > SMALL or not self.capabilities.exclusive_put  # a write that may replace comes after a look
        while True:
            try:
                found = self._sized(name) if look else None
                if found is not None and found.size == size and not found.digest:
                    found = self._with_digest(found)
            except ObjectMissing:
                found = None
            look = True
            if found is None:
                try:
                    if self._created(name, file, digest):
                        return True
                    refused += 1
                except RemoteUnavailable as error:
                    tries.again(error)
                if refused > 1:
                    tries.again(RemoteUnavailable(f"{self.address(name)} is neither there nor can it be written now."))
                continue
            if (found.size, found.digest) != (size, digest):
                theirs = f" and the {self.capabilities.digest} {found.digest[:12]}" if found.digest else ""
                raise ObjectConflict(
                    f"{self.address(name)} is another file than {file}: it has {found.size} bytes{theirs}, the file "
                    f"{size} and {digest[:12]}. Nothing was written; choose another name."
                )
            try:
                self._ask(lambda found=found: self._freshen(found))  # type: ignore[misc]
                return False
            except (ObjectMissing, ObjectConflict) as error:  # deleted or put again meanwhile: look again
                tries.again(RemoteUnavailable(str(error), error.reason, after=0.0))

    def _created(self, name: str, file: Path, digest: str) -> bool:
        try:
            with self._understood(name):
                return self._create(name, file, digest)
        except ObjectMissing as error:  # its upload is gone, not the object
            raise RemoteUnavailable(
                f"{self.address(name)} was not written; its upload is gone.", error.reason
            ) from None

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object, as `Remote.get` says. A read that breaks off goes on with the same object."""
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"bytes from {start} to {stop}; expected 0 <= start <= stop")
        check_name(name)
        if start == stop:
            self._ask(lambda: self._look(name))
            return
        with self._silence.apart() as wait:
            generation, tries = "", self._tries(wait)
            while stop is None or start < stop:
                try:
                    with self._understood(name):
                        opened = self._open(name, start, stop, generation)
                        generation = opened.generation
                        for piece in opened.pieces:
                            wanted = piece if stop is None else piece[: stop - start]  # a service may send more
                            start, tries.failed = start + len(wanted), 0
                            with wait.resting():
                                yield wanted
                            if start == stop:
                                break
                    return
                except RemoteUnavailable as error:
                    tries.again(error)

    def stat(self, name: str) -> Stat:
        """Size and digest as the service keeps them; where it keeps none, the object is read back."""
        found = self._sized(name)
        if found.digest:
            return found
        return self._with_digest(found)

    def _sized(self, name: str) -> Stat:
        """What the service keeps of an object, perhaps no digest."""
        check_name(name)
        return self._ask(lambda: self._look(name))

    def _with_digest(self, found: Stat) -> Stat:
        """Read an object back, for its digest."""
        name = found.name
        hashed = hashlib.new(self.capabilities.digest)
        for piece in self.get(name, 0, found.size + 1):  # a service may send without an end
            hashed.update(piece)
        return replace(found, digest=hashed.hexdigest())

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose names begin with a text; a driver's own ones are left out."""
        after, seen, count, names = "", set[str](), 0, list[str]()
        while True:
            before = names
            entries, after = self._ask(lambda after=after: self._entries(prefix, after))  # type: ignore[misc]
            names, count = [entry.name for entry in entries], count + len(entries)
            if after in seen or (names and names == before):
                raise RemoteRefused(f"{self.address(prefix)} cannot be listed: the service gives one page for ever.")
            if len(seen) == MOST_PAGES or count > MOST_LISTED:
                raise self._endless(prefix, count)
            seen.add(after)
            for entry in entries:
                if entry.name.startswith(prefix) and all(map(layout.is_plain, entry.name.split("/"))):
                    yield entry
            if not after:
                return

    def _endless(self, prefix: str, count: int) -> RemoteRefused:
        return RemoteRefused(
            f"{self.address(prefix)} cannot be listed: after {count:,} objects the service still has not come to an "
            "end. Use a prefix that holds less."
        )

    def delete_if_unchanged(self, name: str, generation: str) -> None:
        """Delete an object, if it is still of the generation that was listed."""
        check_name(name)
        self._check_writes(name)
        with self._silence.waiting() as wait:
            self._delete_once(name, generation, self._tries(wait))

    def _delete_once(self, name: str, generation: str, tries: retry.Tries) -> None:
        def delete() -> None:
            try:
                with self._understood(name):
                    self._delete(name, generation)
            except ObjectMissing:
                if not tries.failed:  # otherwise the reply was lost, and it is gone, which is what was asked for
                    raise

        retry.until_answered(delete, tries)

    def tell_silence(self, tell: Tell) -> None:
        """Give sentences about a silent service to a function, as `Remote.tell_silence` says."""
        self._silence.tell = tell

    def _ask(self, ask: Callable[[], T]) -> T:
        with self._understood(""), self._silence.waiting() as wait:
            found = retry.until_answered(ask, self._tries(wait))
            self._silence.heard()
            return found

    @contextlib.contextmanager
    def _understood(self, name: str) -> Iterator[None]:
        """An answer that lacks something, or is of another form, as an error of the service."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            reason = scrubbed(f"{type(error).__name__}: {error}")
            raise RemoteRefused(
                f"{self.address(name)}: the service's answer is not one that it should give ({reason}). Is it the "
                "right service, and an address without a proxy in between?",
                reason,
            ) from error

    def _tries(self, wait: Wait) -> retry.Tries:
        return retry.Tries(first=self.first_pause, wait=wait, timeout=self._timeout)

    def _opened(self, file: Path) -> SentFile:
        """A file to be sent; each piece that the connection reads is a sign of life."""
        return SentFile(plain.open_plain(file), self._silence.heard)

    def _check_writes(self, name: str) -> None:
        if not self._writes:
            raise RemoteRefused(f"{self.address(name)} was not changed: this remote was opened to be read only.")

    def _describe(self, file: Path) -> tuple[int, str]:
        """Size and digest of a file that is to be written."""
        try:
            return file.stat().st_size, digest_of(file, self.capabilities.digest)
        except (OSError, UnsafeFolder) as error:
            raise OutlastError(
                f"{file} cannot be read: {getattr(error, 'strerror', None) or error}. Nothing was written to the "
                "remote."
            ) from error

    def _missing(self, name: str, reason: str = "") -> ObjectMissing:
        return ObjectMissing(f"There is no {self.address(name)}.", reason)

    def _changed(self, name: str) -> ObjectConflict:
        return ObjectConflict(f"{self.address(name)} is not the object that it was. It was not changed; list it again.")
