"""What is wrong with a dataset, gathered, so that one report names all of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import outlast

_SHOWN = 5  # problems in the error that ends a training


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

    def report(self, most: int | None) -> Iterator[str]:
        """One line for each problem, errors first and those of a kind together; at most so many of a kind."""
        for title, problems in (("error", self.errors), ("warning", self.warnings)):
            kinds: dict[str, list[Problem]] = {}
            for problem in problems:
                kinds.setdefault(problem.kind, []).append(problem)
            for kind, same in kinds.items():
                yield from (f"{title}: {problem}" for problem in same[:most])
                if most is not None and len(same) > most:
                    yield f"{title}: {len(same) - most} more of the kind {kind!r}; --all lists them"

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
