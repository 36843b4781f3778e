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
    """Test the login with one call, and write outlast-launch.yaml. No key is copied.

    Args:
        kaggle: the account.
        username: the expected account; None accepts any.
        recipe: the default recipe of `outlast launch`.
        folder: the project's folder.

    Returns:
        The path of the file, the settings, and this week's quota.

    Raises:
        UsageError: the login belongs to another account.
        KaggleRefused: the login is not valid.
    """
    quota = kaggle.quota()
    check_user(kaggle, username)
    before = read_settings(folder)
    settings = replace(before, where="kaggle", user=kaggle.user, recipe=recipe or before.recipe)
    return write_settings(settings, folder), settings, quota


def check_user(kaggle: Kaggle, expected: str | None) -> None:
    """Check that the login belongs to the expected account."""
    if expected and kaggle.user.lower() != expected.lower():
        raise UsageError(
            f"The login from {kaggle.credential.source} belongs to {kaggle.user}; expected {expected}. Log in as "
            f"{expected} with `kaggle auth login`, or run `outlast kaggle setup --username {kaggle.user}`."
        )
