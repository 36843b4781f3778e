"""Deletes objects of a store that no publication names any more. Publishing itself never deletes.

    1  the references are read from the servers, now
    2  the objects are listed, with age and generation; garbage is what no reference names and what is older than the
       grace period at the time of the listing
    3  the references are read again
    4  each object of garbage is deleted on the condition that its generation is still the listed one

A publisher puts its objects again, which makes them young and gives them another generation, and creates its reference
before the grace period is over (`transaction.DEADLINE`). tests/publish/model.py looks at every order of these steps;
without any one of the safeguards an object that a reference names is lost.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from outlast.config.units import format_seconds
from outlast.errors import (
    CorruptCheckpoint,
    ObjectConflict,
    ObjectMissing,
    RemoteError,
    RemoteRefused,
    UsageError,
)
from outlast.publish import dvc, manifest
from outlast.publish.gitcommand import TOKENS, Git, host_of, lines, token_for
from outlast.publish.owners import owners_in
from outlast.publish.transaction import DEADLINE
from outlast.remote.base import Entry, Remote

GRACE = 14 * 86400.0
"""Seconds that an object is kept after it was put, whatever names it."""

OBJECTS = ("blobs/sha256/", "files/md5/")
"""Prefixes of the names of objects that are collected. Nothing else of a store is deleted."""

LOCK = "dvc.lock"
"""Name of the file in which a pipeline of DVC names its objects."""

_SKEW = 300.0  # seconds by which the clocks of store and machine may differ
_LARGEST = 2**24

Roots = Callable[[], set[str]]
"""Reads the references from their servers and returns the names of all objects that they name."""


@dataclass
class Garbage:
    """The result of a collection.

    Attributes:
        named: number of listed objects that a reference names.
        young: objects that no reference names, within the grace period.
        found: objects that no reference names, older than it.
        deleted: those of `found` that were deleted.
        kept: those that were put again or named since they were listed, or were deleted by another process.
    """

    named: int = 0
    young: list[Entry] = field(default_factory=list)
    found: list[Entry] = field(default_factory=list)
    deleted: list[Entry] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)


def collect(
    store: Remote, roots: Roots, *, delete: bool, grace: float = GRACE, clock: Callable[[], float] = time.time
) -> Garbage:
    """Find the garbage of a store, and delete it if asked to.

    Args:
        store: the store.
        roots: reads the references; called twice. If it raises, nothing is deleted.
        delete: whether to delete.
        grace: seconds; at least twice the deadline of a publisher.
        clock: seconds since 1970.

    Raises:
        UsageError: the grace period is too short, or no reference names anything.
        RemoteRefused: the store cannot delete safely, or its clock is wrong.
    """
    if not grace >= 2 * DEADLINE:
        raise UsageError(
            f"The grace period is {grace:.0f} s; expected at least {format_seconds(2 * DEADLINE)}, because a "
            f"publication may take {format_seconds(DEADLINE)}. Nothing was deleted."
        )
    can = store.capabilities
    if not (can.conditional_delete and can.freshens and can.writes):
        lack = "is only read" if not can.writes else "does not renew the age of a file that is published again"
        if can.writes and not can.conditional_delete:
            lack = "has no deletion that is safe beside a publisher at work"
        raise RemoteRefused(
            f"{store.address()} {lack}, so outlast deletes nothing there and lists nothing as unused. Nothing was "
            "deleted. docs/reference/remotes.md says which stores can."
        )
    named, now = roots(), clock()
    listed = [entry for prefix in OBJECTS for entry in store.list(prefix)]
    _check_clock(store, listed, now)
    if listed and not named:
        raise UsageError(
            f"No reference names any of the {len(listed)} objects of {store.address()}. Is it the right store, and are "
            "all git repositories given (--git URL)? Nothing was deleted."
        )
    found = Garbage(named=sum(entry.name in named for entry in listed))
    for entry in (entry for entry in listed if entry.name not in named):
        (found.found if now - entry.modified > grace else found.young).append(entry)
    if delete and found.found:
        named = roots()
        for entry in found.found:
            (found.deleted if entry.name not in named and _delete(store, entry) else found.kept).append(entry)
    return found


def _delete(store: Remote, entry: Entry) -> bool:
    try:
        store.delete_if_unchanged(entry.name, entry.generation)
    except (ObjectConflict, ObjectMissing):
        return False
    return True


def _check_clock(store: Remote, listed: Iterable[Entry], now: float) -> None:
    """Ages are the difference of two clocks: an object from the future shows that one of them is wrong."""
    ahead = max((entry.modified - now for entry in listed), default=0.0)
    if ahead > _SKEW:
        raise RemoteRefused(
            f"The newest object of {store.address()} was put {format_seconds(ahead)} in the future by this machine's "
            "clock, so ages are not known. Set the clock. Nothing was deleted."
        )


def roots_of(store: Remote, urls: Sequence[str], scratch: Path) -> Roots:
    """What reads all references to a store's objects: its own manifests, and the branches and tags of git repositories.

    Args:
        store: the store.
        urls: git repositories, besides those that the store knows. Whoever can write to the store can name a server
            there, so OUTLAST_GIT_TOKEN is sent to the servers of these URLs alone.
        scratch: a folder in which repositories are made, deleted afterwards by the caller.
    """
    hosts = {host_of(url) for url in urls}

    def read() -> set[str]:
        found = set(_named_by_manifests(store))
        for url in sorted({*urls, *owners_in(store)}):
            token = token_for(url, os.environ, named=host_of(url) in hosts)
            place = scratch / hashlib.sha256(url.encode()).hexdigest()[:32]
            try:
                found |= set(_named_by_branches(store, url, place, token))
            except RemoteError as error:
                kept = token is None and token_for(url, os.environ) is not None
                why = f" {TOKENS[0]} is sent to no server that only the store names; add --git {url}." if kept else ""
                raise type(error)(f"{url} cannot be read: {error}{why} Nothing was deleted.", error.reason) from error
        return found

    return read


def _named_by_manifests(store: Remote) -> Iterator[str]:
    """The objects that the manifests of the store name.

    Raises:
        CorruptCheckpoint: one was changed after it was written; what it has named is not known.
        RemoteRefused: one names an object that is not there, which the gate had seen.
    """
    present = {entry.name for entry in store.list(OBJECTS[0])}
    for entry in store.list(f"{manifest.FOLDER}/"):
        where, name = store.address(entry.name), entry.name.removeprefix(f"{manifest.FOLDER}/").removesuffix(".json")
        found = manifest.named(manifest.read(manifest.bounded(store, entry.name), where), name, where)
        for file in found.files:
            if file.object.startswith(OBJECTS[0]) and file.object not in present:
                _check_present(store, where, file)
            yield file.object


def _check_present(store: Remote, where: str, file: manifest.PublishedFile) -> None:
    """Raise RemoteRefused if an object is missing; some services list a new one late."""
    try:
        store.stat(file.object)
    except ObjectMissing as error:
        raise RemoteRefused(
            f"{where} names {file.object} for {file.path}, which is not there: the manifest was changed, or the object "
            "was deleted. Nothing was deleted. Publish the run again, or delete that manifest if nobody needs the "
            "publication.",
            error.reason,
        ) from error


def _named_by_branches(store: Remote, url: str, scratch: Path, token: str | None) -> Iterator[str]:
    """The objects that a pointer, in any commit that any reference of the server reaches, names.

    DVC's own pointers and pipelines count too: the store may be used by DVC alone as well.

    Raises:
        RemoteError: the server does not answer.
        CorruptCheckpoint: a pointer cannot be read.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    git = Git(scratch, {"GIT_DIR": str(scratch / "repository")}, token=token)
    if not (scratch / "repository").is_dir():
        refs = lines(Git(scratch, token=git.token).run("ls-remote", "--", url, secret=True))
        form = "sha256" if any(len(line.partition("\t")[0]) == 64 for line in refs) else "sha1"
        git.run("init", "--quiet", "--bare", "--template=", f"--object-format={form}", scratch / "repository")
    git.run(
        "fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--", url, "+refs/*:refs/*", secret=True
    )
    listings = []
    for name, where, data in _pointers(git, url):
        for found in dvc.objects_in(data, where) if name.endswith(dvc.POINTER) else _objects_in_lock(data, where):
            yield found
            if found.endswith(".dir"):
                listings.append((found, where))
    for found, where in dict(listings).items():
        try:
            yield from dvc.objects_of(manifest.bounded(store, found), store.address(found))
        except ObjectMissing as error:
            raise RemoteRefused(
                f"{where} names the folder {found}, which {store.address()} does not hold, so its files are not known. "
                "Nothing was deleted. Push that folder, or delete the reference.",
                error.reason,
            ) from error


def _pointers(git: Git, url: str) -> Iterator[tuple[str, str, bytes]]:
    """File name, place and contents of every pointer and lock of DVC that is reachable."""
    paths: dict[str, str] = {}
    for line in lines(git.run("rev-list", "--all", "--objects")):
        number, _, path = line.partition(" ")
        name = path.rpartition("/")[2]
        if (name.endswith(dvc.POINTER) and name != dvc.POINTER) or name == LOCK:
            paths[number] = path
    out = git.run("cat-file", "--batch", data="".join(f"{number}\n" for number in paths).encode())
    at = 0
    while at < len(out):
        end = out.index(b"\n", at) + 1
        number, kind, size = out[at:end].decode().split()
        at = end + int(size) + 1
        if kind == "blob":  # and no folder of such a name
            path = paths[number]
            yield path.rpartition("/")[2], f"{path} of {url}", out[end : end + int(size)]


def _objects_in_lock(data: bytes, where: str) -> list[str]:
    """The objects that the lock of a pipeline of DVC names; raises CorruptCheckpoint when it is none."""
    if len(data) > _LARGEST:
        raise CorruptCheckpoint(f"{where} has more than {_LARGEST} bytes; it is no lock of DVC.")
    try:
        stages = (yaml.safe_load(data) or {}).get("stages", {}).values()
        outs = [out for stage in stages for kind in ("deps", "outs") for out in stage.get(kind, [])]
        return [dvc.object_name(str(out["md5"])) for out in outs if "md5" in out]
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} is no lock of DVC ({type(error).__name__}).") from error
