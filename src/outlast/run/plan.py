"""What another process of outlast asks of a training by an environment variable: a dataclass as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from outlast.errors import UsageError

if TYPE_CHECKING:
    P = TypeVar("P", bound="Asked")


class Asked:
    """The base of a plan: a dataclass whose values are JSON."""

    def as_text(self) -> str:
        """The value of the variable."""
        return json.dumps(asdict(self))  # type: ignore[call-overload]


def read(kind: type[P], variable: str, verb: str, variables: Mapping[str, str]) -> P | None:
    """The plan in a variable, or None.

    Args:
        kind: its dataclass.
        variable: name of the variable.
        verb: who alone sets it, for the message.
        variables: the environment.

    Raises:
        UsageError: it is none.
    """
    text: Any = variables.get(variable)
    if not text:
        return None
    try:
        return kind(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{variable} is set and is no plan of `{verb}`, which alone sets it: {error}. Unset it."
        ) from None
