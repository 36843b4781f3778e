"""The code for another machine: outlast and files of the user in one zip, named by its hash; and the request to train.

The zip stores its files uncompressed, and is compressed as a whole to be sent. Compressed file by file, it would be
nearly twice as large.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import lzma
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import outlast
from outlast.config import as_flag, find_file
from outlast.config.units import format_bytes
from outlast.errors import UsageError
from outlast.folder import hashing
from outlast.recipe.prepare import PreparedRun
from outlast.recipe.registry import names

LARGEST = 20 * 2**20
"""Most bytes of code in a folder of the user. A larger folder contains data, which is not sent with the code."""

_CODE = (".py", ".sh", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini", ".txt", ".md")
_ELSEWHERE = ("__pycache__", "runs", "node_modules", "kaggle_output")
_SECRET = re.compile(r"(^|[_.-])(secrets?|tokens?|credentials?|passwords?|kaggle)([_.-]|$)", re.IGNORECASE)
"""In a folder of the user: suffixes of files that are sent, names of files and folders that are skipped, and names of
files (other than code) that may hold keys and are never sent."""

_SENT = ("flag", "train", "data", "model", "run")
"""Layers whose values are sent, because the other machine does not have them."""
_STAYS = ("checkpoint_dir", "experiment_name", "budget", "reserve", "log_csv", "log_dir", "results_dir", "scratch_dir")
"""Values that are not sent: they belong to this machine, or the launch sets them."""
_PUBLISH = "publish."
"""Prefix of the keys of values that are not sent: this machine publishes the run after the fetch."""


@dataclass(frozen=True)
class Bundle:
    """The code of a session.

    Attributes:
        data: the zip. Equal contents give equal bytes.
        files: the names in it.
        left_out: files of the user's folder that may hold keys and were not packed.
    """

    data: bytes
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """xxh3-128 of the zip, in hex."""
        return hashing.digest(self.data)

    @functools.cached_property
    def compressed(self) -> bytes:
        """The zip, compressed with xz."""
        return lzma.compress(self.data)


def request_of(prepared: PreparedRun, *, budget: float, step: int = 0) -> dict[str, Any]:
    """The training request for the other machine.

    It holds the recipe, the run with its chain and stage, the budget in seconds, the values that were given on this
    machine, whether the recipe supports several ranks, and the packages that it needs for these values.

    `step` is that of the checkpoint which is sent or attached. The session fails if it finds only an older one.
    """
    resolved = prepared.resolved
    given = {
        key: resolved.requested.get(key, value)  # this machine's limits do not apply to the other one
        for key, value in resolved.values.items()
        if (resolved.origins[key].layer in _SENT or key in resolved.requested)
        and key not in _STAYS
        and not key.startswith(_PUBLISH)
        and value is not None
    }
    return {
        "recipe": own_recipe(prepared.recipe.source) or prepared.recipe.source,
        "source": prepared.recipe.source,
        "run": prepared.run_id,
        "chain": prepared.chain,
        "stage": prepared.recipe.stage.name if prepared.recipe.stage else None,
        "budget": budget,
        "values": given,
        "ranks": prepared.recipe.ranks,
        "packages": list(packages(resolved.config)) if (packages := prepared.recipe.packages) else [],
        "step": step,
    }


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """The values of a request as flags."""

    def flag(key: str, value: Any) -> str:
        name = key.replace("_", "-")
        if isinstance(value, bool):
            return f"--{name}" if value else f"--no-{name}"
        return f"--{name}={as_flag(value)}"

    return [flag(key, value) for key, value in values.items()]


@dataclass(frozen=True)
class Files:
    """Files of the user that are sent.

    Attributes:
        paths: name in the bundle -> the file.
        left_out: files whose names look like those of keys, and that are not sent.
        recipe: name of the recipe of outlast that is trained; empty for one of the user, and for a command.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    recipe: str = ""


def make(files: Files, *, environments: Sequence[str] = (), wheels: Path | None = None) -> Bundle:
    """Pack outlast, the recipes of its own that are needed, and files of the user.

    The bundle does not depend on the request, so it is the same for every session of a run.

    Args:
        files: files of the user.
        environments: names of environments whose configs/environment/NAME.yaml is packed with the code.
        wheels: a folder of wheels, for a machine without internet.

    Raises:
        UsageError: there are no wheels.
    """
    package = Path(outlast.__file__).parent
    contents = dict(_python(package, "outlast"))
    recipes = package.parent / "outlast_recipes"
    others = set(names()) - _needed(files)
    if recipes.is_dir():
        found = _python(recipes, "outlast_recipes")
        contents |= {name: data for name, data in found if name.split("/")[1] not in others}
    contents |= _installed(others)
    for name in environments:
        if preferences := find_file(f"environment/{name}.yaml"):
            contents[f"outlast/configs/environment/{name}.yaml"] = preferences.read_bytes()
    contents |= {name: path.read_bytes() for name, path in files.paths.items()}
    if wheels is not None:
        contents |= _wheels(wheels)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), contents[name])
    return Bundle(packed.getvalue(), tuple(sorted(contents)), files.left_out)


def files_of(prepared: PreparedRun) -> Files:
    """The files of the user's own recipe; none for a recipe of outlast.

    Raises:
        UsageError: the recipe's folder is too large to be code, or the recipe belongs to an installed package.
    """
    recipe = prepared.recipe
    if own_recipe(recipe.source):
        source = Path(recipe.source)
        folder = source if source.is_dir() else source.parent
        files = code_below(folder, "recipe")
        check_size(
            files,
            f"The folder {folder}",
            "Give the recipe a folder of its own, and attach data as a dataset (--dataset OWNER/SLUG).",
        )
        return files
    if not f"{recipe.home}.".startswith("outlast_recipes."):
        raise UsageError(
            f"The recipe {recipe.source!r} belongs to an installed package, which cannot be sent; expected a "
            "recipe of outlast or a folder. Give the path of its recipe.py."
        )
    return Files(recipe=recipe.home.split(".")[1])


def _needed(files: Files) -> set[str]:
    """The recipes of outlast that are sent: the one that is trained, and those that the user's code names.

    All of them together would be too large for what Kaggle takes with a push.
    """
    found = {files.recipe} - {""}
    for path in files.paths.values():
        if path.suffix != ".py" or b"outlast_recipes" not in (text := path.read_bytes()):
            continue
        found |= {name for name in names() if re.search(rb"\b" + name.encode() + rb"\b", text)}
    return found


def own_recipe(source: str) -> str:
    """The path of a user's own recipe in the bundle; empty for a registered recipe.

    A registered name has priority over a folder with the same name.
    """
    path = Path(source)
    if source in names() or not (path.suffix == ".py" or path.is_dir()):
        return ""
    return "recipe" if path.is_dir() else f"recipe/{path.name}"


def _installed(others: Collection[str]) -> dict[str, bytes]:
    """A dist-info folder, which makes the unpacked bundle an installed package: recipes are found by entry point.

    `others` are recipes that the bundle lacks.
    """
    about = importlib.metadata.distribution("outlast")
    folder = f"outlast-{about.version}.dist-info"
    lines = (about.read_text("entry_points.txt") or "").splitlines(keepends=True)
    points = "".join(line for line in lines if line.partition("=")[0].strip() not in others)
    metadata = f"Metadata-Version: 2.1\nName: outlast\nVersion: {about.version}\n"
    return {f"{folder}/METADATA": metadata.encode(), f"{folder}/entry_points.txt": points.encode()}


def _python(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """A package's code and small data files.

    The configs are packed separately: a wheel has them inside the package, a checkout does not.
    """
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        code = path.suffix in (".py", ".typed", ".yaml", ".json", ".txt") and "__pycache__" not in path.parts
        if path.is_file() and code and inside.parts[0] != "configs":
            yield f"{name}/{inside.as_posix()}", path.read_bytes()


def _wheels(folder: Path) -> dict[str, bytes]:
    found = {f"wheels/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.whl"))}
    if not found:
        raise UsageError(
            f"{folder} holds no wheels. Make them with: pip download --only-binary :all: --python-version 3.12 -d "
            f"{folder} numpy pydantic PyYAML rich xxhash"
        )
    return found


def code_below(folder: Path, prefix: str, *, skip: Callable[[str], bool] = lambda _: False) -> Files:
    """The code in a folder of the user: files with suffixes of code. Links to folders are not followed.

    Args:
        folder: the folder.
        prefix: the folder in the bundle.
        skip: whether a path in the folder is skipped.
    """
    paths: dict[str, Path] = {}
    left_out = []
    for place, folders, names_here in os.walk(folder):
        location = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _ELSEWHERE and not (location / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names_here):
            path = location / name
            inside = path.relative_to(folder).as_posix()
            if name.startswith(".") or path.suffix not in _CODE or skip(inside) or not path.is_file():
                continue
            if path.suffix != ".py" and may_hold_keys(name):
                left_out.append(inside)
                continue
            paths[f"{prefix}/{inside}"] = path
    return Files(paths, tuple(left_out))


def may_hold_keys(name: str) -> bool:
    """Whether a file's name looks like that of a file with keys."""
    return bool(_SECRET.search(name))


def check_size(files: Files, what: str, advice: str) -> None:
    """Raise UsageError if files are too large to be code. `what` holds them, and `advice` says what to do."""
    sizes = {name: path.stat().st_size for name, path in files.paths.items()}
    if sum(sizes.values()) <= LARGEST:
        return
    names_of_largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    largest = ", ".join(f"{name.partition('/')[2]} ({format_bytes(sizes[name])})" for name in names_of_largest)
    raise UsageError(
        f"{what} holds more than {LARGEST // 2**20} MiB of {', '.join(_CODE)} files, the limit for code; the largest: "
        f"{largest}. {advice}"
    )
