"""The round trip of a packed state. It is tested before the state is saved for the first time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from outlast.errors import StateError
from outlast.state.array import Array
from outlast.state.compare import differences
from outlast.state.tree import Decoder, Encoder

_TRIED_WHOLE = 2**16  # bytes; only larger arrays are replaced by one element


def try_way_back(part: str, packed: tuple[Any, Mapping[str, Array]]) -> None:
    """Write a packed state as JSON, rebuild it, pack it again, and compare. No state is saved that cannot be restored.

    Raises:
        StateError: a value is not restored as it was. The message names it.
    """
    try:
        text = json.dumps(packed[0], ensure_ascii=False, allow_nan=False)
        text.encode()
        node = json.loads(text)
        arrays = dict(packed[1])
        node = _sampled(node, arrays)
        encoder = Encoder(part)
        again = encoder.encode(Decoder(part, arrays).decode(node))
    except StateError:
        raise
    except Exception as error:
        raise StateError(
            f"{part} cannot be saved: its state does not come back ({type(error).__name__}: {error})."
        ) from error
    found = differences(part, (node, arrays), (again, encoder.arrays)).found
    if found:
        raise StateError(f"{part} cannot be saved: its state comes back as something else. {found[0]}")


def _sampled(node: Any, arrays: dict[str, Array]) -> Any:
    """The same JSON with one element of each large array, because the round trip depends only on an array's type."""
    if isinstance(node, list):
        return [_sampled(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    if "$array" not in node:
        return {key: _sampled(child, arrays) for key, child in node.items()}
    array = arrays[node["$array"]]
    if array.shard is not None or (array.nbytes > _TRIED_WHOLE and len(array.shape)):
        arrays[node["$array"]] = array = _one_element(array, keeps_last="dtype" in node or "key" in node)
    if array.live is None:
        return {key: value for key, value in node.items() if key not in ("stride", "layout")}
    return node


def _one_element(array: Array, *, keeps_last: bool) -> Array:
    """An array of the same type with one element, which is zero. An empty array stays empty.

    Args:
        array: the array.
        keeps_last: whether the last dimension belongs to the element.
    """
    if not array.nbytes:
        return Array(array.dtype, array.shape, b"")
    shape = tuple(1 for _ in array.shape)
    if keeps_last:
        shape = (*shape[:-1], array.shape[-1])
    return Array(array.dtype, shape, bytes(array.nbytes * math.prod(shape) // math.prod(array.shape)))
