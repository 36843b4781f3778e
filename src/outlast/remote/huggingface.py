"""Repositories of the Hugging Face Hub: `hf://models/OWNER/NAME/PREFIX`, `hf://datasets/OWNER/NAME/PREFIX`.

All writes are commits to the branch main that name their parent. The driver looks at the parent's files, and the Hub
refuses the commit when another one came in between. So the same request that writes several files, or deletes one, also
checks what was there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors
from huggingface_hub.utils import disable_progress_bars, get_session

from outlast.errors import ObjectConflict, ObjectMissing, RemoteRefused, RemoteUnavailable, UsageError
from outlast.remote import retry
from outlast.remote.base import PIECE, Capabilities, Entry, Stat, check_name
from outlast.remote.hubservice import HubService, content
from outlast.remote.network import TIMEOUT, Opened

KINDS = {"models": "model", "datasets": "dataset"}
BRANCH = "main"

_SLOW = 2**20
"""Bytes a second of a slow connection. The client does not say how much of a commit it has sent."""

_MANY = 500
"""Paths that are asked about in one request at most; the Hub takes 1000."""


def open_at(location: SplitResult, options: dict[str, str], *, writes: bool) -> HuggingFaceRemote:  # noqa: ARG001
    """The remote at `hf://models|datasets/OWNER/NAME/PREFIX`, on the Hub that HF_ENDPOINT names."""
    found = re.fullmatch(r"/([\w.-]+)/([\w.-]+)(?:/(.*))?", location.path.rstrip("/"), re.ASCII)
    if location.netloc not in KINDS or found is None:
        raise UsageError(
            "An address of hf:// lacks the kind, the owner or the name of a repository; expected "
            "hf://models/OWNER/NAME/PREFIX or hf://datasets/OWNER/NAME/PREFIX."
        )
    prefix = (found[3] or "").strip("/")
    kind, repository = KINDS[location.netloc], f"{found[1]}/{found[2]}"
    return HuggingFaceRemote(kind, repository, f"{check_name(prefix)}/" if prefix else "", writes=writes)


class HuggingFaceRemote(HubService):
    """The branch main of a repository, or a folder in it.

    The token is the one of HF_TOKEN or of `hf auth login`. Its digest is SHA-256, which the Hub keeps of large and
    binary files. Small text files are read back.

    Args:
        kind: "model" or "dataset".
        repository: `OWNER/NAME`. It must exist.
        prefix: as NetworkRemote has it.
        writes: False for a remote that is only read.
        endpoint: URL of the Hub; None: HF_ENDPOINT, or huggingface.co.
        timeout: seconds in which something of a reply has to arrive.
    """

    def __init__(
        self,
        kind: str,
        repository: str,
        prefix: str = "",
        *,
        writes: bool = True,
        endpoint: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(kind, repository, prefix, writes=writes, endpoint=endpoint, timeout=timeout)
        self._about = f"/api/{kind}s/{repository}"
        self._files = f"{'' if kind == 'model' else f'/{kind}s'}/{repository}/resolve/{BRANCH}/"

    @property
    def capabilities(self) -> Capabilities:
        """What the Hub can do. A file's age is that of the last commit that changed it."""
        return Capabilities(
            writes=self._writes,
            exclusive_put=self._writes,
            conditional_delete=self._writes,
            digest="sha256",
            freshens=False,
            atomic_batch=self._writes,
        )

    def put_all_if_absent(self, files: Mapping[str, Path], last: str | None = None) -> set[str]:
        """Write several files in one commit, as `Remote.put_all_if_absent` says."""
        if last is not None and last not in files:
            raise ValueError(f"last is {last!r}; expected one of the {len(files)} names to be written")
        for name in files:
            check_name(name)
            self._check_writes(name)
        described = {name: self._describe(file) for name, file in files.items()}
        with self._silence.waiting() as wait:
            return self._put_all(files, described, self._tries(wait))

    def _put_all(
        self, files: Mapping[str, Path], described: Mapping[str, tuple[int, str]], tries: retry.Tries
    ) -> set[str]:
        while True:
            absent = self._absent(files, described)
            if not absent:
                return set()
            try:
                with self._understood(""):
                    written = self._commit(absent, {name: described[name][1] for name in absent})
            except RemoteUnavailable as error:
                tries.again(error)
                continue
            if written:
                return set(absent)
            tries.again(RemoteUnavailable(f"{self._root} changes all the time; nothing was written there."))

    def _absent(self, files: Mapping[str, Path], described: Mapping[str, tuple[int, str]]) -> dict[str, Path]:
        """The files that are not there. Raises ObjectConflict when another one has a name."""
        absent = {}
        there = self._ask(lambda: self._paths(BRANCH, [self._prefix + name for name in files]))
        for name, file in files.items():
            try:
                if self._prefix + name not in there:
                    raise self._missing(name)
                found = self.stat(name)
            except ObjectMissing:
                absent[name] = file
                continue
            if (found.size, found.digest) != described[name]:
                raise ObjectConflict(
                    f"{self.address(name)} is another file than {file}: it has {found.size} bytes, the file "
                    f"{described[name][0]}. Nothing was written; choose another name."
                )
        return absent

    def _create(self, name: str, file: Path, digest: str) -> bool:
        return self._commit({name: file}, {name: digest})

    def _commit(self, files: Mapping[str, Path], digests: Mapping[str, str]) -> bool:
        """Add files in one commit. False: one of them is there, or another commit came first."""
        parent = self._head()
        above = {each for name in files for each in _folders(self._prefix + name)}
        there = self._paths(parent, [*(self._prefix + name for name in files), *sorted(above)])
        for path, about in there.items():
            if (about["type"] == "file") is (path in above):
                raise RemoteRefused(
                    f"{self._root}{path} is a {about['type']}, so {len(files)} files were not written: a name is that "
                    "of a file or of a folder. Choose another name."
                )
        if there.keys() - above:
            return False
        what = f"{len(files)} files" if len(files) > 1 else self._prefix + next(iter(files))
        message = f"Add {what} ({uuid.uuid4().hex[:12]})"
        added = [CommitOperationAdd(self._prefix + name, str(file)) for name, file in files.items()]
        if not self._send(parent, added, message):
            return False
        there = self._ask(lambda: self._paths(BRANCH, [self._prefix + name for name in files]))
        return all(self._is_of(message, there, name, files[name], digest) for name, digest in digests.items())

    def _is_of(self, message: str, there: Mapping[str, dict[str, Any]], name: str, file: Path, digest: str) -> bool:
        """Whether a file is of the commit with this message: the client leaves out what it believes to be needless."""
        about = there.get(self._prefix + name)
        if about is None:
            raise RemoteRefused(
                f"{self.address(name)} was left out of a commit: the file .gitignore of the repository, or the client, "
                "excludes it. Change that file, or choose another name."
            )
        if (about.get("lastCommit") or {}).get("title") != message:
            return False
        if about.get("lfs", {}).get("oid", digest) != digest:
            raise RemoteRefused(f"{self.address(name)} was written, but is another file: {file} has changed meanwhile.")
        return True

    def _send(self, parent: str, operations: list[Any], message: str) -> bool:
        """Commit, if the branch is where it was; otherwise False."""
        size = sum(each.upload_info.size for each in operations if isinstance(each, CommitOperationAdd))
        session = get_session()
        if session.timeout == httpx2.Timeout(None):  # the client sets none, and would wait for ever
            session.timeout = self._bounds
        disable_progress_bars()
        with self._explained(""), self._silence.waiting() as wait:
            wait.expect(size / _SLOW)
            try:
                self._api.create_commit(
                    self._repository,
                    operations,
                    commit_message=message,
                    repo_type=self._kind,
                    revision=BRANCH,
                    parent_commit=parent,
                    num_threads=2,
                )
            except errors.HfHubHTTPError as error:
                if error.response.status_code in (409, 412):  # 412 is what the Hub answers
                    return False
                raise
        return True

    def _head(self) -> str:
        """The commit that the branch is at."""
        head = str(self._json("", "GET", f"{self._about}/revision/{BRANCH}").get("sha"))
        if not re.fullmatch(r"[0-9a-f]{40}", head):
            raise RemoteRefused(f"{self.address()}: the Hub named no commit of the branch {BRANCH}.")
        return head

    def _paths(self, revision: str, paths: list[str]) -> dict[str, dict[str, Any]]:
        """What is at some paths, with the last commit of each."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(paths), _MANY):
            asked = {"paths": paths[start : start + _MANY], "expand": True}
            for each in self._json("", "POST", f"{self._about}/paths-info/{revision}", json=asked):
                found[each["path"]] = each
        return found

    def _look(self, name: str) -> Stat:
        about = self._paths(BRANCH, [self._prefix + name]).get(self._prefix + name)
        if about is None or about["type"] != "file":
            raise self._missing(name)
        return Stat(**vars(self._entry(about)), digest=about.get("lfs", {}).get("oid", ""))

    def _freshen(self, found: Stat) -> None:
        """A commit that changes nothing is none, so its age stays."""

    def _open(self, name: str, start: int, stop: int | None, generation: str) -> Opened:
        headers = {"Accept-Encoding": "identity"}
        last = "" if stop is None else str(stop - 1)
        if (start, last) != (0, ""):
            headers["Range"] = f"bytes={start}-{last}"
        path = self._files + quote(self._prefix + name)
        stack = contextlib.ExitStack()
        with self._explained(name):
            reply = stack.enter_context(
                get_session().stream("GET", self._api.endpoint + path, headers=self._headers(headers), **self._sent())
            )
            if reply.status_code == 416:
                stack.close()
                return Opened(generation, iter(()))
            if reply.status_code not in (200, 206):
                with stack:
                    reply.read()
                raise self._error(name, reply)
        found = _etag([*reply.history, reply])
        if generation not in ("", found):
            stack.close()
            raise self._changed(name)
        skip = start if reply.status_code == 200 else 0
        return Opened(found, self._pieces(name, reply, stack, skip, None if stop is None else stop - start))

    def _pieces(
        self, name: str, reply: httpx2.Response, stack: contextlib.ExitStack, skip: int, size: int | None
    ) -> Iterator[bytes]:
        """Bytes of a reply after the first `skip`: small files are sent whole, whatever was asked for."""
        with stack, self._explained(name):
            for piece in reply.iter_raw(PIECE):
                wanted = piece[skip:]
                skip = max(skip - len(piece), 0)
                if size is not None:
                    wanted = wanted[:size]
                    size -= len(wanted)
                if wanted:
                    yield wanted
                if size == 0:
                    return

    def _entries(self, prefix: str, after: str) -> tuple[list[Entry], str]:
        folder = (self._prefix + prefix).rpartition("/")[0]
        asked = {"recursive": "true", "expand": "true", **({"cursor": after} if after else {})}
        path = f"{self._about}/tree/{BRANCH}" + (f"/{quote(folder, safe='')}" if folder else "")
        try:
            reply = self._call(prefix, "GET", path, params=asked)
        except ObjectMissing:
            return [], ""
        entries = [self._entry(each) for each in content(reply) if each["type"] == "file"]
        more = parse_qs(urlsplit(reply.links.get("next", {}).get("url", "")).query).get("cursor", [""])[0]
        return [each for each in entries if each.name], more

    def _delete(self, name: str, generation: str) -> None:
        head, path = self._head(), self._prefix + name
        about = self._paths(head, [path]).get(path)
        if about is None or about["type"] != "file":
            raise self._missing(name)
        if self._entry(about).generation != generation:
            raise self._changed(name)
        if not self._send(head, [CommitOperationDelete(path, is_folder=False)], f"Delete {path}"):
            raise RemoteUnavailable(f"{self._root} changed while {name} was to be deleted; it was not deleted.")

    def _entry(self, about: Mapping[str, Any]) -> Entry:
        path, commit = str(about["path"]), about.get("lastCommit") or {}
        name = path[len(self._prefix) :] if path.startswith(self._prefix) else ""
        date = dt.datetime.fromisoformat(commit["date"]).timestamp() if commit else 0.0
        return Entry(name, int(about["size"]), f"{about['oid']}@{commit.get('id', '')}", date)


def _folders(path: str) -> Iterator[str]:
    """The folders that a path is in."""
    above = path.rpartition("/")[0]
    while above:
        yield above
        above = above.rpartition("/")[0]


def _etag(replies: list[httpx2.Response]) -> str:
    """What the Hub calls the contents: in the first reply for large files, in the last one for others."""
    linked = [reply.headers["X-Linked-Etag"] for reply in replies if "X-Linked-Etag" in reply.headers]
    return str((linked or [replies[-1].headers.get("ETag", "")])[0]).removeprefix("W/").strip('"')
