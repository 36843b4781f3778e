"""outlast publish RUN."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.cli import show
from outlast.cli.flags import RECIPE
from outlast.cli.named import run_of
from outlast.cli.parser import Parser, seconds
from outlast.config.units import format_bytes, format_seconds
from outlast.environment.keys import read_keys, variables_of
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.folder.layout import RunFolder
from outlast.recipe import publishing
from outlast.recipe.lookup import part_of
from outlast.recipe.recipe import Recipe
from outlast.recipe.registry import find
from outlast.terminal import command, counted, say

if TYPE_CHECKING:
    from outlast.publish.destination import Destination, Preparation
    from outlast.publish.manifest import Manifest

_FLAGS: dict[str, dict[str, object]] = {
    "--to": {
        "metavar": "git+dvc|ADDRESS",
        "help": "destination: git+dvc (a new branch, weights in a store that DVC reads), the address of a store, "
        "or kaggle://OWNER (default: publish.to of the environment file)",
    },
    "--git": {"metavar": "REMOTE|URL", "help": "with git+dvc: git remote (default: origin)"},
    "--store": {"metavar": "ADDRESS", "help": "with git+dvc: store of the weights: a folder, s3://, gs:// or sftp://"},
    "--repository": {
        "metavar": "PATH",
        "default": Path(),
        "type": Path,
        "help": "with git+dvc: path of your clone (default: .)",
    },
    "--base": {
        "metavar": "COMMIT",
        "help": 'with git+dvc: parent of the commit: a commit, HEAD, or "none" (default: HEAD, if the server has it)',
    },
    "--module": {"metavar": "NAME", "help": "module in the publication's name (default: the recipe)"},
    "--name": {"metavar": "NAME", "help": "name of the publication (default: kaggle-train-MODULE-RUN-TIME)"},
    "--title": {
        "metavar": "TEXT",
        "help": "with kaggle://OWNER/NAME: title of the dataset, 6 to 50 characters (default: its name)",
    },
    "--part": {
        "metavar": "NAME",
        "help": "tracked name of the model (default: the part that the recipe measures, or a script's only network)",
    },
    "--train-config": {"metavar": "YAML", "type": Path, "help": "file with a section publish: to, store, git, title"},
    "--secrets": {
        "metavar": "FILE",
        "type": Path,
        "help": "JSON object with GITHUB_TOKEN, GDRIVE_USER_CREDENTIALS, HF_TOKEN or WANDB_API_KEY, for this command "
        "only; environment variables are safer",
    },
    "--recipe": {"metavar": "PATH", "help": RECIPE},
    "--from": {
        "metavar": "ADDRESS",
        "dest": "source",
        "help": "store from which a publication is fetched",
    },
    "-o": {"metavar": "FOLDER", "dest": "output", "type": Path, "help": "with --from: new folder for its files"},
}
_SPELLINGS = {"-o": ("-o", "--output"), "--train-config": ("--train-config", "--experiment")}


def run(argv: list[str]) -> int:
    """Make a run's results visible elsewhere, all or nothing; or fetch a publication."""
    parser = Parser(
        "outlast publish", "Publish a run's weights, metrics and artifacts: all of them visible, or nothing."
    )
    parser.add_argument("run", nargs="?", help="a run's name or folder; with --from, a publication's name")
    for name, options in _FLAGS.items():
        names = _SPELLINGS.get(name, (name,))
        parser.add_argument(*names, **options)  # type: ignore[arg-type]
    parser.add_runs_folder()
    parser.add_argument(
        "--dry-run", action="store_true", help="print every file with its destination, and publish nothing"
    )
    parser.add_argument("--gc", metavar="ADDRESS", help="address of a store, whose unused objects are listed")
    parser.add_argument(
        "--grace",
        type=seconds,
        default=14 * 86400.0,
        metavar="TIME",
        help="with --gc: minimum age of the unused objects (default: 14d)",
    )
    parser.add_argument("--delete", action="store_true", help="with --gc: delete these objects (default: list them)")
    values = parser.parse(argv)
    with _keys_of(values.secrets):
        if values.gc:
            return _collect(values)
        if values.delete:
            raise UsageError("--delete belongs to --gc ADDRESS: publishing deletes nothing.")
        return _get(values) if values.source else _publish(values)


@contextlib.contextmanager
def _keys_of(path: Path | None) -> Iterator[None]:
    """The keys of a file, set as environment variables of this process for the clients of the services.

    Git receives only its token, and every published file is searched for all of them.
    """
    found = variables_of(read_keys(path)) if path else {}
    if found:
        say(
            f"warning: {path} holds {', '.join(sorted(found))}. Everybody who can read it has them, in all versions of "
            "a dataset too. Environment variables are safer, with keys for one repository that expire.",
            error=True,
        )
    before = {name: os.environ.get(name) for name in found}
    os.environ.update(found)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _publish(values: argparse.Namespace) -> int:
    from outlast.publish.destination import prepared

    if values.run is None:
        raise UsageError("outlast publish needs a run: its name or folder. `outlast runs` lists those there are.")
    place = RunFolder(run_of(values.run, values.checkpoint_dir))
    recipe = find(values.recipe) if values.recipe else None
    with prepared(
        place.path,
        _destination(values, place, recipe),
        part=values.part or part_of(place, recipe),
        best=publishing.best_of(place, recipe),
        module=values.module,
        name=values.name,
        dry_run=values.dry_run,
    ) as ready:
        _show(ready)
        if values.dry_run:
            say("The same command without --dry-run publishes it.", "Nothing was published: --dry-run.")
            return EXIT_FINISHED
        size = sum(file.size for file in ready.blobs.values()) or ready.plan.size
        with show.bytes_bar("publishing", size) as advance:
            done = ready.publish(_each(advance))
        say(*publishing.sentences(ready, done))
    return EXIT_FINISHED


def _destination(values: argparse.Namespace, place: RunFolder, recipe: Recipe | None) -> Destination:
    """The destination: from the flags, or else from the configuration. The two are never mixed."""
    from outlast.publish.destination import Destination

    found = Destination(values.to or "", values.store, values.git, title=values.title)
    if not values.to:
        if values.store:
            raise UsageError("--store belongs to --to git+dvc. Give both, or none to publish as a file says.")
        given = publishing.configured(place, recipe, values.train_config)
        if not given.to:
            raise UsageError(
                "--to is missing; expected git+dvc, or the address of a store: a folder, s3://, gs://, ... The section "
                "publish: of the environment file can name it, too."
            )
        found = publishing.destination_of(given)
    elif values.train_config:
        raise UsageError("--train-config names a file that says where to publish, and so does --to. Leave one out.")
    return replace(
        found,
        git=values.git or found.git,
        title=values.title or found.title,
        repository=values.repository,
        base=values.base,
    )


def _show(ready: Preparation) -> None:
    from outlast.publish.git import GitReference

    plan = ready.plan
    rows = show.table("file", "size", "goes to", right=("size",))
    for file in plan.files:
        rows.add_row(f"{plan.folder}/{file.path}", format_bytes(file.size), ready.reference.place(plan, file))
    show.console().print(rows)
    say(f"{plan.name}: {len(plan.files)} files, {format_bytes(plan.size)}; {ready.where}")
    if isinstance(ready.reference, GitReference):
        where = ready.reference.where
        say(f"Besides these files, {where} holds MANIFEST.json, .dvc/config and a pointer to each file in the store.")
    for sentence in ready.told:
        say(sentence)


def _each(advance: Callable[[int], None]) -> Callable[[str, int], None]:
    return lambda _name, size: advance(size)


def _get(values: argparse.Namespace) -> int:
    from outlast.publish import kaggle
    from outlast.publish.fetching import fetch, names_in
    from outlast.remote.address import open_existing, open_remote

    if values.to or values.dry_run:
        raise UsageError("--from gets a publication; it takes no --to and no --dry-run.")
    if kaggle.is_kaggle(values.source):
        return _get_dataset(values)
    if values.run is None:
        store = open_existing(values.source, writes=False)
        say(*names_in(store) or [f"{store.address()} has no publications."])
        return EXIT_FINISHED
    target = values.output or Path(values.run)
    return _say_got(target, fetch(open_remote(values.source, writes=False), values.run, target))


def _get_dataset(values: argparse.Namespace) -> int:
    from outlast.publish import kaggle
    from outlast.publish.fetching import fetch_dataset

    address = kaggle.DatasetAddress.of(values.source)
    if (values.run is None) == (address.dataset is None):
        raise UsageError(
            f"--from {values.source} needs one dataset: expected kaggle://{address.owner}/NAME, or the name of a "
            f"publication and kaggle://{address.owner}. Kaggle is not asked for a list of publications."
        )
    name = address.named(values.run or "")
    target, account = values.output or Path(name), kaggle.account()
    return _say_got(target, fetch_dataset(kaggle.Dataset(account, address.owner_for(account), name), target))


def _say_got(target: Path, found: Manifest) -> int:
    size = sum(file.size for file in found.files)
    say(f"{target}: {len(found.files)} files, {format_bytes(size)}, every one verified.")
    say(f"Look at it: {command('cat', target / 'README.md')}")
    return EXIT_FINISHED


def _collect(values: argparse.Namespace) -> int:
    from outlast.publish.gc import collect, roots_of
    from outlast.publish.repository import url_of
    from outlast.remote.address import open_existing

    if values.run or values.to or values.source:
        raise UsageError("--gc looks at a whole store; it takes no run, no --to and no --from.")
    store = open_existing(values.gc)
    with tempfile.TemporaryDirectory(prefix="outlast-") as folder:
        scratch = Path(folder)
        urls = [url_of(values.git, values.repository, scratch)] if values.git else []
        found = collect(store, roots_of(store, urls, scratch), delete=values.delete, grace=values.grace)
    shown = found.deleted if values.delete else found.found
    if shown:
        rows = show.table("object", "size", "put", right=("size",))
        for entry in shown:
            put = f"{datetime.fromtimestamp(entry.modified, UTC):%Y-%m-%d}"
            rows.add_row(entry.name, format_bytes(entry.size), put)
        show.console().print(rows)
    say(
        f"{store.address()}: {counted(found.named, 'object')} in use, {counted(len(found.young), 'object')} unused and "
        f"younger than {format_seconds(values.grace)}."
    )
    size = format_bytes(sum(entry.size for entry in shown))
    if values.delete:
        say(f"Deleted {counted(len(found.deleted), 'object')}, {size}.")
    elif shown:
        say(f"{counted(len(shown), 'object')}, {size}, can be deleted; nothing was. To do it, add --delete")
    else:
        say("There is nothing to delete.")
    return EXIT_FINISHED
