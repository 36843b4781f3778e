"""PyTorch's values: generators, dtypes, devices, sizes, and tensors that consist of other tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from outlast.errors import CorruptCheckpoint, ResumeRefused
from outlast.state.adapter import Generators
from outlast.state.array import FrameworkArray, Pieces, UnsupportedArray
from outlast.state.torch import tensors


def matches(value: Any) -> bool:
    """Whether `pack` accepts this value."""
    return isinstance(value, torch.Tensor | torch.Generator | torch.dtype | torch.device | torch.Size)


def pack(value: Any) -> FrameworkArray | Pieces | dict[str, Any]:
    """Pack a value of torch.

    Raises:
        UnsupportedArray: a tensor without bytes, or one whose class does not report its tensors.
    """
    if isinstance(value, torch.Tensor):
        return _of_tensors(value) if tensors.is_made_of_tensors(value) else tensors.to_array(value)
    if isinstance(value, torch.Generator):
        return Pieces("$torch.generator", {"device": str(value.device), "state": value.get_state()})
    if isinstance(value, torch.dtype):
        return {"$torch.dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$torch.device": str(value)}
    return {"$torch.size": {"size": list(value)}}


def _of_tensors(value: torch.Tensor) -> Pieces:
    """The `Pieces` of a tensor that consists of other tensors, such as torchao's 8-bit moments."""
    try:
        names, context = value.__tensor_flatten__()
    except Exception as error:
        raise UnsupportedArray(f"its __tensor_flatten__() failed ({type(error).__name__}: {error})") from error
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


def put_together(key: str, content: Any) -> Any:
    """Rebuild a value that `pack` packed.

    Raises:
        ResumeRefused: the program has not imported the tensor class.
        CorruptCheckpoint: the content is malformed.
    """
    if key == "$torch.dtype":
        return tensors.dtype_named(content)
    if key == "$torch.device":
        return torch.device(str(content))
    if key == "$torch.size":
        return torch.Size(int(length) for length in content["size"])
    if key == "$torch.generator":
        generator = torch.Generator(torch.device(content["device"]))
        generator.set_state(content["state"])
        return generator
    if key == "$torch.subclass":
        # The class is searched among the tensor classes of this process. Nothing that a file names is imported.
        found = [
            kind for kind in _subclasses(torch.Tensor) if f"{kind.__module__}.{kind.__qualname__}" == content["class"]
        ]
        if not found or not hasattr(found[0], "__tensor_unflatten__"):
            raise ResumeRefused(
                f"The checkpoint holds a tensor of the class {content['class']!r:.200}, which this program has not "
                "imported. Import it before "
                "track()."
            )
        return found[0].__tensor_unflatten__(content["inner"], content["context"], content["size"], content["stride"])
    raise CorruptCheckpoint(f"A stored value has the form {key!r}, which this outlast does not know.")


def _subclasses(kind: type) -> Iterator[type]:
    each: type
    for each in type.__subclasses__(kind):
        yield each
        yield from _subclasses(each)


def _shared() -> tuple[torch.Generator, ...]:
    return (torch.default_generator,)


def _seed(seed: int) -> None:
    """As `torch.manual_seed`, of which the CPU's generator takes the lower 32 bits alone; here all of them count."""
    torch.manual_seed(seed)
    if seed >> 32 > 0:
        import numpy as np

        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def _seed_words(words: Sequence[int]) -> None:
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


def _capture() -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["torch.cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def _restore(state: Mapping[str, Any]) -> None:
    if "torch" not in state:
        return
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for index, device_state in enumerate(state.get("torch.cuda", [])[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(device_state, index)


def _reseed(generator: torch.Generator, seed: Any) -> None:
    if not isinstance(seed, int):
        import numpy as np

        seed = int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator.manual_seed(seed)


GENERATORS = Generators(
    kinds=(torch.Generator,),
    shared=_shared,
    seed=_seed,
    seed_words=_seed_words,
    capture=_capture,
    restore=_restore,
    get_state=torch.Generator.get_state,
    set_state=torch.Generator.set_state,
    reseed=_reseed,
    load=lambda generator, state: generator.set_state(state["state"]),
    initial_seed=torch.initial_seed,
)
