"""A connection to an SFTP server: who logs in, in which thread it lives, and what its errors mean."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import asyncssh

from outlast.errors import RemoteRefused
from outlast.remote.answers import scrubbed, unreachable
from outlast.remote.network import NetworkRemote

T = TypeVar("T")


class SftpService(NetworkRemote):
    """What the driver of SFTP asks the server with.

    Args:
        host: its name, or an alias of `~/.ssh/config`.
        folder: for messages.
        user: who logs in; None: as `~/.ssh/config` has it, or this system's user.
        port: None: as `~/.ssh/config` has it, or 22.
        writes: as NetworkRemote has it; so is timeout.
    """

    def __init__(
        self, host: str, folder: str, *, user: str | None, port: int | None, writes: bool, timeout: float
    ) -> None:
        at = f"{user}@" if user else ""
        super().__init__(f"sftp://{at}{host}{f':{port}' if port else ''}{folder}/", "", writes=writes, timeout=timeout)
        self._host = host
        self._login = {name: value for name, value in (("username", user), ("port", port)) if value is not None}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient] | None = None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            loop, self._loop, connection, self._connection = self._loop, None, self._connection, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(_ended(connection), loop)

    async def _sftp(self) -> asyncssh.SFTPClient:
        async with self._connecting:
            if self._connection and not self._connection[0].is_closed():
                return self._connection[1]
            connection = await asyncssh.connect(
                self._host,
                connect_timeout=self._timeout,
                login_timeout=self._timeout,
                keepalive_interval=15,
                preferred_auth="publickey",
                **self._login,
            )
            self._connection = connection, await connection.start_sftp_client()
            return self._connection[1]

    async def _soon(self, work: Awaitable[T]) -> T:
        """One step of something that takes long as a whole: it ends in time, or there is no answer."""
        return await asyncio.wait_for(work, self._timeout)

    def _run(self, name: str, work: Coroutine[Any, Any, T], *, patient: bool = False) -> T:
        """Do something in the thread of the connection; `patient` for what bounds its own steps."""
        with self._explained(name):
            return self._start(work, patient=patient).result()

    def _start(self, work: Coroutine[Any, Any, T], *, patient: bool = False) -> Future[T]:
        with self._lock:
            if self._loop is None:
                self._loop, self._connecting = asyncio.new_event_loop(), asyncio.Lock()
                threading.Thread(target=_run, args=(self._loop,), name="outlast-sftp", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(_within(work, None if patient else self._timeout), self._loop)

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Errors of the client as those of a remote."""
        where = self.address(name)
        try:
            yield
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
            raise self._missing(name, scrubbed(str(error))) from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.ConnectionLost) as error:
            self._forget()
            raise unreachable(where, error) from None
        except asyncssh.HostKeyNotVerifiable as error:
            raise RemoteRefused(
                f"{where}: the server's key is not a known one: {scrubbed(str(error))}. Compare it with the key that "
                f"its owner names, then log in once with ssh {self._host}, which remembers it.",
                scrubbed(str(error)),
            ) from None
        except asyncssh.PermissionDenied as error:
            raise RemoteRefused(
                f"{where}: the server refused to let us in: {scrubbed(str(error))}. Only keys are used: check that "
                f"ssh -o BatchMode=yes {self._host} works.",
                scrubbed(str(error)),
            ) from None
        except asyncssh.SFTPError as error:
            raise RemoteRefused(f"{where}: {scrubbed(str(error))}.", scrubbed(str(error))) from None
        except (OSError, asyncssh.DisconnectError) as error:  # TimeoutError is an OSError
            self._forget()
            if getattr(error, "filename", None):  # a file of ~/.ssh
                raise self._unusable(error) from None
            raise unreachable(where, error) from None
        except (asyncssh.Error, ValueError) as error:  # a key, or ~/.ssh/config
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> RemoteRefused:
        reason = scrubbed(str(error))
        return RemoteRefused(
            f"{self.address()}: a key or a file of ~/.ssh cannot be used: {reason}. Check that ssh -o BatchMode=yes "
            f"{self._host} works.",
            reason,
        )

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection and self._loop:
            self._loop.call_soon_threadsafe(connection[0].abort)


async def _within(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    async with asyncio.timeout(seconds):
        return await work


async def _ended(connection: tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient] | None) -> None:
    """Close a connection, and then end the loop of its thread."""
    if connection:
        connection[0].abort()
        await connection[0].wait_closed()
    asyncio.get_running_loop().stop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
