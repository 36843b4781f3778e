"""One writer per run.

Two guards. The kernel's own lock on the file goes with its process, so a killed owner, or one before a reboot, blocks
nobody. The heartbeat inside the file speaks to machines that share the folder without sharing that lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from outlast.errors import ANOTHER_NAME, CorruptCheckpoint, RunBusy, UnsafeFolder
from outlast.folder import durable, layout, plain, records, schemas
from outlast.folder.flock import close_in_children, closed, flock, unlock

BEAT = 10.0
"""Seconds between two heartbeats."""

STALE = 60.0
"""Seconds after which a silent owner on another machine counts as dead."""

_PATIENCE = 500  # tries against those who merely ask, about five seconds
_SIZE = 512  # the record is padded to this length and overwritten in place, so it never grows on a full disk


class Lock:
    """The lock of a run folder. Created by `take`, returned by `release`.

    Args:
        path: the lock file. It stays where it is forever; what counts is who holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._closing = threading.Event()
        self._beats: threading.Thread | None = None

    def take(self, attempt: str) -> str | None:
        """Become the run's only writer.

        Args:
            attempt: the name of the owner in messages, such as "attempt 3".

        Returns:
            A sentence when a dead owner's lock was taken over, else None.

        Raises:
            RunBusy: a live process holds it.
            UnsafeFolder: it is no plain file.
        """
        descriptor = plain.open_plain(self.path, os.O_RDWR | os.O_CREAT)
        try:
            kernel = _flock_patiently(descriptor)
            owner = _read(descriptor)
            if kernel is False or _lives(owner, descriptor, kernel_free=kernel is True):
                raise RunBusy(  # noqa: TRY301 - the descriptor is closed in one place
                    f"{self.path.parent} is being written by {owner.get('attempt', 'another attempt')} (process "
                    f"{owner.get('pid', '?')} on "
                    f"{owner.get('host', 'this machine')}). One run has one writer: wait for it, stop it, or choose "
                    f"{ANOTHER_NAME}."
                )
            descriptor = _own(self.path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        close_in_children(self)
        pid = os.getpid()
        self._record = {
            "attempt": attempt,
            "pid": pid,
            "host": _host(),
            "boot": _boot(),
            "start": start_of(pid),
        }
        self._write({**self._record, "beat": time.time()})
        self._beats = threading.Thread(target=self._keep_beating, name="outlast-heartbeat", daemon=True)
        self._beats.start()
        if owner.get("pid") and not owner.get("released"):
            return (
                f"{owner.get('attempt', 'The last attempt')} (process {owner['pid']} on {owner.get('host')}) was "
                "killed (kill -9, out of memory, a crash, power "
                "off), so the steps after its last save are repeated."
            )
        return None

    def release(self) -> None:
        """Let others write."""
        if self._descriptor < 0:
            return
        self._closing.set()
        if self._beats:
            self._beats.join()
        with contextlib.suppress(OSError):
            if self.ours():
                self._write({**self._record, "released": True})
        unlock(self._descriptor)  # for children that still hold a copy of the descriptor
        self.close()

    def close(self) -> None:
        """Close the file, and say nothing in it."""
        os.close(self._descriptor)
        self._descriptor = -1
        closed(self)

    def _keep_beating(self) -> None:
        while not self._closing.wait(BEAT):
            # A beat that fails (a full disk, a network share away) harms nobody here: the kernel's lock still stands.
            with contextlib.suppress(OSError):
                self._beat()

    def ours(self) -> bool:
        """Whether the record still names this process.

        A process that was stopped for longer than STALE may have lost it to another machine.

        What cannot be read speaks against nobody.
        """
        if self._descriptor < 0:
            return False
        owner = _read(self._descriptor)
        mine = {key: self._record[key] for key in ("pid", "host", "boot", "attempt")}
        return not owner.get("pid") or {key: owner.get(key) for key in mine} == mine

    def _beat(self) -> None:
        if self.ours():
            self._write({**self._record, "beat": time.time()})

    def _write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record).encode()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, text.ljust(_SIZE - 1)[: _SIZE - 1] + b"\n")


def holder(path: Path) -> dict[str, Any] | None:
    """The present owner of a lock, without taking it; None if no living process holds it.

    Writes nothing, waits for nobody, needs no permission to write.
    """
    try:
        descriptor = plain.open_plain(path)
    except (OSError, UnsafeFolder):
        return None
    try:
        kernel, owner = flock(descriptor, shared=True), _read(descriptor)
        return owner if kernel is False or _lives(owner, descriptor, kernel_free=kernel is True) else None
    finally:
        os.close(descriptor)


def _host() -> str:
    """The name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # Windows

    return socket.gethostname()


def _own(path: Path, descriptor: int) -> int:
    """The file to write into, held: this one, or a new one in its place when it has a second name somewhere else.

    Raises:
        RunBusy: another process has put a new one there meanwhile.
    """
    if os.name == "nt":
        return descriptor
    if os.fstat(descriptor).st_nlink == 1:
        if _same(path, descriptor):
            return descriptor
        raise RunBusy(f"{path} was replaced while it was being locked: another attempt is starting on this run.")
    temporary = path.with_name(f"{layout.TEMPORARY}{path.name}-{os.getpid()}")
    durable.remove_any(temporary)
    fresh = plain.open_plain(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        if flock(fresh) is False or not _same(path, descriptor):
            raise RunBusy(  # noqa: TRY301 - the file is closed in one place
                f"{path} was replaced while it was being locked: another attempt is starting on this run."
            )
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        os.close(fresh)
        durable.remove_any(temporary)
        raise
    os.close(descriptor)
    return fresh


def _same(path: Path, descriptor: int) -> bool:
    """Whether the path still names the file that is open."""
    try:
        there, here = os.lstat(path), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _flock_patiently(descriptor: int) -> bool | None:
    """As `flock`.

    Whoever merely asks who holds it shares the lock for an instant, and an owner shares it with nobody.
    """
    kernel = flock(descriptor)
    for _ in range(_PATIENCE):
        if kernel is not False or not flock(descriptor, shared=True):
            break
        unlock(descriptor)
        time.sleep(0.002 + os.getpid() % 16 / 1000)
        kernel = flock(descriptor)
    return kernel


def _read(descriptor: int) -> dict[str, Any]:
    """The record in a lock file; empty if it is invalid."""
    try:
        record = records.parse(
            os.pread(descriptor, _SIZE, 0) if hasattr(os, "pread") else os.read(descriptor, _SIZE), "lock"
        )
        records.check(record, schemas.LOCK, "lock")
    except (OSError, CorruptCheckpoint):
        return {}
    return record


def _lives(owner: dict[str, Any], descriptor: int, *, kernel_free: bool) -> bool:
    """Whether the owner that a lock file names is alive."""
    if not owner.get("pid") or owner.get("released"):
        return False
    if kernel_free and owner.get("boot") and owner.get("boot") == _boot():
        return False  # another container of this very machine, whose process is gone
    if owner.get("host") == _host():
        if kernel_free or owner.get("boot") != _boot():
            return False  # the kernel let its lock go, or the machine was started again since
        if os.name != "nt":  # on Windows the question itself, os.kill, would end the process
            pid = int(owner["pid"])
            return _process_lives(pid) and owner.get("start", 0) in (0, start_of(pid))
    now, age = time.time(), time.time() - owner.get("beat", 0.0)
    if age < -STALE:
        # Its clock and ours disagree, or one of them has jumped since: the file system's says when it wrote.
        age = now - os.fstat(descriptor).st_mtime
    return bool(abs(age) < STALE)


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it exists and is someone else's
        return True
    return True


def start_of(pid: int) -> int:
    """When a process began, in ticks since the machine's start.

    It distinguishes two processes of the same number. 0 where the system does not say.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot() -> str:
    """An identifier of this start of the machine; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
