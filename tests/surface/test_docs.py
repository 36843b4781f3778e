"""The documentation without its generator: folders, navigation, and every link of every page of the repository."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

import outlast
from outlast.cli import VERBS

DOCS = REPOSITORY / "docs"
FOLDERS = {"tutorial", "how-to", "reference", "explanation", "decisions"}
AT_THE_TOP = {"index.md", "log.md"}

CODE = re.compile(r"^([ ]*)(```+).*?^\1\2[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def tracked(pattern: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return [REPOSITORY / name for name in names if (REPOSITORY / name).is_file()]


@cache
def prose(page: Path) -> str:
    """The page without its blocks of code and without code within lines."""
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", CODE.sub("", page.read_text(encoding="utf-8")), flags=re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown make them."""
    made = set()
    for heading in HEADING.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        made.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return made


def links(page: Path) -> list[str]:
    return [target for target in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]


def broken(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    there = Path(os.path.normpath(page.parent / path)) if path else page
    return not there.exists() or bool(anchor and anchor not in anchors(there))


def test_every_page_is_in_one_of_the_folders() -> None:
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS)
        assert place.parts[0] in FOLDERS if len(place.parts) > 1 else place.name in AT_THE_TOP, place
        assert len(place.parts) <= 2, place


def test_every_link_leads_somewhere() -> None:
    wrong = [
        f"{page.relative_to(REPOSITORY)}: {target}"
        for page in tracked("*.md")
        for target in links(page)
        if broken(page, target)
    ]
    assert wrong == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[a](#a-page) [b](#another) [c](other.md) [in\ntwo lines](page.md#a-page) `[d](e.md)`\n\n"
        "```sh\n# not a heading [f](g.md)\n```\n\n[h](page.md#not-a-heading-fgmd) <https://host/x> [i](https://host/y)\n"
    )
    assert [target for target in links(page) if broken(page, target)] == [
        "#another",
        "other.md",
        "page.md#not-a-heading-fgmd",
    ]


def test_every_page_can_be_reached_from_the_first() -> None:
    seen, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md" or not page.is_relative_to(DOCS):
            continue
        seen.add(page)
        ahead += [Path(os.path.normpath(page.parent / target.partition("#")[0])) for target in links(page)]
    assert sorted(str(page.relative_to(DOCS)) for page in set(DOCS.rglob("*.md")) - seen) == []


@pytest.mark.parametrize("pattern", ["src/*.py", "tests/*.py", "benchmarks/*.py", "tests/surface/messages.txt", "*.md"])
def test_every_page_that_is_named_is_there(pattern: str) -> None:
    """Such as "docs/reference/remotes.md" in a message."""
    for path in tracked(pattern):
        if path == Path(__file__):
            continue
        for name in re.findall(r"(?<![\w/.-])docs/[\w/-]+\.(?:md|svg)", path.read_text(encoding="utf-8")):
            assert (REPOSITORY / name).is_file(), f"{path.relative_to(REPOSITORY)} names {name}"


def test_the_reference_names_all_that_is_public() -> None:
    names = re.findall(r"^- `outlast\.(\w+)`", (DOCS / "reference/api.md").read_text(), re.MULTILINE)
    assert {*names, "__version__", "sinks"} == set(outlast.__all__)
    rows = re.findall(r"^\| [\w ]+ \| (`[\w` ]+`) \|$", (DOCS / "reference/commands.md").read_text(), re.MULTILINE)
    assert set(" ".join(rows).replace("`", "").split()) == set(VERBS)
