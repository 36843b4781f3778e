"""Services that answer what they should not: with other bytes, without an end, and with more than was asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.errors import ObjectMissing, RemoteError, RemoteRefused, RemoteUnavailable
from outlast.remote import network
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


def test_a_listing_that_repeats_a_page_under_new_names_ends() -> None:
    page, numbers = [Entry("a", 1, "1", 0.0)], iter(range(10**9))
    with pytest.raises(RemoteError, match="one page for ever"):
        list(Strange(lambda: (page, str(next(numbers)))).list())


@pytest.mark.parametrize("each", [0, 3])
def test_a_listing_without_an_end_ends(each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pages that are empty, and of pages with ever more names."""
    monkeypatch.setattr(network, "MOST_PAGES", 50)
    monkeypatch.setattr(network, "MOST_LISTED", 100)
    numbers, asked = iter(range(10**9)), 0

    def page() -> tuple[list[Entry], str]:
        nonlocal asked
        asked += 1
        return [Entry(f"a{next(numbers)}", 1, "1", 0.0) for _ in range(each)], str(next(numbers))

    with pytest.raises(RemoteRefused, match="not come to an end"):
        list(Strange(page).list())
    assert asked == (34 if each else 51)


def test_a_digest_that_is_read_back_is_of_so_many_bytes_as_the_service_says() -> None:
    """The object grows while it is read, or the service sends without an end."""
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10

    answers = iter([Stat("a", 25, "1", 0.0, ""), Opened("1", endless())])
    found = Strange(lambda: next(answers)).stat("a")
    assert taken == 3
    assert found.digest == hashlib.sha256(b"x" * 26).hexdigest() != hashlib.sha256(b"x" * 25).hexdigest()


def test_an_upload_that_is_gone_is_no_missing_object(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    remote = Strange(raising(ObjectMissing("gone", "NoSuchUpload")))
    with pytest.raises(RemoteUnavailable, match="its upload is gone"):
        remote.put_if_absent("a", tmp_path / "file")
