"""What a message must say: its facts in the test, its whole text once in `surface/messages.txt`.

    with messages.raises(ResumeRefused, "run/part-not-in-checkpoint", part="more", step=2):
    messages.said(done.stderr, "run/continues", step=40)

Each fact must stand in the message literally, and the message must be the entry's text with the facts in it, so that a
reworded sentence changes one entry and no test. `OUTLAST_ACCEPT=1` writes the entries anew; read the difference.

In an entry `{step}` stands for a fact of that name, `{~pid}` for what differs from run to run (see VARYING), `{tmp}`
for a test's folder, `{repository}` and `{python}` for where the checkout and the interpreter are; `{{` and `}}` are
braces.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import functools
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SNAPSHOT = Path(__file__).with_name("surface") / "messages.txt"
ACCEPT = "OUTLAST_ACCEPT"
HEAD = "# Every message that a test holds, by key. tests/messages.py says how to read and rewrite it.\n"

VARYING = {
    "pid": r"(?<=process )\d+|(?<=\()\d{2,7}(?=\))",
    "host": rf"(?<![\w.-]){re.escape(socket.gethostname())}(?![\w.-])",
    "seconds": r"\d+(?:\.\d+)?(?= (?:s|ms|seconds)\b)",
    "port": r"(?<=127\.0\.0\.1:)\d+|(?<=127\.0\.0\.1\]:)\d+",
    "rate": r"\d[\d.,]*(?= \w+/s\b)",
    "time": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?Z?|\d\d:\d\d:\d\d",
    "size": r"\d[\d.,]*(?= (?:bytes|kB|MB|MiB|GB|GiB)\b)|(?<=says )\d+",
    "version": r"\d+\.\d+(?:\.\d+)?(?:[+.]\w+)*",
    "hex": r"\b[0-9a-f]{8,64}\b",
}
"""Name of what differs from run to run -> what it looks like in a message. Used in the entries that name it."""
BY_HAND = {"words": ".+?", "number": r"\d[\d.,]*"}
"""The same for what only a person can tell: words of a library or the system, a count of our files."""

ANY = re.compile(".*")
"""A fact that a test does not hold."""

folders: set[str] = set()
"""Where pytest makes the folders of tests; conftest.py says so."""


class Message:
    """A message with its facts, for a list of parameters: `says("config/unknown-key", line=3)`."""

    def __init__(self, key: str, facts: dict[str, object]) -> None:
        self.key = key
        self.facts = facts

    def __repr__(self) -> str:
        return self.key


def says(key: str, /, **facts: object) -> Message:
    """A message for a list of parameters."""
    return Message(key, facts)


@contextlib.contextmanager
def raises(
    kind: type[BaseException] | tuple[type[BaseException], ...], message: str | Message, /, **facts: object
) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """As `pytest.raises`: the error is a `kind` and its text is exactly the entry's, with these facts."""
    with pytest.raises(kind) as caught:
        yield caught
    _check([str(caught.value)], message, facts)


def said(text: str | Iterable[str], message: str | Message, /, **facts: object) -> None:
    """Whole lines of a text (without spaces at their ends), or one of several sentences, are the entry's text."""
    _check([text] if isinstance(text, str) else list(text), message, facts, lines=isinstance(text, str))


def only_said(sentences: list[str], *expected: Message) -> None:
    """These sentences and no other ones, in this order."""
    for sentence, message in zip(sentences, expected, strict=False):
        _check([sentence], message, {})
    assert len(sentences) == len(expected), "\n".join(sentences)


def is_said(text: str | Iterable[str], message: str | Message, /, **facts: object) -> bool:
    """Whether `said` would pass."""
    key, facts = _named(message, facts)
    texts = [text] if isinstance(text, str) else list(text)
    return _count(texts, entries()[key], facts, lines=isinstance(text, str)) > 0


def times_said(text: str | Iterable[str], message: str | Message, /, **facts: object) -> int:
    """How often."""
    key, facts = _named(message, facts)
    texts = [text] if isinstance(text, str) else list(text)
    return _count(texts, entries()[key], facts, lines=isinstance(text, str))


def unsaid(text: str | Iterable[str], *keys: str) -> None:
    """No line of a text, and none of several sentences, is one of these entries, whatever their facts are."""
    texts = [text] if isinstance(text, str) else list(text)
    for key in keys:
        template = entries()[key]
        anything = dict.fromkeys(_names(template), re.compile(".*"))
        assert not _count(texts, template, anything, lines=True), f"{key} was said:\n" + "\n".join(texts)


@functools.cache
def _entries(_changed: int) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for number, line in enumerate(SNAPSHOT.read_text(encoding="utf-8").split("\n"), 1):
        if line.startswith("["):
            key = line[1:-1]
            assert key not in found, f"{SNAPSHOT.name}:{number}: a second entry has the key {key}; keep one of them"
            lines = found[key] = []
        elif not line.startswith("#"):
            lines.append(line[2:])
    return {key: "\n".join(lines).rstrip("\n") for key, lines in found.items()}


def entries() -> dict[str, str]:
    """Key -> text of every entry."""
    return _entries(SNAPSHOT.stat().st_mtime_ns)


def write(changed: dict[str, str]) -> None:
    """Put entries into the snapshot, in the order of their keys; several test processes may do so at once."""
    with (Path(tempfile.gettempdir()) / "outlast-tests-messages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _entries.cache_clear()
        known = {**entries(), **changed}
        blocks = (
            f"\n[{key}]\n" + "".join(f"  {line}".rstrip() + "\n" for line in known[key].split("\n"))
            for key in sorted(known)
        )
        new = SNAPSHOT.with_suffix(f".{os.getpid()}")
        new.write_text(HEAD + "".join(blocks), encoding="utf-8")
        new.replace(SNAPSHOT)
        _entries.cache_clear()


def _named(message: str | Message, facts: dict[str, object]) -> tuple[str, dict[str, object]]:
    return (message, facts) if isinstance(message, str) else (message.key, {**message.facts, **facts})


def _check(texts: list[str], message: str | Message, facts: dict[str, object], lines: bool = False) -> None:
    key, facts = _named(message, facts)
    template = entries().get(key)
    if template is not None and _names(template) == set(facts) and _count(texts, template, facts, lines):
        return
    if os.environ.get(ACCEPT):
        write({key: _accepted(texts, template, facts, lines)})
        return
    assert template is not None, (
        f"{key} is not in {SNAPSHOT.name}; {ACCEPT}=1 writes it. It would be one of:\n" + "\n".join(texts)
    )
    assert _names(template) == set(facts), f"{key} has the facts {_names(template)}; the test gives {set(facts)}"
    near = difflib.get_close_matches(template, _lines(texts, template, lines), 1, 0)
    raise AssertionError(
        f"{key} is not said.\nexpected: {template}\nfacts:    {facts}\nnearest:  {near[0] if near else ''}"
    )


def _names(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template.replace("{{", "").replace("}}", ""))) - {"tmp", "repository", "python"}


def normal(text: str) -> str:
    """The text without what depends on the machine, and with its braces doubled."""
    text = text.replace("{", "{{").replace("}", "}}")
    for folder in sorted(folders, key=len, reverse=True):
        text = re.sub(re.escape(folder) + r"/[\w.\[\]-]+", "{tmp}", text)
    text = text.replace(sys.executable, "{python}")  # it may be in the checkout
    return text.replace(str(Path(__file__).parents[1]), "{repository}")


def _pattern(template: str, facts: dict[str, object]) -> str:
    def piece(found: str) -> str:
        if found.startswith("{~"):
            name = found[2:-1]
            return f"(?:{(VARYING | BY_HAND)[name]})"
        if found[1:-1] in facts:
            value = facts[found[1:-1]]
            return f"(?:{value.pattern})" if isinstance(value, re.Pattern) else re.escape(normal(str(value)))
        return re.escape(found)

    pieces = re.split(r"(\{~?\w+\})(?!\})", template)
    return "".join(piece(one) if number % 2 else re.escape(one) for number, one in enumerate(pieces))


def _count(texts: list[str], template: str, facts: dict[str, object], lines: bool) -> int:
    """How many of the texts, or of the lines of them, are the entry with these facts, which stand there literally."""
    pattern = re.compile(rf"^(?:{_pattern(template, facts)}) *$" if lines else _pattern(template, facts), re.MULTILINE)
    literal = [str(value) for value in facts.values() if not isinstance(value, re.Pattern)]
    good = [text for text in texts if all(value in text for value in literal)]
    if lines:
        return sum(len(pattern.findall(normal(text))) for text in good)
    return sum(pattern.fullmatch(normal(text)) is not None for text in good)


def _lines(texts: list[str], template: str | None, lines: bool) -> list[str]:
    if not lines:
        return [normal(text) for text in texts]
    height = (template or "").count("\n") + 1
    split = [normal(text).split("\n") for text in texts]
    return ["\n".join(one[at : at + height]) for one in split for at in range(len(one) - height + 1)]


def _accepted(texts: list[str], template: str | None, facts: dict[str, object], lines: bool) -> str:
    """The entry that would make the test pass: the nearest line with every fact in it, with names in their places."""
    found = [entry for line in _lines(texts, template, lines) if (entry := _entry(line, template, facts)) is not None]
    assert found, f"no line has all of the facts {facts}:\n" + "\n".join(texts)
    assert template is not None or len(set(found)) == 1, f"which line? Write the entry by hand: {found}"
    return (
        found[0]
        if template is None
        else max(found, key=lambda one: difflib.SequenceMatcher(None, one, template).ratio())
    )


def _entry(line: str, template: str | None, facts: dict[str, object]) -> str | None:
    """The line with the facts' names for their values; None where one is missing."""
    for name, value in sorted(facts.items(), key=lambda fact: -len(str(fact[1]))):
        if isinstance(value, re.Pattern):
            word = value.pattern
        else:
            word = re.escape(normal(str(value)))
            whole = rf"(?<!\w)(?<!\d[.,]){word}(?!\w)(?![.,]\d)"
            word = whole if re.search(whole, line) else word
        found = [one.span() for one in re.finditer(rf"(?<!\{{)(?:{word})(?!\w*\}})", line)]
        if not found:
            return None
        # A small number may stand for other things as well: the place of before is known by the word before it.
        before = set(re.findall(rf"(\w+)\W+\{{{name}\}}", template or ""))
        known = [span for span in found if before & set(re.findall(r"(\w+)\W+$", line[: span[0]]))]
        for start, end in reversed(known or found):
            line = f"{line[:start]}{{{name}}}{line[end:]}"
    for name, pattern in VARYING.items():
        if template is not None and f"{{~{name}}}" in template:
            line = re.sub(pattern, f"{{~{name}}}", line)
    return line


def use(folder: Path) -> None:
    """Know where pytest makes the folders of tests."""
    folders.update({str(folder), os.path.realpath(folder)})
