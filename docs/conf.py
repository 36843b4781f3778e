"""Sphinx builds the Markdown pages of the repository as a site: `make docs`.

The source folder is the repository, so that every link of every page is checked and leads somewhere in the site: to a
page, or to a copy of a file. Pages stay plain Markdown, which GitHub shows as well. What only a site can have is added
while it is built: the navigation, from the links of docs/index.md; docstrings, for the names in docs/reference/api.md;
the help of every command, below docs/reference/commands.md.

docs/decisions/0043-documentation.md says why this generator.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))
os.environ["COLUMNS"] = "90"  # of the help of commands

import outlast  # noqa: E402
from outlast.cli import VERBS, main  # noqa: E402

project, author, release = "outlast", "The outlast authors", outlast.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "findings/README.md", "src/**/README.md"]
exclude_patterns = [".*", "site", "runs", "tests", "benchmarks", "wip"]
nitpick_ignore_regex = [
    ("py:.*", r".*")
]  # annotations name what has no page, such as numpy's; links of pages are checked

myst_heading_anchors = 6
suppress_warnings = ["misc.highlighting_failure"]  # cells of notebooks with !commands

default_role = "code"
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_mock_imports = ["torch", "keras", "transformers", "lightning", "pytorch_lightning", "ultralytics"]

html_theme = "furo"
html_title = f"outlast {release}"
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = False
html_last_updated_fmt = None

_LINK = re.compile(r"\]\(((?!\w+:|#)[^)#\s]+\.md)(?:#[^)]*)?\)")
_NAME = re.compile(r"^- `(outlast[\w.]+)`.*(?:\n  .*)*\n", re.MULTILINE)


def navigation(text: str, name: str) -> Iterator[str]:
    """A hidden table of contents for each heading of a page: the pages to which its links lead, in their order."""
    seen = set()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:] or [text]:
        heading, _, body = section.partition("\n")
        pages = []
        for target in _LINK.findall(body):
            page = os.path.normpath(Path(name).parent / target).removesuffix(".md")
            if page not in seen:
                seen.add(page)
                pages.append(f"/{page}")
        if pages:
            yield "\n".join(["```{toctree}", ":hidden:", f":caption: {heading.lstrip('# ')}", "", *pages, "```"])


def documented(name: str) -> str:
    """The directive of autodoc for a public name."""
    from sphinx.ext.autodoc.mock import mock

    module, _, last = name.rpartition(".")
    with mock(autodoc_mock_imports):
        value: Any = getattr(importlib.import_module(module), last)
    kind = "class" if isinstance(value, type) else "function" if callable(value) else "module"
    kind = "exception" if isinstance(value, type) and issubclass(value, BaseException) else kind
    members = [] if kind == "function" else [":members:"]
    return "\n".join(["```{eval-rst}", f".. auto{kind}:: {name}", *(f"   {line}" for line in members), "```", ""])


def helps() -> Iterator[str]:
    """A section for each verb: what `outlast VERB --help` prints."""
    for verb in VERBS:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([verb, "--help"])
        yield f"## outlast {verb}\n\n```text\n{said.getvalue().rstrip()}\n```\n"


def complete(_: Any, name: str, source: list[str]) -> None:
    """Add to a page what only a site can have."""
    if name in (root_doc, "docs/decisions/README"):
        source[0] += "\n" + "\n\n".join(navigation(source[0], name)) + "\n"
    if name == "docs/reference/api":
        source[0] = _NAME.sub(lambda found: documented(found[1]), source[0])
    if name == "docs/reference/commands":
        source[0] += "\n" + "\n".join(helps())


def setup(app: Any) -> None:
    """Connect it to Sphinx."""
    app.connect("source-read", complete)
