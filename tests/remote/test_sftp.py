"""What only SFTP has: keys of servers and users, links, connections that break."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests import messages
from tests.conformance.remotes import PlainSftpCase, SftpCase
from tests.standins.cut import Cut

from outlast.errors import ObjectConflict, ObjectMissing, RemoteRefused, RemoteUnavailable, UsageError
from outlast.folder import layout
from outlast.remote import sftp
from outlast.remote.address import open_remote
from outlast.remote.base import LONGEST_NAME, PIECE
from outlast.remote.sftp import SftpRemote


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpCase]:
    case = SftpCase(tmp_path, monkeypatch)
    yield case
    case.close()


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpCase]:
    case = PlainSftpCase(tmp_path, monkeypatch)
    yield case
    case.close()


def file(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def port_of(case: SftpCase) -> int:
    return int((case.home / ".ssh" / "config").read_text().split("Port ")[1].split()[0])


def home_with(case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int = 0) -> Path:
    """Another home folder with the same key and config, which may be written to."""
    ssh = tmp_path / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    for name in ("config", "known_hosts"):
        text = (case.home / ".ssh" / name).read_text().replace(str(case.home), str(ssh.parent))
        (ssh / name).write_text(text.replace(str(port_of(case)), str(port or port_of(case))))
    (ssh / "id_ed25519").write_bytes((case.home / ".ssh" / "id_ed25519").read_bytes())
    (ssh / "id_ed25519").chmod(0o600)
    monkeypatch.setenv("HOME", str(ssh.parent))
    return ssh


def test_bytes_are_on_the_disk_before_they_have_their_name(
    case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def note(kind: Any, name: str) -> None:
        real = getattr(kind, name)

        async def noted(self: Any, *more: Any, **named: Any) -> Any:
            calls.append(name)
            return await real(self, *more, **named)

        monkeypatch.setattr(kind, name, noted)

    for kind, name in ((asyncssh.SFTPClientFile, "fsync"), (asyncssh.SFTPClient, "link")):
        note(kind, name)
    assert case.open().put_if_absent("a", file(tmp_path, b"x")) is True
    assert calls == ["fsync", "link"]


def test_without_links_and_fsync_a_rename_gives_the_name(plain: SftpCase, tmp_path: Path) -> None:
    remote, data = plain.open(), os.urandom(PIECE + 1)
    assert remote.put_if_absent("a/b", file(tmp_path, data)) is True
    assert remote.put_if_absent("a/b", file(tmp_path, data)) is False
    with pytest.raises(ObjectConflict):
        remote.put_if_absent("a/b", file(tmp_path, b"other", "other"))
    assert remote._create("a/b", file(tmp_path, b"other", "other"), "") is False
    assert b"".join(remote.get("a/b")) == data
    assert os.listdir(tmp_path / "remote" / "a") == ["b"]


def test_without_links_one_of_two_writers_wins(plain: SftpCase, tmp_path: Path) -> None:
    remote, won, barrier = plain.open(), [], threading.Barrier(2)

    def put(number: int) -> None:
        source = file(tmp_path, b"%d" % number * 1000, str(number))
        barrier.wait()
        if remote._create("a", source, ""):
            won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert b"".join(remote.get("a")) == b"%d" % won[0] * 1000


@pytest.mark.parametrize("size", [20_000, 1_500_000])
def test_a_connection_that_breaks_while_it_writes(
    case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    cut = Cut(port_of(case))
    home_with(case, tmp_path, monkeypatch, cut.port)
    remote, data = case.open(), os.urandom(3 * PIECE)
    list(remote.list())
    cut.after(size)
    assert remote.put_if_absent("a", file(tmp_path, data)) is True
    assert cut.cuts == 1
    assert [entry.name for entry in remote.list()] == ["a"]
    assert (tmp_path / "remote" / "a").read_bytes() == data
    left = [name for name in os.listdir(tmp_path / "remote") if name != "a"]
    assert all(name.startswith(layout.TEMPORARY) for name in left)
    cut.close()


@pytest.mark.parametrize("size", [1, 2_000_000])
def test_a_connection_that_breaks_while_it_reads(
    case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    cut = Cut(port_of(case))
    home_with(case, tmp_path, monkeypatch, cut.port)
    remote, data = case.open(), os.urandom(3 * PIECE)
    remote.put_if_absent("a", file(tmp_path, data))
    cut.after(size)
    assert b"".join(remote.get("a", 5)) == data[5:]
    assert cut.cuts == 1
    cut.close()


def test_a_read_continues_with_the_same_object_or_not_at_all(
    case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Cut(port_of(case))
    home_with(case, tmp_path, monkeypatch, cut.port)
    remote, data = case.open(), os.urandom(6 * PIECE)
    remote.put_if_absent("a", file(tmp_path, data))
    pieces = remote.get("a")
    got = next(pieces)
    other = file(tmp_path / "remote", bytes(len(data)), ".other")
    os.utime(other, (1, 1))
    other.replace(tmp_path / "remote" / "a")
    cut.after(1)
    with pytest.raises(RemoteRefused):
        for piece in pieces:
            got += piece
    assert data.startswith(got)
    cut.close()


def test_a_server_that_is_gone(case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home_with(case, tmp_path, monkeypatch, 9)
    with pytest.raises(RemoteUnavailable):
        case.open().stat("a")


@pytest.mark.parametrize("known", ["", "another", "another, and ssh would not care"])
def test_a_server_whose_key_is_not_known_is_refused(
    case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    ssh = home_with(case, tmp_path, monkeypatch)
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port_of(case)} {key}" if known else "")
    if "care" in known:
        (ssh / "config").write_text((ssh / "config").read_text() + "  StrictHostKeyChecking no\n")
    with messages.raises(RemoteRefused, "sftp/unknown-host-key"):
        case.open().stat("a")
    (ssh / "known_hosts").unlink()
    with messages.raises(RemoteRefused, "sftp/no-known-hosts"):
        case.open().put_if_absent("a", file(tmp_path, b"x"))
    (ssh / "config").write_text((ssh / "config").read_text().replace("UserKnownHostsFile", "# UserKnownHostsFile"))
    with messages.raises(RemoteRefused, "sftp/unknown-host-key"):
        case.open().put_if_absent("a", file(tmp_path, b"x"))
    assert not (tmp_path / "remote").exists()


@pytest.mark.parametrize("what", ["another", "none", "damaged", "with a passphrase"])
def test_a_user_whose_key_is_not_accepted(
    case: SftpCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    key = home_with(case, tmp_path, monkeypatch) / "id_ed25519"
    key.unlink()
    if what == "another":
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    elif what == "damaged":
        key.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    elif what == "with a passphrase":
        real = asyncssh.read_private_key(case.home / ".ssh" / "id_ed25519")
        real.write_private_key(key, "pkcs8-pem", passphrase="hunter2")
    with pytest.raises(RemoteRefused) as caught:
        case.open().stat("a")
    assert "hunter2" not in str(caught.value)


def test_what_is_no_plain_file_is_no_object(case: SftpCase, tmp_path: Path) -> None:
    remote, root = case.open(), tmp_path / "remote"
    remote.put_if_absent("a", file(tmp_path, b"x"))
    (root / "link").symlink_to(root / "a")
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    assert [entry.name for entry in remote.list()] == ["a"]
    for name in ("link", "folder", "pipe"):
        with pytest.raises(RemoteRefused):
            remote.stat(name)
        with pytest.raises(RemoteRefused):
            remote.put_if_absent(name, file(tmp_path, b"x"))


def test_nothing_is_deleted(case: SftpCase, tmp_path: Path) -> None:
    remote = case.open()
    remote.put_if_absent("a", file(tmp_path, b"x"))
    assert remote.capabilities.conditional_delete is False
    with messages.raises(RemoteRefused, "sftp/cannot-delete"):
        remote.delete_if_unchanged("a", remote.stat("a").generation)
    assert [entry.name for entry in remote.list()] == ["a"]


def test_a_closed_remote_opens_again(case: SftpCase, tmp_path: Path) -> None:
    remote = case.open()
    remote.put_if_absent("a", file(tmp_path, b"x"))
    threads = {thread.name for thread in threading.enumerate()}
    remote.close()
    remote.close()
    assert remote.stat("a").size == 1
    assert "outlast-sftp" in threads


def test_addresses() -> None:
    for address, shown in {
        "sftp://me@host:22/data/a/": "sftp://me@host:22/data/a/x",
        "sftp://host/~/a": "sftp://host/~/a/x",
        "sftp://host//data/../a": "sftp://host/a/x",
    }.items():
        remote = open_remote(address)
        assert isinstance(remote, SftpRemote)
        assert remote.address("x") == shown
    assert open_remote("sftp://host/~/a")._folder == "a"
    for address in ("sftp:///a", "sftp://host", "sftp://host/", "sftp://host:x/a", "sftp://me:secret@host/a"):
        with pytest.raises(UsageError) as caught:
            open_remote(address)
        assert "secret" not in str(caught.value).replace("a secret", "")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a place where nobody can make a folder")
def test_a_place_that_cannot_be_made_is_no_missing_object_there(case: SftpCase, tmp_path: Path) -> None:
    with pytest.raises(RemoteRefused, match="cannot be written") as caught:
        SftpRemote("standin", "/proc/outlast").put_if_absent("a", file(tmp_path, b"1"))
    assert not isinstance(caught.value, ObjectMissing)


class _Deep:
    """The client of a server in whose every folder there is a folder, or ever more files."""

    def __init__(self, mode: int) -> None:
        self.mode, self.asked = mode, 0

    async def scandir(self, _folder: str) -> AsyncIterator[asyncssh.SFTPName]:
        while True:
            self.asked += 1
            yield asyncssh.SFTPName(f"d{self.asked}", attrs=asyncssh.SFTPAttrs(permissions=self.mode, size=1, mtime=1))
            if stat.S_ISDIR(self.mode):
                return


@pytest.mark.parametrize("mode", [stat.S_IFDIR, stat.S_IFREG])
def test_a_tree_without_an_end_ends(mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names have an end, and so has the number of what is listed."""
    remote, server = SftpRemote("nowhere", "/x"), _Deep(mode)
    monkeypatch.setattr(sftp, "MOST_LISTED", 1000)

    async def connected() -> _Deep:
        return server

    monkeypatch.setattr(remote, "_sftp", connected)
    if stat.S_ISDIR(mode):
        assert list(remote.list()) == []
        assert server.asked < LONGEST_NAME
    else:
        with pytest.raises(RemoteRefused, match="not come to an end"):
            list(remote.list())
        assert server.asked == 1001
    remote.close()
