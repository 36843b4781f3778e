"""The safetensors format: named arrays in one file that any reader opens.

Written here rather than by the safetensors library because every byte has to pass through one atomic, hashed write
(docs/decisions/0002-dependencies.md); the tests read our files with that library and its files with ours.
Source: https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.files import Buffer
from outlast.state.array import Array

ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per element of each dtype code that this file knows."""

_ALIGNMENT = 64  # where the data begins; arrays of a multiple of it come first, so that they all lie on such addresses
_HEADER_LIMIT = 100_000_000  # the format's own limit, bytes


class Layout:
    """Where everything of a safetensors file lies; it depends on the names, dtypes and shapes alone.

    Args:
        arrays: name -> array.
        metadata: texts for the header.

    Attributes:
        header: the bytes before the data.
        offsets: name -> where in the file its bytes begin, in file order.
        size: of the file, in bytes.
    """

    def __init__(self, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
        # Larger items first, as the format's own library does, so that every array starts at a multiple of its item size.
        order = sorted(
            arrays, key=lambda name: (arrays[name].nbytes % _ALIGNMENT > 0, -ITEM_BITS[arrays[name].dtype], name)
        )
        entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        offsets, offset = {}, 0
        for name in order:
            array = arrays[name]
            offsets[name] = offset
            entries[name] = {
                "dtype": array.dtype,
                "shape": list(array.shape),
                "data_offsets": [offset, offset + array.nbytes],
            }
            offset += array.nbytes
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        self.header = len(text).to_bytes(8, "little") + text
        self.offsets = {name: len(self.header) + start for name, start in offsets.items()}
        self.size = len(self.header) + offset


def encode(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """Yield the pieces of a safetensors file, header first."""
    layout = Layout(arrays, metadata)
    yield layout.header
    for name in layout.offsets:
        if arrays[name].nbytes:
            yield arrays[name].data


def decode(data: Buffer, path: Path) -> dict[str, Array]:
    """Return the arrays of a safetensors file as views into data; nothing is copied.

    Args:
        data: the whole file.
        path: its name, for messages.

    Raises:
        CorruptCheckpoint: the header does not describe the bytes that follow it.
    """
    view = memoryview(data)
    length = int.from_bytes(view[:8], "little") if len(view) >= 8 else -1
    if not 2 <= length <= min(_HEADER_LIMIT, len(view) - 8):
        raise CorruptCheckpoint(f"{path} does not begin with a safetensors header.")
    try:
        header = json.loads(bytes(view[8 : 8 + length]))
        header.pop("__metadata__", None)
        body = view[8 + length :]
        arrays = {name: _array(entry, body) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} has a safetensors header that cannot be read ({error}).") from error
    if sum(array.nbytes for array in arrays.values()) != len(body):
        raise CorruptCheckpoint(f"{path} holds {len(body)} bytes of data, not the number that its header states.")
    return arrays


def _array(entry: Mapping[str, Any], body: memoryview) -> Array:
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, end)):
        raise ValueError("a shape or offset is not a whole number")
    expected = math.prod(shape) * ITEM_BITS[dtype] // 8
    if end - start != expected or end > len(body):
        raise ValueError(f"an array of {expected} bytes is given {end - start}")
    return Array(dtype, shape, body[start:end])
