"""Output to the terminal: control characters in names, files, records and remote text are escaped.

`visible` is the one place where control characters are made harmless; whatever prints calls it. JSON escapes them by
itself.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any

_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories: control characters (C0, C1, DEL), formats (also those that turn the direction of text), halves of pairs,
line and paragraph ends."""
_JOINERS = "\u200c\u200d"  # parts of words in Persian and of emoji
TAB = "\t"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

LONGEST = 200
"""Characters of a value that a message repeats."""


def visible(text: object, *, keep: str = "") -> str:
    r"""The text with control characters as escapes: `\x1b`, `\n`, `\u202e`.

    Args:
        text: anything that has a text.
        keep: control characters that stay, such as line ends.
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(_escape(char) if char not in keep and _harmful(char) else char for char in words)


def lines(text: object) -> str:
    """A sentence that may have several lines.

    The later ones are indented, so that none of them passes for a sentence of its own.
    """
    return visible(text, keep="\n").rstrip("\n").replace("\n", "\n  ")


def shortened(text: object, limit: int = LONGEST, *, keep: str = "") -> str:
    """The text, visible, and cut in the middle when it is long."""
    words = visible(_digits(text) if isinstance(text, int) and not isinstance(text, bool) else text, keep=keep)
    if len(words) <= limit:
        return words
    tail = limit // 4
    return f"{words[: limit - tail]}... ({len(words)} characters) ...{words[-tail:]}"


def measured(value: object) -> str:
    """A metric with four digits, however large it is, or whatever else someone logged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "none" if value is None else shortened(value, 60)
    try:
        return f"{value:.4g}"
    except OverflowError:  # an int beyond all floats
        from decimal import Decimal

        return f"{Decimal(value):.4g}"


def measures(metrics: Any) -> str:
    """Metrics as one line, each with its name."""
    return ", ".join(f"{shortened(name, 60)} {measured(value)}" for name, value in metrics.items())


def command(*words: object) -> str:
    """A command line to be pasted into a shell: every word quoted that needs it; None is left out."""
    return shlex.join(str(word) for word in words if word is not None)


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as "1 session" or "1,200 steps"; for nouns whose plural takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def say(*sentences: object, error: bool = False) -> None:
    """Print each on a line of its own, visible but for tabs; an empty line without any. `error`: on stderr."""
    stream = sys.stderr if error else sys.stdout
    stream.write("".join(f"{visible(sentence, keep=TAB)}\n" for sentence in sentences or ("",)))
    stream.flush()


def say_json(value: object, indent: int | None = None) -> None:
    """Print a value as JSON.

    NaN and infinities, which JSON has no numbers for, are printed as the words that the journal has for them.
    """
    sys.stdout.write(json.dumps(_plain(value), indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _harmful(char: str) -> bool:
    return unicodedata.category(char) in _ESCAPED and char not in _JOINERS


def _escape(char: str) -> str:
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name that is no text
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _digits(number: int) -> str:
    """Python refuses to write numbers of more than 4,300 digits."""
    return (
        str(number) if number.bit_length() < 10_000 else f"a number of {int(number.bit_length() * 0.30103) + 1} digits"
    )


def number(value: Any) -> str:
    """A value in a message about a whole number; Python does not print one of thousands of digits."""
    if not isinstance(value, int) or abs(value) < 10**30:
        return f"{value!r:.80}"
    return f"{'-' if value < 0 else ''}2**{abs(value).bit_length() - 1} or so"


def type_of(value: object, *, full: bool = False) -> str:
    """The type of an object with its article: "an int", "a Tensor"; in `full` with its module, "a torch.Tensor"."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}" if full else kind.__qualname__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def clean(text: Any) -> str:
    """Any text as one that UTF-8 can hold: file names that are no UTF-8 come as lone surrogates."""
    try:
        text = str(text)
    except Exception as error:  # noqa: BLE001 - whatever an object does when it is printed
        text = f"a {type(text).__qualname__} that cannot be printed ({type(error).__name__})"
    return text if text.isascii() else str(text.encode("utf-8", "backslashreplace").decode())


def words_of(error: BaseException | None) -> str:
    """An error as the record keeps it."""
    return f"{type(error).__name__}: {clean(error)}"
