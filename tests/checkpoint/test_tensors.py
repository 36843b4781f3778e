"""Our safetensors files are anybody's: read by the format's own library, and its files read by us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from outlast.checkpoint import tensors
from outlast.errors import CorruptCheckpoint
from outlast.state import pack_value, unpack_value

TENSORS = {
    "a": torch.arange(5, dtype=torch.int8), "bf": torch.randn(3, 2).bfloat16(),
    "f8": torch.ones(3).to(torch.float8_e4m3fn), "empty": torch.empty(0, 3),
    "scalar": torch.tensor(2.5, dtype=torch.float64), "c": torch.ones(2, dtype=torch.complex64), "é/x": torch.ones(1),
}  # fmt: skip


def encoded(value) -> tuple[object, bytes]:
    node, arrays = pack_value("model", value)
    return node, b"".join(bytes(piece) for piece in tensors.encode(arrays, {"format": "pt"}))


def test_the_library_reads_ours() -> None:
    read = safetensors.torch.load(encoded(TENSORS)[1])
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_we_read_the_librarys() -> None:
    node, _ = encoded(TENSORS)
    arrays = tensors.decode(safetensors.torch.save(TENSORS, {"by": "them"}), Path("x.safetensors"))
    back = unpack_value("model", node, arrays)
    assert all(
        torch.equal(back[n].reshape(-1).view(torch.uint8), t.reshape(-1).view(torch.uint8)) for n, t in TENSORS.items()
    )


def test_arrays_are_aligned() -> None:
    _, data = encoded(TENSORS)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    for name, entry in header.items():
        if name != "__metadata__" and entry["data_offsets"][0] != entry["data_offsets"][1]:
            size = tensors.ITEM_BITS[entry["dtype"]] // 8
            assert entry["data_offsets"][0] % min(size, 8) == 0, name


def header(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"short", (10**9).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"{{{{", header(x={"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}),
        header(x={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
        header(x={"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}),
        header(x={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),
        header(x={"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}), header(x=3),
        header(x={"dtype": "U8", "shape": "ab", "data_offsets": [0, 2]}),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"x\.safetensors"):
        tensors.decode(data, Path("x.safetensors"))
