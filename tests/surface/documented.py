"""The blocks of the documentation: which run, and how.

A block of Python, `sh` or `console` in a tutorial or how-to runs in a test, in a folder that is new for each page,
after the page's earlier blocks. A comment in the line before it says otherwise:

    <!-- file: train.py -->        it is the contents of this file, which later blocks use
    <!-- not run: REASON -->       it cannot run here
    <!-- run by tests/x.py -->     that test runs it

In a block of `console`, a line that begins with "$ " is a command. It must end with exit code 0, unless the next
command is `echo $?`. What it printed contains the lines below it, in their order; "…" in them stands for anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUN = ("python", "py", "sh", "console")
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<mark>(?:(?!-->).)+) -->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_PARTS = {"|", "||", "&&", ";", "&", "(", ")", "{", "}", "if", "then", "srun", "!"}


@dataclass(frozen=True)
class Block:
    """A block of code in a page.

    Attributes:
        page: the page's file.
        line: number of its first line.
        language: the word after the backquotes.
        mark: text of the comment before it; "" without one.
        text: its lines, without their common indentation.
    """

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        """Page and line."""
        return f"{self.page.name}:{self.line}"

    def marked(self, kind: str) -> str:
        """What a mark says after its kind, such as the reason of "not run:"; "" for another mark."""
        return self.mark.removeprefix(kind).strip() if self.mark.startswith(kind) else ""

    def asked(self) -> list[tuple[str, list[str]]]:
        """The commands of a console, each with the lines that it prints."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and found[-1][0].endswith("\\"):
                found[-1] = (f"{found[-1][0]}\n{line}", [])
            elif line.strip():
                found[-1][1].append(line)
        return found

    def commands(self) -> Iterator[list[str]]:
        """The words of each `outlast ...` of a shell. One with "…" or "..." is only a part and is left out."""
        lines = [line for line, _ in self.asked()] if self.language == "console" else [self.text]
        for line in "\n".join(lines).replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word not in _PARTS:
                    words.append(word)
                    continue
                if words[:1] == ["outlast"] and not {"…", "..."} & set(words):
                    yield words[1:]
                words = []


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        body = re.sub(rf"^{indent}", "", match["text"], flags=re.MULTILINE) if indent else match["text"]
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(page, line, match["language"], " ".join((match["mark"] or "").split()), body))
    return found


def shows(output: str, expected: list[str]) -> str | None:
    """The first of the expected lines that the output does not have, after the ones before it; None if it has all."""
    rest = output.splitlines()
    for line in expected:
        if line.strip() == "…":
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in line.split("…")))
        at = next((number for number, said in enumerate(rest) if pattern.search(said)), None)
        if at is None:
            return line
        rest = rest[at + 1 :]
    return None
