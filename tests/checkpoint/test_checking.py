"""A checkpoint that is only checked is read as one that is opened is: the same errors, in little memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from outlast.checkpoint import CheckpointStore, Retention, Snapshot, memory, open_checkpoint, reading, verify
from outlast.errors import CorruptCheckpoint
from outlast.folder import durable, hashing
from outlast.folder.layout import RunFolder
from outlast.state.array import Array

CHUNK = hashing.CHUNK
SIZES = (0, 1, 5, CHUNK - 200, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 2**20 + 3)


def commit(folder: Path, size: int) -> Path:
    """A checkpoint with an array of so many bytes; returns its folder."""
    durable.make_folder(folder)
    state = {"step": 1, "loop": [0, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": {}, "rng": None}
    arrays = {"model": {"w": Array("U8", (size,), (bytes(range(251)) * (size // 251 + 1))[:size])}}
    store = CheckpointStore(RunFolder(folder), Retention(last=2))
    return store.commit(Snapshot.of(1, "steps", arrays, state, {})).path


def both(path: Path) -> list[str]:
    """What opening and checking a checkpoint say."""
    found = []
    for read in (open_checkpoint, verify):
        try:
            read(path)
            found.append("")
        except CorruptCheckpoint as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("size", SIZES)
def test_what_opens_verifies_in_little_memory(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = commit(tmp_path / "r", size)
    assert both(path) == ["", ""]
    taken: list[int] = []
    real = memory.allocate
    monkeypatch.setattr(reading.memory, "allocate", lambda count: (taken.append(count), real(count))[1])
    verify(path)
    assert taken == [(path / "state.json").stat().st_size]


def flip(at: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return change


DAMAGE: dict[str, Callable[[bytearray], None]] = {
    "first": flip(0),
    "header": flip(20),
    "in the first chunk": flip(CHUNK - 1),
    "in the second": flip(CHUNK),
    "last": flip(-1),
    "short": lambda data: data.__delitem__(slice(-1, None)),
    "long": lambda data: data.extend(b"x"),
    "empty": lambda data: data.clear(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_with_the_same_words(damage: str, tmp_path: Path) -> None:
    path = commit(tmp_path / "r", CHUNK + 2**20)
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    DAMAGE[damage](data)
    file.write_bytes(data)
    opened, checked = both(path)
    assert opened == checked != ""
    assert str(file) in checked


@pytest.mark.parametrize("length", [0, 1, 7, 10**6, 2**63 - 1])
def test_a_header_that_is_wrong_from_the_beginning_is_told_with_the_same_words(length: int, tmp_path: Path) -> None:
    """Its hash is right: it was written so."""
    path = tmp_path / "f.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + b" " * 40)
    expected = hashing.hash_pieces([path.read_bytes()])
    found = []
    for read in (lambda: open_file(path, expected), lambda: reading._check([path], expected)):
        with pytest.raises(CorruptCheckpoint) as error:
            read()
        found.append(str(error.value))
    assert found[0] == found[1]


def open_file(path: Path, expected: hashing.WrittenFile) -> None:
    place, data = reading._read([path], expected)
    reading.tensors.decode(data, place)


def test_a_header_of_several_blocks_is_kept_whole(tmp_path: Path) -> None:
    arrays = {f"{number:06d}{'x' * 200}": Array("U8", (3,), b"abc") for number in range(12_000)}
    data = b"".join(bytes(piece) for piece in reading.tensors.encode(arrays))
    (tmp_path / "f.safetensors").write_bytes(data)
    expected = hashing.hash_pieces([data])
    size = reading.tensors.header_size(memoryview(data))
    assert size > 2 * 2**20
    assert hashing.check_file(tmp_path / "f.safetensors", expected, reading.tensors.header_size) == data[:size]
    _, found = reading._check([tmp_path / "f.safetensors"], expected)
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(arrays, (3,))


def test_the_second_copy_of_a_shared_file_counts(tmp_path: Path) -> None:
    data = b"".join(bytes(piece) for piece in reading.tensors.encode({"w": Array("U8", (3,), b"abc")}))
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "one").write_bytes(data[:-1])
    places, expected = [tmp_path / "one", tmp_path / "two"], hashing.hash_pieces([data])
    assert reading._check(places, expected)[1]["w"].shape == (3,)
    (tmp_path / "two").unlink()
    with pytest.raises(CorruptCheckpoint, match="two"):
        reading._check(places, expected)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = commit(tmp_path / "r", 5)
    (path / "model.safetensors").rename(tmp_path / "moved")
    (path / "model.safetensors").symlink_to(tmp_path / "moved")
    opened, checked = both(path)
    assert opened == checked != ""
