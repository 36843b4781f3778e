"""A provider's own verbs, such as its setup: arguments and output. The command line prints the output."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.launch.provider import Tell


@dataclass(frozen=True)
class Rows:
    """A table: names of the columns, and cells."""

    columns: Sequence[str]
    cells: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Json:
    """A value that is printed as JSON."""

    value: Any


@dataclass(frozen=True)
class Verb:
    """The verb `outlast PROVIDER NAME ...`.

    Attributes:
        name: the verb.
        usage: its arguments, for help.
        summary: one line for help.
        arguments: adds its arguments to a parser.
        run: executes the verb. It receives the parsed values and a function for messages, and yields lines, tables and
            JSON for the user.
    """

    name: str
    usage: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Tell], Iterator[str | Rows | Json]]
