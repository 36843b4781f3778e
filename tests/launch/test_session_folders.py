"""The log of a session in a folder while it grows, and the wait for its end."""

from __future__ import annotations

import io
import os
import py_compile
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from outlast.folder import records
from outlast.launch import sessionfolders
from outlast.launch.bundle import Bundle
from outlast.launch.provider import Handle, Request, State, Terms
from outlast.launch.sessionfolders import FolderProvider, lines


def test_a_line_that_is_still_written_is_not_shown(tmp_path: Path) -> None:
    place, position = tmp_path / "log.txt", [0]
    assert list(lines(place, position, over=True)) == []
    place.write_text("one\ntw")
    assert list(lines(place, position, over=False)) == ["one"]
    assert list(lines(place, position, over=False)) == []
    with place.open("a") as file:
        file.write("o\nthree")
    assert list(lines(place, position, over=False)) == ["two"]
    assert list(lines(place, position, over=True)) == ["three"]
    assert position == [13]


def test_a_line_without_end_is_shown_in_pieces(tmp_path: Path) -> None:
    place, position = tmp_path / "log.txt", [0]
    place.write_bytes(b"x" * (2**16 + 5) + b"\xff")
    found = list(lines(place, position, over=False))
    assert [len(each) for each in found] == [2**16]
    assert list(lines(place, position, over=True)) == ["x" * 5 + "\ufffd"]
    (tmp_path / "link").symlink_to(place)
    assert list(lines(tmp_path / "link", [0], over=True)) == [], "a log is no link"


def test_an_end_is_seen_before_the_next_query(tmp_path: Path) -> None:
    threading.Timer(0.3, lambda: (tmp_path / "end.json").write_text("{}")).start()
    began = time.monotonic()
    sessionfolders._wait_for_end(tmp_path, 30.0)
    assert 0.2 < time.monotonic() - began < 10
    began = time.monotonic()
    sessionfolders._wait_for_end(tmp_path, 0.4)  # an end that does not count yet
    assert time.monotonic() - began >= 0.4


def test_a_training_that_has_said_its_exit_code_is_looked_at_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks(seconds: float) -> list[float]:
        waited: list[float] = []
        now = iter(range(1000))
        monkeypatch.setattr(sessionfolders.time, "monotonic", lambda: float(next(now)))
        monkeypatch.setattr(sessionfolders.time, "sleep", waited.append)
        sessionfolders._wait_for_end(tmp_path, seconds)
        monkeypatch.undo()
        return waited

    assert looks(3.0) == [0.5, 0.5]
    (tmp_path / "exit").write_text("75")
    assert looks(3.0) == [0.02, 0.02]
    os.utime(tmp_path / "exit", (1, 1))  # of a process that does not end
    assert looks(3.0) == [0.5, 0.5]
    (tmp_path / "exit").write_text("75")
    (tmp_path / "end.json").write_text("{}")  # an end that does not count yet
    assert looks(3.0) == [0.5, 0.5]


class Sessions(FolderProvider):
    """Sessions whose state a test says."""

    title, looks, now = "a test", (0.0, 1.0), State("running")

    def state(self, handle: Handle) -> State | None:
        return self.now


def test_the_files_of_a_session_that_runs_are_neither_given_nor_deleted(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, records.table())
    for name in ("work", "code", "inputs"):
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / "file").write_text("kept")
    sessions.clear({"session": "s"})
    assert list(sessions.outputs({"session": "s"})) == []
    assert (tmp_path / "s/work/file").read_text() == "kept"
    sessions.now = State("completed")
    assert [each.name for each in sessions.outputs({"session": "s"})] == ["file"]
    sessions.clear({"session": "s"})
    assert not (tmp_path / "s/work").exists()


PACKED = {
    "outlast/a.py": "x = 1\n",
    "outlast/run/b.py": "y = 2\n",
    "outlast_recipes/c.py": "",
    "recipe/r.py": "z = 3\n",
}


def packed(contents: dict[str, str]) -> Bundle:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return Bundle(data.getvalue(), tuple(contents))


def shared(one: Path, other: Path) -> set[str]:
    """The files that are the same ones in both folders, and compiled ones by their folder."""
    return {
        str(path.relative_to(one))
        for path in one.rglob("*")
        if path.is_file() and (other / path.relative_to(one)).is_file() and path.samefile(other / path.relative_to(one))
    }


def test_the_code_of_outlast_is_shared_with_the_session_before_and_that_of_the_user_is_not(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "123")
    sessionfolders._unpack(packed(PACKED), first, None)
    for name in ("outlast/a.py", "outlast/run/b.py", "recipe/r.py"):
        py_compile.compile(str(first / name))
    (first / "outlast/__pycache__/strange.txt").write_text("")
    sessionfolders._unpack(packed(PACKED), second, first)
    compiled = {f"outlast/{name}" for name in ("__pycache__/a.cpython-311.pyc", "run/__pycache__/b.cpython-311.pyc")}
    compiled = {name.replace("cpython-311", sys.implementation.cache_tag) for name in compiled}
    assert shared(first, second) == compiled | {name for name in PACKED if name.startswith("outlast")}
    assert not (second / "recipe/__pycache__").exists()
    (second / "outlast/a.py").write_text("x = 9\n")  # of the same size, by whoever looks into a session
    sessionfolders._unpack(packed(PACKED), third, second)
    assert (third / "outlast/a.py").read_text() == "x = 1\n"
    assert shared(second, third) == shared(first, second) - {"outlast/a.py"}
    assert {name: (third / name).read_text() for name in PACKED} == PACKED


def test_what_python_compiled_of_shared_code_is_used(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    contents = {"outlast/__init__.py": "", "outlast/a.py": "x = 1\n"}
    ask = [sys.executable, "-v", "-c", "import outlast.a"]
    told = []
    for folder, before in ((first, None), (second, first)):
        sessionfolders._unpack(packed(contents), folder, before)
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
        told.append(subprocess.run(ask, env=environment, cwd=folder, capture_output=True, text=True, check=True).stderr)
    assert [re.search(r"code object from .*outlast/a\.py", each) is not None for each in told] == [True, False]
    assert re.search(r"matches .*2/outlast/a\.py", told[1])


@pytest.mark.parametrize("gone", ["links", "code", "a file"])
def test_code_that_cannot_be_shared_is_unpacked(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    sessionfolders._unpack(packed(PACKED), first, None)
    py_compile.compile(str(first / "outlast/a.py"))
    if gone == "links":

        def refused(*_: object, **__: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
    elif gone == "code":
        shutil.rmtree(first)
    else:
        (first / "outlast/a.py").unlink()
        (first / "outlast/a.py").symlink_to(first / "outlast/run/b.py")
    sessionfolders._unpack(packed(PACKED), second, first)
    assert {name: (second / name).read_text() for name in PACKED} == PACKED
    assert not (second / "outlast/a.py").is_symlink()


def test_only_the_same_bundle_is_shared(tmp_path: Path) -> None:
    sessions = sessionfolders.SessionFolders(tmp_path, "a test", records.table())

    def create(name: str, bundle: Bundle, after: str) -> Path:
        handle = {"session": after} if after else None
        asked = Request(name, "r", bundle, {"budget": 1}, Terms(), after=handle)
        return sessions.create({"session": name}, asked, {"cwd": "."}) / "code"

    one = create("one", packed(PACKED), "")
    two = create("two", packed(PACKED), "one")
    other = create("other", packed({**PACKED, "recipe/r.py": "z = 4\n"}), "two")
    assert "outlast/a.py" in shared(one, two)
    assert shared(two, other) == set()
    (tmp_path / "two/session.json").write_text("{")
    assert shared(two, create("last", packed(PACKED), "two")) == set()
