"""Training state <-> arrays and JSON, without pickle.

A value is taken apart into nested JSON in which every array is a reference `{"$array": name, ...}` into one safetensors
file. What JSON lacks is written as an object with a single key that begins with "$". Anything else is refused by name.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from outlast.errors import CorruptCheckpoint, StateError
from outlast.state import adapters
from outlast.state.array import Array, CannotStore

Json = Any


class Encoder:
    """Takes one part apart.

    Args:
        part: the name under which it is tracked, for messages.

    Attributes:
        arrays: array name -> array, filled by `encode`.
        sharded: array name -> tensor, of those that lie on several ranks.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.arrays: dict[str, Array] = {}
        self.sharded: dict[str, Any] = {}
        self._seen: dict[Any, str] = {}

    def encode(self, value: Any, path: tuple[str, ...] = ()) -> Json:  # noqa: PLR0911 - one return a kind of value
        """Return the JSON of a value; its arrays are added to `arrays`.

        Raises:
            StateError: some value in it has no form without pickle; the message names it.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind is list:
            return [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]
        if isinstance(value, dict):
            return self._mapping(value, path)
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return {"$tuple": [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]}
        if kind is complex:
            return {"$complex": [self.encode(value.real, path), self.encode(value.imag, path)]}
        if kind in (bytes, bytearray):
            return {"$bytes": base64.b64encode(value).decode()}
        if kind in (set, frozenset):
            items = [self.encode(item, (*path, "*")) for item in value]
            return {"$set": sorted(items, key=repr)}
        return self._leaf(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: tuple[str, ...]) -> Json:
        if isinstance(value, Counter):
            return {"$counter": [[self.encode(k, path), v] for k, v in value.items()]}
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        return {"$dict": [[self.encode(k, (*path, "key")), self.encode(v, (*path, str(k)))] for k, v in value.items()]}

    def _leaf(self, value: Any, path: tuple[str, ...]) -> Json:
        name = "/".join(path) or self.part
        try:
            found = adapters.to_array(value)
        except CannotStore as error:
            raise StateError(f"{self._place(path)} cannot be saved: {error}.") from error
        if found is None:
            small = adapters.to_json(value)
            if small is not None:
                return small
            raise StateError(
                f"{self._place(path)} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be saved without pickle. "
                "outlast saves arrays, numbers, strings, lists, tuples and dicts: leave it out of what you track, or give its "
                "owner a state_dict() made of those."
            )
        if found.identity is not None and found.identity in self._seen:
            name = self._seen[found.identity]  # tied weights: one array, two references
        else:
            while name in self.arrays:
                name += "'"
            self.arrays[name] = found.array
            if found.sharded is not None:
                self.sharded[name] = found.sharded
            if found.identity is not None:
                self._seen[found.identity] = name
        return {"$array": name, **found.node}

    def _place(self, path: tuple[str, ...]) -> str:
        return f"{self.part}[{'.'.join(path)}]" if path else self.part


class Decoder:
    """Puts one part together again.

    Args:
        part: its name, for messages.
        arrays: the arrays that `Encoder` produced.
        sharded: what lies on several ranks in the program, by array name or by its first two words.
    """

    def __init__(self, part: str, arrays: Mapping[str, Array], sharded: Mapping[str, Any] | None = None) -> None:
        self.part = part
        self.arrays = arrays
        self._sharded = sharded or {}
        self._made: dict[str, Any] = {}
        self._special: dict[str, Callable[[Any], Any]] = {
            "$float": float,
            "$tuple": lambda items: tuple(self.decode(item) for item in items),
            "$complex": lambda pair: complex(self.decode(pair[0]), self.decode(pair[1])),
            "$bytes": base64.b64decode,
            "$set": lambda items: {self.decode(item) for item in items},
            "$counter": lambda pairs: Counter({self.decode(key): count for key, count in pairs}),
            "$dict": lambda pairs: {self.decode(key): self.decode(item) for key, item in pairs},
        }

    def decode(self, node: Json) -> Any:
        """Return the value that was encoded as this JSON; references to one array give one object.

        Raises:
            CorruptCheckpoint: the JSON is not what `Encoder` writes.
        """
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$array" in node:
            return self._array(node)
        key = next(iter(node), "")
        if len(node) == 1 and key in self._special:
            try:
                return self._special[key](node[key])
            except (TypeError, ValueError, IndexError) as error:
                raise CorruptCheckpoint(f"The stored part {self.part!r} holds a malformed {key} ({error}).") from error
        if key.startswith("$"):
            return adapters.from_json(key, node[key], self.part)
        return {name: self.decode(item) for name, item in node.items()}

    def _array(self, node: Mapping[str, Any]) -> Any:
        name = node["$array"]
        if name not in self.arrays:
            raise CorruptCheckpoint(f"The stored part {self.part!r} refers to an array {name!r} that it does not hold.")
        if name not in self._made:
            like = self._sharded.get(name, self._sharded.get("/".join(name.split("/")[:2])))
            self._made[name] = adapters.from_array(self.arrays[name], node, like)
        return self._made[name]
