"""NumPy's arrays, scalars and random generators."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from outlast.errors import CorruptCheckpoint
from outlast.state.adapter import Adapter, Generators
from outlast.state.array import Array, FrameworkArray, Pieces, UnsupportedArray
from outlast.terminal import type_of

CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "float16": "F16", "bfloat16": "BF16",
    "uint32": "U32", "int32": "I32", "float32": "F32", "uint64": "U64", "int64": "I64", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
"""Name of a dtype of NumPy or ml_dtypes -> safetensors code. Other dtypes are stored as bytes with their name."""

_ALIGNMENT = 64

_RAW_KINDS = "fcmM"  # long floats and complex numbers, datetimes: stored as bytes with a stable name


def _matches(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | np.random.Generator | np.random.RandomState)


def _pack(value: Any) -> FrameworkArray | Pieces:
    return _take_apart(value) or to_array(value)


def to_array(value: Any) -> FrameworkArray:
    """Pack an array or NumPy scalar; raises UnsupportedArray for object, string and structured dtypes."""
    node: dict[str, Any] = {"as": "numpy"}
    if isinstance(value, np.generic):
        node["scalar"] = True
    elif type(value) is not np.ndarray:
        raise UnsupportedArray(
            f"it is {type_of(value, full=True)}, which would come back as a plain array; keep np.array(it) instead"
        )
    array = np.asarray(value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
        node["order"] = ">"
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        node["layout"] = "F"  # sums follow the memory layout, so it affects the last bits
    array = np.ascontiguousarray(array).reshape(array.shape)
    code, shape, dtype = form(array.dtype, array.shape)
    if dtype:
        node["dtype"] = dtype
    data = array.reshape(-1).view(np.uint8).data if array.size else b""
    identity = None if "scalar" in node else (value.ctypes.data, value.dtype.str, value.shape, value.strides)
    return FrameworkArray(Array(code, shape, data), node, identity if array.size else None)


def form(dtype: Any, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...], str | None]:
    """The safetensors code and shape of an array, and the name of its dtype if the format has no code for it."""
    if dtype.name in CODES:
        return CODES[dtype.name], tuple(shape), None
    if _is_plain(dtype):
        return "U8", (*shape, dtype.itemsize), dtype.name if dtype.kind not in "mM" else dtype.str
    why = "would need pickle" if dtype.hasobject else "is not supported"
    raise UnsupportedArray(f"a NumPy array of dtype {dtype} {why}")


def from_array(array: Array, node: Mapping[str, Any], _like: Any = None) -> Any:
    """Rebuild a NumPy array or scalar."""
    name = node.get("dtype") or next(name for name, code in CODES.items() if code == array.dtype)
    shape = array.shape[:-1] if "dtype" in node else array.shape
    value = np.frombuffer(array.data, dtype=np.uint8)
    if value.ctypes.data % _ALIGNMENT or not value.flags.writeable:
        value = value.copy()
    value = value.view(dtype_named(name)).reshape(shape)
    if node.get("order") == ">":
        value = value.astype(value.dtype.newbyteorder(">"))
    if node.get("layout") == "F":
        value = np.asfortranarray(value)
    return value[()] if node.get("scalar") else value


def _take_apart(value: Any) -> Pieces | None:
    """The `Pieces` of a masked array or a random generator; None for other values.

    Raises:
        UnsupportedArray: the generator's bit generator is not one of NumPy's.
    """
    if "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray):  # NumPy imports it when it is named
        if type(value) is not np.ma.MaskedArray:
            raise UnsupportedArray(f"it is {type_of(value, full=True)}; only plain masked arrays come back")
        mask = np.ma.getmask(value)
        parts = {"data": np.asarray(value.data), "fill": np.asarray(value.fill_value), "hard": bool(value.hardmask)}
        return Pieces("$numpy.masked", parts | ({} if mask is np.ma.nomask else {"mask": np.asarray(mask)}))
    if isinstance(value, np.random.Generator):
        return Pieces("$numpy.generator", {"state": _bits(value.bit_generator), **_children(value.bit_generator)})
    if isinstance(value, np.random.RandomState):
        return Pieces("$numpy.randomstate", {"state": _plain_state(value.get_state(legacy=False))})
    return None


def _bits(generator: Any) -> dict[str, Any]:
    """The state of a bit generator; raises UnsupportedArray if it is not one of NumPy's."""
    if type(generator).__name__ not in _KINDS_OF_BITS:
        raise UnsupportedArray(
            f"its bits come from a {type(generator).__qualname__}; NumPy's own are {', '.join(sorted(_KINDS_OF_BITS))}"
        )
    return _plain_state(generator.state)


def _children(generator: Any) -> dict[str, Any]:
    """The number of children that `spawn` created. The generator's `state` lacks it (NumPy 2.4).

    Without it, `spawn` in a resumed program would return the first children again.
    """
    seeds = getattr(generator, "seed_seq", None)
    if not isinstance(seeds, np.random.SeedSequence) or not seeds.n_children_spawned:
        return {}
    held = {**seeds.state, "spawn_key": list(seeds.spawn_key)}
    return {"seeds": {name: held[name] for name in ("entropy", "spawn_key", "pool_size", "n_children_spawned")}}


def _set_children(generator: Any, held: Any) -> None:
    """Give a bit generator the seed sequence that `_children` packed.

    Raises:
        CorruptCheckpoint: it is no seed sequence.
    """
    size = held.get("pool_size") if isinstance(held, Mapping) else None
    if not isinstance(size, int) or not 4 <= size <= 4096:
        raise CorruptCheckpoint(f"The checkpoint holds a seed sequence of NumPy with a pool of {size!r:.40} words.")
    try:
        made = np.random.SeedSequence(**{**held, "spawn_key": tuple(held["spawn_key"])})
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise CorruptCheckpoint(f"The checkpoint holds a malformed seed sequence of NumPy: {error}") from error
    generator.__setstate__((generator.state, made))  # as unpickling does; there is no other way to replace it
    if generator.seed_seq is not made:  # before NumPy 1.25
        raise CorruptCheckpoint(f"NumPy {np.__version__} cannot continue spawned children; use 1.25 or newer.")


def _set_bits(generator: Any, state: Mapping[str, Any]) -> None:
    """Set the state of a bit generator.

    Raises:
        CorruptCheckpoint: it is no state of this kind of generator. NumPy would not check it, and read invalid memory.
    """
    name = type(generator).__name__
    place = {"MT19937": ("state", "pos", 624), "Philox": ("", "buffer_pos", 4)}.get(name)
    if state.get("bit_generator") != name:
        raise CorruptCheckpoint(f"The checkpoint holds a state of {state.get('bit_generator')!r:.40} for a {name}.")
    if place:
        inner, key, most = place
        position = (state[inner] if inner else state).get(key)
        if not isinstance(position, int) or not 0 <= position <= most:
            raise CorruptCheckpoint(
                f"The position of a {name} in the checkpoint is {position!r:.40}; it lies between 0 and {most}."
            )
    own = _plain_state(generator.state)
    _check_like(own, state, name)
    generator.state = state


def _check_like(own: Any, theirs: Any, name: str) -> None:
    if isinstance(own, dict) and isinstance(theirs, dict) and own.keys() == theirs.keys():
        for key in own:
            _check_like(own[key], theirs[key], name)
    elif type(own) is not type(theirs) or (
        isinstance(own, np.ndarray) and (own.shape, own.dtype) != (theirs.shape, theirs.dtype)
    ):
        raise CorruptCheckpoint(f"The checkpoint holds a malformed state of a {name}.")


def _plain_state(state: Any) -> Any:
    return {key: _plain_state(item) for key, item in state.items()} if isinstance(state, Mapping) else state


_KINDS_OF_BITS = {name: getattr(np.random, name) for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")}


def _put_together(key: str, content: Mapping[str, Any]) -> Any:
    """Rebuild a value from the `Pieces` of `_take_apart`."""
    if key == "$numpy.masked":
        mask = content.get("mask", np.ma.nomask)
        return np.ma.MaskedArray(content["data"], mask, fill_value=content["fill"], hard_mask=bool(content["hard"]))
    if key == "$numpy.generator":
        state = content["state"]
        made = _KINDS_OF_BITS[state["bit_generator"]](0)
        _set_bits(made, state)
        if "seeds" in content:
            _set_children(made, content["seeds"])
        return np.random.Generator(made)
    if key == "$numpy.randomstate":
        legacy = np.random.RandomState(0)
        _set_random_state(legacy, content["state"])
        return legacy
    raise CorruptCheckpoint(f"A stored value has the form {key!r}, which this outlast does not know.")


def _set_random_state(target: Any, state: Mapping[str, Any]) -> None:
    """Set a RandomState, or np.random itself; raises CorruptCheckpoint if `state` is no state of one."""
    position = state["state"]["pos"] if "state" in state else None
    if state.get("bit_generator") != "MT19937" or not isinstance(position, int) or not 0 <= position <= 624:
        raise CorruptCheckpoint(
            f"The checkpoint holds a malformed state of NumPy's generator (position {position!r:.40})."
        )
    _check_like(_plain_state(np.random.RandomState(0).get_state(legacy=False)), dict(state), "RandomState")
    target.set_state(state)


def dtype_named(name: str) -> Any:
    """The dtype with this name; bfloat16 and the float8 types are those of ml_dtypes."""
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


def _shared() -> tuple[Any, ...]:
    return (np.random.mtrand._rand,)  # noqa: SLF001 - the generator of np.random.random() and the other functions


def _seed(seed: int) -> None:
    low, high = seed % 2**32, seed >> 32
    np.random.seed([low, high % 2**32] if high > 0 else low)


def _seed_words(words: Sequence[int]) -> None:
    np.random.seed(words[1])


def _capture() -> dict[str, Any]:
    kind, keys, position, has_gauss, cached = np.random.get_state()
    numbers = {"position": int(position), "has_gauss": int(has_gauss), "cached": float(cached)}
    return {"numpy": {"kind": kind, "keys": np.array(keys), **numbers}}


def _restore(state: Mapping[str, Any]) -> None:
    legacy = state["numpy"]
    inner = {"key": legacy["keys"], "pos": legacy["position"]}
    more = {"has_gauss": legacy["has_gauss"], "gauss": legacy["cached"]}
    _set_random_state(np.random, {"bit_generator": legacy["kind"], "state": inner, **more})


class _Restored(NamedTuple):
    """A RandomState that was set to a state here. Reading the state takes NumPy 50 µs, and comparing its memory 1."""

    generator: Any
    memory: bytes
    state: dict[str, Any]


_restored: list[_Restored] = []


def _memory(generator: Any) -> bytes:
    """What MT19937 draws from, to see whether it has drawn; empty where that cannot be read."""
    bits = generator._bit_generator  # noqa: SLF001 - public only on Generator
    return _words(bits) if type(bits) is np.random.MT19937 and _has_known_memory() else b""


def _words(bits: Any) -> bytes:
    return ctypes.string_at(bits.ctypes.state_address, 625 * 4)  # the key, and the position in it


@functools.cache
def _has_known_memory() -> bool:
    """Whether the memory of MT19937 is laid out as it was in NumPy 1.17 to 2.4, which no document promises."""
    bits = np.random.MT19937(1)
    bits.random_raw(3)
    state = bits.state["state"]
    return _words(bits) == np.append(state["key"], state["pos"]).astype(np.uint32).tobytes()


def _get_state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    for last in _restored:
        if last.generator is generator and last.memory == _memory(generator):
            return last.state
    return _quick(generator.get_state(legacy=False))


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
        return
    generator.set_state(state)
    # A normal number that is kept for the next call is not in that memory.
    memory = b"" if state["has_gauss"] else _memory(generator)
    _restored[:] = [_Restored(generator, memory, state)] if memory else []


def _quick(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same state of a RandomState with its key as a list, which NumPy 2.4 reads ten times faster than an array."""
    inner = state["state"]
    return {**state, "state": {**inner, "key": inner["key"].tolist()}} if "key" in inner else dict(state)


def _reseed(generator: Any, seed: Any) -> None:
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    else:
        fresh = type(generator._bit_generator)(seed).state  # noqa: SLF001 - public only on Generator
        generator.set_state({**generator.get_state(legacy=False), **fresh, "has_gauss": 0, "gauss": 0.0})


def _load(generator: Any, state: Mapping[str, Any]) -> None:
    if isinstance(generator, np.random.Generator):
        _set_bits(generator.bit_generator, state["state"])
        if "seeds" in state:
            _set_children(generator.bit_generator, state["seeds"])
    else:
        _set_random_state(generator, state["state"])


def _rows(value: Any) -> tuple[str, Callable[[Any], bytes]] | None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
        return None
    return value.dtype.str, lambda array: bytes(np.ascontiguousarray(array).tobytes())


ADAPTER = Adapter(
    "numpy",
    matches=_matches,
    pack=_pack,
    from_array=from_array,
    put_together=_put_together,
    generators=Generators(
        kinds=(np.random.Generator, np.random.RandomState),
        shared=_shared,
        seed=_seed,
        seed_words=_seed_words,
        capture=_capture,
        restore=_restore,
        get_state=_get_state,
        set_state=_set_state,
        reseed=_reseed,
        load=_load,
    ),
    rows=_rows,
    software=lambda: {"numpy": np.__version__},
)
