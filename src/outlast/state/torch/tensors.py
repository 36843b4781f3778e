"""PyTorch tensors <-> `Array`."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from outlast.errors import CorruptCheckpoint
from outlast.state.array import Array, FrameworkArray, LiveMemory, Shard, UnsupportedArray

CODES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.uint32: "U32", torch.int32: "I32", torch.float32: "F32",
    torch.uint64: "U64", torch.int64: "I64", torch.float64: "F64", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""torch dtype -> safetensors code.

Other dtypes (complex128, float8_*fnuz, ...) are stored as bytes with their name.
"""

_ALIGNMENT = 64

DTYPES = {code: dtype for dtype, code in CODES.items()}


def is_tensor(value: Any) -> bool:
    """Whether value is a torch tensor."""
    return isinstance(value, torch.Tensor)


class _LiveTensor(LiveMemory):
    """A tensor of the program. torch counts in-place changes in `_version`, which views and detached tensors share."""

    __slots__ = ("_counted", "_ready", "_tensor", "_version", "address", "on_device", "place", "stamp")

    def __init__(self, tensor: torch.Tensor, counted: torch.Tensor, place: int, *, on_host: bool) -> None:
        self._tensor, self._counted, self.place = tensor, counted, place
        self._ready: Any = None
        self.on_device = False if on_host else tensor.is_cuda
        self.address = place if on_host else None
        self._version = version = self._versions()
        self.stamp = None if version is None else (place, version)

    def unchanged(self) -> bool:
        return self._version == self._versions()

    def _versions(self) -> Any:
        """The tensor's count of changes; for a DTensor also that of its block. None if torch does not count."""
        tensor, counted = self._tensor, self._counted
        try:
            return tensor._version if counted is tensor else (counted._version, tensor._version)  # noqa: SLF001
        except RuntimeError:  # an inference tensor; faster than a check, and this runs for every tensor of every save
            return None

    def sample(self, count: int) -> bytes:
        flat = _plain(self._tensor).reshape(-1)
        return _in_bytes(flat[:: max(1, len(flat) // count)])

    def fetch_ahead(self) -> None:
        if self.on_device:
            self._ready = torch.cuda.current_stream(self._tensor.device).record_event()

    def copy_into(self, target: Any) -> None:
        """Copy on a separate stream, so that the kernels of the next step run at the same time."""
        stream = _side_stream(self._tensor.device)
        with torch.cuda.stream(stream):
            stream.wait_event(self._ready)
            torch.from_numpy(target).copy_(_bytes(_plain(self._tensor)), non_blocking=True)
        stream.synchronize()


@functools.cache
def _side_stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)


PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Types of tensors that consist of their bytes only."""


def to_array(tensor: Any) -> FrameworkArray:  # noqa: C901 - a sequence of checks, each for some tensors only
    """Pack a tensor, without a copy if its memory allows that.

    Raises:
        UnsupportedArray: it is sparse, quantised, on the meta device or lazy, or its class has no memory of its own.
    """
    # A small save spends most of its time here, so torch is called only for what matters for this tensor.
    if type(tensor) not in PLAIN and not is_sharded(tensor):
        raise _foreign(tensor)
    if tensor.layout is not torch.strided:
        raise _no_bytes(tensor)
    node: dict[str, Any] = {"as": "torch"}
    whole = tensor
    if tensor.requires_grad:
        if tensor.is_leaf:
            node["grad"] = True
        whole = tensor = tensor.detach()
    if type(whole) is torch.nn.Parameter:
        node["parameter"] = True
        whole = tensor = tensor.detach()
    shard = sharded = None
    if type(tensor) is not torch.Tensor:
        sharded = whole
        # The interface that the planner of torch.distributed.checkpoint uses to find a rank's blocks of a tensor.
        (chunk,) = whole.__create_chunk_list__()
        tensor = whole.to_local()
        if not all(placement.is_replicate() for placement in whole.placements):
            shard = Shard(tuple(whole.shape), tuple(chunk.offsets))
    dtype, shape, size, device = tensor.dtype, tuple(tensor.shape), tensor.nbytes, tensor.get_device()
    code, form = CODES.get(dtype), shape
    if code is None:
        if tensor.is_quantized:
            raise _no_bytes(tensor)
        code, form = "U8", (*shape, tensor.element_size())
        node["dtype"] = str(dtype).removeprefix("torch.")
        shard = Shard((*shard.shape, tensor.element_size()), (*shard.at, 0)) if shard else None
    place = tensor.data_ptr()
    if not place and (tensor.is_meta or size):
        raise _no_bytes(tensor)
    if not size:
        return FrameworkArray(Array(code, form, b"", shard=shard), node, sharded=sharded)
    contiguous = tensor.is_contiguous()
    if not contiguous and sharded is None and _is_dense(tensor):
        node["stride"] = list(tensor.stride())
    lazy = (dtype.is_complex and tensor.is_conj(), tensor.is_neg())
    on_host = device < 0 and lazy == (False, False) and contiguous
    live = _LiveTensor(tensor, whole, place, on_host=on_host)
    data = Array(code, form, lambda: _memory(tensor, place if on_host else None, size), size, live, shard)
    strides = None if contiguous else tensor.stride()
    return FrameworkArray(data, node, (place, device, dtype, shape, strides, lazy), sharded)


def _memory(tensor: torch.Tensor, place: int | None, size: int) -> memoryview:
    """The bytes of a tensor: a copy, or, if they lie at a place on the host, that memory, which the view keeps alive.

    numpy() of the program's own tensor would leave it with memory that torch refuses to resize, and observers
    (torch.ao.quantization), resize_() and arguments such as out= do that.
    """
    if place is None:
        copied: memoryview = _bytes(_plain(tensor).cpu()).numpy().data
        return copied
    memory: Any = (ctypes.c_char * size).from_address(place)
    memory.holder = tensor
    return memoryview(memory).cast("B")


def _foreign(tensor: Any) -> UnsupportedArray:
    name = f"a {type(tensor).__module__}.{type(tensor).__qualname__}"
    if torch.nn.parameter.is_lazy(tensor):
        return UnsupportedArray(
            "it is lazy and has no shape yet; run one forward pass, such as model(batch), before track()"
        )
    return UnsupportedArray(
        f"it is {name}, a tensor class without __tensor_flatten__(), and its plain bytes would come back as a plain "
        "tensor"
    )


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill one block of memory, in an order other than C's, such as channels_last."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length == 1:
            continue
        if stride != expected:
            return False
        expected *= length
    return True


def _no_bytes(tensor: torch.Tensor) -> UnsupportedArray:
    return UnsupportedArray(f"a torch tensor of layout {tensor.layout} on {tensor.device} has no plain bytes")


def is_sharded(value: Any) -> bool:
    """Whether each rank holds a block of this tensor: a DTensor, as FSDP2 creates them."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.resolve_conj().resolve_neg().contiguous()


def _bytes(plain: torch.Tensor) -> torch.Tensor:
    flat = plain.reshape(-1)
    if flat.stride() != (1,):  # a tensor of one element counts as contiguous with any stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def from_array(array: Array, node: Mapping[str, Any], like: Any = None) -> Any:
    """Rebuild a tensor on the CPU.

    It uses the memory that was read if that is aligned as torch's own memory; otherwise the bytes are copied.

    Args:
        array: its bytes.
        node: the JSON that `to_array` returned.
        like: a DTensor. The result has its placement, and only this rank's block of the array is read.
    """
    if like is not None and tuple(array.shape[: like.ndim]) == tuple(like.shape):
        (chunk,) = like.__create_chunk_list__()
        rest = array.shape[like.ndim :]
        local = from_array(array.region((*chunk.offsets, *(0 for _ in rest)), (*chunk.sizes, *rest)), node)
        return type(like).from_local(
            local.to(like.device),
            like.device_mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )
    dtype = dtype_named(node["dtype"]) if "dtype" in node else DTYPES[array.dtype]
    shape = array.shape[:-1] if "dtype" in node else array.shape
    tensor = _of_bytes(array, dtype, shape) if array.nbytes else torch.empty(shape, dtype=dtype)
    if "stride" in node:
        stride = [int(step) for step in node["stride"]]
        made = torch.empty_strided(shape, stride, dtype=dtype)
        if len(stride) != len(shape) or not _is_dense(made):
            raise CorruptCheckpoint(f"An array of shape {tuple(shape)} is said to lie in memory with strides {stride}.")
        tensor = made.copy_(tensor)
    if node.get("parameter"):
        return torch.nn.Parameter(tensor, requires_grad=bool(node.get("grad")))
    return tensor.requires_grad_() if node.get("grad") else tensor


def _of_bytes(array: Array, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    data = array.data
    if memoryview(data).readonly:
        data = bytearray(data)
    tensor = torch.frombuffer(data, dtype=torch.uint8)
    if tensor.data_ptr() % _ALIGNMENT:  # kernels may differ on unaligned memory, and then the last bits differ
        tensor = tensor.clone()
    return tensor.view(dtype).reshape(shape)


def knows_shards() -> bool:
    """Whether the program has imported DTensor."""
    return "torch.distributed.tensor" in sys.modules


def memories(tensor: torch.Tensor) -> Iterator[int]:
    """Addresses of the memory of a tensor: several for a tensor that consists of other tensors."""
    if is_sharded(tensor):
        yield tensor.detach().to_local().data_ptr()
    elif type(tensor) in PLAIN:
        yield tensor.data_ptr()
    elif is_made_of_tensors(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from memories(getattr(tensor, name))


def is_made_of_tensors(tensor: torch.Tensor) -> bool:
    """Whether it is a tensor subclass that reports the tensors that it consists of."""
    return type(tensor) not in PLAIN and not is_sharded(tensor) and hasattr(tensor, "__tensor_flatten__")


def dtype_named(name: Any) -> torch.dtype:
    """The dtype with this name; raises CorruptCheckpoint if torch has none."""
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise CorruptCheckpoint(f"The checkpoint holds a dtype {name!r:.80}, which this torch does not have.")
    return found


def rows(value: Any) -> tuple[str, Callable[[Any], bytes]] | None:
    """The dtype of a tensor of samples, and a function that returns its bytes; None for other values."""
    if not is_tensor(value) or value.layout != torch.strided:
        return None
    return str(value.dtype), _in_bytes


def _in_bytes(value: Any) -> bytes:
    plain = _plain(value.detach()).cpu()
    return ctypes.string_at(plain.data_ptr(), plain.nbytes)  # numpy() would forbid to resize the program's tensor
