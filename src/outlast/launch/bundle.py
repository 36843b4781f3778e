"""What travels to another machine: outlast itself, the recipe, and what was asked for, as one zip that is named by its contents."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import outlast
from outlast import files
from outlast.errors import UsageError
from outlast.recipe import Prepared

LARGEST = 20 * 2**20
"""Bytes of a user's recipe folder; more is data, and data does not travel with code."""

_CODE = (".py", ".yaml", ".yml", ".toml", ".json", ".txt", ".md")
_SECRET = ("secrets.json", "kaggle.json", "credentials.json")
"""Of a user's folder, what travels, and what never does."""

_SENT = ("flag", "train", "data", "model", "run")
"""Layers whose values are sent: what the other machine would not find by itself."""
_STAYS = ("checkpoint_dir", "experiment_name", "budget", "reserve", "log_csv", "log_dir", "output_dir")
"""Values that belong to this machine, or that the launch sets itself."""


@dataclass(frozen=True)
class Bundle:
    """Code and request.

    Attributes:
        data: the zip; the same for the same contents.
        files: the names in it.
    """

    data: bytes
    files: tuple[str, ...]

    @property
    def hash(self) -> str:
        """xxh3-128 of the zip, in hex."""
        return files.digest(self.data)


def request_of(prepared: Prepared, *, budget: float) -> dict[str, Any]:
    """What the other machine is to train: recipe, run, budget in seconds, the values that were given here, and whether on several ranks."""
    resolved = prepared.resolved
    given = {
        key: value
        for key, value in resolved.values.items()
        if resolved.origins[key].layer in _SENT and key not in _STAYS and value is not None
    }
    return {
        "recipe": prepared.recipe.source,
        "run": prepared.run_id,
        "budget": budget,
        "values": given,
        "ranks": prepared.recipe.ranks,
    }


def make(prepared: Prepared, request: Mapping[str, Any], *, wheels: Path | None = None) -> Bundle:
    """Pack outlast, the recipes that come with it, the user's own recipe, and the request.

    Args:
        prepared: what is to be trained.
        request: as of `request_of`.
        wheels: a folder of wheels for a machine that cannot install from the outside.

    Raises:
        UsageError: the user's recipe folder is too large to be code, or there are no wheels.
    """
    package = Path(outlast.__file__).parent
    contents = dict(_python(package, "outlast"))
    recipes = package.parent / "outlast_recipes"
    if recipes.is_dir():
        contents |= dict(_python(recipes, "outlast_recipes"))
    asked = dict(request)
    source = Path(prepared.recipe.source)
    if source.suffix == ".py" or source.is_dir():
        folder = source if source.is_dir() else source.parent
        contents |= dict(_own(folder))
        asked["recipe"] = "recipe" if source.is_dir() else f"recipe/{source.name}"
    if wheels is not None:
        contents |= _wheels(wheels)
    contents["request.json"] = json.dumps(asked, indent=1, sort_keys=True).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), contents[name], zipfile.ZIP_DEFLATED, 9)
    return Bundle(packed.getvalue(), tuple(sorted(contents)))


def _python(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".typed", ".yaml", ".json") and "__pycache__" not in path.parts:
            yield f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _wheels(folder: Path) -> dict[str, bytes]:
    found = {f"wheels/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.whl"))}
    if not found:
        raise UsageError(
            f"{folder} holds no wheels. Make them with: pip download --only-binary :all: --python-version 3.12 -d {folder} "
            "numpy pydantic PyYAML rich xxhash"
        )
    return found


def _own(folder: Path) -> Iterator[tuple[str, bytes]]:
    total = 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") or part in ("__pycache__", "runs") for part in inside.parts):
            continue
        if not path.is_file() or path.suffix not in _CODE or path.name in _SECRET:
            continue
        total += path.stat().st_size
        if total > LARGEST:
            raise UsageError(
                f"{folder} holds more than {LARGEST // 2**20} MiB, which is more than code. Keep data elsewhere, and attach it as a dataset."
            )
        yield f"recipe/{inside.as_posix()}", path.read_bytes()
