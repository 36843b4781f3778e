"""Looks for secrets in everything that is about to leave the machine.

Two kinds are found: values of environment variables that are named like secrets, as they are, in base64, in hex and
percent-encoded; and text with the shape of a well-known token or private key. Secrets inside compressed files are not
found, and of a safetensors file without 8-bit tensors only the header is searched.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.environment.base import SECRETS
from outlast.environment.keys import FIELDS
from outlast.errors import SecretFound
from outlast.folder import plain

SHORTEST = 8
"""Characters of a value below which it is not looked for: `yes` is no secret."""

_NAMED = re.compile(r"(?i)(^|_)(api_?key|key|token|secret|password|passwd|pat|credentials?|auth)s?($|_)")
_NO_SECRET = re.compile(r"(?i)(_file|_path|_dir|_url|_socket|_sock|_id)$|^(ssh_auth_sock|gpg_key)$")

# Each begins with a letter and not with \b, so that the search for it is as fast as that for a word; `_is_whole` looks
# at what stands before it.
SHAPES: Mapping[str, re.Pattern[bytes]] = {
    name: re.compile(shape)
    for name, shape in {
        "a GitHub token": rb"gh[pousr]_[A-Za-z0-9]{36,251}\b",
        "a fine-grained GitHub token": rb"github_pat_[A-Za-z0-9_]{60,255}\b",
        "a GitLab token": rb"glpat-[A-Za-z0-9_-]{20,}",
        "a Hugging Face token": rb"hf_[A-Za-z0-9]{34,}\b",
        "a Kaggle API token": rb"KGAT_[A-Za-z0-9]{30,}\b",
        "a Weights & Biases key": rb"wandb_v[0-9]_[A-Za-z0-9_]{40,}\b",
        "an AWS access key": rb"A(?:KIA|SIA)[A-Z0-9]{16}\b",
        "a Google API key": rb"AIza[A-Za-z0-9_-]{35}\b",
        "a Google OAuth token": rb"ya29\.[A-Za-z0-9_-]{20,}",
        "a Google refresh token": rb"1//0[A-Za-z0-9_-]{30,}",
        "a Google client secret": rb"GOCSPX-[A-Za-z0-9_-]{20,}",
        "a Slack token": rb"xox[abprs]-[A-Za-z0-9-]{20,}",
        "an OpenAI or Anthropic key": rb"sk-[A-Za-z0-9_-]{40,}\b",
        "a PyPI token": rb"pypi-[A-Za-z0-9_-]{50,}",
        "an npm token": rb"npm_[A-Za-z0-9]{36}\b",
        "a private key": rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----",
        "a password in a URL": rb"://[^\s/:@\"'<>]{0,100}:[^\s/:@\"'<>{}$*]{6,100}@[A-Za-z0-9]",
    }.items()
}

_NUMBERS = {"F16", "BF16", "F32", "F64", "I16", "I32", "I64", "BOOL"}  # types of tensors in which nobody keeps text
_RUN = re.compile(rb"[\t\r\n -~]{8,}")
_BLOCK, _OVERLAP = 2**22, 2**13
_KEPT = bytes(byte if 32 <= byte < 127 or byte in b"\t\r\n" else 0 for byte in range(256))


@dataclass(frozen=True)
class Secret:
    """A secret that was found; never its value.

    Attributes:
        path: the file, as the publication names it.
        at: byte offset of the text that holds it.
        kind: "the value of NAME", or a shape such as "a GitHub token".
    """

    path: str
    at: int
    kind: str


def known_values(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The values of the environment variables that are named like secrets, by name; of a JSON object each text too."""
    return {
        name: value
        for variable, text in environ.items()
        if variable in (*SECRETS, *FIELDS) or (_NAMED.search(variable) and not _NO_SECRET.search(variable))
        for name, value in _texts_of(variable, text)
        if len(value) >= SHORTEST and not os.path.exists(value)  # noqa: PTH110 - a path to the secret
    }


def _texts_of(name: str, text: str) -> Iterator[tuple[str, str]]:
    yield name, text
    if text.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            yield from ((f"{name}.{key}", value) for key, value in json.loads(text).items() if isinstance(value, str))


def check(files: Iterable[tuple[str, Path]], values: Mapping[str, str], *, done: str = "published") -> None:
    """Raise SecretFound when a file holds a secret.

    Args:
        files: name in the publication, and where the file is.
        values: name -> value of what is known to be secret; see `known_values`.
        done: what is not done then.

    Raises:
        SecretFound: names the first file, the offset and the kind; nothing has left the machine.
        OSError: a file cannot be read.
    """
    find = finder(values)
    found = [secret for path, source in files for secret in find(path, source)]
    if found:
        first, more = found[0], len(found) - 1
        others = f", and {more} more" if more else ""
        raise SecretFound(
            f"{first.path} holds {first.kind} at byte {first.at}{others}. Nothing was {done}. Remove it from the "
            "file, and revoke it if it was shared before. If the value of a variable is no secret, unset the variable."
        )


def finder(values: Mapping[str, str]) -> Callable[[str, Path], Iterator[Secret]]:
    """A function that yields the secrets of a file.

    Args:
        values: name -> value of what is known to be secret.
    """
    kinds_in = _searcher(values)

    def find(path: str, source: Path) -> Iterator[Secret]:
        for at, kind in sorted({(at, kind) for at, text in _texts(source) for kind in kinds_in(text)}):
            yield Secret(path, at, kind)

    return find


def in_text(text: str, values: Mapping[str, str]) -> list[str]:
    """The kinds of the secrets that a text holds.

    Args:
        text: any text.
        values: name -> value of what is known to be secret.
    """
    return sorted(set(_searcher(values)(text.encode(errors="surrogateescape"))))


def _searcher(values: Mapping[str, str]) -> Callable[[bytes], Iterator[str]]:
    """A function that yields the kinds of the secrets in some bytes."""
    needles = {form: f"the value of {name}" for name, value in values.items() for form in _forms(value.encode())}
    searched = re.compile(b"|".join(re.escape(form) for form in sorted(needles, key=len, reverse=True)) or rb"(?!)")

    def kinds_in(text: bytes) -> Iterator[str]:
        for match in searched.finditer(text):
            yield needles[match.group()]
        for kind, shape in SHAPES.items():
            if any(_is_whole(text, match.start()) for match in shape.finditer(text)):
                yield kind

    return kinds_in


def _is_whole(text: bytes, at: int) -> bool:
    """Whether the word at this place begins there, and is no end of a longer one."""
    return text[at : at + 3] == b"://" or not text[max(0, at - 1) : at].isalnum()


def _forms(value: bytes) -> set[bytes]:
    """The value in the forms in which files hold it."""
    forms = {value, value.hex().encode(), value.hex().upper().encode()}
    forms.add(urllib.parse.quote(value, safe="").encode())
    for before in range(3):  # base64 of a longer text has the value's bytes at one of three places
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            text = alphabet(b"\0" * before + value)
            first, last = -(-before * 4 // 3), (before + len(value)) * 4 // 3
            forms.add(text[first + (before > 0) : last])
    return {form for form in forms if len(form) >= SHORTEST}


def _texts(source: Path) -> Iterator[tuple[int, bytes]]:
    """The runs of printable characters of a file, each also without its line ends; at which offset the run begins."""
    with os.fdopen(plain.open_plain(source), "rb", buffering=0) as opened:
        start, rest, last = 0, b"", _end_of_text(opened)
        while True:
            block = opened.read(min(_BLOCK, last - start - len(rest)))
            data = (rest + block).translate(_KEPT)
            for match in _RUN.finditer(data):
                text = match.group()
                yield start + match.start(), text
                if b"\n" in text:
                    yield start + match.start(), text.replace(b"\r", b"").replace(b"\n", b"")
            if not block:
                return
            rest = (rest + block)[-_OVERLAP:]
            start += len(data) - len(rest)


def _end_of_text(opened: io.FileIO) -> int:
    """How many bytes of a file may hold text: all, or of a safetensors file of numbers its header."""
    size = os.fstat(opened.fileno()).st_size
    first = opened.read(8 + 2**20)
    opened.seek(0)
    header = int.from_bytes(first[:8], "little")
    try:
        tensors = json.loads(first[8 : 8 + header]) if 2 <= header <= min(2**20, size - 8) else {}
        kinds = {entry["dtype"] for name, entry in tensors.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return size
    return 8 + header if kinds and kinds <= _NUMBERS and max(ends) == size - 8 - header else size
