"""The safetensors format: named arrays in one file.

outlast writes it without the safetensors library, because every byte must pass through one atomic, hashed write
(docs/decisions/0002-dependencies.md). The tests read our files with that library, and its files with this module.
Source: https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outlast.checkpoint.checks import ITEM_BITS
from outlast.errors import CorruptCheckpoint
from outlast.folder import records
from outlast.folder.hashing import Buffer
from outlast.state.array import Array

_ALIGNMENT = 64  # of the data; arrays whose sizes are multiples of it come first, so that they are aligned
_HEADER_LIMIT = 100_000_000  # the format's own limit, bytes
_LENGTH = records.whole()
_HEADER = records.table(
    records.form(
        {"dtype": records.one_of(*ITEM_BITS), "shape": records.many(_LENGTH, 64), "data_offsets": records.pair(_LENGTH)}
    )
)


class Layout:
    """The layout of a safetensors file. It depends only on names, dtypes and shapes.

    Args:
        arrays: name -> array.
        metadata: texts for the header.

    Attributes:
        header: the bytes before the data.
        offsets: name -> position of the array in the file, in bytes, in file order.
        size: size of the file in bytes.
    """

    def __init__(self, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
        # Larger items first, as in the safetensors library, so that each array begins at a multiple of its item size.
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
    """Yield the contents of a safetensors file in pieces, header first."""
    layout = Layout(arrays, metadata)
    yield layout.header
    for name in layout.offsets:
        if arrays[name].nbytes:
            yield arrays[name].data


def header_size(data: memoryview) -> int:
    """Bytes of the header of a file that begins like this, as far as the format allows."""
    return 8 + min(_HEADER_LIMIT, int.from_bytes(data[:8], "little"))


def decode(data: Buffer, path: Path, *, size: int | None = None) -> dict[str, Array]:
    """Return the arrays of a safetensors file as views into `data`. Nothing is copied.

    Args:
        data: contents of the whole file; with `size`, only of its beginning, and the arrays then have no data.
        path: path of the file, for messages.
        size: size of the file in bytes; None: that of `data`.

    Raises:
        CorruptCheckpoint: the header does not match the data.
    """
    view = memoryview(data)
    size = len(view) if size is None else size
    length = int.from_bytes(view[:8], "little") if len(view) >= 8 else -1
    if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
        raise CorruptCheckpoint(f"{path} does not begin with a safetensors header.")
    header = records.parse(bytes(view[8 : 8 + length]), path)
    header.pop("__metadata__", None)
    body, left, arrays, end = view[8 + length :], size - 8 - length, {}, 0
    try:
        records.check(header, _HEADER, path)
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            arrays[name], end = _array(entry, body, left, end)
    except ValueError as error:
        raise CorruptCheckpoint(f"{path} has a safetensors header that cannot be read ({error}).") from error
    if end != left:
        raise CorruptCheckpoint(f"{path} holds {left} bytes of data, which is not the size in its header.")
    return {name: arrays[name] for name in header}


def _array(entry: Mapping[str, Any], body: memoryview, size: int, after: int) -> tuple[Array, int]:
    """One array, which must begin where the previous one ended; and its end. `size`: bytes of data in the file."""
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if math.prod(max(length, 1) for length in shape) > records.LARGEST // 8:
        raise ValueError("a shape is larger than any array")
    expected = math.prod(shape) * ITEM_BITS[dtype] // 8
    if end - start != expected or end > size:
        raise ValueError(f"an array of {expected} bytes is given {end - start}")
    if start != after:
        raise ValueError("arrays are not contiguous")
    return Array(dtype, shape, body[start:end]), end
