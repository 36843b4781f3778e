"""`outlast doctor` tries a remote, and where runs are published; nothing stays there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import messages
from tests.conformance.remotes import CASES
from tests.publish import making
from tests.standins import git as standin

from outlast.cli import main
from outlast.errors import OutlastError, RemoteError, RemoteRefused, UsageError
from outlast.publish import gitcommand
from outlast.publish import probe as publish_probe
from outlast.publish.destination import GIT, Destination
from outlast.remote.folder import FolderRemote
from outlast.remote.probe import probe

WRITES = {"folder": True, "s3": True, "gs": True, "sftp": False, "hf": False, "drive": False}


@pytest.mark.parametrize("kind", list(WRITES))
def test_what_each_driver_can_do(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case: Any = CASES[kind](tmp_path, monkeypatch)
    remote = case.open()
    words = probe(remote)
    assert words.startswith("can be read and written, " if WRITES[kind] else "can be read, ")
    assert words.endswith("leave a trace") is not WRITES[kind]
    assert list(remote.list()) == []
    assert probe(case.open(writes=False)).startswith("can be read, ")
    case.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with messages.raises(RemoteRefused, "remote/folder-cannot-be-made"):
        probe(FolderRemote(tmp_path / "file/x"))


def test_a_digest_that_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = FolderRemote(tmp_path)
    monkeypatch.setattr("outlast.remote.probe.digest_of", lambda *_: "0" * 64)
    with messages.raises(RemoteRefused, "remote/probe-another-digest"):
        probe(remote)
    assert list(remote.list()) == []


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Standin]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in gitcommand.TOKENS:
        monkeypatch.delenv(name, raising=False)
    making.git(making.server(tmp_path / "root/x.git"), "config", "http.receivepack", "true")
    with standin.served(tmp_path / "root") as found:
        yield found


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_a_git_server_takes_a_push_and_nothing_is_pushed(
    server: standin.Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("OUTLAST_GIT_TOKEN", standin.TOKEN)
    place = tmp_path / "root/x.git"
    if form == "sha256":
        place = making.server(tmp_path / "root/y.git", form)
        making.git(place, "config", "http.receivepack", "true")
        making.clone(place, tmp_path / "clone", form)
    before = making.fingerprint(place)
    url = f"{server.url}/{place.name}"
    store, git = publish_probe.probe(Destination(GIT, "store", url))
    assert (store.partition(": ")[0], git) == ("store", f"{url}: can be pushed to")
    assert making.fingerprint(place) == before
    assert not (tmp_path / "store").exists()
    making.git(place, "config", "http.receivepack", "false")
    with pytest.raises(RemoteError, match="403"):
        publish_probe.probe(Destination(GIT, "store", url))


@pytest.mark.parametrize(
    ("destination", "kind"),
    [
        (Destination(GIT), UsageError),
        (Destination(GIT, "store", "origin"), UsageError),
        (Destination("s4://x"), UsageError),
        (Destination(GIT, "store", "nowhere/x.git"), OutlastError),
    ],
)
def test_destinations_that_are_none(server: standin.Standin, destination: Destination, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        publish_probe.probe(destination)


def test_doctor_without_a_recipe(server: standin.Standin, capsys: pytest.CaptureFixture[str]) -> None:
    FolderRemote(Path("bucket"))
    url = f"{server.url}/x.git"
    flags = ["--remote", "bucket", "--publish.to", "git+dvc", "--publish.store", "store", "--publish.git", url]
    assert main(["doctor", *flags]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("!") and "publish" in line for line in lines), "there is no token"
    messages.said("\n".join(lines), "remote/probe-no-bucket-yet")
