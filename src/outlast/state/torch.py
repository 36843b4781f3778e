"""PyTorch tensors and modules <-> `Array`. Imported only when the program uses torch."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from outlast.errors import ResumeRefused
from outlast.state.array import Array, CannotStore, Found, Live, Shard

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


def to_array(tensor: Any) -> Found:
    """Take a tensor apart, without a copy where its memory allows it. Raises CannotStore for sparse, quantised and meta tensors."""
    # Most of what a small save holds training for is spent here: torch is asked only what matters for this tensor.
    if tensor.layout is not torch.strided:
        raise _no_bytes(tensor)
    node: dict[str, Any] = {"as": "torch"}
    whole = tensor = tensor.detach() if tensor.requires_grad else tensor
    shard = sharded = None
    if type(tensor) is not torch.Tensor and is_sharded(whole):
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
    if not place and tensor.is_meta:
        raise _no_bytes(tensor)
    if not size:
        return Found(Array(code, form, b"", shard=shard), node, sharded=sharded)
    lazy = (dtype.is_complex and tensor.is_conj(), tensor.is_neg())
    on_host = device < 0 and lazy == (False, False) and tensor.is_contiguous()
    live = _LiveTensor(tensor, whole, place, on_host=on_host)
    data = Array(code, form, lambda: _bytes(_plain(tensor).cpu()).numpy().data, size, live, shard)
    return Found(data, node, (place, device, dtype, shape, tensor.stride(), lazy), sharded)


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
    dtype = getattr(torch, node["dtype"]) if "dtype" in node else DTYPES[array.dtype]
    shape = array.shape[:-1] if "dtype" in node else array.shape
    if not array.nbytes:
        return torch.empty(shape, dtype=dtype)
    data = array.data
    if memoryview(data).readonly:
        data = bytearray(data)
    tensor = torch.frombuffer(data, dtype=torch.uint8)
    if tensor.data_ptr() % _ALIGNMENT:  # kernels may take another way there, and so may the last bit
        tensor = tensor.clone()
    return tensor.view(dtype).reshape(shape)


def optimizer_places(things: Iterable[Any]) -> set[int]:
    """Memory that changes in the step of these optimizers: their parameters and their own state."""
    places = set()
    for optimizer in things:
        if isinstance(optimizer, torch.optim.Optimizer):
            places |= {_place(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            states = (value for state in optimizer.state.values() for value in state.values())
            places |= {_place(value) for value in states if is_tensor(value)}
    return places


def _place(tensor: torch.Tensor) -> int:
    local: torch.Tensor = tensor.detach().to_local() if is_sharded(tensor) else tensor
    return local.data_ptr()


def without_wrapper(thing: Any) -> Any:
    """The model inside a DistributedDataParallel, whose state has the same names with one rank or many; else the thing."""
    return thing.module if isinstance(thing, torch.nn.parallel.DistributedDataParallel) else thing


def regroups(thing: Any) -> bool:
    """Whether DistributedDataParallel regroups gradients after the first step of a process, and so adds them in another order."""
    return isinstance(thing, torch.nn.parallel.DistributedDataParallel) and not thing.find_unused_parameters


def knows_shards() -> bool:
    """Whether the program has loaded what makes tensors that lie on several ranks."""
    return "torch.distributed.tensor" in sys.modules


def moments_like(thing: Any) -> dict[str, Any]:
    """The DTensors that an optimizer's moments will be like, which it makes only in its first step: name's first words -> parameter."""
    if not isinstance(thing, torch.optim.Optimizer):
        return {}
    parameters = [parameter for group in thing.param_groups for parameter in group["params"]]
    return {f"state/{index}": each.detach() for index, each in enumerate(parameters) if is_sharded(each)}


def before_updates(call: Callable[[], None]) -> Callable[[], None]:
    """Have a function called before every step of every optimizer; returns what ends that."""

    def hook(*_: Any) -> None:
        call()

    if "torch._dynamo" in sys.modules:  # a compiled step must not trace into it
        hook = torch.compiler.disable(hook)
    handle = register_optimizer_step_pre_hook(hook)
    return handle.remove


def pin(memory: memoryview) -> Callable[[], None] | None:
    """Lock memory so that a GPU copies into it by itself; returns what undoes that, None when no GPU is in use."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    address = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    runtime = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, len(memory), 0)):
        return None  # slower then, and as right
    return lambda: runtime.cudaHostUnregister(address)


def to_json(value: Any) -> dict[str, Any] | None:
    """The JSON of a torch.dtype or torch.device, None for anything else."""
    if isinstance(value, torch.dtype):
        return {"$torch.dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$torch.device": str(value)}
    return None


def from_json(key: str, text: str) -> Any:
    """Rebuild what `to_json` wrote."""
    return torch.device(text) if key == "$torch.device" else getattr(torch, text)


def check_module(part: str, module: Any, stored: Mapping[str, Any]) -> None:
    """Refuse a stored module of another architecture, naming the first parameter that differs, before anything is loaded."""
    if not isinstance(module, torch.nn.Module):
        return
    own = module.state_dict()
    advice = "The architecture changed since this run began: begin a new run under another name (--experiment-name), or go back to the old model."
    for name in [*own, *(name for name in stored if name not in own)]:
        if name not in own:
            raise ResumeRefused(f"The checkpoint's {part} has {name!r} and this model does not. {advice}")
        if name not in stored:
            raise ResumeRefused(f"This model's {part} has {name!r} and the checkpoint does not. {advice}")
        mine, theirs = own[name], stored[name]
        if is_tensor(mine) and is_tensor(theirs) and (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
            raise ResumeRefused(
                f"{part}[{name}] has shape {tuple(theirs.shape)} of {theirs.dtype} in the checkpoint and {tuple(mine.shape)} of "
                f"{mine.dtype} in this model. {advice}"
            )


def software() -> dict[str, Any]:
    """What decides torch's last bits: version, device, threads, kernels."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    facts = {"torch": torch.__version__, "torch device": device, "torch threads": torch.get_num_threads()}
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
