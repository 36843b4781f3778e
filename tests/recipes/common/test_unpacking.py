"""An archive of a stranger: what it may make, and what refuses all of it."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

import outlast
from outlast_recipes.common import unpacking
from outlast_recipes.common.unpacking import unpack
from tests import messages

MOST = 10**7
CONTENT = b"content " * 1000


def zipped(path: Path, *names: str, content: bytes = CONTENT, mode: int = 0, **more: object) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is
            info.external_attr = mode << 16
            made.writestr(info, content)
    return path


def tarred(path: Path, *infos: tarfile.TarInfo | str, content: bytes = CONTENT) -> Path:
    kind = {".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, kind) as made:  # type: ignore[call-overload]
        for each in infos:
            info = tarfile.TarInfo(each) if isinstance(each, str) else each
            if info.isreg():
                info.size = len(content)
            made.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def refuse(archive: Path, tmp_path: Path, match: str, most: int = MOST) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(outlast.DataError, match=match):
        unpack(archive, tmp_path / "out", most=most)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left"


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.xz", "a.tar.bz2"])
def test_files_and_folders_are_made(tmp_path: Path, name: str) -> None:
    make = zipped if name.endswith(".zip") else tarred
    archive = make(tmp_path / name, "top.txt", "a/b/c.txt", "./d/./e.txt", "ü.txt")
    assert unpacking.is_archive(name)
    assert unpack(archive, tmp_path / "new/out", most=MOST) == 4
    out = tmp_path / "new/out"
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["a/b/c.txt", "d/e.txt", "top.txt", "ü.txt"]
    assert all((out / each).read_bytes() == CONTENT for each in found)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "a\\..\\x",
        "C:/x",
        "C:x",
        "a/..",
        "nul",
        "a/COM1.txt",
        "x.",
        "x ",
        "a\nb",
        "y" * 250,
        "/".join("y" * 101),
    ],
)
def test_paths_that_are_none_refuse_all_of_it(tmp_path: Path, make: object, name: str) -> None:
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar"), "good.txt", name)  # type: ignore[operator]
    refuse(archive, tmp_path, "is no path below a folder")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_without_a_file_is_refused(tmp_path: Path, make: object) -> None:
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar"))  # type: ignore[operator]
    refuse(archive, tmp_path, "holds no file")


@pytest.mark.parametrize(
    "info",
    [
        special("l", tarfile.SYMTYPE, "/etc/passwd"),
        special("l", tarfile.LNKTYPE, "good.txt"),
        special("f", tarfile.FIFOTYPE),
        special("d", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_refuse_a_tar(tmp_path: Path, info: tarfile.TarInfo) -> None:
    refuse(tarred(tmp_path / "a.tar", "good.txt", info), tmp_path, "expected files and folders alone")


def test_links_refuse_a_zip(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", "l", content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    refuse(archive, tmp_path, "'l' is a link")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "a")])
def test_names_that_collide_refuse_it(tmp_path: Path, names: tuple[str, str]) -> None:
    refuse(tarred(tmp_path / "a.tar", *names), tmp_path, "collides with another")


def test_more_than_is_allowed_refuses_it(tmp_path: Path) -> None:
    refuse(tarred(tmp_path / "a.tgz", "a", "b"), tmp_path, "larger than --most", most=len(CONTENT) + 5)
    refuse(zipped(tmp_path / "a.zip", "a", "b"), tmp_path, "states 16,000 bytes, more than the 8,005", most=8005)


def test_a_bomb_that_states_a_small_size_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", "a", content=bytes(5_000_000))
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (1000).to_bytes(4, "little")
    archive.write_bytes(data)
    refuse(archive, tmp_path, "a.zip")


def test_a_file_that_is_shorter_than_is_stated_refuses_it(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", "a", "b")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (9000).to_bytes(4, "little")
    archive.write_bytes(data)
    refuse(archive, tmp_path, "'a' has 8,000 bytes, and 9,000 are stated for it")


def test_it_is_unpacked_on_the_disk_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking.tempfile, "tempdir", str(tmp_path / "another disk"))
    assert unpack(zipped(tmp_path / "a.zip", "a"), tmp_path / "out", most=MOST) == 1


def test_a_link_in_place_of_the_folder_is_left_as_it_is(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", "a")
    (tmp_path / "elsewhere").mkdir()
    for target in ("elsewhere", "nowhere"):
        (tmp_path / "out").symlink_to(tmp_path / target)
        with messages.raises(outlast.DataError, "unpack/not-empty"):
            unpack(archive, tmp_path / "out", most=MOST)
        (tmp_path / "out").unlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_header_as_large_as_memory_is_not_read(tmp_path: Path) -> None:
    info = special("x", tarfile.GNUTYPE_LONGNAME)
    archive = tmp_path / "a.tar"
    info.size = 10**10
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    refuse(archive, tmp_path, "header of 10,000,000,\\d+ bytes|has a header of")


def test_too_many_files_refuse_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_FILES", 2)
    refuse(tarred(tmp_path / "a.tar", "a", "b", "c"), tmp_path, "one of more than 2 files")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, name: str, damage: str) -> None:
    content = os.urandom(50_000)
    archive = (zipped if name.endswith(".zip") else tarred)(tmp_path / name, "a", "b", content=content)
    data = archive.read_bytes()
    archive.write_bytes({"cut": data[: len(data) // 2], "other": b"no archive" * 1000, "empty": b""}[damage])
    refuse(archive, tmp_path, "cannot be unpacked|bytes, and|are stated")


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with messages.raises(outlast.DataError, "unpack/not-empty"):
        unpack(archive, tmp_path / "out", most=MOST)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_progress_counts_bytes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    unpack(zipped(tmp_path / "a.zip", "a", "b"), tmp_path / "out", most=MOST, progress=lambda *n: told.append(n))
    assert told == [(8000, 16000), (16000, 16000)]
