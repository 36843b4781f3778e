"""Finds a recipe by the name of an installed one, or by the path of its file, which only the user may give.

A record that came from elsewhere (run.json, a launch) may name any file; nothing that it names is imported, unless it
is installed or the user has named that very file in this process.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.config.words import nearest
from outlast.errors import UnknownName, UsageError
from outlast.folder import hashing
from outlast.recipe import threads
from outlast.recipe.recipe import Recipe
from outlast.terminal import command, shortened

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "outlast.recipes"

_NAMED: set[Path] = set()
"""Files that the user has named as recipes in this process."""


def names() -> list[str]:
    """Installed recipes by name."""
    return sorted(point.name for point in _points())


def find(name: str) -> Recipe:
    """The recipe that the user has named.

    An installed one, or a path to a folder with recipe.py, or to such a file, which is imported.

    Raises:
        UnknownName: there is none.
        UsageError: it needs a package that is not installed, its file cannot be read or run, or it does not define
            `recipe`.
    """
    if found := _installed(name):
        return found
    if path := _file_of(name):
        _NAMED.add(path.resolve())
        return _from_file(path, name)
    raise UnknownName(
        f"There is no recipe {shortened(repr(name))}; the recipes are: {', '.join(names())}.{nearest(name, names())} A "
        "path to a recipe.py works too."
    )


def source_of(name: str) -> tuple[str, Path]:
    """The name of a recipe and the folder of its files; of an installed one without running its code.

    Raises:
        UnknownName, UsageError: as of `find`.
    """
    if point := _point(name):
        spec = importlib.util.find_spec(point.module)
        if spec and spec.origin:
            return name, Path(spec.origin).parent
    path = _file_of(name)
    return find(name).name, path.resolve().parent if path else Path()


def stored(name: object, said_by: Path, otherwise: str = "") -> Recipe:
    """The recipe that a record names: an installed one, or a file that the user has named as well.

    Args:
        name: what the record says.
        said_by: the record.
        otherwise: a sentence on what can be done without the recipe.

    Raises:
        UsageError: it is a file that the user has not named, or not installed.
    """
    if not isinstance(name, str):
        raise UsageError(f"{said_by} is damaged: its recipe is {shortened(repr(name), 60)}; expected a name.")
    if found := _installed(name):
        return found
    path = _file_of(name)
    if path and path.resolve() in _NAMED:
        return _from_file(path, name)
    words = f" {otherwise}" if otherwise else ""
    if path or "/" in name or name.endswith(".py"):
        raise UsageError(
            f"{said_by} names the recipe {shortened(name)}, which is a file, and outlast never runs a file because a "
            f"run folder names it. If you trust it, give it yourself: {command('--recipe', name)}.{words}"
        )
    raise UsageError(
        f"{said_by} names the recipe {shortened(name)}, which is not installed here; installed are "
        f"{', '.join(names())}. Give the path of its "
        f"recipe.py with --recipe.{words}"
    )


def is_installed(name: object) -> bool:
    """Whether this names a recipe that needs no path."""
    return name in names()


def _point(name: str) -> EntryPoint | None:
    return next((point for point in _points() if point.name == name), None)


def _points() -> Iterable[EntryPoint]:
    from importlib import metadata  # 40 ms, which `outlast status` need not take

    return _points_of(metadata.entry_points, tuple((place, _changed(place)) for place in sys.path))


@functools.lru_cache(1)
def _points_of(
    read: Callable[..., Iterable[EntryPoint]],
    places: tuple[tuple[str, int], ...],  # noqa: ARG001 - what is read
) -> Iterable[EntryPoint]:
    """The entry points in some folders. A launch asks ten times, and reading those of 160 packages takes 14 ms."""
    return read(group=GROUP)


def _changed(place: str) -> int:
    """When a folder got or lost an entry, in ns; 0 if there is none. A package that is installed adds one."""
    try:
        return os.stat(place or ".").st_mtime_ns  # noqa: PTH116 - an entry of sys.path
    except OSError:
        return 0


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import frameworks: their threads are settled before, and the cyclic garbage collector passes over their objects.

    While modules are imported the collector frees nothing, and looks through all of them again and again. At the end
    of the process it does that several times: one that has imported torch then ends in less than half of the time.
    """
    threads.settle()
    if not gc.isenabled():  # as the user wants it, or because this one is in another
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _installed(name: str) -> Recipe | None:
    point = _point(name)
    if point is None:
        return None
    try:
        with _importing():
            found = point.load()
    except ModuleNotFoundError as error:
        raise _needs(name, error) from error
    if not isinstance(found, Recipe):
        raise UsageError(
            f"The installed recipe {name!r} ({point.value}) is {type(found).__name__}; expected an outlast.Recipe."
        )
    return replace(found, source=name, package=point.module.rpartition(".")[0])


def loaded(recipe: Recipe) -> Recipe:
    """A recipe with the functions of its `code`, which is imported.

    Raises:
        UsageError: it needs a package that is not installed, cannot be read, or has no `train`.
    """
    if recipe.code is None:
        return recipe
    if recipe.code.startswith(".") and not recipe.package:
        raise UsageError(
            f"The recipe {recipe.name!r} was not found by its name or path, so it is not known where its code "
            f"{recipe.code!r} is. Give the whole name of that module."
        )
    try:
        with _importing():
            module = importlib.import_module(recipe.code, recipe.package or None)
    except ModuleNotFoundError as error:
        raise _needs(recipe.source or recipe.name, error) from error
    except SyntaxError as error:
        raise UsageError(f"{error.filename}:{error.lineno} cannot be imported as a Python file: {error}.") from error
    train = None if recipe.stages else getattr(module, "train", None)
    if not recipe.stages and not callable(train):
        raise UsageError(f"{recipe.code} of the recipe {recipe.name!r} defines no function `train`.")
    more = {name: getattr(module, name) for name in ("check", "commands", "exports", "before") if hasattr(module, name)}
    return replace(recipe, code=None, train=train, **more)


def _needs(name: str, error: ModuleNotFoundError) -> UsageError:
    point = _point(name)
    if point is None:
        return UsageError(f"{name} needs {error.name}, which is not installed.")
    extra = _extra(point, error.name or "")
    return UsageError(f"The recipe {name!r} needs {error.name}, which is not installed. Install {extra}.")


def _extra(point: EntryPoint, package: str) -> str:
    """What to install for a package: the smallest extra of the recipe's distribution that has it, or the package."""
    extras: dict[str, list[str]] = {}
    for line in (point.dist.requires if point.dist else None) or ():
        if found := re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line):
            extras.setdefault(found[2], []).append(found[1])
    having = [name for name, packages in extras.items() if package in packages and name not in ("all", "dev")]
    if point.dist is None or not having:
        return "it"
    smallest = min(having, key=lambda name: len(extras[name]))
    return f"its extra, such as pip install '{point.dist.name}[{smallest}]'"


def _file_of(name: str) -> Path | None:
    try:
        path = Path(name)
        path = path / "recipe.py" if path.is_dir() else path
        return path if path.suffix == ".py" and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _from_file(path: Path, source: str) -> Recipe:
    name = f"outlast_user_recipe_{hashing.digest(str(path.resolve()).encode(errors='surrogateescape'))[:8]}"
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)])
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported as a Python file.")
    if not _may_define_recipe(path):
        raise UsageError(
            f"{path} defines no `recipe`, so it was not run. A recipe's file ends with recipe = "
            "outlast.Recipe(name=..., summary=..., Config=..., train=...). A script needs none: "
            f"{command('outlast', 'run', '--', 'python', str(path))}."
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing():
            spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{path} needs {error.name}, which is not installed.") from error
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path}{line} cannot be imported as a Python file: {reason}.") from error
    found = getattr(module, "recipe", None)
    if not isinstance(found, Recipe):
        raise UsageError(
            f"{path} defines no `recipe`; end it with recipe = outlast.Recipe(name=..., summary=..., Config=..., "
            "train=...)."
        )
    return replace(found, source=source, package=name)


def _may_define_recipe(path: Path) -> bool:
    """Whether a file binds the name `recipe`, by its text: to import a training script would train.

    True if that cannot be told, as for a file that Python cannot read; importing it then says why.
    """
    import ast  # only where a file is named

    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name in ("recipe", "__getattr__"):
                return True
            continue  # names in it are its own
        if isinstance(node, ast.alias) and (node.asname or node.name) in ("recipe", "*"):
            return True
        if isinstance(node, ast.Name) and node.id in ("globals", "vars", "setattr", "exec"):  # may bind any name
            return True
        if isinstance(node, ast.Name) and node.id == "recipe" and isinstance(node.ctx, ast.Store):
            return True
        waiting.extend(ast.iter_child_nodes(node))
    return False
