"""Numbers of freight containers by ISO 6346: three letters of the owner, one of the category (U, J or Z), six digits
and a check digit, as in CSQU3054383."""

from __future__ import annotations

import re
from string import ascii_uppercase

_LETTERS = dict(zip(ascii_uppercase, (value for value in range(10, 39) if value % 11), strict=True))
"""A is 10, B is 12, ..., Z is 38: multiples of 11 (11, 22, 33) are skipped, as they would not change the check."""
_NUMBER = re.compile(r"[A-Z]{3}[UJZ][0-9]{6}([0-9])?")


def check_digit(number: str) -> int:
    """The check digit of a container number, 0 to 9, from its first ten characters.

    The values of the characters, times 1, 2, 4, ..., 512, are added; the digit is the remainder of the sum by 11. A
    remainder of 10 gives 0; ISO advises owners against numbers with it.

    Args:
        number: ten characters or, with its check digit, eleven; spaces and "-" are left out, small letters are large.

    Raises:
        ValueError: it is no container number.
    """
    plain = normalised(number)
    values = (_LETTERS[char] if char.isalpha() else int(char) for char in plain[:10])
    return sum(value << place for place, value in enumerate(values)) % 11 % 10


def is_valid(number: str) -> bool:
    """Whether this is a container number of eleven characters with the right check digit."""
    try:
        plain = normalised(number)
    except ValueError:
        return False
    return len(plain) == 11 and int(plain[10]) == check_digit(plain)


def normalised(number: str) -> str:
    """The ten or eleven characters of a container number; raises ValueError if it is none."""
    plain = re.sub(r"[\s-]", "", number).upper()
    if not _NUMBER.fullmatch(plain):
        raise ValueError(
            f"{number!r:.60} is no container number; expected three letters, U, J or Z, and six or seven digits, as in "
            "CSQU3054383"
        )
    return plain
