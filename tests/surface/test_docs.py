"""The documentation without its generator: folders, navigation, and every link of every page of the repository."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/conf.py, without Sphinx."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "90")
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def completed(site: ModuleType, name: str, text: str | None = None) -> str:
    """A page with what the site adds to it."""
    source = [(REPOSITORY / f"{name}.md").read_text() if text is None else text]
    site.complete(None, name, source)
    return source[0]


def test_the_site_has_docstrings_for_the_names_of_the_reference(
    site: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules, "sphinx.ext.autodoc.mock", SimpleNamespace(mock=lambda _: contextlib.nullcontext())
    )
    for name in ("sphinx", "sphinx.ext", "sphinx.ext.autodoc"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    listed = (
        "# A\n\n- `outlast.open_run`: words\n  in two lines\n- `outlast.DataError`\n- `outlast.Run`: x\n\nThe end.\n"
    )
    found = completed(site, "docs/reference/api", listed)
    assert re.findall(r"^\.\. auto(\w+):: (\S+)$", found, re.MULTILINE) == [
        ("function", "outlast.open_run"),
        ("exception", "outlast.DataError"),
        ("class", "outlast.Run"),
    ]
    assert "in two lines" not in found
    assert found.endswith("The end.\n")


def test_the_site_has_the_help_of_every_verb(site: ModuleType) -> None:
    found = completed(site, "docs/reference/commands")
    for verb in VERBS:
        assert f"\n## outlast {verb}\n\n```text\nusage: outlast {verb} " in found


def test_the_site_s_navigation_has_every_page_of_the_index(site: ModuleType) -> None:
    found = completed(site, "docs/index")
    listed = set(re.findall(r"^/(docs/\S+)$", found, re.MULTILINE))
    pages = {str(page.relative_to(REPOSITORY).with_suffix("")) for page in DOCS.glob("[!d]*/*.md")}
    assert pages <= listed
    decisions = completed(site, "docs/decisions/README")
    assert len(re.findall(r"^/docs/decisions/\d{4}-", decisions, re.MULTILINE)) == len([*DOCS.glob("decisions/0*.md")])


def test_what_the_site_adds_is_connected_to_sphinx(site: ModuleType) -> None:
    connected: list[tuple[str, Any]] = []
    site.setup(SimpleNamespace(connect=lambda *words: connected.append(words)))
    assert connected == [("source-read", site.complete)]
    assert completed(site, "docs/how-to/data", "as it is") == "as it is"
