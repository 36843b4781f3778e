"""PyTorch tensors and modules <-> `Array`. Imported only when the program uses torch."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from outlast.errors import CorruptCheckpoint, ResumeRefused
from outlast.state.array import Array, CannotStore, Found, Live, Pieces, Shard

CODES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.uint32: "U32", torch.int32: "I32", torch.float32: "F32", torch.uint64: "U64",
    torch.int64: "I64", torch.float64: "F64", torch.complex64: "C64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""torch dtype -> safetensors code. Others (complex128, float8_*fnuz, ...) are stored as bytes with their name beside them."""

_ALIGNMENT = 64

DTYPES = {code: dtype for dtype, code in CODES.items()}


def is_tensor(value: Any) -> bool:
    """Whether value is a torch tensor."""
    return isinstance(value, torch.Tensor)


class _LiveTensor(Live):
    """A tensor of the program. torch counts in-place changes in `_version`; views and detached tensors share the count."""

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
        """The count of the tensor, for a DTensor also that of this rank's part in it; None where torch does not count."""
        tensor, counted = self._tensor, self._counted
        try:
            return tensor._version if counted is tensor else (counted._version, tensor._version)  # noqa: SLF001
        except RuntimeError:  # inference tensors; asked this way because it is asked for every tensor of every save
            return None

    def sample(self, count: int) -> bytes:
        flat = _plain(self._tensor).reshape(-1)
        return bytes(_bytes(flat[:: max(1, len(flat) // count)].contiguous()).cpu().numpy())

    def fetch_ahead(self) -> None:
        if self.on_device:
            self._ready = torch.cuda.current_stream(self._tensor.device).record_event()

    def copy_into(self, target: Any) -> None:
        """Copy on a stream of its own, so that the kernels of the next step run meanwhile."""
        stream = _side_stream(self._tensor.device)
        with torch.cuda.stream(stream):
            stream.wait_event(self._ready)
            torch.from_numpy(target).copy_(_bytes(_plain(self._tensor)), non_blocking=True)
        stream.synchronize()


@functools.cache
def _side_stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)


_PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Types of tensors whose bytes are all that they are."""


def to_array(tensor: Any) -> Found:  # noqa: C901 - one question after the other, each for some tensors only
    """Take a tensor apart, without a copy where its memory allows it.

    Raises:
        CannotStore: it is sparse, quantised, on the meta device, lazy, or of a class without memory of its own.
    """
    # Most of what a small save holds training for is spent here: torch is asked only what matters for this tensor.
    if type(tensor) not in _PLAIN and not is_sharded(tensor):
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
        # The interface by which torch.distributed.checkpoint's planner asks a tensor what this rank holds of it.
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
        return Found(Array(code, form, b"", shard=shard), node, sharded=sharded)
    contiguous = tensor.is_contiguous()
    if not contiguous and sharded is None and _is_dense(tensor):
        node["stride"] = list(tensor.stride())
    lazy = (dtype.is_complex and tensor.is_conj(), tensor.is_neg())
    on_host = device < 0 and lazy == (False, False) and contiguous
    live = _LiveTensor(tensor, whole, place, on_host=on_host)
    data = Array(code, form, lambda: _bytes(_plain(tensor).cpu()).numpy().data, size, live, shard)
    return Found(data, node, (place, device, dtype, shape, tensor.stride(), lazy), sharded)


def _foreign(tensor: Any) -> CannotStore:
    name = f"a {type(tensor).__module__}.{type(tensor).__qualname__}"
    if torch.nn.parameter.is_lazy(tensor):
        return CannotStore(
            "it is lazy and has no shape yet; run one forward pass, such as model(batch), before track()"
        )
    return CannotStore(
        f"it is {name}, a tensor class without __tensor_flatten__(), and its plain bytes would come back as a plain tensor"
    )


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill one block of memory in another order than C's, such as channels_last."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length == 1:
            continue
        if stride != expected:
            return False
        expected *= length
    return True


def _no_bytes(tensor: torch.Tensor) -> CannotStore:
    return CannotStore(f"a torch tensor of layout {tensor.layout} on {tensor.device} has no plain bytes")


def is_sharded(value: Any) -> bool:
    """Whether several ranks hold this tensor together: a DTensor, as FSDP2 makes them."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.resolve_conj().resolve_neg().contiguous()


def _bytes(plain: torch.Tensor) -> torch.Tensor:
    flat = plain.reshape(-1)
    if flat.stride() != (1,):  # one element of a wider tensor counts as contiguous and keeps its stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def from_array(array: Array, node: Mapping[str, Any], like: Any = None) -> Any:
    """Rebuild a tensor on the CPU: in the memory that was read, if it lies there as torch's own would, else in its own.

    Args:
        array: its bytes.
        node: what `to_array` said of it.
        like: a DTensor; the result is one of the same placement then, and only this rank's block of the array is read.
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
    dtype = _dtype(node["dtype"]) if "dtype" in node else DTYPES[array.dtype]
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
    if tensor.data_ptr() % _ALIGNMENT:  # kernels may take another way there, and so may the last bit
        tensor = tensor.clone()
    return tensor.view(dtype).reshape(shape)


def knows_shards() -> bool:
    """Whether the program has loaded what makes tensors that lie on several ranks."""
    return "torch.distributed.tensor" in sys.modules


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Lock memory so that a GPU copies into it by itself; returns what undoes that, None when no GPU is in use."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    runtime = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, len(memory), 0)):
        return None  # slower then, and as right
    return lambda: runtime.cudaHostUnregister(address)


def take_apart(value: Any) -> Pieces | None:
    """A random generator, or a tensor that is made of other tensors (torchao's 8-bit moments); None for anything else.

    Raises:
        CannotStore: its class does not take it apart.
    """
    if isinstance(value, torch.Generator):
        return Pieces("$torch.generator", {"device": str(value.device), "state": value.get_state()})
    if not isinstance(value, torch.Tensor) or not _is_made_of_tensors(value):
        return None
    try:
        names, context = value.__tensor_flatten__()
    except Exception as error:
        raise CannotStore(f"its __tensor_flatten__() failed ({type(error).__name__}: {error})") from error
    return Pieces(
        "$torch.subclass",
        {
            "class": f"{type(value).__module__}.{type(value).__qualname__}",
            "context": context,
            "size": value.size(),
            "stride": value.stride(),
            "inner": {name: getattr(value, name) for name in names},
        },
    )


def memories(tensor: torch.Tensor) -> Iterator[int]:
    """Where in memory a tensor lies: more than one place for a tensor that is made of others."""
    if is_sharded(tensor):
        yield tensor.detach().to_local().data_ptr()
    elif type(tensor) in _PLAIN:
        yield tensor.data_ptr()
    elif _is_made_of_tensors(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from memories(getattr(tensor, name))


def _is_made_of_tensors(tensor: torch.Tensor) -> bool:
    return type(tensor) not in _PLAIN and not is_sharded(tensor) and hasattr(tensor, "__tensor_flatten__")


def put_together(key: str, content: Any) -> Any:
    """Rebuild what `take_apart` or `to_json` wrote.

    Raises:
        ResumeRefused: the program has not imported the tensor class.
        CorruptCheckpoint: it is malformed.
    """
    if key == "$torch.dtype":
        return _dtype(content)
    if key == "$torch.device":
        return torch.device(str(content))
    if key == "$torch.size":
        return torch.Size(int(length) for length in content["size"])
    if key == "$torch.generator":
        generator = torch.Generator(torch.device(content["device"]))
        generator.set_state(content["state"])
        return generator
    if key == "$torch.subclass":
        # Looked for among the tensor classes of this process: nothing that a file names is imported.
        found = [
            kind for kind in _subclasses(torch.Tensor) if f"{kind.__module__}.{kind.__qualname__}" == content["class"]
        ]
        if not found or not hasattr(found[0], "__tensor_unflatten__"):
            raise ResumeRefused(
                f"The checkpoint holds a tensor of the class {content['class']!r:.200}, which this program has not imported. Import it before "
                "track()."
            )
        return found[0].__tensor_unflatten__(content["inner"], content["context"], content["size"], content["stride"])
    raise CorruptCheckpoint(f"A stored value has the form {key!r}, which this outlast does not know.")


def _dtype(name: Any) -> torch.dtype:
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise CorruptCheckpoint(f"The checkpoint holds a dtype {name!r:.80}, which this torch does not have.")
    return found


def _subclasses(kind: type) -> Iterator[type]:
    each: type
    for each in type.__subclasses__(kind):
        yield each
        yield from _subclasses(each)


def to_json(value: Any) -> dict[str, Any] | None:
    """The JSON of a torch.dtype, torch.device or torch.Size, None for anything else."""
    if isinstance(value, torch.dtype):
        return {"$torch.dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$torch.device": str(value)}
    if isinstance(value, torch.Size):
        return {"$torch.size": {"size": list(value)}}
    return None


def software() -> dict[str, Any]:
    """What decides torch's last bits: version, device, threads, kernels."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts = {"torch": torch.__version__, "torch device": device, "torch threads": torch.get_num_threads()}
    if torch.get_default_dtype() != torch.float32:
        facts["torch default dtype"] = str(torch.get_default_dtype()).removeprefix("torch.")
    if torch.get_float32_matmul_precision() != "highest":
        facts["torch matmul precision"] = torch.get_float32_matmul_precision()
    if device == "cpu":
        facts["torch cpu kernels"] = torch.backends.cpu.get_cpu_capability()
    else:
        facts["cuda"] = torch.version.cuda
    return facts


def use_deterministic_kernels() -> None:
    """Ask torch for kernels that give the same bits every time; those that cannot raise when they are used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
