"""ARCHITECTURE.md and the arrows that import-linter enforces say the same, and every room has its line."""

from __future__ import annotations

import configparser
import re

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "ARCHITECTURE.md").read_text()


def test_the_arrows_on_the_page_are_the_ones_that_are_enforced() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(REPOSITORY / ".importlinter")
    arrows = contracts["importlinter:contract:arrows"]
    assert arrows["exhaustive"] == "True"
    enforced = " → ".join(line.strip() for line in arrows["layers"].strip().splitlines())
    page = next(
        block for block in re.findall(r"(?:^    .+\n)+", PAGE, re.MULTILINE) if block.strip().startswith("cli →")
    )
    assert " ".join(page.split()) == enforced


def test_every_room_and_module_is_on_the_page() -> None:
    rooms = [
        path
        for path in (REPOSITORY / "src/outlast").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed", "configs")
    ]
    for room in rooms:
        name = f"{room.name}/" if room.is_dir() else room.name
        row = next((line for line in PAGE.splitlines() if line.startswith("| ") and f"`{name}`" in line), None)
        assert row, f"ARCHITECTURE.md has no row for {name}"
        if room.name in ("cli", "environment", "config", "launch"):
            continue  # one file per verb, place or concern; the row names the kinds
        for module in room.glob("*.py"):
            assert module.stem == "__init__" or re.search(rf"\b{module.stem}\b", row), f"{name}: {module.stem}"


def test_the_core_names_no_recipe_and_no_provider_outside_their_rooms() -> None:
    recipes = {path.parent.name for path in (REPOSITORY / "src/outlast_recipes").glob("*/recipe.py")}
    named = []
    for path in (REPOSITORY / "src/outlast").rglob("*.py"):
        place, text = path.relative_to(REPOSITORY / "src/outlast").as_posix(), path.read_text()
        # __init__.py shows a script, whose run has a name; terminal.py speaks of the digits of a number.
        if place not in ("__init__.py", "terminal.py"):
            named += [f"{place}: {name}" for name in recipes if re.search(rf"""["'`}}] ?{name}["'`]""", text)]
        if not place.startswith(("kaggle/", "launch/kaggle/", "environment/")) and "kagglesdk" in text:
            named.append(f"{place}: kagglesdk")
    assert named == []
