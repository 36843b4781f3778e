"""PyTorch tensors and modules <-> `Array`. Imported only when the program uses torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from outlast.errors import ResumeRefused
from outlast.state.array import Array, CannotStore, Found

CODES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.uint32: "U32", torch.int32: "I32", torch.float32: "F32", torch.uint64: "U64",
    torch.int64: "I64", torch.float64: "F64", torch.complex64: "C64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""torch dtype -> safetensors code. Others (complex128, float8_*fnuz, ...) are stored as bytes with their name beside them."""

DTYPES = {code: dtype for dtype, code in CODES.items()}


def is_tensor(value: Any) -> bool:
    """Whether value is a torch tensor."""
    return isinstance(value, torch.Tensor)


def to_array(tensor: Any) -> Found:
    """Take a tensor apart; on the CPU without a copy. Raises CannotStore for sparse, quantised and meta tensors."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise CannotStore(f"a torch tensor of layout {tensor.layout} on {tensor.device} has no plain bytes")
    node: dict[str, Any] = {"as": "torch"}
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if plain.dtype in CODES:
        code, shape = CODES[plain.dtype], tuple(plain.shape)
    else:
        code, shape = "U8", (*plain.shape, plain.element_size())
        node["dtype"] = str(plain.dtype).removeprefix("torch.")
    if not plain.numel():
        return Found(Array(code, shape, b""), node)
    flat = plain.reshape(-1)
    if flat.stride() != (1,):  # one element of a wider tensor counts as contiguous and keeps its stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    data = flat.view(torch.uint8).numpy().data
    lazy = (tensor.is_conj(), tensor.is_neg())
    identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), lazy)
    return Found(Array(code, shape, data), node, identity)


def from_array(array: Array, node: Mapping[str, Any]) -> Any:
    """Rebuild a tensor on the CPU, in memory of its own."""
    dtype = getattr(torch, node["dtype"]) if "dtype" in node else DTYPES[array.dtype]
    shape = array.shape[:-1] if "dtype" in node else array.shape
    if not array.nbytes:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(array.data), dtype=torch.uint8).view(dtype).reshape(shape)


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
