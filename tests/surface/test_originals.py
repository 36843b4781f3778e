"""docs/reference/from-the-originals.md: every test that its last column names is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs/reference/from-the-originals.md"


def named() -> list[tuple[str, str]]:
    """Each name in a cell of the column "tested by", and the row that it is in."""
    rows = [line.strip().strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [(name, row[0].strip()) for row in rows for name in re.findall(r"`([\w/…][^`]*)`", row[-1])]


def test_every_test_that_the_page_names_is_there() -> None:
    files = list((REPOSITORY / "tests").rglob("test_*.py"))
    tests = set(re.findall(r"def (test_\w+)", "".join(path.read_text() for path in files)))
    missing = []
    for name, row in named():
        if name.startswith("test_") and not name.endswith(".py"):
            first = name.partition("…")[0]
            there = any(test.startswith(first) for test in tests) if "…" in name else name in tests
        elif "/" in name and "…" not in name:
            there = (REPOSITORY / name).exists()
        else:
            there = any(path.name.endswith(Path(name.replace("…", "")).name) for path in files)
        if not there:
            missing.append(f"{name} ({row[:60]})")
    assert len(named()) > 60
    assert missing == []
