"""Pictures and films among a run's artifacts, as data URIs for a page."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import OutlastError
from outlast.folder import plain
from outlast.terminal import visible

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1aE\xdf\xa3", 0, "video/webm"),
)
_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".webm"}
_MOST = 200  # pictures of one run


@dataclass(frozen=True)
class Picture:
    """A picture or film.

    Attributes:
        name: its path below the artifacts.
        kind: its media type, from its first bytes.
        size: bytes.
        path: the file.
    """

    name: str
    kind: str
    size: int
    path: Path

    def uri(self) -> str:
        """The contents as a data URI."""
        return f"data:{self.kind};base64,{base64.b64encode(plain.read_plain(self.path, self.size)).decode()}"


def pictures_in(folder: Path) -> list[Picture]:
    """The pictures below a folder of artifacts, smallest first; links and what is no picture are left out."""
    found = []
    if plain.kind_of(folder) != "folder":
        return []
    for path in plain.plain_files(folder):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        try:
            size = path.lstat().st_size
            kind = _kind(path)
        except (OSError, OutlastError):
            continue
        if kind:
            found.append(Picture(visible(path.relative_to(folder).as_posix()), kind, size, path))
    return sorted(found, key=lambda each: (each.size, each.name))[:_MOST]


def _kind(path: Path) -> str | None:
    with os.fdopen(plain.open_plain(path), "rb") as file:
        head = file.read(16)
    return next((kind for mark, at, kind in _SIGNATURES if head[at : at + len(mark)] == mark), None)


def inlined(pictures: list[Picture], room: int) -> tuple[list[dict[str, str]], list[str]]:
    """The pictures that fit into a number of bytes, by name, and sentences about those that do not.

    Smaller ones are preferred, so that one film does not displace all pictures.
    """
    taken, told = [], []
    for picture in pictures:
        cost = picture.size * 4 // 3 + 200
        try:
            if cost <= room:
                taken.append({"name": picture.name, "kind": picture.kind, "uri": picture.uri()})
                room -= cost
            else:
                told.append(f"{picture.name} has {picture.size / 1e6:.1f} MB and does not fit into this report.")
        except (OSError, OutlastError):
            told.append(f"{picture.name} could not be read.")
    return sorted(taken, key=lambda each: each["name"]), told
