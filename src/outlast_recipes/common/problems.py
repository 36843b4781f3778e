"""What is wrong with a dataset, gathered, so that one report names all of it: what `outlast data check` prints."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, field

import outlast

FEW = 10
"""Warnings of a kind that a report lists, without --all. Errors are always listed, because each ends a training."""

_SHOWN = 5  # problems in the error that ends a training


def arguments(parser: ArgumentParser) -> None:
    """The argument that every `outlast data check` has."""
    parser.add_argument("--all", action="store_true", help=f"list all warnings, instead of {FEW} of a kind")


def counted(number: int, one: str, more: str = "") -> str:
    """A number with its noun, such as "1 class" or "20 classes"; `more` is the plural if it takes no s."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: a short name that problems of the same sort share.
        place: file, with the line where there is one.
        words: what was found, and what was expected.
        is_error: whether the dataset cannot be trained on.
    """

    kind: str
    place: str
    words: str
    is_error: bool

    def __str__(self) -> str:
        return f"{self.place}: {self.words}"


@dataclass
class Problems:
    """All problems of a dataset, in the order in which they were found."""

    found: list[Problem] = field(default_factory=list)

    def error(self, kind: str, place: object, words: str) -> None:
        self.found.append(Problem(kind, str(place), words, is_error=True))

    def warning(self, kind: str, place: object, words: str) -> None:
        self.found.append(Problem(kind, str(place), words, is_error=False))

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.found if problem.is_error]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.found if not problem.is_error]

    def report(self, *, every: bool) -> Iterator[str]:
        """A line for each problem, errors first and those of a kind together; then how many there are of each kind.

        Args:
            every: whether all warnings are listed, and not only the first of each kind.
        """
        counts: list[str] = []
        for title, problems in (("error", self.errors), ("warning", self.warnings)):
            kinds: dict[str, list[Problem]] = {}
            for problem in problems:
                kinds.setdefault(problem.kind, []).append(problem)
            for kind, same in kinds.items():
                listed = same if every or title == "error" else same[:FEW]
                yield from (f"{title}: {problem}" for problem in listed)
                rest = "" if len(listed) == len(same) else f"; {len(listed)} are listed above, and all with --all"
                counts.append(f"{counted(len(same), title)} of the kind {kind!r}{rest}")
        yield from counts

    def refuse(self, root: object, recipe: str) -> None:
        """Raise outlast.DataError if there are errors: with the first ones, and how to see the others.

        Args:
            root: the dataset, as it is given to `outlast data check`.
            recipe: name of the recipe.
        """
        errors = self.errors
        if not errors:
            return
        lines = "\n".join(str(problem) for problem in errors[:_SHOWN])
        raise outlast.DataError(
            f"{root} has {counted(len(errors), 'error')}, so it is not used. "
            f"`outlast data check {recipe} {shlex.quote(str(root))}` lists all of them.\n{lines}"
        )
