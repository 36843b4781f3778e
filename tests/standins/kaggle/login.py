"""The login of a user of the stand-in, in a home folder, as the official client and outlast read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.standins.kaggle.server import Standin


def log_in(home: Path, user: str = "ada", key: str | None = None) -> None:
    """Write the user's login file; `key-of-USER` is the key by default."""
    place = home / ".kaggle/kaggle.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"username": user, "key": key or f"key-of-{user}"}))
    place.chmod(0o600)


def use(standin: Standin, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one of ada's, who has an account there and her login in this home."""
    standin.world.add_user("ada", "key-of-ada")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in standin.client_environment(home).items():
        monkeypatch.setenv(name, value)
    log_in(home)
