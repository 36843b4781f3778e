"""Numbers from their digits, many at a time: eight characters are one integer, on which NumPy computes.

Source of the arithmetic on eight digits: D. Lemire, "Number parsing at a gigabyte per second", Software: Practice and
Experience 51 (2021), section 4.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.intp]
Words: TypeAlias = NDArray[np.uint64]

_PAD = 160  # bytes after the text, so that a word can be taken at each of its places
_WORDS = {b'"NaN"': float("nan"), b'"Infinity"': float("inf"), b'"-Infinity"': float("-inf")}


def _of(byte: int) -> np.uint64:
    """A word of eight equal bytes."""
    return np.uint64(byte * 0x0101010101010101)


_ZEROS, _DOTS, _ONES, _HIGH, _SIXES, _NIBBLES = map(_of, (0x30, 0x2E, 0x01, 0x80, 0x06, 0xF0))
_THREES = _of(0x33)
_LOW = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
"""Masks of the first bytes of a word, by their number."""
_PLACE_OF_BIT = np.uint64(sum(number << (61 - 8 * number) for number in range(8)))
_POWERS = 10.0 ** np.arange(25)


class Text:
    """A text, of which words of eight bytes can be taken at any place.

    Attributes:
        codes: its bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        padded = np.frombuffer(data + bytes(_PAD), np.uint8)
        self.codes = padded[: len(data)]
        self._words: Words = np.ndarray((len(padded) - 7,), np.dtype("<u8"), padded, strides=(1,))

    def all_of(self, code: int) -> Places:
        """The places of a byte."""
        return np.flatnonzero(self.codes == code)

    def has(self, places: Places, words: bytes) -> NDArray[np.bool_]:
        """Whether the text has these words at each of these places."""
        found: NDArray[np.bool_] = np.ones(len(places), dtype=bool)
        for at in [*range(0, len(words) - 7, 8), max(0, len(words) - 8)]:
            piece = words[at : at + 8]
            taken = self._words[places + at]
            if len(piece) < 8:
                taken &= _LOW[len(piece)]
            found &= taken == np.uint64(int.from_bytes(piece, "little"))
        return found

    def numbers(self, starts: Places, ends: Places, wanted: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
        """The numbers between places, and which of them could be read; the others, and unwanted ones, are undefined."""
        starts = np.minimum(starts, len(self.codes))
        negative = self._words[starts] & _LOW[1] == ord("-")
        values, sure = self._decimals(starts + negative, ends)
        if negative.any():
            values[negative] *= -1.0
        readable = sure.copy()
        for number in np.flatnonzero(wanted & ~sure):
            token = self._data[starts[number] : ends[number]]
            try:
                values[number] = _WORDS[token] if token in _WORDS else float(token)
                readable[number] = token in _WORDS or (b"_" not in token and token[-1:].isdigit())
            except ValueError:
                continue
        return values, readable

    def _decimals(self, starts: Places, ends: Places) -> tuple[Floats, NDArray[np.bool_]]:
        """Digits with at most one point among the first eight characters, 24 characters at most."""
        length = ends - starts
        first, second, third = (self._filled(starts + at, length - at) for at in (0, 8, 16))
        different = first ^ _DOTS
        hits = (different - _ONES) & ~different & _HIGH
        has_point = hits != 0
        bit = (hits & (~hits + np.uint64(1))) >> np.uint64(7)
        whole = np.where(has_point, (bit * _PLACE_OF_BIT) >> np.uint64(61), length).astype(np.intp)
        low = _LOW[np.where(has_point, whole, 8)]
        move = np.where(has_point, np.uint64(8), np.uint64(0))
        first = (first & low) | (((first >> np.uint64(8)) | (second << np.uint64(56))) & ~low)
        second = np.where(has_point, (second >> np.uint64(8)) | (third << np.uint64(56)), second)
        third = np.where(has_point, (third >> move) | (_ZEROS & ~_LOW[7]), third)
        sure = (length >= 1) & (length <= 24) & (whole >= 1) & (has_point | (length <= 16))
        sure &= _are_digits(first) & _are_digits(second) & _are_digits(third)
        whole = np.clip(whole, 0, 16)
        values = (_eight(first) * 1e8 + _eight(second)) / _POWERS[16 - whole]
        values += _eight(third) / _POWERS[24 - whole]
        return values, sure

    def _filled(self, places: Places, length: Places) -> Words:
        """The words at places, with "0" after the first `length` bytes."""
        low = _LOW[np.clip(length, 0, 8)]
        return (self._words[np.minimum(places, len(self._words) - 1)] & low) | (_ZEROS & ~low)


def _are_digits(words: Words) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (words & _NIBBLES) | (((words + _SIXES) & _NIBBLES) >> np.uint64(4)) == _THREES
    return found


def _eight(words: Words) -> Floats:
    """The numbers that eight digits make."""
    digits = words - _ZEROS
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    mask = np.uint64(0x000000FF000000FF)
    sums = (pairs & mask) * np.uint64(0x000F424000000064) + ((pairs >> np.uint64(16)) & mask) * np.uint64(
        0x0000271000000001
    )
    return (sums >> np.uint64(32)).astype(np.float64)
