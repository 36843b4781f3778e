"""Google Cloud Storage, by its JSON API: `gs://BUCKET/PREFIX`.

The service keeps the MD5 of an object and compares it with the bytes when it takes them. Two numbers of an object
change: the generation with its contents, and the metageneration with what is said about them.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote

import requests

from outlast.errors import ObjectConflict, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote import retry
from outlast.remote.answers import unreachable
from outlast.remote.base import PIECE, Capabilities, Entry, Stat
from outlast.remote.gcsservice import SERVICE, GcsService
from outlast.remote.network import TIMEOUT, Opened

FIELDS = "name,size,generation,metageneration,md5Hash,updated"
USED = "outlast-used"
"""Name of the metadata that is written anew when somebody relies on an object again."""


def open_at(location: SplitResult, options: dict[str, str], *, writes: bool) -> GcsRemote:  # noqa: ARG001
    """The remote at `gs://BUCKET/PREFIX`.

    It is at the emulator that STORAGE_EMULATOR_HOST names, if it is set, as with Google's own clients.
    """
    if not location.netloc:
        raise UsageError("gs:// lacks a bucket; expected gs://BUCKET/PREFIX.")
    prefix = location.path.strip("/")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    return GcsRemote(
        location.netloc,
        f"{prefix}/" if prefix else "",
        writes=writes,
        endpoint=(emulator or SERVICE).rstrip("/"),
        anonymous=bool(emulator),
    )


class GcsRemote(GcsService):
    """A bucket, or what lies below a prefix of one.

    Credentials are the application default ones, which Google's own clients use.

    Args:
        bucket: its name.
        prefix: as NetworkRemote has it.
        writes: False for a remote that is only read.
        endpoint: URL of the service.
        anonymous: without credentials.
        timeout: seconds in which something of a reply has to arrive.
        whole: bytes up to which a file is sent in one request; a larger one has an upload of its own, which goes on
            where it broke off.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        writes: bool = True,
        endpoint: str = SERVICE,
        anonymous: bool = False,
        timeout: float = TIMEOUT,
        whole: int = PIECE,
    ) -> None:
        super().__init__(bucket, prefix, writes=writes, endpoint=endpoint, anonymous=anonymous, timeout=timeout)
        self._whole = whole

    @property
    def capabilities(self) -> Capabilities:
        """What Cloud Storage can do."""
        return Capabilities(
            writes=self._writes,
            exclusive_put=self._writes,
            conditional_delete=self._writes,
            digest="md5",
            server_digest=True,
        )

    def _create(self, name: str, file: Path, digest: str) -> bool:
        about = {"name": self._prefix + name, "md5Hash": base64.b64encode(bytes.fromhex(digest)).decode()}
        with self._opened(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            send = self._send_whole if size <= self._whole else self._send_on
            return send(name, about, opened, size)

    def _send_whole(self, name: str, about: dict[str, str], opened: Any, size: int) -> bool:
        boundary = uuid.uuid4().hex
        body = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(about)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode() + opened.read(size)
        reply = self._call(
            name,
            "POST",
            f"/upload{self._objects}",
            {"uploadType": "multipart", "ifGenerationMatch": "0"},
            data=body + f"\r\n--{boundary}--\r\n".encode(),
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            accept=(412,),
        )
        return bool(reply.status_code != 412)

    def _send_on(self, name: str, about: dict[str, str], opened: Any, size: int) -> bool:
        """Send a large file; after a break, from where the service has it."""
        reply = self._call(
            name,
            "POST",
            f"/upload{self._objects}",
            {"uploadType": "resumable", "ifGenerationMatch": "0"},
            data=json.dumps(about).encode(),
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Length": str(size),
                "X-Upload-Content-Type": "application/octet-stream",
            },
            accept=(412,),
        )
        if reply.status_code == 412:
            return False
        upload = reply.headers.get("Location", "")
        if not upload.startswith(f"{self._endpoint}/"):  # what is sent there has our credentials
            raise RemoteRefused(f"{self.address(name)}: the service named no upload of its own. Nothing was written.")
        with self._silence.waiting() as wait:
            return self._send_pieces(name, upload, opened, size, self._tries(wait))

    def _send_pieces(self, name: str, upload: str, opened: Any, size: int, tries: retry.Tries) -> bool:
        start = 0
        while True:
            try:
                return self._send_rest(name, upload, opened, start, size)
            except RemoteUnavailable as error:
                tries.again(error)
                there = self._ask(lambda: self._sent(name, upload, size))
                if there is True:
                    return True
                start = there

    def _send_rest(self, name: str, upload: str, opened: Any, start: int, size: int) -> bool:
        opened.seek(start)
        reply = self._call(
            name,
            "PUT",
            upload,
            data=opened,
            headers={"Content-Range": f"bytes {start}-{size - 1}/{size}"},
            accept=(308, 404, 410, 412),
        )
        if reply.status_code == 308:
            raise unreachable(self.address(name), ConnectionError("the upload ended early"))
        return bool(reply.status_code < 300)  # 404, 410: there is no such upload any more; another one is begun

    def _sent(self, name: str, upload: str, size: int) -> int | bool:
        """How many bytes of an upload the service has; True: all, and the object is there."""
        headers = {"Content-Range": f"bytes */{size}"}
        reply = self._call(name, "PUT", upload, headers=headers, accept=(308, 404, 410, 412))
        if reply.status_code < 300:
            return True
        found = re.fullmatch(r"bytes=0-(\d{1,18})", reply.headers.get("Range", ""))
        return min(int(found[1]) + 1, size - 1) if found else 0

    def _look(self, name: str) -> Stat:
        reply = self._call(name, "GET", self._of(name), {"fields": FIELDS})
        about = reply.json()
        digest = base64.b64decode(about.get("md5Hash", "")).hex()
        return Stat(**vars(self._entry(about)), digest=digest)

    def _freshen(self, found: Stat) -> None:
        about = {"metadata": {USED: dt.datetime.now(dt.UTC).isoformat()}}
        self._call(
            found.name,
            "PATCH",
            self._of(found.name),
            _matching(found.generation),
            data=json.dumps(about).encode(),
            headers={"Content-Type": "application/json; charset=UTF-8"},
        )

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        last = "" if stop is None else str(stop - 1)
        headers = {"Accept-Encoding": "identity"}
        if (start, last) != (0, ""):
            headers["Range"] = f"bytes={start}-{last}"
        only = {"generation": generation} if generation else {}
        reply = self._call(
            name, "GET", self._of(name), {"alt": "media", **only}, headers=headers, accept=(416,), stream=True
        )
        if reply.status_code == 416:
            reply.close()
            return Opened(generation, iter(()))
        return Opened(reply.headers.get("x-goog-generation", ""), self._pieces(name, reply))

    def _pieces(self, name: str, reply: requests.Response) -> Iterator[bytes]:
        left = int(reply.headers["Content-Length"])
        with contextlib.closing(reply), self._explained(name):
            for piece in reply.iter_content(PIECE):
                left -= len(piece)
                yield piece
            if left > 0:  # urllib3 before 2 ends silently
                raise requests.ConnectionError(f"{left} bytes of the reply are missing")

    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:
        asked = {"prefix": self._prefix + prefix, "fields": f"nextPageToken,items({FIELDS})"}
        if after:
            asked["pageToken"] = after
        page = self._call(prefix, "GET", self._objects, asked).json()
        return [self._entry(each) for each in page.get("items", ())], page.get("nextPageToken", "")

    def _delete(self, name: str, generation: str) -> None:
        try:
            self._call(name, "DELETE", self._of(name), _matching(generation))
        except ObjectConflict:
            self._look(name)  # is there one at all?
            raise

    def _of(self, name: str) -> str:
        return f"{self._objects}/{quote(self._prefix + name, safe='')}"

    def _entry(self, about: dict[str, Any]) -> Entry:
        name = about["name"][len(self._prefix) :]
        modified = dt.datetime.fromisoformat(about["updated"]).timestamp()
        return Entry(name, int(about["size"]), f"{about['generation']}.{about['metageneration']}", modified)


def _matching(generation: str) -> dict[str, str]:
    """Preconditions: neither the contents nor what is said about them has changed."""
    contents, _, about = generation.partition(".")
    return {"ifGenerationMatch": contents or "0", "ifMetagenerationMatch": about or "0"}
