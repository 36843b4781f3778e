"""The three verbs that every recipe has about its data: `outlast data get|check|prepare RECIPE`.

What a recipe does not need says so, with its name, and is done (exit code 0). Data that only the user can obtain are
fetched from an address that the user gives, with the hash that the user gives.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import outlast
from outlast_recipes.common import source
from outlast_recipes.common.downloading import File, download
from outlast_recipes.common.plain_file import read_plain
from outlast_recipes.common.problems import counted
from outlast_recipes.common.unpacking import is_archive, remove, unpack

RECORD = ".outlast-data.json"
_GB = 10**9
_LARGEST = 10**9  # of them


def nothing(name: str, words: str) -> outlast.Command:
    """A verb that has nothing to do.

    Args:
        name: such as "data get".
        words: why: a sentence that names the recipe.
    """
    return outlast.Command(name, f"nothing to do: {words}", lambda _: None, lambda _values, _tell: [words])


def get(recipe: str, where: str) -> outlast.Command:
    """`outlast data get` of a recipe whose data only the user can obtain.

    Args:
        recipe: its name.
        where: where the data come from, as sentences.
    """

    def run(values: Namespace, tell: Callable[[int, int], None]) -> Iterable[str]:
        if values.address is None:
            raise outlast.DataError(
                f"The data of {recipe} cannot be fetched without you. {where} With a copy of your own: outlast data "
                f"get {recipe} FOLDER --from https://HOST/FILE --sha256 HASH"
            )
        yield from fetch(values, tell)
        yield f"Check it: outlast data check {recipe} {shlex.quote(str(values.folder))}"

    return outlast.Command(
        "data get",
        "fetch data from an address of yours, with their hash, and unpack them",
        arguments,
        run,
        unit="bytes",
    )


def arguments(parser: ArgumentParser) -> None:
    """The arguments of `get`."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data"), help="a new folder (default: data)")
    parser.add_argument("--from", dest="address", metavar="URL", help="https address of a file, or of an archive")
    parser.add_argument("--sha256", metavar="HASH", help="SHA-256 of the file, as sha256sum prints it")
    parser.add_argument(
        "--most", type=_size, default=100.0, metavar="GB", help="size at most, packed and unpacked (default: 100)"
    )


def _size(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _LARGEST:
        raise ArgumentTypeError(f"is {text!r}; expected a number of GB above 0, and at most {_LARGEST:,}")
    return value


def fetch(values: Namespace, tell: Callable[[int, int], None]) -> Iterable[str]:
    """Fetch the file of an address into a folder; an archive is unpacked there.

    Raises:
        outlast.DataError: there is no hash, or what came has another; see `download` and `unpack`.
    """
    folder: Path = values.folder
    if values.sha256 is None:
        raise outlast.DataError(
            "--from needs --sha256 HASH too. `sha256sum FILE` prints it where the file is; without it, nobody knows "
            "whether what comes is what was meant."
        )
    known = values.sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", known):
        raise outlast.DataError(
            f"--sha256 is {values.sha256!r}; expected 64 hexadecimal digits. `sha256sum FILE` prints them where the "
            "file is."
        )
    if folder.name in ("", ".."):
        raise outlast.DataError(f"The folder is {str(folder)!r}; expected the name of a new one.")
    if _recorded(folder).get("sha256") == known:
        yield f"{folder} has the files of {known[:12]} already. To fetch them again, remove it."
        return
    source.check(values.address)
    name = Path(unquote(urlsplit(values.address).path)).name
    if not name:
        raise outlast.DataError(f"--from is {values.address!r}; expected the address of a file.")
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise outlast.DataError(f"{folder} is there already, and not from this file. Name a new folder.")
    incoming = folder.with_name(f"{folder.name}.incoming")
    base = values.address[: len(values.address) - len(values.address.rpartition("/")[2])]
    one = File(unquote(values.address.rpartition("/")[2]), None, known)
    most = int(values.most * _GB)
    try:
        download(base, [one], incoming, tell, most=most)
    except outlast.DataError:
        with contextlib.suppress(OSError):
            incoming.rmdir()  # only if nothing is in it that could be continued
        raise
    came = incoming / one.path
    size = came.stat().st_size
    if is_archive(name):
        count = unpack(came, folder, most=most, progress=tell)
        words = f"{counted(count, 'file')} of {name}"
    else:
        folder.mkdir(parents=True, exist_ok=True)
        came.replace(folder / name)
        words = name
    record = {"sha256": known, "from": values.address, "size": size}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    remove(incoming)
    yield f"{folder}: {words}, which has the known SHA-256."


def _recorded(folder: Path) -> dict[str, object]:
    try:
        found = json.loads(read_plain(folder / RECORD, 10_000))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
