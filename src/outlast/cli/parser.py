"""The parser of a verb's flags; `-` and `_` are equivalent."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from outlast.config.units import parse_seconds
from outlast.config.words import nearest
from outlast.errors import UsageError
from outlast.terminal import shortened


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"is {text}; expected more than 0")
    return value


class Parser(argparse.ArgumentParser):
    """An argparse parser that accepts `--batch_size` for `--batch-size`, and has outlast's error messages.

    Args:
        prog: the command, such as "outlast train".
        description: one line.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, add_help=True)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise UsageError(f"{self.prog}: {shortened(message, 300)}. `{self.prog} --help` lists what it takes.")

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parse all of argv; an unknown flag is refused with the nearest known one."""
        values, rest = self.parse_known_args([dashed(word) for word in argv])
        if rest:
            known = [text for action in self._actions for text in action.option_strings]
            raise UsageError(
                f"{self.prog} takes no {shortened(repr(rest[0]))}.{nearest(rest[0], known)} `{self.prog} --help` lists "
                "what it takes."
            )
        return values


def dashed(word: str) -> str:
    """A flag with `-` for each `_` in its name; any other word is unchanged."""
    match = re.match(r"--[A-Za-z][\w.-]*", word)
    return match[0].replace("_", "-") + word[match.end() :] if match else word


def seconds(text: str) -> float:
    """The seconds of a duration, for argparse."""
    try:
        value = parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {text!r}: {error}") from None
    if not value or value <= 0:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected more than 0 seconds")
    return float(value)
