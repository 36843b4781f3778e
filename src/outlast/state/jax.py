"""JAX's arrays, PRNG keys and pytrees.

Imported only if the program uses JAX. JAX has no global generators: its keys are part of the state.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from outlast.errors import ResumeRefused
from outlast.state import numpy as numpy_state
from outlast.state.adapter import Adapter
from outlast.state.array import Array, FrameworkArray, LiveMemory, UnsupportedArray

try:
    # Weak types affect the promotion of arrays, and no public function creates a weakly typed array.
    from jax._src.lax.lax import _convert_element_type as _make_weak
except ImportError:
    _make_weak = None


def _is_array(value: Any) -> bool:
    """Whether a value is a jax.Array. PRNG keys are."""
    return isinstance(value, jax.Array)


class _LiveArray(LiveMemory):
    """A jax.Array never changes, but the next jitted step may reuse its buffer (donation). It is copied at once."""

    def __init__(self, value: jax.Array) -> None:
        self._value = value

    def fetch_ahead(self) -> None:
        if not self._value.is_deleted():
            self._value.copy_to_host_async()


def _to_array(value: Any) -> FrameworkArray:
    """Pack an array. Its bytes are fetched from the device when they are needed.

    Raises:
        UnsupportedArray: the array was already donated, or a block of it is on devices of other processes alone.
    """
    if value.is_deleted():
        raise UnsupportedArray(
            "its buffer was donated to a jitted function; offer the state that the function returned"
        )
    if not (value.is_fully_addressable or value.is_fully_replicated):
        raise UnsupportedArray(
            "each process holds another block of it, which this version does not save; give it a sharding that is "
            "replicated over the processes, such as NamedSharding(mesh, PartitionSpec())"
        )
    node: dict[str, Any] = {"as": "jax"}
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        node["key"] = str(jax.random.key_impl(value))
        value = jax.random.key_data(value)
    elif value.weak_type:
        node["weak"] = True
        if value.ndim and _make_weak is None:
            raise UnsupportedArray(
                "it is weakly typed, which this JAX cannot restore; give it a dtype, as in jnp.full(shape, x, dtype)"
            )
    code, shape, dtype = numpy_state.form(value.dtype, value.shape)
    if dtype:
        node["dtype"] = dtype
    size = int(value.size) * value.dtype.itemsize
    if not size:
        return FrameworkArray(Array(code, shape, b""), node)
    return FrameworkArray(
        Array(code, shape, lambda: numpy_state.to_array(np.asarray(value)).array.data, size, _LiveArray(value)), node
    )


def _from_array(array: Array, node: Mapping[str, Any], _like: Any) -> Any:
    """Rebuild an array on JAX's default device."""
    plain = {"as": "numpy"} | ({"dtype": node["dtype"]} if "dtype" in node else {})
    value = numpy_state.from_array(array, plain)
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        raise ResumeRefused(
            f"The checkpoint holds JAX arrays of {value.dtype} and this program runs without them: set "
            "JAX_ENABLE_X64=1 as it was when "
            "the run began."
        )
    if "key" in node:
        return jax.random.wrap_key_data(jax.numpy.array(value), impl=node["key"])
    if node.get("weak") and value.ndim == 0:
        return jax.numpy.asarray(value.item())  # a Python number keeps its weak type, which affects promotion
    restored = jax.numpy.array(value)  # a copy, because JAX may donate its buffers and must not donate this memory
    return _make_weak(restored, weak_type=True) if node.get("weak") and _make_weak else restored


def _place_like(value: Any, template: Any) -> Any:
    """Move a restored array to the device of the template, or to its devices in all processes."""
    if not _is_array(template):
        return value
    if template.sharding.is_fully_addressable:
        return jax.device_put(value, template.sharding)
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):  # device_put would refuse it
        data = _spread(jax.random.key_data(value), template.sharding)
        return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(value)))
    return _spread(value, template.sharding)


def _spread(value: Any, sharding: Any) -> Any:
    """An array on devices of several processes, each of which has the whole array."""
    data, weak = np.asarray(value), value.weak_type
    spread = jax.make_array_from_callback(data.shape, sharding, lambda index: data[index])
    return _make_weak(spread, weak_type=True) if weak and _make_weak else spread


def _becomes(initial: Any, later: Any) -> bool:
    """Whether jit may turn a leaf like `initial` into an array like `later`.

    A number becomes 0-d, and NumPy's float64 becomes float32.
    """
    if not _is_array(later):
        return False
    if isinstance(initial, bool | int | float | complex):
        return later.ndim == 0
    if not isinstance(initial, np.ndarray | np.generic):
        return False
    return initial.shape == later.shape and jax.dtypes.canonicalize_dtype(initial.dtype) == later.dtype


def _flatten(tree: Any) -> tuple[list[tuple[str, Any]], Callable[[list[Any]], Any]]:
    """Leaves of a pytree with their paths ("params/dense/kernel"), and a function that rebuilds it."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
    return named, lambda values: jax.tree_util.tree_unflatten(structure, values)


def _software() -> dict[str, Any]:
    """The facts on which JAX's last bits depend: version, device, threads.

    This starts JAX's backend, so it is called only in a program that trains.
    """
    device = jax.devices()[0]
    facts = {"jax": jax.__version__, "jax device": f"{device.platform} {device.device_kind} x{jax.device_count()}"}
    for name in ("jax_enable_x64", "jax_default_matmul_precision"):
        if value := getattr(jax.config, name, None):
            facts[name.replace("_", " ")] = str(value)
    if device.platform == "cpu":  # number of threads of XLA's pool
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        facts["jax threads"] = os.environ.get("NPROC") or str(own)
    return facts


def use_deterministic_kernels() -> None:
    """Make XLA use deterministic GPU kernels.

    XLA reads the flag at the first computation, and not later.
    """
    flag, given = "--xla_gpu_deterministic_ops=true", os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} {flag}".strip()


def wait() -> None:
    """Wait until all arrays of this program are computed."""
    for array in jax.live_arrays():
        with contextlib.suppress(RuntimeError):  # it was donated meanwhile
            array.block_until_ready()


def device_peaks() -> dict[str, int]:
    """Most bytes that XLA has allocated on each device; a CPU does not report it."""
    found = ((device, device.memory_stats() or {}) for device in jax.local_devices())
    return {
        f"{device.platform}:{device.id} {device.device_kind}": int(facts["peak_bytes_in_use"])
        for device, facts in found
        if "peak_bytes_in_use" in facts
    }


ADAPTER = Adapter(
    "jax",
    matches=_is_array,
    pack=_to_array,
    from_array=_from_array,
    flatten=_flatten,
    place_like=_place_like,
    becomes=_becomes,
    software=_software,
    use_deterministic_kernels=use_deterministic_kernels,
    wait=wait,
    device_peaks=device_peaks,
)
