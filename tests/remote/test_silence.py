"""A service that says nothing: one line says what is waited for, and for how long at most, and that is true."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import messages
from tests.conformance import remotes
from tests.conformance.remotes import CASES, NetworkCase
from tests.standins import service
from tests.standins.service import Fault

from outlast import waiting
from outlast.errors import LaunchError, RemoteUnavailable
from outlast.remote import retry
from outlast.remote.network import NetworkRemote
from outlast.waiting import SentFile, Silence, Wait

PATIENCE = 0.05
DRIVERS = [name for name, case in CASES.items() if issubclass(case, NetworkCase)]
HTTP = ["gs", "hf"]


_tries = NetworkRemote._tries


def two_tries(remote: NetworkRemote, wait: Wait) -> retry.Tries:
    return retry.Tries(first=0.01, wait=wait, timeout=remote._timeout, tries=2)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", PATIENCE)
    monkeypatch.setattr(NetworkRemote, "_tries", two_tries)


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    taken = []
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for each in taken:
        each.close()


def opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> NetworkRemote:
    """A remote whose service is at another port."""
    remote: NetworkRemote
    if name == "sftp":
        from outlast.remote.sftp import SftpRemote

        return SftpRemote("127.0.0.1", "/somewhere", port=port, timeout=0.1)
    monkeypatch.setattr(service, "running", lambda _kind: f"http://127.0.0.1:{port}")
    monkeypatch.setattr(service, "fail", lambda _url: None)
    monkeypatch.setattr(remotes, "_account", lambda _url: tmp_path)
    monkeypatch.setattr(remotes.DriveCase, "search", lambda *_: None)
    remote = CASES[name](tmp_path, monkeypatch).make(timeout=0.1, **({"anonymous": True} if name == "gs" else {}))
    return remote


@pytest.mark.parametrize("name", DRIVERS)
def test_one_line_says_what_is_waited_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mute: int
) -> None:
    remote, told = opened(name, tmp_path, monkeypatch, mute), list[str]()
    remote.tell_silence(told.append)
    until = time.monotonic() + 30
    while not told:  # who looks at the waits is a thread, which may come late
        assert time.monotonic() < until
        for ask in (lambda: remote.stat("a"), lambda: next(remote.get("a")), lambda: next(remote.list())):
            with pytest.raises(RemoteUnavailable):
                ask()
    assert len(told) == 1  # the same service is not reported all the time
    assert remote.address() in told[0]
    assert "1 minute at most" in told[0]
    wait = Wait(remote._silence)
    tries = _tries(remote, wait)
    assert (tries._wait, tries._timeout) == (wait, 0.1), "no try begins that may end after what was told"
    remote.close()


def what_is_said(capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on stderr, by a thread that may come late."""
    until = time.monotonic() + 30
    said = ""
    while not said.endswith("\n"):
        assert time.monotonic() < until
        time.sleep(PATIENCE)
        said += capsys.readouterr().err
    return said


def test_the_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    silence = Silence("s3://bucket/runs", 200.0)
    with silence.waiting():
        said = what_is_said(capsys)
    messages.said(said, "remote/no-answer", what="s3://bucket/runs", minutes="4 minutes")
    silence = Silence("s3://bucket/runs", 20.0)
    with silence.waiting() as wait:
        wait.reason = "Slow down (status 503)"
        said = what_is_said(capsys)
    messages.said(
        said,
        "remote/not-available-now",
        what="s3://bucket/runs",
        minutes="1 minute",
        reason="Slow down (status 503)",
    )


@pytest.mark.parametrize("name", HTTP)
def test_what_answers_is_not_reported(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a long pause of the reader nor many requests in a row are a silence."""
    monkeypatch.setattr(waiting, "PATIENCE", 1.0)
    case = CASES[name](tmp_path, monkeypatch)
    remote, told = case.open(), list[str]()
    remote.tell_silence(told.append)
    (tmp_path / "file").write_bytes(b"1" * 2**19)
    remote.put_if_absent("a", tmp_path / "file")
    told.clear()  # a first request may read what takes long, on a busy machine
    for _ in remote.get("a"):
        time.sleep(1.3)
    assert told == []
    case.close()


@pytest.mark.parametrize("name", HTTP)
def test_the_reason_of_the_last_try_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.5)
    case = CASES[name](tmp_path, monkeypatch)
    remote, told = case.open(), list[str]()
    list(remote.list())
    remote._silence = Silence(remote.address(), 200.0, told.append)  # the first request may have taken long
    service.fail(case.url, Fault("status", method="", contains=case.about, headers={"Retry-After": "1"}))
    list(remote.list())
    assert len(told) == 1
    assert "is not available now: " in told[0]
    case.close()


def test_a_file_that_is_taken_is_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], list[str]()
    monkeypatch.setattr(waiting, "PATIENCE", 5.0)
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    (tmp_path / "file").write_bytes(b"0123456789")
    silence = Silence("service", 60.0, told.append)
    wait = Wait(silence)
    with SentFile(os.open(tmp_path / "file", os.O_RDONLY), silence.heard) as file:
        while file.read(1):
            now[0] += 4.0
            silence.look(wait)
        assert told == []
        now[0] += 6.0
        silence.look(wait)
    assert len(told) == 1


def test_tries_inside_of_tries_stay_within_the_bound() -> None:
    """Six times six tries would take six times as long as what was told."""
    silence, asked = Silence("service", 0.5, lambda _: None), []

    def ask() -> None:
        asked.append(1)
        time.sleep(0.1)
        raise RemoteUnavailable("nothing")

    def ask_again() -> None:
        with silence.waiting() as wait:
            retry.until_answered(ask, retry.Tries(first=0.001, wait=wait, timeout=0.1))

    begun = time.monotonic()
    with silence.waiting() as wait, pytest.raises(RemoteUnavailable):
        retry.until_answered(ask_again, retry.Tries(first=0.001, wait=wait, timeout=0.1))
    assert len(asked) <= 6
    assert time.monotonic() - begun < 1


def test_git_names_its_server(tmp_path: Path, mute: int, capsys: pytest.CaptureFixture[str]) -> None:
    from outlast.publish import gitcommand

    url = f"http://127.0.0.1:{mute}/x.git"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gitcommand, "LISTING", 0.5)
        with pytest.raises(RemoteUnavailable) as caught:
            gitcommand.Git(tmp_path).run("ls-remote", "--", url, secret=True)
    assert "ls-remote" in str(caught.value)
    assert re.search(rf"^git ls-remote {url} has not answered for .* 1 minute at most\.$", capsys.readouterr().err)


def test_kaggle_is_not_waited_for_in_silence_nor_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mute: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its client has no timeout of its own."""
    pytest.importorskip("kagglesdk")
    from outlast.kaggle import wire
    from outlast.kaggle.credentials import Credential

    for name, value in {"HOME": str(tmp_path), "HTTPS_PROXY": f"http://127.0.0.1:{mute}", "NO_PROXY": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wire, "TIMEOUT", 0.4)
    with pytest.raises(LaunchError):
        wire.Wire(Credential("key", "here", "ada", "key"), patience=0.1).prove()
    assert "Kaggle has not answered for" in capsys.readouterr().err


def test_waiting_for_the_listing_of_drive_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, told = CASES["drive"](tmp_path, monkeypatch).make(), list[str]()
    remote.tell_silence(told.append)
    remote.settles = 0.2
    remote.settle("a")
    messages.said(told[0], "remote/waiting-for-the-listing", address=remote.address("a"))
