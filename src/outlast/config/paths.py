"""Takes the folders of this machine out of what is published: of an absolute path only its last component stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_QUOTED = re.compile(r"""(['"`])((?:file:///|/|[A-Za-z]:\\)[^'"`\n]*)\1""")
_IN_WORDS = re.compile(
    r"""(?<![^\s(\[{=,;'"`])(?:file:///|sqlite:///+|/|[A-Za-z]:\\)[^\s'"`,;:()<>|\\/]+(?:[\\/]+[^\s'"`,;:()<>|\\/]+)*[\\/]?"""
)
_ABSOLUTE = re.compile(r"(?:file://)?(?:/|[A-Za-z]:[\\/]|\\\\)")


def without_folders(value: Any) -> Any:
    """A value of a configuration, in which the last component stands for each absolute path."""
    if isinstance(value, str):
        return _last(value)
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    return value


def origin_without_folders(words: str) -> str:
    """The words of an origin, such as "train /srv/x.yaml:3", in which a file has no folder if that is absolute."""
    layer, blank, where = words.partition(" ")
    return f"{layer}{blank}{_last(where)}"


def sentence_without_folders(sentence: str) -> str:
    """A sentence in which the last component stands for each absolute path, quoted or not; addresses stay."""
    quoted = _QUOTED.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", sentence)
    return _IN_WORDS.sub(lambda found: _last(found[0].removeprefix("sqlite://")), quoted)


def _last(text: str) -> str:
    if not _ABSOLUTE.match(text):
        return text
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
