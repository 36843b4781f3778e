"""A provider on this machine, and a recipe that walks."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.launch.local.provider import LocalProvider, connect
from tests.launch.conftest import RECIPE


@pytest.fixture
def provider(tmp_path: Path) -> LocalProvider:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/recipe.py").write_text(RECIPE.replace("from helper import STEP", "STEP = 0.5"))
    return connect(Path("runs"))
