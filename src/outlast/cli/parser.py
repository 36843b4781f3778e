"""The parser of a verb's flags; `-` and `_` are equivalent."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from outlast.config.units import parse_seconds
from outlast.config.words import nearest
from outlast.errors import UsageError
from outlast.terminal import shortened


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected a number above 0")
    return value


def whole(text: str, least: int, most: int) -> int:
    """A whole number within bounds, for argparse."""
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected a whole number from {least} to {most}")
    return int(text)


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

    def add_runs_folder(self) -> None:
        """The flag that names the folder of the runs: `layout.runs_root` takes what it gives."""
        self.add_argument(
            "--checkpoint-dir",
            "--root",
            metavar="PATH",
            help="folder that holds the run folders (default: OUTLAST_ROOT, or runs)",
        )

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parse all of argv; an unknown flag is refused with the nearest known one."""
        words = [dashed(word) for word in argv]
        own = words[: words.index("--")] if "--" in words else words
        self._check_switches(own, ())
        values, rest = self.parse_known_args(words)
        if rest:
            self._check_switches(own, rest[:1])
            known = [text for action in self._actions for text in action.option_strings]
            raise UsageError(
                f"{self.prog} takes no {shortened(repr(rest[0]))}.{nearest(rest[0], known)} `{self.prog} --help` lists "
                "what it takes."
            )
        return values

    def action_of(self, name: str) -> argparse.Action | None:
        """What a flag does, by one of its names; None for an unknown one."""
        return self._option_string_actions.get(name)

    def _check_switches(self, words: Sequence[str], unknown: Sequence[str]) -> None:
        """Raise if a switch is given a value: with "=", as a following "true" or "false", or as a word of `unknown`."""
        switches = {
            name: action
            for action in self._actions
            if action.nargs == 0 and action.dest != "help"
            for name in action.option_strings
        }
        for word, after in itertools.pairwise([*words, ""]):
            name, equals, value = word.partition("=")
            given = after.lower() in ("true", "false") or (after in unknown and not after.startswith("-"))
            if name not in switches or not (equals or given):
                continue
            value = value if equals else after
            raise UsageError(
                f"{self.prog}: {name} is {shortened(repr(value))}, and it takes no value. "
                f"{_instead(switches[name].option_strings, name, value)}"
            )


def _instead(names: Sequence[str], given: str, value: str) -> str:
    """What to write for a switch that was given a value."""
    on = next((name for name in names if not name.startswith("--no-")), None)
    off = next((name for name in names if name.startswith("--no-")), None)
    wants = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    wanted = wants.get(value.lower())
    if wanted is None:
        return f"Write {' or '.join(name for name in (on, off) if name)}."
    wanted = wanted != (given == off)
    name = given if wanted and given != off else on if wanted else off
    return f"Write {name}." if name else f"Leave {given} out."


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """The flags of a verb, and the command after `--`."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


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


def output(path: Path, example: str, endings: Sequence[str] = ()) -> Path:
    """The path of the file to be written. Only a regular file may exist there; it is replaced.

    Args:
        path: as the user gave it.
        example: a name for it.
        endings: what its name must end with, in lower case; empty: anything.

    Raises:
        UsageError: it is a folder, a device, a pipe, not a valid name, or has another ending.
    """
    try:
        if path.name and (not path.exists() or path.is_file()):
            if endings and path.suffix.lower() not in endings:
                raise UsageError(
                    f"--output is {shortened(repr(str(path)))}; expected a name that ends with {' or '.join(endings)}, "
                    f"such as {example}."
                )
            return path
        kind = "a folder" if path.is_dir() else "not a regular file"
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--output is {shortened(repr(str(path)))}; {getattr(error, 'strerror', None) or error}."
        ) from error
    raise UsageError(f"--output is {shortened(repr(str(path)))}, {kind}; give the name of a file, such as {example}.")
