"""Folders of Google Drive, by its API v3: `drive://FOLDER_ID/PREFIX`.

All objects are files in that one folder, and a file's name is that of the object, with its slashes. Drive lets several
files have one name. The object is then the oldest of them, and of the oldest that with the smallest id, so all readers
see the same one. A file gets an id before it is sent: what is sent twice is refused, and does not become two files.

A search by name may not know a new file yet. By its id it is found at once, and so is what the folder's listing shows.

The scope is drive.file, with which a client sees only files that it made itself.
"""

from __future__ import annotations

import builtins
import contextlib
import datetime as dt
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult

from outlast.errors import ObjectMissing, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote import retry
from outlast.remote.answers import unreachable
from outlast.remote.base import PIECE, Capabilities, Entry, Stat, check_name
from outlast.remote.driveservice import DriveService
from outlast.remote.network import TIMEOUT, Opened

FIELDS = "id,name,size,sha256Checksum,createdTime,modifiedTime"
FILES = "/drive/v3/files"

SETTLES = 15.0
"""Seconds after which the listing of a folder is taken to have the files that others have made in it."""

_BLOCK = 256 * 1024


def open_at(location: SplitResult, options: dict[str, str], *, writes: bool) -> DriveRemote:  # noqa: ARG001
    """The remote at `drive://FOLDER_ID/PREFIX`, at the service that OUTLAST_DRIVE_ENDPOINT names if it is set."""
    if not re.fullmatch(r"[\w-]+", location.netloc, re.ASCII):
        raise UsageError(
            "drive:// lacks the id of a folder; expected drive://FOLDER_ID/PREFIX; the id root is My Drive."
        )
    prefix = location.path.strip("/")
    return DriveRemote(location.netloc, f"{check_name(prefix)}/" if prefix else "", writes=writes)


class DriveRemote(DriveService):
    """A folder of Google Drive, or the files in it whose names begin with a prefix.

    Args:
        folder: its id, or "root".
        prefix: as NetworkRemote has it.
        writes: False for a remote that is only read.
        endpoint: URL of the service; None: as OUTLAST_DRIVE_ENDPOINT has it, or Google's.
        timeout: seconds in which something of a reply has to arrive.
        whole: bytes up to which a file is sent in one request; a larger one has an upload of its own, which goes on
            where it broke off.
    """

    settles = SETTLES

    def __init__(
        self,
        folder: str,
        prefix: str = "",
        *,
        writes: bool = True,
        endpoint: str | None = None,
        timeout: float = TIMEOUT,
        whole: int = PIECE,
    ) -> None:
        super().__init__(f"drive://{folder}/", prefix, writes=writes, endpoint=endpoint, timeout=timeout)
        self._folder, self._whole = folder, whole
        self._ids: dict[str, str] = {}
        self._keep: Callable[[str, str], None] = lambda _what, _identity: None
        self._seen: dict[str, set[str]] = {}  # ids of files that were made or listed, by name
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What Drive can do. Names are not unique, and nothing has a precondition."""
        return Capabilities(
            writes=self._writes,
            exclusive_put=False,
            conditional_delete=False,
            digest="sha256",
            server_digest=True,
            oldest_wins=self._writes,
        )

    def keep_ids(self, known: Mapping[str, str], keep: Callable[[str, str], None]) -> None:
        """Use and keep the ids of files that are to be made, as `Remote.keep_ids` says."""
        with self._lock:
            self._ids, self._keep = {**known, **self._ids}, keep

    def settle(self, name: str) -> None:
        """Wait, then look at the whole folder: its listing knows new files before a search for a name does."""
        check_name(name)
        if self.settles:
            self._silence.tell(f"waiting {self.settles:.0f} s until Google Drive lists {self.address(name)}")
            time.sleep(self.settles)
        for entry in self.list(name):
            if entry.name == name:
                self._saw(name, _id_of(entry))

    def _create(self, name: str, file: Path, digest: str) -> bool:
        identity = self._id(name, digest)
        about = {"id": identity, "name": self._prefix + name, "parents": [self._folder]}
        with self._opened(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            send = self._send_whole if size <= self._whole else self._send_on
            made = send(name, about, opened, size)
        self._saw(name, identity)
        if made is None:  # it was made by a request whose reply was lost
            return False
        if made.get("sha256Checksum", digest) != digest:
            raise RemoteRefused(f"{self.address(name)} was written, but is another file: {file} has changed meanwhile.")
        return bool(_id_of(self._ask(lambda: self._look(name))) == made["id"])

    def _id(self, name: str, digest: str) -> str:
        """An id for a file that is to be made; always the same one, as long as no file that had it was deleted."""
        what = f"{self.address(name)} {digest}"
        with self._lock:
            known = self._ids.get(what)
        if known is not None:
            return known
        made = str(self._json(name, "GET", f"{FILES}/generateIds", {"count": "1", "space": "drive"})["ids"][0])
        with self._lock:
            if what not in self._ids:
                self._keep(what, made)
            return self._ids.setdefault(what, made)

    def _saw(self, name: str, identity: str) -> None:
        with self._lock:
            self._seen.setdefault(name, set()).add(identity)

    def _send_whole(self, name: str, about: dict[str, Any], opened: BinaryIO, size: int) -> dict[str, Any] | None:
        boundary = uuid.uuid4().hex
        body = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(about)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode() + opened.read(size)
        with self._call(
            name,
            "POST",
            f"/upload{FILES}",
            {"uploadType": "multipart", "fields": FIELDS},
            data=body + f"\r\n--{boundary}--\r\n".encode(),
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            accept=(409,),
        ) as reply:
            return None if reply.status == 409 else self._content(name, reply)

    def _send_on(self, name: str, about: dict[str, Any], opened: BinaryIO, size: int) -> dict[str, Any] | None:
        """Send a large file; after a break, from where the service has it."""
        with self._call(
            name,
            "POST",
            f"/upload{FILES}",
            {"uploadType": "resumable", "fields": FIELDS},
            data=json.dumps(about).encode(),
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Length": str(size),
                "X-Upload-Content-Type": "application/octet-stream",
            },
            accept=(409,),
        ) as reply:
            if reply.status == 409:
                return None
            upload = reply.headers.get("Location", "")
        if not upload.startswith(f"{self._endpoint}/"):  # what is sent there has our token
            raise RemoteRefused(f"{self.address(name)}: the service named no upload of its own. Nothing was written.")
        with self._silence.waiting() as wait:
            return self._send_pieces(name, upload, opened, size, self._tries(wait))

    def _send_pieces(
        self, name: str, upload: str, opened: BinaryIO, size: int, tries: retry.Tries
    ) -> dict[str, Any] | None:
        start, found = 0, False
        while True:
            try:
                if not found:
                    return self._send_rest(name, upload, opened, start, size)
                start, made = self._sent(name, upload, size)
                if made is not None:
                    return made
                found = False
            except RemoteUnavailable as error:
                tries.again(error)
                found = True

    def _send_rest(self, name: str, upload: str, opened: BinaryIO, start: int, size: int) -> dict[str, Any] | None:
        opened.seek(start)
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}", "Content-Length": str(size - start)}
        body = iter(lambda: opened.read(_BLOCK), b"")
        with self._call(name, "PUT", upload, data=body, headers=headers, accept=(308, 404, 409, 410)) as reply:
            if reply.status == 308:
                raise unreachable(self.address(name), ConnectionError("the upload ended early"))
            # 404, 410: there is no such upload any more; another one is begun.
            return self._content(name, reply) if reply.status < 300 else None

    def _sent(self, name: str, upload: str, size: int) -> tuple[int, dict[str, Any] | None]:
        """How many bytes of an upload the service has, or the file when it has all."""
        headers = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
        with self._call(name, "PUT", upload, data=b"", headers=headers, accept=(308, 404, 410)) as reply:
            if reply.status < 300:
                return size, self._content(name, reply)
            found = re.fullmatch(r"bytes=0-(\d{1,18})", reply.headers.get("Range", ""))
            return (min(int(found[1]) + 1, size - 1) if found else 0), None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose names begin with a text. To know the oldest of one name takes the whole listing."""
        oldest: dict[str, Entry] = {}
        for entry in super().list(prefix):
            oldest[entry.name] = min(oldest.get(entry.name, entry), entry, key=_age)
        yield from oldest.values()

    def _look(self, name: str) -> Stat:
        found, after = self._page(name, "", f" and name = {_quoted(self._prefix + name)}")
        while after:
            more, after = self._page(name, after, f" and name = {_quoted(self._prefix + name)}")
            found += more
        found += self._unsearched(name, {_id_of(each) for each in found})
        if not found:
            raise self._missing(name)
        return min(found, key=_age)

    def _unsearched(self, name: str, found: set[str]) -> builtins.list[Stat]:
        """Files of a name that are known by their ids, and that a search does not know yet."""
        with self._lock:
            asked = self._seen.get(name, set()) - found
        files = []
        for identity in sorted(asked):
            fields = {"fields": f"{FIELDS},trashed", "supportsAllDrives": "true"}
            with contextlib.suppress(ObjectMissing):
                about = self._json(name, "GET", f"{FILES}/{identity}", fields)
                if not about["trashed"]:
                    files.append(self._stat(about))
                    continue
            with self._lock:  # somebody deleted it: the next file of this name needs another id
                self._seen[name].discard(identity)
                self._ids = {what: each for what, each in self._ids.items() if each != identity}
        return files

    def _freshen(self, found: Stat) -> None:
        now = dt.datetime.fromtimestamp(max(time.time(), found.modified + 0.001), dt.UTC)
        about = {"modifiedTime": now.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        self._json(
            found.name,
            "PATCH",
            f"{FILES}/{_id_of(found)}",
            {"supportsAllDrives": "true", "fields": "id"},
            data=json.dumps(about).encode(),
            headers={"Content-Type": "application/json; charset=UTF-8"},
        )

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        identity = generation or _id_of(self._look(name))
        last = "" if stop is None else str(stop - 1)
        headers = {} if (start, last) == (0, "") else {"Range": f"bytes={start}-{last}"}
        asked = {"alt": "media", "supportsAllDrives": "true"}
        reply = self._call(name, "GET", f"{FILES}/{identity}", asked, headers=headers, accept=(416,))
        if reply.status == 416:
            reply.close()
            return Opened(identity, iter(()))
        return Opened(identity, self._pieces(name, reply))

    def _pieces(self, name: str, reply: HTTPResponse) -> Iterator[bytes]:
        left = int(reply.headers["Content-Length"])
        with reply, self._explained(name):
            while left > 0:
                piece = reply.read(min(PIECE, left))
                if not piece:
                    raise ConnectionError(f"{left} bytes of the reply are missing")
                left -= len(piece)
                yield piece

    def _entries(self, prefix: str, after: str) -> tuple[builtins.list[Entry], str]:
        found, after = self._page(prefix, after)
        return [Entry(each.name, each.size, each.generation, each.modified) for each in found], after

    def _page(self, name: str, after: str, more: str = "") -> tuple[builtins.list[Stat], str]:
        """A page of the files in the folder, and where the next one begins."""
        asked = {
            "q": f"{_quoted(self._folder)} in parents and trashed = false{more}",
            "fields": f"nextPageToken,files({FIELDS})",
            "pageSize": "1000",
            "spaces": "drive",
            "supportsAllDrives": "true",
            "includeItemsFromAllDrives": "true",
            **({"pageToken": after} if after else {}),
        }
        page = self._json(name, "GET", FILES, asked)
        # What has no size is a folder, or a document of Google's own.
        files = [each for each in page.get("files", ()) if "size" in each and each["name"].startswith(self._prefix)]
        return [self._stat(each) for each in files], page.get("nextPageToken", "")

    def _stat(self, about: dict[str, str]) -> Stat:
        return Stat(
            about["name"][len(self._prefix) :],
            int(about["size"]),
            f"{about['id']}@{about['createdTime']}@{about['modifiedTime']}",
            dt.datetime.fromisoformat(about["modifiedTime"]).timestamp(),
            about.get("sha256Checksum", ""),
        )

    def _delete(self, name: str, generation: str) -> None:  # noqa: ARG002
        self._look(name)
        raise RemoteRefused(
            f"{self.address(name)} was not deleted: Drive cannot delete a file only if it is unchanged. Delete it by "
            "hand when nobody needs it."
        )


def _id_of(found: Entry) -> str:
    return found.generation.partition("@")[0]


def _age(found: Entry) -> tuple[str, str]:
    """When a file was made, and its id."""
    identity, created, _ = found.generation.split("@")
    return created, identity


def _quoted(text: str) -> str:
    """Text in a query of Drive."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
