"""A branch over HTTP: the token, and faults at each request of git."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outlast.errors import OutlastError, PublishFailed, RemoteRefused
from outlast.publish import gc, gitcommand
from outlast.publish.reference import Progress
from outlast.publish.transaction import TRIES
from outlast.remote.folder import FolderRemote
from tests import messages
from tests.publish import making
from tests.standins import git as standin


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Standin]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in gitcommand.TOKENS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUTLAST_GIT_TOKEN", standin.TOKEN)
    making.git(making.server(tmp_path / "root/x.git"), "config", "http.receivepack", "true")
    with standin.served(tmp_path / "root") as found:
        yield found


def publish(tmp_path: Path, server: standin.Standin):
    return making.by_git(tmp_path / "run", FolderRemote(tmp_path / "store"), f"{server.url}/x.git")


def test_the_token_is_nowhere_but_in_the_header(tmp_path: Path, server: standin.Standin) -> None:
    assert publish(tmp_path, server).before is False
    assert making.wrong_with_branch(tmp_path / "root/x.git", tmp_path / "store") is None
    assert making.is_visible(tmp_path / "root/x.git")
    assert not any(standin.TOKEN in path for _, path in server.requests)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or standin.TOKEN.encode() not in path.read_bytes(), path


def test_the_users_helper_does_not_get_the_token(tmp_path: Path, server: standin.Standin) -> None:
    """git hands a token that has worked to the helper, which writes it down."""
    (tmp_path / ".gitconfig").write_text(f"[credential]\n\thelper = store --file {tmp_path}/kept\n")
    assert publish(tmp_path, server).before is False
    assert not (tmp_path / "kept").exists()


def test_a_redirect_takes_no_token_along(tmp_path: Path, server: standin.Standin) -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{server.url}{self.path}")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(PublishFailed):
            making.by_git(
                tmp_path / "run", FolderRemote(tmp_path / "store"), f"http://127.0.0.1:{other.server_port}/x.git"
            )
        other.shutdown()
    assert server.requests == []


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_right_token(
    tmp_path: Path, server: standin.Standin, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUTLAST_GIT_TOKEN")
    (tmp_path / "ask").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "ask").chmod(0o755)
    making.git(tmp_path, "config", "--file", ".gitconfig", "core.askPass", tmp_path / "ask")
    if token:
        monkeypatch.setenv("OUTLAST_GIT_TOKEN", token)
    refused = re.compile(r".*OUTLAST_GIT_TOKEN.*")
    with messages.raises(PublishFailed, "publish/nothing-is-visible", error=refused, more=messages.ANY) as caught:
        publish(tmp_path, server)
    assert "wrong" not in str(caught.value)
    assert not (tmp_path / "asked").exists(), "nobody is asked"
    assert not (tmp_path / "store").exists(), "nothing is sent before the server was asked"
    assert not making.is_visible(tmp_path / "root/x.git")


@pytest.mark.parametrize("where", ["info/refs?service=git-receive-pack", "x.git/git-receive-pack"])
@pytest.mark.parametrize("fault", [403, 404, 429, 500, 503, "cut"])
def test_a_push_that_fails_before_the_commit(
    tmp_path: Path, server: standin.Standin, where: str, fault: int | str
) -> None:
    server.faults = [(where, fault)] * 9
    with messages.raises(PublishFailed, "publish/nothing-is-visible", error=messages.ANY, more=messages.ANY):
        publish(tmp_path, server)
    assert not making.is_visible(tmp_path / "root/x.git")
    if fault != "cut":
        assert 9 - len(server.faults) == (1 if fault in (403, 404) else TRIES), "only what may succeed later"
    server.faults = []
    assert publish(tmp_path, server).sent == 0
    assert making.is_visible(tmp_path / "root/x.git")


def test_a_lost_reply_after_the_commit_is_a_publication(tmp_path: Path, server: standin.Standin) -> None:
    """git ends with an error, and the branch is there."""
    server.faults = [("x.git/git-receive-pack", "drop")]
    assert publish(tmp_path, server).before is False
    assert making.wrong_with_branch(tmp_path / "root/x.git", tmp_path / "store") is None
    assert making.is_visible(tmp_path / "root/x.git")


def test_a_verdict_that_the_server_does_not_give(tmp_path: Path, server: standin.Standin) -> None:
    publish(tmp_path, server)
    made = making.plan(tmp_path / "run", name="another")
    real = making.GitReference.create

    def create(self: making.GitReference, progress: Progress) -> int:
        written = real(self, progress)
        server.faults = [("git-upload-pack", 503)] * 9
        return written

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(making.GitReference, "create", create)
        with messages.raises(OutlastError, "publish/git-not-known"):
            making.by_git(tmp_path / "run", FolderRemote(tmp_path / "store"), f"{server.url}/x.git", plan=made)
    server.faults = []
    made = making.plan(tmp_path / "run", name="another")
    again = making.by_git(tmp_path / "run", FolderRemote(tmp_path / "store"), f"{server.url}/x.git", plan=made)
    assert again.before is True


def test_a_server_that_only_the_store_names_gets_no_token(tmp_path: Path, server: standin.Standin) -> None:
    """Whoever can write to a store could otherwise collect the tokens of those who clean it."""
    publish(tmp_path, server)
    store, url = FolderRemote(tmp_path / "store"), f"{server.url}/x.git"
    server.requests.clear()
    server.users.clear()
    with messages.raises(RemoteRefused, "publish/token-withheld", url=url):
        gc.collect(store, gc.roots_of(store, (), tmp_path / "a"), delete=True)
    assert server.requests
    assert not any(server.users)
    assert gc.collect(store, gc.roots_of(store, [url], tmp_path / "b"), delete=True).named == 2
    named = gc.roots_of(store, [f"{server.url}/y.git"], tmp_path / "c")
    with pytest.raises(RemoteRefused, match="y.git"):  # there is none; of the same server, the token is for it
        named()
