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
from collections.abc import Mapping
from pathlib import PurePosixPath

import yaml

from outlast.errors import CorruptCheckpoint, UsageError
from outlast.publish.plan import PlannedFile

POINTER = ".dvc"
"""Ending of a pointer's name."""

CONFIG = ".dvc/config"

IGNORED = b"/config.local\n/tmp\n/cache\n"
"""`.dvc/.gitignore`, as `dvc init` writes it."""

_SCHEMES = {"file": "", "s3": "s3", "gs": "gs", "sftp": "ssh"}
"""Scheme of an address of ours -> DVC's own."""

_OPTIONS = {"endpoint": "endpointurl", "region": "region"}
"""Option of an address of S3 -> DVC's own."""

_LARGEST = 2**24


def object_name(md5: str) -> str:
    """The name of an object in a DVC remote, by its MD5, which ends with ".dir" for a folder."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def pointer(file: PlannedFile, remote: str) -> bytes:
    """The pointer to a file: `dvc pull` gets it from the remote of this name."""
    name = PurePosixPath(file.path).name
    out = {"md5": file.md5, "size": file.size, "hash": "md5", "path": name, "remote": remote}
    return yaml.safe_dump({"outs": [out]}, sort_keys=False, allow_unicode=True, width=10_000).encode()


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


def remote_settings(address: str) -> dict[str, str]:
    """What DVC's configuration says of a store of ours: its URL, and the endpoint and region of S3.

    Raises:
        UsageError: DVC cannot read such a store.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        return {"url": address}
    if scheme not in _SCHEMES:
        raise UsageError(
            f"--store is {address}, which DVC cannot read; expected a folder, s3://, gs:// or sftp://. Without git, "
            f"every store works: --to {address}"
        )
    place, _, query = rest.partition("?")
    if scheme == "sftp" and "/~" in place:
        raise UsageError(f"--store is {address}; DVC knows no home folder. Give the whole path: sftp://HOST/FOLDER")
    url = f"{_SCHEMES[scheme]}://{place}" if _SCHEMES[scheme] else place
    options = dict(option.partition("=")[::2] for option in query.split("&"))
    return {"url": url, **{_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS}}


def advice(address: str) -> list[str]:
    """What a person who pulls must set, because DVC's configuration has no word for it."""
    if "path_style=true" not in address.partition("?")[2].split("&"):
        return []
    words = "DVC takes path_style from the file of AWS alone. Whoever pulls needs: aws configure set "
    return [f"{words}default.s3.addressing_style path"]


def with_remote(config: bytes, settings: Mapping[str, str]) -> tuple[bytes, str]:
    """`.dvc/config` with a remote of these settings that verifies what it pulls; everything else in it stays.

    Args:
        config: what the base commit has; empty when it has none.
        settings: of the remote, as `remote_settings` makes them.

    Returns:
        The new contents, and the name of the remote in it.

    Raises:
        UsageError: the base's `.dvc/config` cannot be read, or a setting cannot be written in one.
    """
    for value in settings.values():
        if any(ord(char) < 32 for char in value) or value != value.strip():
            raise UsageError(
                f"--store is {value!r}; DVC's configuration cannot hold control characters or such blanks."
            )
    try:
        text = config.decode()
        parser = configparser.RawConfigParser(strict=False)
        parser.read_file(io.StringIO("\n".join(line.strip() for line in text.splitlines())))
    except (UnicodeDecodeError, configparser.Error) as error:
        raise UsageError(f"{CONFIG} of the base commit cannot be read: {str(error).splitlines()[0]}") from error
    wanted = {**settings, "verify": "true"}
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
    for name in ("outlast", *(f"outlast-{digest}{ending}" for ending in ("", "-2", "-3"))):
        found = [each for each in parser.sections() if _is_remote(each, name)]
        if found and all(_says(parser, each, wanted) for each in found):
            return config, name
        if not found:  # one of the user's own is not changed, and a second of its name DVC cannot read
            break
    if text and not text.endswith("\n"):
        text += "\n"
    if not parser.has_option("core", "remote") and not parser.has_section("core"):
        text += f"[core]\n    remote = {name}\n"
    text += f"['remote \"{name}\"']\n" + "".join(f"    {key} = {value}\n" for key, value in wanted.items())
    return text.encode(), name


def _is_remote(section: str, name: str) -> bool:
    return section.strip("'") == f'remote "{name}"'


def _says(parser: configparser.RawConfigParser, section: str, settings: Mapping[str, str]) -> bool:
    """Whether a section has these settings."""
    return all(parser.get(section, key, fallback="").strip("'\"") == value for key, value in settings.items())
