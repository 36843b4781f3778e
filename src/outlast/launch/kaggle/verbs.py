"""The verbs `outlast kaggle setup`, `secrets` and `probe`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from outlast.errors import UsageError
from outlast.kaggle.credentials import find_credential
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.kaggle.probe import probe
from outlast.launch.kaggle.secrets import DATASET, delete_secrets, push_secrets
from outlast.launch.kaggle.setup import setup
from outlast.launch.provider import Tell
from outlast.launch.verbs import Json, Rows, Verb
from outlast.recipe import registry


def _setup_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--username", metavar="NAME", help="expected account (default: that of the login)")
    parser.add_argument("--recipe", metavar="RECIPE", help="default recipe of `outlast launch`")


def _setup(values: argparse.Namespace, _: Tell) -> Iterator[str]:
    if values.recipe:
        registry.find(values.recipe)
    credential = find_credential()
    place, settings, quota = setup(Kaggle(credential, patience=60.0), username=values.username, recipe=values.recipe)
    yield f"login from {credential.source}: {settings.user}, {quota.gpu_left / 3600:.1f} GPU hours left this week"
    yield f"{place} holds the launch settings of this project. It contains no key and can be committed."
    yield f"Train there with: outlast relay {shlex.quote(settings.recipe or 'RECIPE')}"


def _secrets_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=("push", "delete"), help="send the keys of a file, or delete those that were sent"
    )
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="JSON object with WANDB_API_KEY, GITHUB_TOKEN, GDRIVE_USER_CREDENTIALS or HF_TOKEN, for push",
    )


def _secrets(values: argparse.Namespace, _: Tell) -> Iterator[str]:
    if (values.what == "push") != (values.file is not None):
        raise UsageError(
            "outlast kaggle secrets takes push FILE, such as `outlast kaggle secrets push secrets.json`, or delete."
        )
    kaggle = Kaggle(find_credential())
    if values.what == "delete":
        gone = delete_secrets(kaggle)
        yield "The dataset with the keys is deleted." if gone else "There was no dataset with keys."
        return
    names = push_secrets(kaggle, values.file)
    yield (
        f"warning: {', '.join(names)} are now in the private dataset {kaggle.user}/{DATASET}. Everyone who can read "
        "the dataset, or a notebook that attaches it, can read them. Keep it private, and use keys with few rights "
        "and an expiry date."
    )
    yield "Earlier versions were deleted. Give it to a session with: outlast launch RECIPE --on kaggle --secrets"


def _probe_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=int,
        default=120,
        metavar="N",
        help="length of the session that runs into its time limit (default: 120)",
    )
    parser.add_argument(
        "--ask-every", type=float, default=10.0, metavar="SECONDS", help="seconds between two queries (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON array, to be shared")


def _probe(values: argparse.Namespace, tell: Tell) -> Iterator[str | Rows | Json]:
    if not values.ask_every > 0:
        raise UsageError(f"--ask-every is {values.ask_every:g}; expected more than 0.")
    found = probe(Kaggle(find_credential()), seconds=values.seconds, tell=tell, pause=values.ask_every)
    if values.json:
        yield Json([asdict(each) for each in found])
        return
    yield Rows(("asked", "found", "what outlast does"), [(each.question, each.answer, each.relies) for each in found])
    yield (
        "Not tested, because it needs GPU time: whether an image can be pinned by its digest. Everything that the "
        "probe created was deleted."
    )


VERBS = (
    Verb(
        "setup",
        "[--username NAME] [--recipe RECIPE]",
        "find and test the login of the official client, and write outlast-launch.yaml; no key is copied",
        _setup_takes,
        _setup,
    ),
    Verb(
        "secrets",
        "push FILE | delete",
        "put the keys of a secrets.json into a private dataset of yours, which launch --secrets attaches",
        _secrets_takes,
        _secrets,
    ),
    Verb(
        "probe",
        "[--seconds N]",
        "measure undocumented limits with your account: three CPU sessions of some minutes, no GPU time",
        _probe_takes,
        _probe,
    ),
)
