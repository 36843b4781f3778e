"""The array that state hands to checkpoint and gets back: bytes with a form, of no framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Buffer = bytes | bytearray | memoryview


class Array:
    """An array of no framework: a safetensors dtype code, a shape, and little-endian C-order bytes.

    Args:
        dtype: the code, such as "F32".
        shape: its lengths.
        data: the bytes; or a function that fetches them, from a GPU for example, together with `nbytes`.
        nbytes: size in bytes, when data is a function.
        live: what is known of the memory behind it while a program may still change it; None when nobody can.
    """

    __slots__ = ("_data", "dtype", "live", "nbytes", "shape")

    def __init__(
        self,
        dtype: str,
        shape: tuple[int, ...],
        data: Buffer | Callable[[], Buffer],
        nbytes: int | None = None,
        live: Live | None = None,
    ) -> None:
        self.dtype, self.shape, self._data, self.live = dtype, shape, data, live
        self.nbytes = len(data) if nbytes is None else nbytes  # type: ignore[arg-type]

    @property
    def data(self) -> Buffer:
        """The bytes."""
        return self._data() if callable(self._data) else self._data


class Live:
    """Memory of a framework that training goes on with.

    Attributes:
        place: names the memory; the places that only an optimizer changes are known by it.
        stamp: equal for the same memory with the same contents, as far as the framework counts changes; None when it does not.
        address: where in this process's memory the bytes lie, in order and plain; None when they have to be asked for.
        on_device: whether the host has to ask a device for the bytes.
    """

    __slots__ = ()
    place: Any = None
    stamp: Any = None
    address: int | None = None
    on_device = False

    def unchanged(self) -> bool:
        """Whether the framework counted no change since this object was made."""
        return True

    def fetch_ahead(self) -> None:
        """Note the moment whose contents are wanted, and let a device begin to send them."""

    def copy_into(self, target: Any) -> None:
        """Copy the bytes from a device into a NumPy array of bytes; only called when `on_device`."""
        raise NotImplementedError


class CannotStore(Exception):
    """A framework's array that has no bytes to store: meta, sparse, object dtype. Turned into a StateError with its name."""


@dataclass(frozen=True)
class Found:
    """An array out of a framework.

    Attributes:
        array: its bytes.
        node: what the JSON must say to rebuild it: at least {"as": framework}.
        identity: equal for two values that are the same memory (tied weights); None where sharing has no meaning.
    """

    array: Array
    node: dict[str, Any]
    identity: Any = None
