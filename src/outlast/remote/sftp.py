"""A folder of another machine, over SSH: `sftp://USER@HOST:PORT/FOLDER`.

The server's key must be a known one (`~/.ssh/known_hosts`), and keys come from the agent and `~/.ssh`, as `ssh` has it;
there are no passwords. An object is uploaded under a name that begins with a dot, forced to the disk where the server
can (fsync@openssh.com), and then gets its name by a hard link (hardlink@openssh.com), which fails where one is. Servers
without links rename, which must not overwrite in version 3 of the protocol.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import posixpath
import stat
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult

import asyncssh

from outlast.errors import ObjectMissing, RemoteRefused, RemoteUnavailable, UsageError
from outlast.folder import layout
from outlast.remote.base import LONGEST_NAME, Capabilities, Entry, Stat
from outlast.remote.network import MOST_LISTED, TIMEOUT, Opened
from outlast.remote.sftpservice import SftpService

T = TypeVar("T")

_SPAN = 512 * 1024
_AHEAD = 4
"""Spans of a file that are under way at a time, so that a distant server is not waited for after each."""


def open_at(location: SplitResult, options: dict[str, str], *, writes: bool) -> SftpRemote:  # noqa: ARG001
    """The remote at `sftp://USER@HOST:PORT/FOLDER`, or at `sftp://HOST/~/FOLDER` below the home folder there."""
    try:
        port = location.port
    except ValueError:
        port = -1
    host, folder = location.hostname, posixpath.normpath(location.path or "/").replace("//", "/")
    if not host or port == -1 or folder == "/":
        raise UsageError("An address of sftp:// lacks a host or a folder; expected sftp://USER@HOST:PORT/FOLDER.")
    return SftpRemote(host, folder, user=location.username, port=port, writes=writes)


class SftpRemote(SftpService):
    """A folder on an SFTP server. Its digest is SHA-256, for which an object is read back.

    Args:
        host: its name, or an alias of `~/.ssh/config`.
        folder: an absolute path, or `/~/…` below the home folder. The first object makes it.
        user: who logs in; None: as `~/.ssh/config` has it, or this system's user.
        port: None: as `~/.ssh/config` has it, or 22.
        writes: False for a remote that is only read.
        timeout: seconds in which something has to happen.
    """

    def __init__(
        self,
        host: str,
        folder: str,
        *,
        user: str | None = None,
        port: int | None = None,
        writes: bool = True,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(host, folder, user=user, port=port, writes=writes, timeout=timeout)
        self._folder = folder.removeprefix("/~/")

    @property
    def capabilities(self) -> Capabilities:
        """What SFTP can do. It has no precondition for deletions."""
        return Capabilities(
            writes=self._writes,
            exclusive_put=self._writes,
            conditional_delete=False,
            digest="sha256",
        )

    def _create(self, name: str, file: Path, digest: str) -> bool:  # noqa: ARG002
        with self._opened(file) as opened:
            try:
                return self._run(name, self._upload(self._path(name), opened), patient=True)
            except ObjectMissing as error:  # not the object: it is being made
                raise RemoteRefused(
                    f"{self.address(name)} cannot be written: its folder cannot be made, or was deleted meanwhile "
                    f"({error.reason}). Is it the right place?",
                    error.reason,
                ) from error

    async def _upload(self, path: str, source: Any) -> bool:
        sftp = await self._soon(self._sftp())
        await self._soon(sftp.makedirs(posixpath.dirname(path), exist_ok=True))
        temporary = posixpath.join(posixpath.dirname(path), f"{layout.TEMPORARY}{uuid.uuid4().hex}")
        try:
            target = await self._soon(sftp.open(temporary, "xb"))
            try:
                await self._write(target, source)
                with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                    await self._soon(target.fsync())
            finally:
                await self._soon(target.close())
            try:
                await self._soon(sftp.link(temporary, path))
            except asyncssh.SFTPOpUnsupported:
                await self._soon(sftp.rename(temporary, path))
        except asyncssh.SFTPError:
            with contextlib.suppress(asyncssh.SFTPError):
                if await self._soon(sftp.lexists(path)):
                    return False
            raise
        finally:
            with contextlib.suppress(asyncssh.SFTPError, OSError):
                await self._soon(sftp.remove(temporary))
        return True

    async def _write(self, target: asyncssh.SFTPClientFile, source: Any) -> None:
        offset, under_way = 0, collections.deque[asyncio.Task[int]]()
        try:
            while (piece := source.read(_SPAN)) or under_way:
                if piece:
                    under_way.append(asyncio.create_task(_written(target, piece, offset)))
                    offset += len(piece)
                if not piece or len(under_way) == _AHEAD:
                    await self._soon(under_way.popleft())
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _look(self, name: str) -> Stat:
        found = self._run(name, self._attributes(self._path(name)))
        return Stat(**vars(self._entry(name, found)), digest="")

    async def _attributes(self, path: str) -> asyncssh.SFTPAttrs:
        return await (await self._sftp()).lstat(path)

    def _freshen(self, found: Stat) -> None:
        async def touch() -> None:
            now = max(time.time(), found.modified + 1)
            await (await self._sftp()).utime(self._path(found.name), (now, now), follow_symlinks=False)

        self._run(found.name, touch())

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        found = self._look(name)
        if generation not in ("", found.generation):
            raise self._changed(name)
        last = found.size if stop is None else min(stop, found.size)
        return Opened(found.generation, self._pieces(name, start, last))

    def _pieces(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        async def begin() -> asyncssh.SFTPClientFile:
            return await (await self._sftp()).open(self._path(name), "rb")

        if start >= stop:
            return
        file, under_way = self._run(name, begin()), collections.deque[Future[Any]]()
        try:
            for begun in range(start, stop, _SPAN):
                under_way.append(self._start(file.read(min(_SPAN, stop - begun), begun)))
                if len(under_way) == _AHEAD:
                    yield self._piece(name, under_way.popleft(), min(_SPAN, stop - start))
                    start += _SPAN
            while under_way:
                yield self._piece(name, under_way.popleft(), min(_SPAN, stop - start))
                start += _SPAN
        finally:
            for each in under_way:
                each.cancel()
            with contextlib.suppress(RemoteRefused, RemoteUnavailable):
                self._run(name, file.close())

    def _piece(self, name: str, read: Future[Any], size: int) -> bytes:
        with self._explained(name):
            piece: bytes = read.result()
            if len(piece) != size:
                raise ConnectionError(f"{size - len(piece)} bytes are missing")
        return piece

    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:  # noqa: ARG002
        return self._run(prefix, self._below(prefix), patient=True), ""

    async def _below(self, prefix: str) -> list[Entry]:
        """Plain files whose names begin with a text; folders that cannot hold any are not looked into."""
        sftp, found, waiting, count = await self._soon(self._sftp()), [], [""], 0
        while waiting:
            above = waiting.pop()
            async for entry in self._inside(sftp, posixpath.join(self._folder, above)):
                count += 1
                if count > MOST_LISTED:
                    raise self._endless(prefix, count)
                last, mode = str(entry.filename), entry.attrs.permissions or 0
                name = above + last
                if not layout.is_plain(last) or len(name) > LONGEST_NAME:
                    continue
                if stat.S_ISDIR(mode):
                    if f"{name}/".startswith(prefix) or prefix.startswith(f"{name}/"):
                        waiting.append(f"{name}/")
                elif stat.S_ISREG(mode) and name.startswith(prefix):
                    found.append(self._entry(name, entry.attrs))
        return found

    async def _inside(self, sftp: asyncssh.SFTPClient, folder: str) -> AsyncIterator[asyncssh.SFTPName]:
        """What is in a folder, as it comes; nothing when there is no such folder."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._timeout) as limit:
                async for entry in sftp.scandir(folder):
                    limit.reschedule(clock() + self._timeout)
                    self._silence.heard()
                    yield entry
        except asyncssh.SFTPNoSuchFile:
            return

    def _delete(self, name: str, generation: str) -> None:  # noqa: ARG002
        self._look(name)
        raise RemoteRefused(
            f"{self.address(name)} was not deleted: SFTP cannot delete an object only if it is unchanged. Delete it by "
            "hand when nobody needs it."
        )

    def _path(self, name: str) -> str:
        return posixpath.join(self._folder, name)

    def _entry(self, name: str, found: asyncssh.SFTPAttrs) -> Entry:
        if not stat.S_ISREG(found.permissions or 0):
            raise RemoteRefused(f"{self.address(name)} is no plain file; nothing was read or written.")
        modified = float(found.mtime or 0)
        return Entry(name, found.size or 0, f"{found.size}-{found.mtime}", modified)


async def _written(target: asyncssh.SFTPClientFile, piece: bytes, offset: int) -> int:
    return await target.write(piece, offset)
