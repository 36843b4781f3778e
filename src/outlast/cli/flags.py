"""Flags generated from a recipe's config; `-` and `_` are equivalent, and only given flags are passed on."""

from __future__ import annotations

import argparse
import contextlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.cli.parser import Parser, dashed
from outlast.config import Config, Leaf, find_file, leaves
from outlast.config.units import parse_seconds
from outlast.config.words import as_flag
from outlast.environment import NAMES
from outlast.errors import ConfigError, UsageError
from outlast.recipe.prepare import Request
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import find
from outlast.terminal import shortened

_SWITCHES = {
    "dry-run": "check everything, print the values, train nothing",
    "json": "print progress to stderr, one JSON object per line",
}
_FILES = ("data_config", "model_config", "train_config")

RECIPE = "path of the run's recipe file; a file that only the run names is never executed"


@contextlib.contextmanager
def looked_up() -> Iterator[None]:
    """Turn an OSError while arguments are looked up into one sentence. Errors of a training keep their traceback."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        raise UsageError(f"{shortened(error.filename)}: {error.strerror}.") from error


def pull(argv: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of one flag, and the other words. For flags that determine the parser.

    Raises:
        UsageError: the flag has no value.
    """
    value, rest, words = None, [], iter(argv)
    for word in words:
        name, equals, given = dashed(word).partition("=")
        if name != flag:
            rest.append(word)
            continue
        value = given if equals else next(words, None)
        if not value:
            raise UsageError(f"{flag} needs a value.")
    return value, rest


def training_parser(
    prog: str,
    description: str,
    config: type[Config],
    more: Mapping[str, Mapping[str, Any]] | None = None,
    leave_out: Sequence[str] = (),
) -> Parser:
    """The parser of train, config, doctor and launch for one recipe; `more`: the verb's own flags, by name."""
    parser = Parser(prog, description)
    where = parser.add_argument_group("environment and files")
    where.add_argument(
        "--env",
        "--environment",
        dest="environment",
        choices=("auto", *NAMES),
        default="auto",
        help="environment of this session (default: auto)",
    )
    for name, words in zip(_FILES, ("data", "model", "training"), strict=True):
        names = [f"--{name.replace('_', '-')}", *(["--experiment"] if name == "train_config" else [])]
        where.add_argument(*names, type=_config_file, metavar="YAML", help=f"{words} values from a file")
    where.add_argument(
        "--resume",
        "--resume-from",
        *(["--train.resume-from"] if any(leaf.key.startswith("train.") for leaf in leaves(config)) else []),
        metavar="RUN",
        help="a run's name or folder to continue, or an older checkpoint's folder to begin a new run from",
    )
    for name, words in _SWITCHES.items():
        if name not in leave_out:
            where.add_argument(f"--{name}", action="store_true", help=words)
    for name, options in (more or {}).items():
        where.add_argument(f"--{name}", **options)
    groups = {"": parser.add_argument_group("values")}
    for leaf in leaves(config):
        section = leaf.key.rpartition(".")[0]
        group = groups.setdefault(section, parser.add_argument_group(f"values of {section}") if section else groups[""])
        _add(group, leaf)
    return parser


def read(
    prog: str,
    description: str,
    argv: list[str],
    recipe: str | Recipe | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    leave_out: Sequence[str] = (),
) -> tuple[Recipe | None, Request, argparse.Namespace]:
    """Parse `RECIPE [flags]`, or just flags when the recipe is known, by name or found already.

    Returns:
        The recipe (None when help for no recipe in particular is wanted), the request, and the raw values.
    """
    if recipe is None and argv and not argv[0].startswith("-"):
        recipe, argv = argv[0], argv[1:]
    found = find(recipe) if isinstance(recipe, str) and recipe else recipe or None
    if found and found.stages:
        names = [*(stage.name for stage in found.links), "all"]
        more = {
            **(more or {}),
            "stage": {
                "choices": names,
                "help": "name of the only stage to train, or all: the unfinished ones, in order (default: all)",
            },
        }
    parser = training_parser(
        f"{prog} {found.source if found else 'RECIPE'}",
        found.summary if found else f"{description} `{prog} RECIPE --help` lists the recipe's own values and defaults.",
        found.Config if found else Config,
        more,
        leave_out,
    )
    values = parser.parse(argv)
    own = {"dry_run", "json", *(name.replace("-", "_") for name in more or {})}
    given = vars(values).copy()
    files = {name: given.pop(name) for name in _FILES}
    stage = given.get("stage")
    request = Request(
        environment=given.pop("environment"),
        resume=given.pop("resume"),
        stage=stage if found and found.stages and stage != "all" else None,
        flags={key: value for key, value in given.items() if key not in own},
        **files,
    )
    return found, request, values


def _config_file(text: str) -> Path:
    """The file of a flag; one below configs/ that is not here is that of the installed package, or of the checkout."""
    path = Path(text)
    if path.parts[:1] == ("configs",):
        with contextlib.suppress(OSError, ValueError):
            return find_file(str(Path(*path.parts[1:]))) or path
    return path


def _add(group: Any, leaf: Leaf) -> None:
    names = [f"--{leaf.key.replace('_', '-')}", *leaf.extra["flags"]]
    names.sort(key=lambda name: not name.startswith("--"))
    text = f"{leaf.info.description or leaf.key} (default: {as_flag(leaf.default)})".replace("%", "%%")
    choices = typing.get_args(leaf.info.annotation) if typing.get_origin(leaf.info.annotation) is typing.Literal else ()
    if choices:
        kind = f"{{{','.join(map(str, choices))}}}"
    elif any(getattr(item, "func", None) is parse_seconds for item in leaf.info.metadata):
        kind = "TIME"
    else:
        kind = next((word for kind, word in ((int, "N"), (float, "X"), (Path, "PATH")) if kind in leaf.kinds), "TEXT")
    form = {"action": argparse.BooleanOptionalAction} if bool in leaf.kinds else {"metavar": kind}
    try:
        group.add_argument(*names, dest=leaf.key, default=argparse.SUPPRESS, help=text, **form)
    except argparse.ArgumentError as error:
        raise ConfigError(
            f"The recipe's value {leaf.key!r} has the flags {', '.join(names)}, and {error.message.rpartition(' ')[2]} "
            "means something else already. "
            "Give the value another name."
        ) from error
