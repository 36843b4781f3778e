"""Finds and tests the login, and writes the launch settings of the project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from outlast.errors import UsageError
from outlast.launch.kaggle.answers import Quota
from outlast.launch.kaggle.client import Kaggle
from outlast.launch.settings import Settings, read_settings, write_settings


def setup(
    kaggle: Kaggle, *, username: str | None = None, recipe: str | None = None, folder: Path = Path()
) -> tuple[Path, Settings, Quota]:
    """Test a login with one call and write outlast-launch.yaml; no key is copied.

    Args:
        kaggle: the account.
        username: the account that is expected, or None for whichever it is.
        recipe: what `outlast launch` takes when no recipe is named.
        folder: of the project.

    Returns:
        The file, the settings, and what is left of this week's hours.

    Raises:
        UsageError: the login is another account's.
        KaggleRefused: the login is not valid.
    """
    quota = kaggle.quota()
    check_user(kaggle, username)
    before = read_settings(folder)
    settings = replace(before, where="kaggle", user=kaggle.user, recipe=recipe or before.recipe)
    return write_settings(settings, folder), settings, quota


def check_user(kaggle: Kaggle, expected: str | None) -> None:
    """Refuse a login that is not the expected account's."""
    if expected and kaggle.user.lower() != expected.lower():
        raise UsageError(
            f"The login from {kaggle.credential.source} is {kaggle.user}'s; expected {expected}'s. Log in as that one "
            "with `kaggle auth login`, or run "
            f"`outlast kaggle setup --username {kaggle.user}`."
        )
