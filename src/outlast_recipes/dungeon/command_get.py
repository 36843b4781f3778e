"""`outlast data get dungeon`: downloads the public corpus."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

from outlast_recipes.common.downloading import download
from outlast_recipes.dungeon import public


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder for the files; what is there with the known hash stays")
    parser.add_argument(
        "--from",
        dest="address",
        default=public.ADDRESS,
        metavar="URL",
        help="another address of the same files, such as a mirror's",
    )


def run(values: Namespace, progress: Callable[[int, int], None]) -> Iterable[str]:
    fetched = download(values.address, public.FILES, values.folder, progress)
    yield (
        f"{values.folder}: {fetched} files fetched, {len(public.FILES) - fetched} were there; all "
        f"{len(public.FILES)} have the known SHA-256."
    )
    yield f"Licence: {public.LICENCE}"
    yield f"Check it: outlast data check dungeon {shlex.quote(str(values.folder))}"
