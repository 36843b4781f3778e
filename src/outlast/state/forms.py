"""Python types that JSON lacks. Each type has a special key, so that a value keeps its type."""

from __future__ import annotations

import base64
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

CONTAINERS = frozenset({dict, list, tuple, set, frozenset, deque, OrderedDict, defaultdict, Counter})
"""Only these classes. An instance of a subclass would be restored as another class, so it is refused."""

FACTORIES: dict[str, Callable[[], Any]] = {
    kind.__name__: kind for kind in (int, float, bool, str, list, dict, set, tuple)
}
"""The factories that a stored defaultdict may name. No other name in a file is looked up."""

_DIGITS = 1_000_000  # most characters of a stored whole number or decimal


class NoForm(Exception):
    """A container that cannot be restored exactly. The caller raises a StateError that names it."""


def is_unicode(text: str) -> bool:
    """Whether this text can be encoded as UTF-8. A file name with an undecodable byte cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_plain_key(key: Any) -> bool:
    """Whether a key can be used as the key of a JSON object without a special form."""
    return type(key) is str and not key.startswith("$") and is_unicode(key)


def raw(text: str) -> bytes:
    """The bytes of a text that cannot be encoded as UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def to_base64(data: bytes | bytearray) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode()


def to_json(value: Any) -> dict[str, Any] | None:
    """The JSON of a small value; None for containers, arrays and unknown types."""
    kind = type(value)
    if kind is complex:
        return {
            "$complex": [part if math.isfinite(part) else {"$float": repr(part)} for part in (value.real, value.imag)]
        }
    if kind is bytes:
        return {"$bytes": to_base64(value)}
    if kind is bytearray:
        return {"$bytearray": to_base64(value)}
    if _is_loaded("decimal", "Decimal", kind):
        return {"$decimal": str(value)}
    if _is_loaded("fractions", "Fraction", kind):
        return {"$fraction": [hex(value.numerator), hex(value.denominator)]}
    if kind is range:
        return {"$range": [hex(value.start), hex(value.stop), hex(value.step)]}
    return None


def _is_loaded(module: str, name: str, kind: type) -> bool:
    """Whether a class is this one; a value of it exists only where its module was imported."""
    return module in sys.modules and kind is getattr(sys.modules[module], name)


def take_apart(value: Any) -> tuple[str, Iterable[Any], Any]:
    """The special key of a container, its items or pairs, and its further facts (None: it has none).

    Raises:
        NoForm: a defaultdict with a factory that the program defines.
    """
    if isinstance(value, defaultdict):
        factory = value.default_factory
        name = next((name for name, known in FACTORIES.items() if known is factory), None)
        if factory is not None and name is None:
            raise NoForm(
                f"it is a defaultdict of {factory!r:.80}, and a checkpoint names no functions; use a factory such as "
                "int or list, or a plain dict"
            )
        return "$defaultdict", value.items(), [name]
    if isinstance(value, dict):
        kind = type(value)
        return (
            "$counter" if kind is Counter else "$ordereddict" if kind is OrderedDict else "$dict",
            value.items(),
            None,
        )
    if isinstance(value, deque):
        return "$deque", value, [value.maxlen]
    return "$tuple" if isinstance(value, tuple) else "$set" if isinstance(value, set) else "$frozenset", value, None


def _whole(text: Any) -> int:
    if not isinstance(text, str) or len(text) > _DIGITS:
        raise ValueError("a number that is no text, or too long a one")
    return int(text, 16)


def _decimal(text: Any) -> Decimal:
    if not isinstance(text, str) or len(text) > _DIGITS:
        raise ValueError("a number that is no text, or too long a one")
    from decimal import Decimal  # loaded where a state has one

    return Decimal(text)


def _fraction(pair: Any) -> Any:
    from fractions import Fraction

    return Fraction(*map(_whole, pair))


def _float(text: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"{text!r:.40} is none of nan, inf and -inf")
    return float(text)


def _complex(pair: Any) -> complex:
    real, imaginary = (_float(part["$float"]) if isinstance(part, dict) else float(part) for part in pair)
    return complex(real, imaginary)


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


TO_VALUE: dict[str, Callable[[Any], Any]] = {
    "$int": _whole,
    "$float": _float,
    "$text": lambda text: _bytes(text).decode("utf-8", "surrogatepass"),
    "$complex": _complex,
    "$bytes": _bytes,
    "$bytearray": lambda text: bytearray(_bytes(text)),
    "$decimal": _decimal,
    "$fraction": _fraction,
    "$range": lambda ends: range(*map(_whole, ends)),
}
"""Special key -> function that rebuilds the value from its JSON."""

PAIRS = {"$dict", "$counter", "$ordereddict", "$defaultdict"}
"""Keys whose content is a list of pairs."""

WITH_FACTS = {"$defaultdict", "$deque"}
"""Keys whose content has two elements: the items, and the further facts of the container."""

PUT_TOGETHER: dict[str, Callable[[list[Any], Any], Any]] = {
    "$tuple": lambda items, _: tuple(items),
    "$set": lambda items, _: set(items),
    "$frozenset": lambda items, _: frozenset(items),
    "$deque": lambda items, facts: deque(items, facts[0]),
    "$dict": lambda pairs, _: dict(pairs),
    "$counter": lambda pairs, _: Counter(dict(pairs)),
    "$ordereddict": lambda pairs, _: OrderedDict(pairs),
    "$defaultdict": lambda pairs, facts: defaultdict(None if facts[0] is None else FACTORIES[facts[0]], pairs),
}
"""Special key -> function that rebuilds the container from its decoded content and its further facts."""
