"""DVC's file format, version 3: pointers, listings of folders, the configuration. DVC itself is not used.

    files/md5/ab/cdef...       in the store: contents, named by their MD5
    files/md5/ab/cdef....dir   the same for a folder: a JSON list of MD5 and relative path
    weights/last.safetensors.dvc, weights/.gitignore, .dvc/config, .dvc/.gitignore   in the branch

Source: dvc 3.67.1 and dvc-data 3.18, held by tests/publish/test_real_dvc.py.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import yaml

from outlast.errors import CorruptCheckpoint, UsageError
from outlast.publish.plan import PlannedFile, slug

POINTER = ".dvc"
"""Ending of a pointer's name."""

CONFIG = ".dvc/config"

IGNORED = b"/config.local\n/tmp\n/cache\n"
"""`.dvc/.gitignore`, as `dvc init` writes it."""

_SCHEMES = {"file": "", "s3": "s3", "gs": "gs", "sftp": "ssh"}
"""Scheme of an address of ours -> DVC's own."""

_LARGEST = 2**24


def object_name(md5: str) -> str:
    """The name of an object in a DVC remote, by its MD5, which ends with ".dir" for a folder."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def pointer(file: PlannedFile, remote: str) -> bytes:
    """The pointer to a file: `dvc pull` gets it from the remote of this name."""
    return _pointer({"md5": file.md5, "size": file.size}, PurePosixPath(file.path).name, remote)


def folder_pointer(name: str, listing: bytes, files: Iterable[PlannedFile], remote: str) -> bytes:
    """The pointer to a folder, whose listing `listing_of` has made."""
    files = list(files)
    out = {"md5": md5_of_listing(listing), "size": sum(file.size for file in files), "nfiles": len(files)}
    return _pointer(out, name, remote)


def _pointer(about: Mapping[str, object], name: str, remote: str) -> bytes:
    out = {**about, "hash": "md5", "path": name, "remote": remote}
    return yaml.safe_dump({"outs": [out]}, sort_keys=False, allow_unicode=True, width=10_000).encode()


def listing_of(files: Mapping[str, PlannedFile]) -> bytes:
    """The object that names the files of a folder: by relative path, in DVC's own spelling of JSON.

    Another spelling has another hash, and DVC then takes the folder for changed, for ever.
    """
    return json.dumps([{"md5": files[path].md5, "relpath": path} for path in sorted(files)]).encode()


def md5_of_listing(listing: bytes) -> str:
    """What DVC names a listing by."""
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


def objects_in(data: bytes, where: object) -> list[str]:
    """The names of the objects that a pointer names; a listing of a folder names further ones (`objects_of`).

    Raises:
        CorruptCheckpoint: it is no pointer of DVC 3. What collects garbage must then delete nothing.
    """
    try:
        outs = yaml.safe_load(_bounded(data))["outs"]
        return [object_name(_checked(out["md5"])) for out in outs if "md5" in out]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} is no pointer of DVC ({type(error).__name__}).") from error


def objects_of(listing: bytes, where: object) -> list[str]:
    """The names of the objects that a listing of a folder names; raises CorruptCheckpoint when it is none."""
    try:
        return [object_name(_checked(entry["md5"])) for entry in json.loads(_bounded(listing))]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} is no listing of DVC ({type(error).__name__}).") from error


def _bounded(data: bytes) -> bytes:
    if len(data) > _LARGEST:
        raise ValueError(f"{len(data)} bytes")
    return data


def _checked(md5: object) -> str:
    text = str(md5)
    bare = text.removesuffix(".dir")
    if len(bare) != 32 or not set(bare) <= set("0123456789abcdef"):
        raise ValueError(text[:80])
    return text


def remote_url(address: str) -> str:
    """The URL by which DVC knows a store of ours.

    Raises:
        UsageError: DVC cannot read such a store.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        return address
    if scheme not in _SCHEMES:
        raise UsageError(
            f"--store is {address}, which DVC cannot read; expected a folder, s3://, gs:// or sftp://. Without git, "
            f"every store works: --to {address}"
        )
    return f"{_SCHEMES[scheme]}://{rest}" if _SCHEMES[scheme] else rest


def with_remote(config: bytes, url: str) -> tuple[bytes, str]:
    """`.dvc/config` with a remote of this URL that verifies what it pulls; everything else in it stays.

    Args:
        config: what the base commit has; empty when it has none.
        url: of the remote.

    Returns:
        The new contents, and the name of the remote in it.

    Raises:
        UsageError: the base's `.dvc/config` cannot be read, or the URL cannot be written in one.
    """
    if any(ord(char) < 32 for char in url) or url != url.strip():
        raise UsageError(f"--store is {url!r}; DVC's configuration cannot hold control characters or such blanks.")
    try:
        text = config.decode()
        parser = configparser.RawConfigParser(strict=False)
        parser.read_file(io.StringIO("\n".join(line.strip() for line in text.splitlines())))
    except (UnicodeDecodeError, configparser.Error) as error:
        raise UsageError(f"{CONFIG} of the base commit cannot be read: {str(error).splitlines()[0]}") from error
    name = "outlast"
    if any(_is_remote(each, name) and _value(parser, each, "url") != url for each in parser.sections()):
        name = slug(f"outlast-{hashlib.sha256(url.encode()).hexdigest()[:8]}")
    for each in parser.sections():
        if _is_remote(each, name) and _value(parser, each, "url") == url and _value(parser, each, "verify") == "true":
            return config, name
    if text and not text.endswith("\n"):
        text += "\n"
    if not parser.has_option("core", "remote") and not parser.has_section("core"):
        text += f"[core]\n    remote = {name}\n"
    text += f"['remote \"{name}\"']\n    url = {url}\n    verify = true\n"
    return text.encode(), name


def _is_remote(section: str, name: str) -> bool:
    return section.strip("'") == f'remote "{name}"'


def _value(parser: configparser.RawConfigParser, section: str, key: str) -> str:
    return parser.get(section, key, fallback="").strip("'\"")
