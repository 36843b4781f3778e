"""Training state <-> arrays and JSON, without pickle.

A value is packed into nested JSON. Each array in it is a reference `{"$array": name, ...}` to a safetensors file. Types
that JSON lacks are objects with a single key that begins with "$" (`forms`). Types are exact: a value is restored with
its own type, or it is refused by name before the first step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from outlast.errors import CorruptCheckpoint, OutlastError, StateError
from outlast.state import adapters, forms
from outlast.state.array import Array, FrameworkArray, Pieces, UnsupportedArray
from outlast.terminal import type_of

Json = Any

DEEPEST = 100
"""Most levels of containers in a state. JSON readers recurse, and no training state is nested so deeply."""

_ADVICE = (
    "outlast saves arrays, numbers, strings, random generators, and lists, tuples, sets and dicts of those: leave it "
    "out of what you track, or give its owner a state_dict() made of them."
)


class Encoder:
    """Packs one part.

    Args:
        part: the name under which it is tracked, for messages.

    Attributes:
        arrays: array name -> array, filled by `encode`.
        sharded: array name -> tensor, for tensors of which each rank holds a block.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.arrays: dict[str, Array] = {}
        self.sharded: dict[str, Any] = {}
        self._seen: dict[Any, str] = {}
        self._above: set[int] = set()  # ids of the containers around the current value, to detect cycles

    def encode(self, value: Any, path: tuple[str, ...] = ()) -> Json:
        """Return the JSON of a value, and add its arrays to `arrays`.

        Raises:
            StateError: a value in it cannot be stored without pickle. The message names it.
        """
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**64 else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind is str:
            return value if forms.is_unicode(value) else {"$text": forms.to_base64(forms.raw(value))}
        if kind in forms.CONTAINERS:
            return self._container(value, path)
        if adapters.is_known(kind):
            return self._leaf(value, path)
        plain = forms.to_json(value)
        return self._leaf(value, path) if plain is None else plain

    def _container(self, value: Any, path: tuple[str, ...]) -> Json:
        if id(value) in self._above or len(path) > DEEPEST:
            why = (
                "holds itself"
                if id(value) in self._above
                else f"is nested more than {DEEPEST} levels deep, which is no state of a training"
            )
            raise StateError(f"{self._place(path[:4])} cannot be saved: {self.part} {why}.")
        self._above.add(id(value))
        try:
            if type(value) is dict and all(map(forms.is_plain_key, value)):
                return {key: self.encode(item, (*path, key)) for key, item in value.items()}
            if type(value) is list:
                return [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]
            return self._special(value, path)
        except forms.NoForm as error:
            raise StateError(f"{self._place(path)} cannot be saved: {error}.") from error
        finally:
            self._above.discard(id(value))

    def _special(self, value: Any, path: tuple[str, ...]) -> Json:
        name, items, facts = forms.take_apart(value)
        if isinstance(value, Mapping):
            content = [[self.encode(k, (*path, "key")), self.encode(v, (*path, str(k)))] for k, v in items]
        else:
            content = [self.encode(item, (*path, str(i))) for i, item in enumerate(items)]
        if name in ("$set", "$frozenset"):
            content.sort(key=repr)  # equal sets have equal JSON
        return {name: content} if facts is None else {name: [content, facts]}

    def _leaf(self, value: Any, path: tuple[str, ...]) -> Json:
        try:
            found = adapters.pack(value)
        except StateError as error:
            raise StateError(f"{self._place(path)} cannot be saved. {error}") from error
        except UnsupportedArray as error:
            raise StateError(f"{self._place(path)} cannot be saved: {error}.") from error
        except (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise StateError(
                f"{self._place(path)} is {type_of(value, full=True)}, whose bytes cannot be asked for "
                f"({type(error).__name__}: {error})."
            ) from error
        if isinstance(found, Pieces):
            return {found.form: {name: self.encode(child, (*path, name)) for name, child in found.children.items()}}
        if isinstance(found, FrameworkArray):
            return self._array(found, path)
        if found is not None:
            return found
        raise StateError(
            f"{self._place(path)} is {type_of(value, full=True)}, which cannot be saved without pickle. "
            f"{adapters.advice(value) or _ADVICE}"
        )

    def _array(self, found: FrameworkArray, path: tuple[str, ...]) -> Json:
        if found.identity is not None and found.identity in self._seen:
            name = self._seen[found.identity]  # tied weights: one array, two references
        else:
            name = self._free_name(path)
            self.arrays[name] = found.array
            if found.sharded is not None:
                self.sharded[name] = found.sharded
            if found.identity is not None:
                self._seen[found.identity] = name
        return {"$array": name, **found.node}

    def _free_name(self, path: tuple[str, ...]) -> str:
        name = _name_of(path) or self.part
        while name in self.arrays:
            name += "'"
        return name

    def _place(self, path: tuple[str, ...]) -> str:
        return f"{self.part}[{'.'.join(path)}]" if path else self.part


@functools.lru_cache(2**14)
def _name_of(path: tuple[str, ...]) -> str:
    """The name of an array. It is cached, because every save asks for the same names."""
    name = "/".join(path)
    return name if forms.is_unicode(name) else forms.raw(name).decode("utf-8", "backslashreplace")


class Decoder:
    """Rebuilds one part.

    Args:
        part: its name, for messages.
        arrays: the arrays that `Encoder` produced.
        sharded: the program's tensors of which each rank holds a block, by array name or by its first two words.
    """

    def __init__(self, part: str, arrays: Mapping[str, Array], sharded: Mapping[str, Any] | None = None) -> None:
        self.part = part
        self.arrays = arrays
        self._sharded = sharded or {}
        self._made: dict[str, Any] = {}

    def decode(self, node: Json) -> Any:
        """Return the value of this JSON. All references to one array return the same object.

        Raises:
            CorruptCheckpoint: `Encoder` does not write such JSON.
        """
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        key = next(iter(node), "")
        if "$array" in node:
            key = "$array"
        elif not key.startswith("$"):
            return {name: self.decode(item) for name, item in node.items()}
        try:
            return self._array(node) if key == "$array" else self._form(key, node[key])
        except OutlastError:
            raise
        except (
            Exception
        ) as error:  # a forged form may make a library raise anything; the cause is that this part is malformed
            raise CorruptCheckpoint(
                f"The stored part {self.part!r} holds a malformed {key} ({type(error).__name__}: {error})."
            ) from error

    def _form(self, key: str, content: Any) -> Any:
        if key in forms.TO_VALUE:
            return forms.TO_VALUE[key](content)
        if key in forms.PUT_TOGETHER:
            facts = None
            if key in forms.WITH_FACTS:
                content, facts = content
            if key in forms.PAIRS:
                return forms.PUT_TOGETHER[key]([(self.decode(k), self.decode(v)) for k, v in content], facts)
            return forms.PUT_TOGETHER[key]([self.decode(item) for item in content], facts)
        return adapters.put_together(
            key,
            content if isinstance(content, str) else {name: self.decode(item) for name, item in content.items()},
            self.part,
        )

    def _array(self, node: Mapping[str, Any]) -> Any:
        name = node["$array"]
        if name not in self.arrays:
            raise CorruptCheckpoint(f"The stored part {self.part!r} refers to an array {name!r} that it does not hold.")
        if name not in self._made:
            like = self._sharded.get(name, self._sharded.get("/".join(name.split("/")[:2])))
            self._made[name] = adapters.from_array(self.arrays[name], node, like)
        return self._made[name]
