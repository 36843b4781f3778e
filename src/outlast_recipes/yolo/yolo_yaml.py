"""data.yaml of a YOLO folder. It is read as data: nothing that it names is downloaded, imported or run."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from outlast_recipes.yolo.files import Place, exists

MOST_NAMES = 10_000
MOST_KEYPOINTS = 1_000
_MOST_DIGITS = 100
_SPLITS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}


@dataclass
class DataFile:
    """What a data.yaml says.

    Attributes:
        path: of the file.
        names: of the classes.
        splits: name -> folders of images, or text files with their paths.
        keypoints: K, 0 without.
        dimensions: numbers of a keypoint: x and y, or also its visibility.
        flip_index: see `data.Dataset`.
    """

    path: Path
    names: tuple[str, ...] = ()
    splits: dict[str, list[Path]] = field(default_factory=dict)
    keypoints: int = 0
    dimensions: int = 3
    flip_index: tuple[int, ...] | None = None


def read_data_yaml(path: Path, place: Place) -> DataFile | None:
    """The file, with every path in it checked; None after errors that leave nothing to read."""
    entries = _entries(path, place)
    if entries is None:
        return None
    file = _Reader(path, place, entries)
    found = DataFile(path, names=file.names())
    found.keypoints, found.dimensions, found.flip_index = file.keypoints()
    base = file.base()
    for split, keys in _SPLITS.items():
        key = next((key for key in keys if entries.get(key, (None, 0))[0] is not None), None)
        if key:
            found.splits[split] = file.paths(key, base)
        elif split != "test":
            place.problems.error("split", file.at(split), f"names no images; expected '{split}:' and a folder of them.")
    if entries.get("download", (None, 0))[0]:
        place.problems.warning("download", file.at("download"), "is ignored: nothing is downloaded or run.")
    return found if found.names else None


class _Loader(yaml.SafeLoader):
    """Without numbers that are too long to be printed."""

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of more than {_MOST_DIGITS} digits", node.start_mark
            )
        number: int = super().construct_yaml_int(node)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _entries(path: Path, place: Place) -> dict[str, tuple[Any, int]] | None:
    """Key -> value and line."""
    text, shown = place.read_text(path), place.shown(path)
    if text is None:
        return None
    if len(text) > 2**20:
        place.problems.error("yaml", shown, "has more than 1 MiB; expected a short file with names and paths.")
        return None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            place.problems.error("yaml", shown, "expected keys and values: train, val, names.")
            return None
        entries: dict[str, tuple[Any, int]] = {}
        for key_node, value_node in node.value:
            key, line = str(loader.construct_object(key_node)), key_node.start_mark.line + 1
            if key in entries:
                place.problems.error("yaml", f"{shown}:{line}", f"{key!r:.60} is given twice; expected once.")
            entries[key] = (loader.construct_object(value_node, deep=True), line)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        words = str(getattr(error, "problem", None) or type(error).__name__)
        place.problems.error("yaml", f"{shown}:{mark.line + 1}" if mark else shown, f"is no YAML: {words}.")
        return None
    finally:
        loader.dispose()
    return entries


@dataclass(frozen=True)
class _Reader:
    path: Path
    place: Place
    entries: Mapping[str, tuple[Any, int]]

    def at(self, key: str) -> str:
        line = self.entries.get(key, (None, 0))[1]
        return f"{self.place.shown(self.path)}:{line}" if line else self.place.shown(self.path)

    def _wrong(self, key: str, expected: str) -> None:
        found = reprlib.repr(self.entries[key][0]) if key in self.entries else "missing"
        self.place.problems.error("yaml", self.at(key), f"{key} is {found}; expected {expected}.")

    def names(self) -> tuple[str, ...]:
        value = self.entries.get("names", (None, 0))[0]
        if isinstance(value, dict) and sorted(map(str, value)) == sorted(map(str, range(len(value)))):
            value = [name for _, name in sorted(value.items(), key=lambda item: int(item[0]))]
        if not isinstance(value, list) or not 0 < len(value) <= MOST_NAMES:
            self._wrong("names", "a list of class names, or numbers from 0 on with names")
            return ()
        # YAML reads a class called `no` or `1` as something else than text.
        names = tuple(str(name) for name in value if isinstance(name, str | int | float | bool))
        if len(names) != len(value) or len(set(names)) != len(names) or not all(name.strip() for name in names):
            self._wrong("names", "names that are texts and differ from each other")
            return ()
        count = self.entries.get("nc", (len(names), 0))[0]
        if count != len(names):
            self._wrong("nc", f"{len(names)}, the number of names")
        return names

    def keypoints(self) -> tuple[int, int, tuple[int, ...] | None]:
        shape = self.entries.get("kpt_shape", (None, 0))[0]
        if shape is None:
            return 0, 3, None
        if (
            not isinstance(shape, list)
            or len(shape) != 2
            or not all(type(size) is int for size in shape)
            or not (0 < shape[0] <= MOST_KEYPOINTS and shape[1] in (2, 3))
        ):
            self._wrong("kpt_shape", "[K, 3], or [K, 2] without visibility")
            return 0, 3, None
        order = self.entries.get("flip_idx", (None, 0))[0]
        if order is None:
            return shape[0], shape[1], None
        if (
            not isinstance(order, list)
            or not all(type(each) is int for each in order)
            or sorted(order) != list(range(shape[0]))
        ):
            self._wrong("flip_idx", f"each number from 0 to {shape[0] - 1} once")
            return shape[0], shape[1], None
        return shape[0], shape[1], tuple(order)

    def base(self) -> Path:
        """The folder that paths are relative to: `path`, from the folder of the file on."""
        folder, value = self.path.parent, self.entries.get("path", (None, 0))[0]
        if value in (None, ""):
            return folder
        if not isinstance(value, str) or "\0" in value:
            self._wrong("path", "a folder, or nothing for that of the file")
            return folder
        base = folder / value
        is_folder = exists(base) and base.is_dir()
        if is_folder and self.place.holds(base):
            return base
        if is_folder:
            self.place.check(base, self.at("path"))
            return folder
        self.place.problems.warning(
            "path", self.at("path"), f"{value!r:.200} is no folder here; the folder of the file is used instead."
        )
        return folder

    def paths(self, key: str, base: Path) -> list[Path]:
        value = self.entries[key][0]
        given = value if isinstance(value, list) else [value]
        if not given or not all(isinstance(each, str) and each and "\0" not in each for each in given):
            self._wrong(key, "a folder of images, a text file with their paths, or a list of these")
            return []
        return [path for each in given if (path := self._path(key, each, base))]

    def _path(self, key: str, text: str, base: Path) -> Path | None:
        if re.match(r"[a-z][a-z0-9+]*://", text, re.IGNORECASE):
            self.place.problems.error(
                "outside",
                self.at(key),
                f"{text!r:.200} is an address, and nothing is downloaded; expected a folder that is here.",
            )
            return None
        path = base / text
        inner = base / text.removeprefix("../")
        is_there = exists(path) and self.place.holds(path)
        if text.startswith("../") and not is_there and exists(inner) and self.place.holds(inner):
            # Roboflow writes ../train/images for the folder train/images beside the file.
            self.place.problems.warning(
                "path", self.at(key), f"{text!r:.200} is taken for {self.place.shown(inner)!r}, which is there."
            )
            return inner
        if not self.place.check(path, self.at(key)):
            return None
        if not exists(path):
            self.place.problems.error(
                "split",
                self.at(key),
                f"{key}: {self.place.shown(path)!r:.200} does not exist; expected a folder of images, or a text file "
                "with their paths.",
            )
            return None
        return path
