"""Where the clips of a run are: a folder of .npz files and a CSV for each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import outlast
from outlast_recipes.common.problems import Problems
from outlast_recipes.sign import labels
from outlast_recipes.sign.config import Data, SignConfig
from outlast_recipes.sign.labels import Label, Names

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """The clips of one split."""

    folder: Path
    labels: Path


@dataclass(frozen=True)
class Labelled:
    """The files of all splits with their labels.

    Attributes:
        files: split -> file -> its label.
        category_of: gloss -> its category.
    """

    files: Mapping[str, Mapping[Path, Label]]
    category_of: Mapping[int, int]


def kind_of(config: SignConfig) -> str:
    """What the model reads: "keypoints" or "features"."""
    return "features" if config.network.name == "iv3_gru" else "keypoints"


def sources_of(config: SignConfig) -> dict[str, Source]:
    """The source of each split that there is; train always.

    Raises:
        outlast.ConfigError: there is none for train, or one of two flags that belong together is missing.
    """
    kind, root = kind_of(config), config.data_root
    found = sources_in(root, kind) if root is not None else {}
    for split in SPLITS:
        folder: Path | None = getattr(config.data, f"{kind}_{split}")
        table: Path | None = getattr(config.data, f"labels_{split}_csv")
        known = found.get(split)
        if known:
            folder, table = folder or known.folder, table or known.labels
        if folder is not None and table is not None:
            found[split] = Source(folder, table)
        elif folder is not None or (table is not None and split == "train"):
            missing, given = f"--labels-{split}-csv", f"--{kind}-{split}"
            if folder is None:
                missing, given = given, missing
            raise outlast.ConfigError(f"{given} is given without {missing}; a split needs both.")
    if "train" not in found:
        where = f"{root} has no {kind}_train with train_labels.csv" if root else "There are no data"
        raise outlast.ConfigError(
            f"{where}. {config.network.name} reads {kind}: give --{kind}-train FOLDER and --labels-train-csv FILE, or "
            f"--data-root with a folder of {kind}_train and train_labels.csv."
        )
    return found


def sources_in(root: Path, kind: str) -> dict[str, Source]:
    """The splits of a folder as the original has it: KIND_SPLIT and SPLIT_labels.csv."""
    found = {split: Source(root / f"{kind}_{split}", root / f"{split}_labels.csv") for split in SPLITS}
    return {split: each for split, each in found.items() if each.folder.is_dir()}


def read_sources(
    sources: Mapping[str, Source],
    problems: Problems,
    *,
    glosses: int | None,
    categories: int | None,
    names: Names | None = None,
) -> Labelled:
    """Read the tables and compare them with the files; what is wrong is noted and left out.

    Args:
        sources: split -> source.
        problems: takes what is wrong.
        glosses, categories: number of each, which labels must be below.
        names: of glosses and categories; a gloss has the category of the tables there, too.
    """
    tables: list[labels.Table] = []
    files: dict[str, Mapping[Path, Label]] = {}
    for split, source in sources.items():
        tables.append(labels.read_labels(source.labels, problems, glosses=glosses, categories=categories))
        files[split] = labels.match(source.folder, tables[-1], problems)
    category_of = labels.category_of(tables, problems)
    if names is not None:
        labels.compare(names, category_of, problems)
    return Labelled(files, category_of)


def names_of(data: Data, sources: Mapping[str, Source], problems: Problems) -> Names:
    """Names of glosses and categories: of `--names-csv`, else of the table beside the training labels, else none."""
    return labels.read_names(data.names, problems) if data.names else names_beside(sources["train"].labels, problems)


def names_beside(table: Path, problems: Problems) -> Names:
    """The names in the table beside some labels; none when there is no such table."""
    beside = table.with_name(labels.REFERENCE)
    return labels.read_names(beside, problems) if beside.is_file() else Names({}, {})
