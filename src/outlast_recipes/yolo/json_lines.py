"""JSON of a file, with the line on which each entry of its lists begins."""

from __future__ import annotations

import bisect
import json
import re
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")


class JsonRefused(Exception):
    """A text is no JSON object; the text says why, and `line` where."""

    def __init__(self, words: str, line: int) -> None:
        super().__init__(words)
        self.line = line


def read_object(text: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The object of a text, and for each key with a list the lines on which the entries of the list begin.

    Raises:
        JsonRefused: it is no JSON, no object, has a key twice, or has NaN or infinity, which are no JSON.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.ends = [found.start() for found in re.finditer("\n", text)]
        self.decoder = json.JSONDecoder(parse_constant=_no_constant)

    def scan(self) -> tuple[dict[str, Any], dict[str, list[int]]]:
        values: dict[str, Any] = {}
        lines: dict[str, list[int]] = {}
        self.take("{")
        char = self.take("}") if self.peek() == "}" else ","
        while char == ",":
            key, line = self.value()
            if not isinstance(key, str) or key in values:
                raise JsonRefused(f"expected another key, found {key!r:.60}", line)
            self.take(":")
            if self.peek() == "[":
                entries = self.entries()
                values[key], lines[key] = [value for value, _ in entries], [line for _, line in entries]
            else:
                values[key], _ = self.value()
            char = self.take(",}")
        if self.peek():
            raise JsonRefused("more text follows the object", self.line())
        return values, lines

    def entries(self) -> list[tuple[Any, int]]:
        """The entries of a list, each with its line."""
        found = []
        self.take("[")
        char = self.take("]") if self.peek() == "]" else ","
        while char == ",":
            found.append(self.value())
            char = self.take(",]")
        return found

    def value(self) -> tuple[Any, int]:
        """Any value, and the line on which it begins."""
        self.peek()
        line = self.line()
        try:
            value, self.at = self.decoder.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            raise JsonRefused(error.msg, error.lineno) from error
        except RecursionError as error:
            raise JsonRefused("is nested too deep", line) from error
        except ValueError as error:
            raise JsonRefused(str(error), line) from error
        return value, line

    def peek(self) -> str:
        """The next character after spaces, or nothing at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> str:
        char = self.peek()
        if not char or char not in expected:
            found = repr(char) if char else "the end"
            raise JsonRefused(f"expected {' or '.join(map(repr, expected))}, found {found}", self.line())
        self.at += 1
        return char

    def line(self) -> int:
        return bisect.bisect_left(self.ends, self.at) + 1


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
