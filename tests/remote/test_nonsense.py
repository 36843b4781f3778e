"""Services that answer what they should not: with other bytes, without an end, and with more than was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.errors import RemoteError, RemoteRefused
from outlast.remote.base import Capabilities, Entry, Stat
from outlast.remote.network import NetworkRemote, Opened


class Strange(NetworkRemote):
    """A driver whose service is what a test makes of it."""

    first_pause = 0.0
    capabilities = Capabilities(  # type: ignore[assignment]
        writes=True, exclusive_put=True, conditional_delete=True, digest="sha256", server_digest=True
    )

    def __init__(self, answer: Callable[[], Any]) -> None:
        super().__init__("strange://", "")
        self.answer = answer

    def _create(self, name: str, file: Path, digest: str) -> bool:
        return bool(self.answer())

    def _look(self, name: str) -> Stat:
        found: Stat = self.answer()
        return found

    def _freshen(self, found: Stat) -> None:
        self.answer()

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        found: Opened = self.answer()
        return found

    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:
        found: tuple[list[Entry], str] = self.answer()
        return found

    def _delete(self, name: str, generation: str) -> None:
        self.answer()


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


ERRORS = [KeyError("size"), TypeError("list"), ValueError("date"), AttributeError("get"), RecursionError("deep")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_answer_that_lacks_something_is_an_error_of_the_service(error: Exception, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    remote = Strange(raising(error))
    for ask in (
        lambda: remote.put_if_absent("a", tmp_path / "file"),
        lambda: remote.stat("a"),
        lambda: list(remote.list()),
        lambda: list(remote.get("a")),
        lambda: remote.delete_if_unchanged("a", "1"),
    ):
        with pytest.raises(RemoteRefused, match=type(error).__name__):
            ask()


def test_more_bytes_than_were_asked_for_are_not_read() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10

    assert b"".join(Strange(lambda: Opened("1", endless())).get("a", 5, 30)) == b"x" * 25
    assert taken == 3


def test_a_listing_that_turns_in_a_circle_ends() -> None:
    pages = iter([([], "a"), ([], "b"), ([], "a"), ([], "b")])
    with pytest.raises(RemoteError, match="cannot be listed"):
        list(Strange(lambda: next(pages)).list())
