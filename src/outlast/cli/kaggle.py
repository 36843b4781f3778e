"""outlast kaggle setup | secrets push FILE | probe."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from outlast.cli import show
from outlast.cli.flags import Parser, positive
from outlast.errors import EXIT_FINISHED, UsageError
from outlast.recipe import registry
from outlast.terminal import say, say_json

_WORDS = """usage: outlast kaggle setup [--username NAME] [--recipe RECIPE]
       outlast kaggle secrets push FILE | delete
       outlast kaggle probe [--seconds N]

setup    find the login of the official client, prove it, and write outlast-launch.yaml; no key is stored anywhere new
secrets  put the keys of a secrets.json into a private dataset of yours, which launch --secrets attaches
probe    ask your account what nobody has measured: three CPU sessions of some minutes, no GPU time
"""


def run(argv: list[str]) -> int:
    """Set up, send keys, or probe."""
    verbs: dict[str, Callable[[list[str]], int]] = {"setup": _setup, "secrets": _secrets, "probe": _probe}
    if not argv or argv[0] in ("-h", "--help"):
        say(*_WORDS.splitlines())
        return EXIT_FINISHED if argv else 2
    if argv[0] not in verbs:
        raise UsageError(f"outlast kaggle takes setup, secrets or probe, and not {argv[0]!r}.")
    return verbs[argv[0]](argv[1:])


def _setup(argv: list[str]) -> int:
    parser = Parser("outlast kaggle setup", "Find the login, prove it, and write outlast-launch.yaml.")
    parser.add_argument(
        "--username", metavar="NAME", help="the account that is expected (default: whichever the login is)"
    )
    parser.add_argument("--recipe", metavar="RECIPE", help="what `outlast launch` takes when no recipe is named")
    values = parser.parse(argv)
    if values.recipe:
        registry.find(values.recipe)
    from outlast.launch.kaggle import Kaggle, find_credential, setup

    credential = find_credential()
    place, settings, quota = setup(Kaggle(credential, patience=60.0), username=values.username, recipe=values.recipe)
    say(f"login from {credential.source}: {settings.user}, {quota.gpu_left / 3600:.1f} GPU hours left this week")
    say(f"{place} says where this project launches; it holds no key and may be committed.")
    say(f"Train there with: outlast relay {shlex.quote(settings.recipe or 'RECIPE')}")
    return EXIT_FINISHED


def _secrets(argv: list[str]) -> int:
    if argv == ["delete"]:
        from outlast.launch.kaggle import Kaggle, delete_secrets, find_credential

        gone = delete_secrets(Kaggle(find_credential()))
        say("The dataset with the keys is deleted." if gone else "There was no dataset with keys.")
        return EXIT_FINISHED
    if not argv or argv[0] != "push":
        raise UsageError(
            "outlast kaggle secrets takes push FILE, such as `outlast kaggle secrets push secrets.json`, or delete."
        )
    parser = Parser("outlast kaggle secrets push", "Put the keys of a secrets.json into a private dataset of yours.")
    parser.add_argument(
        "file", type=Path, help="a JSON object with WANDB_API_KEY, GITHUB_TOKEN, GDRIVE_USER_CREDENTIALS or HF_TOKEN"
    )
    values = parser.parse(argv[1:])
    from outlast.launch.kaggle import Kaggle, find_credential, push_secrets
    from outlast.launch.kaggle.secrets import DATASET

    kaggle = Kaggle(find_credential())
    names = push_secrets(kaggle, values.file)
    show.console().print(
        f"warning: {', '.join(names)} now lie in the private dataset {kaggle.user}/{DATASET}. Whoever you share it with, or a notebook that attaches it "
        "with, can read them. Use keys that can do little and that end, and keep it private.",
        style="red",
        soft_wrap=True,
    )
    say("Versions from before were deleted. Sessions get it with: outlast launch RECIPE --on kaggle --secrets")
    return EXIT_FINISHED


def _probe(argv: list[str]) -> int:
    parser = Parser(
        "outlast kaggle probe", "Ask your account what nobody has measured: three CPU sessions of some minutes."
    )
    parser.add_argument(
        "--seconds",
        type=int,
        default=120,
        metavar="N",
        help="length of the session that is run into its limit (default: 120)",
    )
    parser.add_argument(
        "--ask-every", type=positive, default=10.0, metavar="SECONDS", help="how often to look (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON array, to be shared")
    values = parser.parse(argv)
    from outlast.launch.kaggle import Kaggle, find_credential, probe

    found = probe(
        Kaggle(find_credential()),
        seconds=values.seconds,
        tell=functools.partial(say, error=True),
        pause=values.ask_every,
    )
    if values.json:
        say_json([asdict(each) for each in found], indent=1)
        return EXIT_FINISHED
    table = show.table("asked", "found", "what outlast does")
    for each in found:
        table.add_row(each.question, each.answer, each.relies)
    show.console().print(table)
    say(
        "Not asked, as it needs GPU time: whether an image can be pinned by its digest. What was made for this is deleted."
    )
    return EXIT_FINISHED
