"""The one atomic write."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path

import pytest
import xxhash
from tests import messages

from outlast.errors import CorruptCheckpoint, UsageError
from outlast.folder import copying, durable, hashing, layout, reading


def test_it_hashes_and_counts_what_it_writes(tmp_path: Path) -> None:
    pieces = [b"a" * 10, memoryview(b"b" * hashing.CHUNK), b"", bytearray(b"c")]
    written = durable.write_file(tmp_path / "x", pieces)
    data = (tmp_path / "x").read_bytes()
    assert written.size == len(data) == hashing.CHUNK + 11
    assert written.xxh3_128 == tuple(
        xxhash.xxh3_128_hexdigest(data[start : start + hashing.CHUNK]) for start in (0, hashing.CHUNK)
    )
    assert os.listdir(tmp_path) == ["x"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "x", [b"old"])

    def pieces():
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        durable.write_file(tmp_path / "x", pieces())
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_disk_that_keeps_less_than_it_took_is_an_error(tmp_path: Path, monkeypatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:-1]) + 1)
    with messages.raises(OSError, "folder/kept-less", wrote=5, kept=4):
        durable.write_file(tmp_path / "x", [b"12345"])
    assert os.listdir(tmp_path) == []


KEYS = ["a", "ü", '"\n"', "", "x: y", 1, 2.5, True, None]
VALUES = [1, -2, 2**70, 1.5, 1e300, -0.0, True, False, None, "é\x00\x7f", "", "a,\n b: {}", [], {}, (), list(range(40))]


def test_json_has_the_bytes_that_the_json_module_gives() -> None:
    chance = random.Random(0)

    def value(depth: int = 0) -> object:
        if depth < 5 and chance.random() < 0.5:
            items = [value(depth + 1) for _ in range(chance.randrange(20 if chance.random() < 0.2 else 4))]
            return items if chance.random() < 0.5 else {chance.choice(KEYS): each for each in items}
        return chance.choice(VALUES)

    for _ in range(1000):
        made = {"value": value()}
        expected = json.dumps(made, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        assert durable.as_json(made) == expected.encode()


@pytest.mark.parametrize("bad", [math.nan, [math.inf], [1.0, *range(40), math.nan], {math.nan: 1}])
def test_json_that_nobody_could_read_is_not_written(bad) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        durable.as_json({"value": bad})


@pytest.mark.parametrize("text", ["{", "[1]", "\xff\xfe", "[" * 100_000])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptCheckpoint, match=r"x\.json"):
        reading.read_json(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 101, "-rf"])
def test_names_that_no_folder_should_have(name: str) -> None:
    with messages.raises(UsageError, "folder/cannot-name-a-run", name=repr(name)):
        layout.check_run_id(name)


def test_removing_a_folder_takes_the_manifest_first(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "step-00000001"
    folder.mkdir()
    for name in ("a", "MANIFEST.json", "z"):
        (folder / name).write_text("")
    removed: list[str] = []
    real = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path, **more: (removed.append(Path(path).name), real(path, **more)))
    monkeypatch.setattr(durable, "sync_folder", lambda path: removed.append(f"durable: {path.name}"))
    durable.remove_folder(folder)
    assert removed == ["MANIFEST.json", "durable: step-00000001", "a", "z"]
    assert not folder.exists()


def test_a_file_that_grows_while_it_is_copied_is_copied_as_long_as_it_was(tmp_path: Path, monkeypatch) -> None:
    """As the journal of a run that goes on elsewhere, which is not copied half a line too long, nor for ever."""
    source = tmp_path / "x"
    source.write_bytes(b"before")
    real = durable.write_file

    def write_file(path: Path, pieces, **more):
        with source.open("ab") as file:
            file.write(b" and after")
        return real(path, pieces, **more)

    monkeypatch.setattr(durable, "write_file", write_file)
    copying.copy_file(source, tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"before"
