"""The reference that is a branch of a git remote; its large files are in a store that DVC reads.

The commit is built in a bare repository of our own, in a scratch folder. It borrows the objects of the user's
repository (objects/info/alternates), of which nothing is written: no index, branch, HEAD, object or configuration.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from outlast.errors import UsageError
from outlast.folder import durable
from outlast.publish import dvc, manifest
from outlast.publish.gitcommand import Git, lines, token_for
from outlast.publish.owners import owner_of
from outlast.publish.plan import Plan, PlannedFile, hashed
from outlast.publish.reference import Progress, Reference
from outlast.publish.repository import Repository
from outlast.terminal import command

AUTHOR = "outlast <outlast@localhost>"

_IGNORE = ".gitignore"
_MADE = "refs/outlast/made"  # of our own repository; what is pushed is the commit's hash

NO_BASE = "none"
"""A base that is no commit: the branch begins with the publication."""


class GitReference(Reference):
    """A new branch of a git remote, with a commit of the publication's files.

    Args:
        url: of the git remote; it has no secret in it.
        store: its address.
        scratch: an empty folder, deleted afterwards by the caller.
        repository: the user's; None: there is none.
        base: the parent of the commit, NO_BASE, or None to choose it: HEAD, if the server has it.
        remote: what the user calls the git remote, for the commands that get the publication.
        token: for the server; by default from the environment.
        chosen: whether the user has named the base, which must then exist.

    Raises:
        UsageError: the base is no commit of the repository, or DVC cannot read such a store.
        RemoteError: the server does not answer.
    """

    def __init__(
        self,
        url: str,
        store: str,
        scratch: Path,
        *,
        repository: Repository | None,
        base: str | None = None,
        remote: str | None = None,
        token: str | None = None,
        chosen: bool = False,
    ) -> None:
        self._url, self._store, self._remote = url, dvc.remote_settings(store), remote
        self._repository, self._scratch = repository, scratch
        self._token = token or token_for(url, os.environ)
        self._outside = Git(scratch, token=self._token)
        self._inside = Git(scratch, {"GIT_DIR": str(scratch / "repository")}, token=self._token)
        self._plan: Plan | None = None
        self._commit = ""
        self.told = dvc.advice(store)
        self.base = self._known(base, chosen=chosen) or self._choose()

    @property
    def where(self) -> str:
        """The branch and the git remote."""
        return f"branch {self._plan.name} of {self._url}" if self._plan else f"a new branch of {self._url}"

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self._plan.name if self._plan else ''}"

    def blobs(self, plan: Plan) -> dict[str, PlannedFile]:
        """The large files, by the names that DVC gives them; and first what tells the store of this repository."""
        name, data = owner_of(self._url)
        durable.write_file(self._scratch / "owner.json", [data])
        owner = {name: hashed("owner.json", self._scratch / "owner.json")}
        return owner | {dvc.object_name(file.md5): file for file in plan.files if file.is_large}

    def place(self, plan: Plan, file: PlannedFile) -> str:  # noqa: ARG002
        """The store, or the branch."""
        return "store" if file.is_large else "branch"

    def prepare(self, plan: Plan) -> str:
        """Build the commit; the same plan and base have the same commit."""
        self._plan = plan
        self._make_repository()
        parent = None if self.base == NO_BASE else self.base
        clock = f"{plan.seconds} +0000"
        message = (
            f"Publish {plan.experiment} of {plan.module}: {len(plan.files)} files\n\n"
            f"Get it: git fetch, git checkout {plan.name}, dvc pull\n"
        )
        about = f"commit {_MADE}\nmark :1\nauthor {AUTHOR} {clock}\ncommitter {AUTHOR} {clock}\n"
        stream = [about.encode(), _data(message.encode()), f"from {parent}\n".encode() if parent else b""]
        for path, data in self._contents(plan, parent).items():
            stream += [f"M 100644 inline {path}\n".encode(), _data(data)]
        stream.append(b"get-mark :1\n")
        out = self._inside.run("fast-import", "--quiet", "--force", data=b"".join(stream))
        self._commit = lines(out)[0]
        return self._commit

    def create(self, progress: Progress) -> int:  # noqa: ARG002 - the commit is small
        """Push the commit as a new branch; refused where one of this name exists. The store has every object before."""
        self._inside.run(
            "push", "--porcelain", "--no-verify", "--no-signed", "--atomic", f"--force-with-lease={self._ref}:",
            "--", self._url, f"{self._commit}:{self._ref}", secret=True,
        )  # fmt: skip
        return 0

    def read(self) -> str | None:
        """The commit that the server has under the branch's name."""
        return self._refs(self._ref).get(self._ref)

    def commands(self) -> list[str]:
        """What a person types in a clone."""
        name, remote = (self._plan.name if self._plan else ""), self._remote or self._url
        checkout = ("git", "checkout", name) if self._remote else ("git", "checkout", "-b", name, "FETCH_HEAD")
        return [command("git", "fetch", remote, name), command(*checkout), "dvc pull"]

    # ------------------------------------------------------------------------------------------------------------

    def _refs(self, *patterns: str) -> dict[str, str]:
        out = self._outside.run("ls-remote", "--", self._url, *patterns, secret=True)
        pairs = (line.partition("\t") for line in lines(out))
        return {name: commit for commit, tab, name in pairs if tab}

    def _known(self, base: str | None, *, chosen: bool) -> str | None:
        """The commit that the user or an earlier attempt has named; None: there is none, any more."""
        if base in (None, NO_BASE):
            return base
        self._make_repository()
        named = self._repository.head if base == "HEAD" and self._repository else base
        code, out, _ = self._inside.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{named}^{{commit}}")
        if code == 0:
            return lines(out)[0]
        if chosen:
            raise UsageError(
                f"--base is {base}; expected the hash of a commit that the repository has, HEAD, or {NO_BASE}."
            )
        return None

    def _choose(self) -> str:
        """HEAD, if the server has it; the commits of the user's that it has not are not published."""
        head = self._repository.head if self._repository else None
        if head is None:
            return NO_BASE
        tips = set(self._refs().values())
        if head in tips:
            return head
        self._make_repository()
        for tip in sorted(tips):
            code, _, _ = self._inside.ask("merge-base", "--is-ancestor", head, tip)
            if code == 0:
                return head
        self.told.append(
            f"HEAD ({head[:12]}) is not on the server, so the branch begins without a parent: your own commits are not "
            "published. To build on HEAD, push it first."
        )
        return NO_BASE

    def _make_repository(self) -> None:
        if (self._scratch / "repository").is_dir():
            return
        form = self._repository.format if self._repository else self._server_format()
        place = self._scratch / "repository"
        self._outside.run("init", "--quiet", "--bare", "--template=", f"--object-format={form}", place)
        with (place / "config").open("a") as config:  # one file of objects, which nobody needs after a crash
            config.write("[core]\n\tfsync = none\n[fastimport]\n\tunpackLimit = 1\n")
        if self._repository:
            durable.make_folder(place / "objects" / "info")
            (place / "objects" / "info" / "alternates").write_bytes(os.fsencode(_quoted(self._repository.objects)))
            if self._repository.shallow:
                (place / "shallow").write_bytes(self._repository.shallow.read_bytes())

    def _server_format(self) -> str:
        """SHA-1, unless the server has a longer hash."""
        return "sha256" if any(len(each) == 64 for each in self._refs().values()) else "sha1"

    def _of_base(self, parent: str | None, *paths: str) -> list[bytes]:
        """The contents of files of the base; those of one that it has not are empty."""
        if parent is None:
            return [b""] * len(paths)
        out = self._inside.run("cat-file", "--batch", data="".join(f"{parent}:{path}\n" for path in paths).encode())
        found = []
        for _ in paths:
            line, _, out = out.partition(b"\n")
            kind, size = line.split()[-2:] if not line.endswith(b" missing") else (b"", b"-1")
            found.append(out[: int(size)] if kind == b"blob" else b"")
            out = out[int(size) + 1 :]
        return found

    def _contents(self, plan: Plan, parent: str | None) -> dict[str, bytes]:
        """The files of the commit that are not the base's: small ones, pointers, and what DVC needs to know."""
        config, ignored_by_dvc, base = self._of_base(parent, dvc.CONFIG, ".dvc/.gitignore", _IGNORE)
        config, remote = dvc.with_remote(config, self._store)
        found = {dvc.CONFIG: config, f"{plan.folder}/{manifest.NAME}": manifest.write(plan)}
        if not ignored_by_dvc:
            found[".dvc/.gitignore"] = dvc.IGNORED
        ignored: Mapping[PurePosixPath, list[str]] = defaultdict(list)
        for file in plan.files:
            path = PurePosixPath(plan.folder) / file.path
            if file.is_large:
                found[f"{path}{dvc.POINTER}"] = dvc.pointer(file, remote)
                ignored[path.parent].append(path.name)
            else:
                found[str(path)] = file.source.read_bytes()
        for folder, names in ignored.items():
            found[f"{folder}/.gitignore"] = "".join(f"/{_escaped(name)}\n" for name in sorted(names)).encode()
        if base and (more := self._not_ignored(base, [path for path in found if path.endswith(dvc.POINTER)])):
            found[_IGNORE] = base + (b"" if base.endswith(b"\n") else b"\n") + more
        return found

    def _not_ignored(self, base: bytes, pointers: list[str]) -> bytes:
        """What .gitignore must say further, so that DVC finds its pointers: it skips, silently, what git ignores."""
        tree = self._scratch / "tree"
        durable.make_folder(tree)
        (tree / _IGNORE).write_bytes(base)
        options = ("-c", "core.bare=false", "--work-tree", tree, "check-ignore", "--no-index", "-z", "--stdin")
        inside = Git(tree, self._inside.settings)
        code, _, _ = inside.ask(*options, data=b"".join(os.fsencode(path) + b"\0" for path in pointers))
        if code != 0:  # 1: none is ignored
            return b""
        folders = {above for path in pointers for above in PurePosixPath(path).parents if above.name}
        rules = [f"!/{folder}/" for folder in sorted(map(str, folders))] + [f"!/{path}" for path in sorted(pointers)]
        return "".join(
            f"{line}\n" for line in ["# outlast publish: DVC finds no pointers that git ignores", *rules]
        ).encode()


def _data(contents: bytes) -> bytes:
    """Contents as `git fast-import` reads them."""
    return b"data %d\n%s\n" % (len(contents), contents)


def _escaped(name: str) -> str:
    r"""A file name as a pattern of .gitignore: without meaning for `*`, `?`, `[`, `\` and a blank at the end."""
    return re.sub(r"([*?\[\]\\ ])", r"\\\1", name)


def _quoted(path: Path) -> str:
    """A path as objects/info/alternates takes it: quoted as in C when it needs that."""
    text = str(path)
    if text.startswith(('"', "#")) or "\n" in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"\n'
    return f"{text}\n"
