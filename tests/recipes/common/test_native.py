"""C sources compiled on this machine: once, kept for the next process, and in words why not."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from outlast_recipes.common import native

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(native, "_asked", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "three.c"
    made.write_text("int three(void) { return 3; }\n")
    return made


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.so"))


def test_compiled_once_and_kept(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = native.library(source)
    assert isinstance(found, ctypes.CDLL)
    assert found.three() == 3
    [one] = kept(tmp_path)
    assert native.how(source) in one.name
    monkeypatch.setattr(native, "_asked", {})  # as in the next process
    before = one.stat().st_mtime_ns
    assert isinstance(native.library(source), ctypes.CDLL)
    assert [each.stat().st_mtime_ns for each in kept(tmp_path)] == [before]


def test_another_source_is_compiled_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = native.how(source)
    source.write_text("int three(void) { return 4; }\n")
    monkeypatch.setattr(native, "_asked", {})
    assert native.library(source).three() == 4
    assert native.how(source) != before
    assert len(kept(tmp_path)) == 2


def test_what_is_damaged_is_compiled_anew(source: Path, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from outlast_recipes.common import native; "
        "assert native.library(pathlib.Path(sys.argv[1])).three() == 3"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(source)], check=True, timeout=120)
        [one] = kept(tmp_path)
        assert one.stat().st_size > 100
        one.write_bytes(b"torn")


def test_nothing_is_taken_from_a_folder_that_others_may_write(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "outlast" / "native"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert isinstance(native.library(source), ctypes.CDLL)
    assert kept(tmp_path) == []


def test_words_without_a_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert native.library(source) == "no C compiler was found (cc, gcc, clang)"
    assert native.how(source) == "not compiled"


def test_words_of_a_compiler_that_fails(source: Path) -> None:
    source.write_text("no C at all\n")
    found = native.library(source)
    assert isinstance(found, str)
    assert "did not compile three.c: " in found
    assert native.how(source) == "not compiled"
