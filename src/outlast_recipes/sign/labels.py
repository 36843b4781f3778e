"""The labels of clips: a CSV with file, gloss, cat, occluded and perhaps group, compared with the files in a folder."""

from __future__ import annotations

import csv
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outlast_recipes.common.problems import Problems

COLUMNS = ("file", "gloss", "cat", "occluded")
REFERENCE = "labels_reference.csv"
"""Name of the file with the names of glosses and categories: gloss_id, label, cat_id, category."""
_LARGEST = 2**26  # bytes of a CSV
_DIGITS = 6  # of a label
_TRUE = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Label:
    """One row.

    Attributes:
        file: name of the clip, without .npz.
        gloss, category: from 0.
        occluded: whether a hand is in front of the head.
        group: who signs; empty when the file does not say.
        line: of the CSV.
    """

    file: str
    gloss: int
    category: int
    occluded: bool
    group: str
    line: int


@dataclass(frozen=True)
class Table:
    """A CSV.

    Attributes:
        path: of the file.
        rows: the rows that can be used.
        names: of the clips of all rows, also of those that cannot be used.
    """

    path: Path
    rows: Sequence[Label]
    names: frozenset[str]


@dataclass(frozen=True)
class Names:
    """Names of the classes.

    Attributes:
        glosses, categories: number -> name.
        category_of: gloss -> its category.
        lines: gloss -> FILE:LINE where it is named.
    """

    glosses: Mapping[int, str]
    categories: Mapping[int, str]
    category_of: Mapping[int, int] = field(default_factory=dict)
    lines: Mapping[int, str] = field(default_factory=dict)


def read_labels(path: Path, problems: Problems, *, glosses: int | None = None, categories: int | None = None) -> Table:
    """A CSV; what is wrong with it is noted, with the line.

    Args:
        path: of the CSV.
        problems: takes what is wrong.
        glosses, categories: number of each, which labels must be below; None: any.
    """
    rows: list[Label] = []
    names: set[str] = set()
    for line, fields in _rows(path, COLUMNS, problems):
        place = f"{path}:{line}"
        name = fields["file"].removesuffix(".npz")
        if not name or name in (".", "..") or any(letter in name for letter in "/\\\0"):
            problems.error(
                "file", place, f"file is {fields['file']!r}; expected the name of an .npz file without folder."
            )
            continue
        names.add(name)
        gloss = _number("gloss", fields["gloss"], glosses, place, problems)
        category = _number("cat", fields["cat"], categories, place, problems)
        occluded = _TRUE.get(fields["occluded"].lower())
        if occluded is None:
            problems.error("occluded", place, f"occluded is {fields['occluded']!r}; expected 0 or 1.")
        if gloss is not None and category is not None and occluded is not None:
            rows.append(Label(name, gloss, category, occluded, fields.get("group") or "", line))
    first: dict[str, int] = {}
    for row in rows:
        if (before := first.setdefault(row.file, row.line)) != row.line:
            problems.error("file twice", f"{path}:{row.line}", f"{row.file} has a row in line {before} already.")
    return Table(path, rows, frozenset(names))


def category_of(tables: Iterable[Table], problems: Problems) -> dict[int, int]:
    """The category of each gloss; a gloss with several is noted."""
    known: dict[int, tuple[int, str]] = {}
    for table in tables:
        for row in table.rows:
            category, where = known.setdefault(row.gloss, (row.category, f"{table.path}:{row.line}"))
            if category != row.category:
                problems.error(
                    "category",
                    f"{table.path}:{row.line}",
                    f"gloss {row.gloss} has the category {row.category}, and {category} in {where}; a gloss has one.",
                )
    return {gloss: category for gloss, (category, _) in known.items()}


def compare(names: Names, category_of: Mapping[int, int], problems: Problems) -> None:
    """Note each gloss whose category is another one in the table of names than in the labels.

    Args:
        names: of the table.
        category_of: of the labels.
        problems: takes what is wrong.
    """
    for gloss, category in sorted(names.category_of.items()):
        labelled = category_of.get(gloss, category)
        if labelled != category:
            problems.error(
                "category",
                names.lines[gloss],
                f"gloss {gloss} has the cat_id {category}, and the category {labelled} in the labels; a gloss has one.",
            )


def match(folder: Path, table: Table, problems: Problems) -> dict[Path, Label]:
    """The file of each row. Rows without a file and files without a row are noted.

    Args:
        folder: of the .npz files, which lie directly in it.
        table: of their labels.
        problems: takes what is wrong.
    """
    if not folder.is_dir():
        problems.error("folder", folder, "is not a folder; expected the folder of the .npz files.")
        return {}
    files = {path.name.removesuffix(".npz"): path for path in sorted(folder.glob("*.npz"))}
    for path in sorted(folder.glob("*/**/*.npz")):
        problems.error("nested file", path, f"lies in a folder inside {folder}; expected the files directly in it.")
    if not files:
        problems.error("folder", folder, "holds no .npz files.")
    for row in table.rows:
        if row.file not in files:
            problems.error("row without file", f"{table.path}:{row.line}", f"there is no file {folder / row.file}.npz.")
    for name in sorted(files.keys() - table.names):
        problems.error("file without row", files[name], f"has no row in {table.path}.")
    return {files[row.file]: row for row in table.rows if row.file in files}


def read_names(path: Path, problems: Problems) -> Names:
    """The names in a labels_reference.csv; what is wrong with it is noted, with the line."""
    glosses: dict[int, str] = {}
    categories: dict[int, str] = {}
    category_of: dict[int, int] = {}
    lines: dict[int, str] = {}
    for line, fields in _rows(path, ("gloss_id", "label", "cat_id", "category"), problems):
        place = f"{path}:{line}"
        gloss = _number("gloss_id", fields["gloss_id"], None, place, problems)
        category = _number("cat_id", fields["cat_id"], None, place, problems)
        if gloss is None or category is None:
            continue
        if gloss in glosses:
            problems.error("gloss_id", place, f"gloss_id {gloss} is named in {lines[gloss]} already. Remove one row.")
        elif categories.get(category, fields["category"]) != fields["category"]:
            problems.error(
                "cat_id",
                place,
                f"cat_id {category} is {fields['category']!r}, and {categories[category]!r} above; a category has one "
                "name.",
            )
        glosses[gloss], category_of[gloss], lines[gloss] = fields["label"], category, place
        categories[category] = fields["category"]
    return Names(glosses, categories, category_of, lines)


def _rows(path: Path, columns: Sequence[str], problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of each row with the right number of fields; empty lines are skipped."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
            problems.error("table", path, f"is no ordinary file; expected CSV with {', '.join(columns)}.")
            return
        if about.st_size > _LARGEST:
            problems.error("table", path, f"has more than {_LARGEST / 1e6:.0f} MB; expected a table of labels.")
            return
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(text.splitlines(), strict=True)
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            problems.error(
                "table",
                f"{path}:1",
                f"has the columns {', '.join(header) or 'of an empty file'}; expected {', '.join(columns)}.",
            )
            return
        if twice := next((name for name in header if name and header.count(name) > 1), None):
            problems.error("table", f"{path}:1", f"has the column {twice} twice. Remove one, or rename it.")
            return
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                problems.error(
                    "row",
                    f"{path}:{reader.line_num}",
                    f"has {len(row)} fields; expected {len(header)}, as the first line.",
                )
                continue
            if strange := next((field for field in row if any(map(_is_control, field.strip()))), None):
                problems.error(
                    "row", f"{path}:{reader.line_num}", f"holds {strange!a}; expected no control characters."
                )
                continue
            yield reader.line_num, {name: value.strip() for name, value in zip(header, row, strict=True)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.error("table", path, f"cannot be read ({error}); expected CSV with {', '.join(columns)}.")


def _is_control(letter: str) -> bool:
    """Whether a terminal may obey a character instead of showing it."""
    return letter < " " or "\x7f" <= letter <= "\x9f"


def _number(column: str, text: str, below: int | None, place: str, problems: Problems) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
    if number is None or (below is not None and number >= below):
        expected = f"0 to {below - 1}" if below is not None else f"a whole number from 0 to {10**_DIGITS - 1}"
        problems.error(column, place, f"{column} is {text!r}; expected {expected}.")
        return None
    return number
