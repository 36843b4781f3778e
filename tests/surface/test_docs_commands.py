"""The commands and scripts of the documentation: each runs, or says why not; each `outlast` command is understood."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests import processes
from tests.conftest import REPOSITORY
from tests.surface.documented import RUN, Block, blocks, shows

from outlast.cli import VERBS, main
from outlast.cli.parser import Parser
from outlast.integrations import prove, prove_files

DOCS = REPOSITORY / "docs"
TASKS = sorted([*DOCS.glob("tutorial/*.md"), *DOCS.glob("how-to/*.md")])
PAGES = [*TASKS, *sorted(DOCS.glob("*/*.md")), REPOSITORY / "README.md", *(REPOSITORY / "src").rglob("README.md")]
SLOW = {"tutorial/own-script", "tutorial/publish", "how-to/another-machine", "how-to/bucket", "how-to/by-hand"}
"""Pages whose blocks take more than five seconds together."""


class Understood(BaseException):
    """A command line was read to its end."""


def runnable(page: Path) -> list[Block]:
    return [
        block for block in blocks(page) if block.language in RUN and not block.mark.startswith(("not run:", "run by"))
    ]


def named(page: Path) -> str:
    return f"{page.parent.name}/{page.stem}"


def cases() -> list[object]:
    found = [page for page in TASKS if any(not block.mark for block in runnable(page))]
    slow = pytest.mark.slow
    return [pytest.param(page, id=named(page), marks=[slow] if named(page) in SLOW else []) for page in found]


@pytest.mark.parametrize("page", cases())
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    for block in runnable(page):
        if name := block.marked("file:"):
            (tmp_path / name).write_text(block.text)
        elif block.language in ("python", "py"):
            run_twice(block, tmp_path)
        else:
            run_shell(block, tmp_path)


def run_twice(block: Block, folder: Path) -> None:
    """A script with a run: once to its end, and once more, where nothing is left to do."""
    for words in ("finished", "steps are done"):
        template = "jax" if "import jax" in block.text else "torch"
        done = processes.run([sys.executable, "-c", block.text], cwd=folder, template=template)
        assert done.returncode == 0, f"{block.name}: {done.stderr}"
        early = block.page.stem == "stop-early" and "so the run counts as finished there" in done.stderr
        assert words in done.stderr or early, f"{block.name}: {done.stderr}"


def run_shell(block: Block, folder: Path) -> None:
    """All commands of a block in one shell."""
    asked = block.asked() if block.language == "console" else [(block.text, [])]
    script = "".join(f"{line}\n_code=$?; printf '\\n===== %s\\n' $_code; (exit $_code)\n" for line, _ in asked)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    outputs = re.split(r"^===== (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert len(outputs) == 2 * len(asked) + 1, f"{block.name} ended early; use no here-document:\n{done.stdout}"
    for number, (line, expected) in enumerate(asked):
        said, code = outputs[2 * number], outputs[2 * number + 1]
        tells = asked[number + 1 : number + 2] and "$?" in asked[number + 1][0]
        assert code == "0" or tells, f"{block.name}: {line} ended with {code}:\n{said}"
        missing = shows(said, expected)
        assert missing is None, f"{block.name}: {line} did not print {missing!r}:\n{said}"


@pytest.mark.parametrize("page", TASKS, ids=named)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        if block.language not in RUN:
            assert not block.mark, f"{block.name} is not a block that could run"
            begins = re.match(r"\$ |outlast |pip |python |import |from \w+ import ", block.text)
            assert block.language or not begins, f"{block.name} has no language"
            continue
        for name in re.findall(r"\btests/[\w/.-]*\w", block.mark):
            assert (REPOSITORY / name).exists(), f"{block.name} names {name}"
        kind = next((kind for kind in ("not run:", "run by", "file:") if block.mark.startswith(kind)), "")
        assert kind or not block.mark, f"{block.name} has an unknown mark: {block.mark}"
        assert not kind or len(block.marked(kind)) > 5, f"{block.name} gives no reason"
        if kind == "run by":
            test = (REPOSITORY / block.marked(kind)).read_text()
            assert page.stem in test, f"{block.name} is not run by {block.marked(kind)}"


@pytest.mark.parametrize("page", dict.fromkeys(PAGES), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_is_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its verb, its recipe and its flags exist, and take what they are given. Nothing is done."""
    parse = Parser.parse

    def read(self: Parser, argv: list[str]) -> None:
        parse(self, argv)
        raise Understood

    def proved(*_: object) -> None:
        raise Understood

    monkeypatch.setattr(Parser, "parse", read)
    monkeypatch.setattr(prove, "prove", proved)
    monkeypatch.setattr(prove_files, "prove", proved)
    monkeypatch.chdir(REPOSITORY)
    for block in blocks(page):
        for words in block.commands() if block.language in ("sh", "console") else ():
            # There is no run here to resume; `train` takes the same flags.
            line = ["train", *words[1:]] if words[:2] == ["resume", "digits"] else words
            try:
                code = main(line)
            except Understood:
                continue
            assert code == 0, f"{block.name}: outlast {' '.join(words)}"


def test_a_command_that_is_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "- a list\n\n  <!-- not run: a reason -->\n"
        "  ```sh\n  outlast status a || { [ $? -eq 75 ] && outlast statsu; }  # x\n"
        "  outlast train … --lr 1\n  ```\n\n```console\n$ outlast --version \\\n    ;\noutlast …\n$ false\n…\n```\n"
    )
    first, second = blocks(page)
    assert (first.mark, first.line, first.marked("not run:")) == ("not run: a reason", 5, "a reason")
    assert list(first.commands()) == [["status", "a"], ["statsu"]]
    assert list(second.commands()) == [["--version"]]
    assert second.asked() == [("outlast --version \\\n    ;", ["outlast …"]), ("false", ["…"])]
    with pytest.raises(AssertionError, match="false ended with 1"):
        run_shell(second, tmp_path)
    with pytest.raises(AssertionError, match="page.md:5: outlast statsu"):
        test_every_command_is_understood(page, monkeypatch)
    page.write_text("```console\n$ echo one\ntwo\n```\n")
    with pytest.raises(AssertionError, match="echo one did not print 'two'"):
        run_shell(blocks(page)[0], tmp_path)
    page.write_text("```sh\noutlast train digits --epoch-count 3\n```\n")
    with pytest.raises(AssertionError, match="--epoch-count"):
        test_every_command_is_understood(page, monkeypatch)


def test_output_is_compared_in_order() -> None:
    said = "one 1\ntwo 22 s\nthree\n"
    assert shows(said, ["one", "…", "two … s", "three"]) is None
    assert shows(said, ["two", "one"]) == "one"
    assert shows(said, ["two … m"]) == "two … m"


def test_verbs_in_sentences_exist() -> None:
    """Of `outlast VERB ...` within a line: the verb, and the verb of a recipe where a recipe is named."""
    sources = "".join(path.read_text() for path in (REPOSITORY / "src/outlast_recipes").rglob("*.py"))
    own = {"draw", *re.findall(r"\bCommand\(\s*(?:name=)?\"([\w -]+)\"", sources)}  # draw: how-to/recipes.md makes it
    for page in dict.fromkeys(PAGES):
        prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for said in re.findall(r"`outlast\s+([a-z][^`]*)`", prose):
            verb, *rest = said.split()
            known = verb in VERBS or verb in own or " ".join([verb, *rest[:1]]) in own
            assert known, f"{page.name}: outlast {said}"
