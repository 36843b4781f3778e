"""NumPy arrays and scalars <-> `Array`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from outlast.state.array import Array, CannotStore, Found

CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "float16": "F16", "bfloat16": "BF16",
    "uint32": "U32", "int32": "I32", "float32": "F32", "uint64": "U64", "int64": "I64", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
"""NumPy (and ml_dtypes) dtype name -> safetensors code. Others are stored as bytes with their name beside them."""

_ALIGNMENT = 64

_RAW_KINDS = "fcmM"  # longer floats and complex, datetimes: plain bytes under a stable name


def is_array(value: Any) -> bool:
    """Whether value is a NumPy array or scalar."""
    return isinstance(value, np.ndarray | np.generic)


def to_array(value: Any) -> Found:
    """Take an array or NumPy scalar apart; raises CannotStore for object, string and structured dtypes."""
    node: dict[str, Any] = {"as": "numpy"}
    if isinstance(value, np.generic):
        node["scalar"] = True
    array = np.asarray(value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    array = np.ascontiguousarray(array).reshape(array.shape)
    code, shape, dtype = form(array.dtype, array.shape)
    if dtype:
        node["dtype"] = dtype
    data = array.reshape(-1).view(np.uint8).data if array.size else b""
    identity = None if "scalar" in node else (value.ctypes.data, value.dtype.str, value.shape, value.strides)
    return Found(Array(code, shape, data), node, identity if array.size else None)


def form(dtype: Any, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...], str | None]:
    """The safetensors code and shape of an array, and the dtype to note beside it when the format has no code for it."""
    if dtype.name in CODES:
        return CODES[dtype.name], tuple(shape), None
    if _is_plain(dtype):
        return "U8", (*shape, dtype.itemsize), dtype.name if dtype.kind not in "mM" else dtype.str
    raise CannotStore(f"a NumPy array of dtype {dtype} would need pickle")


def from_array(array: Array, node: Mapping[str, Any]) -> Any:
    """Rebuild a NumPy array or scalar."""
    name = node.get("dtype") or next(name for name, code in CODES.items() if code == array.dtype)
    shape = array.shape[:-1] if "dtype" in node else array.shape
    value = np.frombuffer(array.data, dtype=np.uint8)
    if value.ctypes.data % _ALIGNMENT or not value.flags.writeable:
        value = value.copy()
    value = value.view(dtype_named(name)).reshape(shape)
    return value[()] if node.get("scalar") else value


def dtype_named(name: str) -> Any:
    """The dtype of a name, with bfloat16 and the float8 family from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def _is_plain(dtype: Any) -> bool:
    if dtype.kind in _RAW_KINDS and dtype.name not in ("longdouble", "clongdouble", "float128", "complex256"):
        return True
    ml_dtypes = sys.modules.get("ml_dtypes")
    return dtype.kind == "V" and dtype.fields is None and ml_dtypes is not None and hasattr(ml_dtypes, dtype.name)
