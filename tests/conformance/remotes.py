"""The remotes that the conformance suite runs on: real clients, real sockets, and services of our own behind them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.durability.crash import Counter
from tests.standins import service

from outlast.remote.address import open_remote
from outlast.remote.base import PIECE, Remote
from outlast.remote.folder import FolderRemote
from outlast.remote.network import NetworkRemote

ROOT = Path(__file__).resolve().parents[2]


class FolderCase:
    """The folder driver on an empty folder."""

    url = ""
    """Of the stand-in whose requests can be made to fail; "": it has none."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = folder / "remote"
        self.root.mkdir()

    def open(self, *, writes: bool = True) -> Remote:
        return FolderRemote(self.root, writes=writes)

    def kill_at(self, point: int) -> None:
        """Let this process be killed before its operation of this number on the remote."""
        Counter(self.root, point, power=False, torn=True).install()

    def close(self) -> None:
        """Nothing is open."""


class NetworkCase:
    """A driver that speaks to a stand-in, at a prefix of its own."""

    url = ""
    commits = ""
    """Method of the request that makes a small object visible."""
    commits_at = reads_at = ""
    """What the paths of such requests, and of those that read an object's bytes, have in them."""
    exclusive = True
    """Whether of several writers of one name one wins."""
    taken = 412
    """Status of the reply when something has the name, or the id, of what is to be written."""
    about = "bucket"
    """What the paths of all requests about objects have in them."""
    deletes = "DELETE"
    """Method of the request that deletes an object; its path has `commits_at` in it if it is the same one."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.prefix = folder, monkeypatch, f"t{uuid.uuid4().hex}"
        self.remotes: list[NetworkRemote] = []
        self.start()
        if self.url:
            service.fail(self.url)

    def start(self) -> None:
        raise NotImplementedError

    def make(self, **options: Any) -> NetworkRemote:
        raise NotImplementedError

    def open(self, *, writes: bool = True, **options: Any) -> NetworkRemote:
        remote = self.make(writes=writes, **options)
        remote.first_pause = 0.01
        self.remotes.append(remote)
        return remote

    def close(self) -> None:
        if self.url:
            service.fail(self.url)
        for remote in self.remotes:
            remote.close()

    def kill_at(self, point: int) -> None:
        """Let this process be killed before it sends: a request, half a mebibyte more, or anything after three."""
        sent, last, points = 0, 0, 0

        def counted(real: Any) -> Any:
            def send(self: socket.socket, data: Any, *rest: Any) -> Any:
                nonlocal sent, last, points
                size = memoryview(data).nbytes
                request = bytes(memoryview(data).cast("B")[:5]).rstrip().isalpha() and b"HTTP/1.1" in bytes(data[:4096])
                if request or sent - last >= PIECE // 2 or sent >= 3 * PIECE:
                    points, last = points + 1, sent
                    if points == point:
                        os.kill(os.getpid(), signal.SIGKILL)
                sent += size
                return real(self, data, *rest)

            return send

        for name in ("send", "sendall"):
            setattr(socket.socket, name, counted(getattr(socket.socket, name)))


class S3Case(NetworkCase):
    """The s3:// driver, botocore, and moto."""

    commits = "PUT"

    def start(self) -> None:
        import botocore  # noqa: F401 - a library that is missing is named
        import moto  # noqa: F401
        from tests.standins.s3 import keys

        self.url = service.running("s3")
        for name, value in {
            "AWS_ACCESS_KEY_ID": keys.KEY,
            "AWS_SECRET_ACCESS_KEY": keys.SECRET,
            "AWS_CONFIG_FILE": str(self.folder / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            self.monkeypatch.setenv(name, value)

    def make(self, *, writes: bool = True, **options: Any) -> NetworkRemote:
        from tests.standins.s3 import keys

        from outlast.remote.s3 import S3Remote

        if options:
            return S3Remote(
                keys.BUCKET, f"{self.prefix}/", writes=writes, endpoint=self.url, region="us-east-1", **options
            )
        address = f"s3://{keys.BUCKET}/{self.prefix}?endpoint={self.url}&region=us-east-1&path_style=true"
        remote = open_remote(address, writes=writes)
        assert isinstance(remote, NetworkRemote)
        return remote


@functools.cache
def _account(url: str) -> Path:
    """The key file of a service account whose tokens come from the stand-in."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from tests.standins.gcs import ACCOUNT

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    urllib.request.urlopen(urllib.request.Request(f"{url}/.key", public), timeout=20).close()
    path = Path(tempfile.mkdtemp(prefix="outlast-test-")) / "account.json"
    about = {
        "type": "service_account",
        "client_email": ACCOUNT,
        "private_key": private.decode(),
        "private_key_id": "1",
        "project_id": "stand-in",
        "token_uri": f"{url}/token",
    }
    path.write_text(json.dumps(about))
    return path


class GcsCase(NetworkCase):
    """The gs:// driver, google-auth, and our stand-in."""

    commits = "POST"

    def start(self) -> None:
        import google.auth  # noqa: F401

        self.url = service.running("gcs")
        self.account = _account(self.url)
        self.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(self.account))

    def make(self, *, writes: bool = True, **options: Any) -> NetworkRemote:
        from tests.standins.gcs import BUCKET

        from outlast.remote.gcs import GcsRemote

        return GcsRemote(BUCKET, f"{self.prefix}/", writes=writes, endpoint=self.url, **options)


@functools.cache
def _sftp(kind: str) -> Path:
    """The home folder of the client of an SFTP server."""
    import atexit

    home = Path(tempfile.mkdtemp(prefix="outlast-test-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.standins.sftp.server", str(home), kind],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    atexit.register(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit(), "the SFTP server did not start"
    return home


class SftpCase(NetworkCase):
    """The sftp:// driver and server of asyncssh."""

    kind = ""

    def start(self) -> None:
        import asyncssh  # noqa: F401

        self.home = _sftp(self.kind)
        self.monkeypatch.setenv("HOME", str(self.home))
        self.monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    def make(self, *, writes: bool = True, **options: Any) -> NetworkRemote:
        if options:
            from outlast.remote.sftp import SftpRemote

            return SftpRemote("standin", f"{self.folder}/remote", writes=writes, **options)
        remote = open_remote(f"sftp://standin{self.folder}/remote", writes=writes)
        assert isinstance(remote, NetworkRemote)
        return remote


class PlainSftpCase(SftpCase):
    """A server without OpenSSH's extensions."""

    kind = "without-links"


class HubCase(NetworkCase):
    """The hf:// driver, huggingface_hub, and our stand-in. Large files go by LFS: hf_xet speaks to no stand-in."""

    commits = deletes = "POST"
    commits_at, reads_at = "/commit/", "content"
    kind = "model"

    def start(self) -> None:
        from huggingface_hub import constants
        from tests.standins.hub import TOKEN

        self.url = service.running("hub")
        self.monkeypatch.setenv("HF_TOKEN", TOKEN)
        self.monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # read from the environment at import

    def make(self, *, writes: bool = True, **options: Any) -> NetworkRemote:
        from tests.standins.hub import REPOSITORY

        from outlast.remote.huggingface import HuggingFaceRemote

        return HuggingFaceRemote(self.kind, REPOSITORY, f"{self.prefix}/", writes=writes, endpoint=self.url, **options)


class DriveCase(NetworkCase):
    """The drive:// driver and our stand-in."""

    commits, commits_at, reads_at = "POST", "/upload/", "alt=media"
    exclusive, taken, about = False, 409, "/drive/v3/files"

    def start(self) -> None:
        from tests.standins import drive

        self.url = service.running("drive")
        self.search(0, 0)
        self.monkeypatch.setenv("OUTLAST_DRIVE_CLIENT_ID", drive.CLIENT)
        self.monkeypatch.setenv("OUTLAST_DRIVE_CLIENT_SECRET", drive.SECRET)
        self.monkeypatch.setenv("OUTLAST_DRIVE_REFRESH_TOKEN", drive.REFRESH)

    def make(self, *, writes: bool = True, **options: Any) -> NetworkRemote:
        from tests.standins.drive import FOLDER

        from outlast.remote.drive import DriveRemote

        remote = DriveRemote(f"{FOLDER}-{self.prefix}", "runs/", writes=writes, endpoint=self.url, **options)
        remote.settles = 0.0
        return remote

    def search(self, named: float, listed: float) -> None:
        """Let a search by name, and one for a folder, know no file for these seconds after it was made."""
        body = json.dumps([named, listed]).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/.search", body), timeout=20).close()


CASES: dict[str, Any] = {
    "folder": FolderCase,
    "s3": S3Case,
    "gs": GcsCase,
    "sftp": SftpCase,
    "hf": HubCase,
    "drive": DriveCase,
}
