"""The options of a provider: one table for flags, settings and records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from outlast.config.units import format_seconds, parse_seconds

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Option:
    """One option of a provider.

    Attributes:
        name: name of the flag, and key in outlast-launch.yaml and in a launch record.
        help: a phrase.
        kind: "choice", "switch", "list", "path", "seconds" or "whole", a whole number of at least 1.
        default: the default value; of a kind but "choice" and "switch" it may be None.
        choices: the values of a "choice".
        setting: whether outlast-launch.yaml may contain it.
        repeated: whether the next launch of a run uses the value of the last one. False for a folder of code, which
            the user must give each time.
        metavar: the placeholder of the value in help.
        absent: the words of help for no value.
        meanings: other words for a value that a file may contain, such as "gpu".
        remark: for a key of a file that is no flag: the sentence about each of its `choices`; empty if there is none.
    """

    name: str
    help: str
    kind: Literal["choice", "switch", "list", "path", "seconds", "whole", "text"]
    default: Any = None
    choices: tuple[str, ...] = ()
    setting: bool = False
    repeated: bool = True
    metavar: str = ""
    absent: str = "none"
    meanings: Mapping[str, str] = field(default_factory=dict)
    remark: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: Any) -> Any:
        """Convert a value of a settings file or a record to JSON.

        Raises:
            ValueError: it is no value of this option; the message names the expected kind.
        """
        if value is None and self.default is None and self.kind in ("path", "list", "seconds", "whole", "text"):
            return None
        if self.kind == "choice" and isinstance(value, str) and self.meanings.get(value, value) in self.choices:
            return self.meanings.get(value, value)
        if (
            self.kind == "switch" and str(value).lower() in _SWITCH
        ):  # YAML values are read as text, so that none is converted
            return _SWITCH[str(value).lower()]
        if self.kind == "list" and isinstance(value, list) and all(isinstance(each, str) for each in value):
            return value
        if self.kind == "text" and isinstance(value, str) and value:
            return value
        if self.kind == "path" and isinstance(value, str | Path):
            return str(value)
        if self.kind == "seconds" and isinstance(value, int | float | str) and not isinstance(value, bool):
            seconds = parse_seconds(value)
            if seconds > 0:
                return seconds
        if self.kind == "whole" and not isinstance(value, bool) and (number := _whole(value)):
            return number
        raise ValueError(f"expected {self.expected}")

    @property
    def expected(self) -> str:
        """The expected kind of value, as text."""
        words = {
            "switch": "true or false",
            "list": "a list of names",
            "path": "a path",
            "text": "a text",
            "seconds": "a duration such as 20s",
            "whole": "a whole number from 1 to 9999",
        }
        return f"one of {', '.join(self.choices)}" if self.kind == "choice" else words[self.kind]

    @property
    def shown(self) -> str:
        """The default, as text for help."""
        if self.kind == "seconds" and self.default is not None:
            return format_seconds(self.default)
        if self.kind == "switch":
            return "yes" if self.default else "no"
        return self.default if self.kind in ("choice", "text") and self.default else self.absent


def _whole(value: Any) -> int | None:
    """A number from 1 to 9999, or its text; None for anything else."""
    text = str(value)
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,3}", text) else None


def defaults(options: Sequence[Option], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values of all options: given ones, otherwise the defaults."""
    values = given or {}
    return {option.name: values.get(option.name, option.default) for option in options}
