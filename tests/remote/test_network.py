"""What the drivers of network services have in common, with a service that is in this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path

import pytest

from outlast.errors import ObjectMissing, RemoteUnavailable
from outlast.remote import retry
from outlast.remote.answers import seconds_of
from outlast.remote.base import Capabilities, Entry, Stat
from outlast.remote.network import NetworkRemote, Opened

DATA = b"0123456789" * 3


class Memory(NetworkRemote):
    """Objects of one contents under any name; a connection breaks off after `most` bytes."""

    first_pause = 0.0

    def __init__(self, names: list[str], most: int) -> None:
        super().__init__("memory://", "", writes=False)
        self.names, self.most, self.opened = names, most, 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(writes=False, exclusive_put=False, conditional_delete=False, digest="sha256")

    def _create(self, name: str, file: Path, digest: str) -> bool:
        raise NotImplementedError

    def _look(self, name: str) -> Stat:
        if name not in self.names:
            raise ObjectMissing(name)
        return Stat(name, len(DATA), "1", 0.0, "")

    def _freshen(self, found: Stat) -> None:
        raise NotImplementedError

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        self.opened += 1

        def pieces() -> Iterator[bytes]:
            if self.most:
                yield DATA[start:stop][: self.most]
            if start + self.most < (stop or len(DATA)):
                raise RemoteUnavailable("the connection broke off")

        return Opened("1", pieces())

    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:
        return [Entry(name, 1, "1", 0.0) for name in self.names], ""

    def _delete(self, name: str, generation: str) -> None:
        raise NotImplementedError


def test_a_read_that_advances_is_not_given_up() -> None:
    remote = Memory(["a"], most=2)
    assert b"".join(remote.get("a")) == DATA
    assert remote.opened == len(DATA) // 2 > 2 * retry.TRIES
    with pytest.raises(RemoteUnavailable):
        b"".join(Memory(["a"], most=0).get("a"))


def test_names_that_lead_elsewhere_are_not_listed() -> None:
    names = ["a", "b/c", "../up", "a/../../up", "/etc/passwd", "a//b", ".hidden", "b/.tmp-x", "a\nb", "d/"]
    assert [entry.name for entry in Memory(names, most=0).list()] == ["a", "b/c"]


def test_a_pause_may_be_a_date() -> None:
    now = dt.datetime.now(dt.UTC)
    assert 25 < (seconds_of(format_datetime(now + dt.timedelta(seconds=30), usegmt=True)) or 0) <= 30
    assert seconds_of(format_datetime(now - dt.timedelta(days=1), usegmt=True)) == 0
    assert [seconds_of(text) for text in ("7", "-7", "soon", "", None)] == [7, 0, None, None, None]
