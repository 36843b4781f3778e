"""Validates given values with a recipe's model. An error is one sentence that names the place of the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from outlast.config.filelayer import LayerValue
from outlast.config.schema import Config
from outlast.config.words import show
from outlast.errors import ConfigError
from outlast.terminal import shortened

C = TypeVar("C", bound=Config)


def typed(model: type[C], given: Mapping[str, LayerValue]) -> C:
    """The config of these values; raises ConfigError.

    Args:
        model: the class.
        given: dotted key -> value and origin.
    """
    nested: dict[str, Any] = {}
    for key, item in given.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = item.value
    try:
        return model.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(_sentence(error.errors()[0], given)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


_EXPECTED = {
    "int_parsing": "a whole number", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_parsing": "a number", "float_type": "a number", "bool_parsing": "true or false",
    "bool_type": "true or false", "string_type": "a text", "path_type": "a path", "finite_number": "a finite number",
    "int_parsing_size": "a whole number that is not that long", "tuple_type": "a list", "list_type": "a list",
    "dict_type": "keys with values",
}  # fmt: skip


def _short(bound: Any) -> str:
    """A bound without needless decimals: 0, not 0.0."""
    return str(int(bound)) if isinstance(bound, float) and bound.is_integer() and abs(bound) < 2**53 else str(bound)


def _sentence(error: Any, given: Mapping[str, LayerValue]) -> str:
    """One sentence that names the place, the value found and what was expected."""
    parts = [str(part) for part in error["loc"]]
    key = next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in given), ".".join(parts))
    item = given.get(key)
    context = error.get("ctx", {})
    if error["type"] in _EXPECTED:
        expected = _EXPECTED[error["type"]]
    elif error["type"] == "literal_error":
        expected = f"one of {context['expected']}"
    elif error["type"] in ("greater_than_equal", "less_than_equal"):
        expected = f"at {'least' if 'ge' in context else 'most'} {_short(context.get('ge', context.get('le')))}"
    elif error["type"] in ("greater_than", "less_than"):
        expected = f"{'more' if 'gt' in context else 'less'} than {_short(context.get('gt', context.get('lt')))}"
    elif error["type"] == "multiple_of":
        expected = f"a multiple of {context['multiple_of']}"
    else:
        message = str(context.get("error", error["msg"]))
        expected = message.removeprefix("expected ")
    if item is None:
        message = context.get("error", error["msg"])
        return f"{key}: {message}." if key else f"{message}."  # without a key it is of several values
    place = item.origin.where if item.origin.layer == "flag" else f"{item.origin.where}: {key}"
    return f"{place} is {shortened(show(item.value))!r}; expected {expected}."
