"""Runs git: without hooks, helpers and prompts, in an environment that holds no secret but the one it needs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from outlast.errors import RemoteRefused, RemoteUnavailable, UsageError
from outlast.folder import durable
from outlast.terminal import shortened
from outlast.waiting import Silence

PASSED = {
    "ALL_PROXY", "CURL_CA_BUNDLE", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "HOME", "HTTPS_PROXY", "HTTP_PROXY",
    "LANG", "NO_PROXY", "PATH", "SSH_AUTH_SOCK", "SSL_CERT_DIR", "SSL_CERT_FILE", "SYSTEMROOT", "TMPDIR", "USER",
    "XDG_CONFIG_HOME", "all_proxy", "http_proxy", "https_proxy", "no_proxy",
}  # fmt: skip
"""Environment variables that git gets. No other one does, above all no token."""

TOKENS = ("OUTLAST_GIT_TOKEN", "GITHUB_TOKEN", "GH_TOKEN")
"""Environment variables in which a token for git is looked for. Those of GitHub are sent to GitHub alone."""

_ASKPASS = """#!/bin/sh
case "$1" in
Username*) printf '%s\\n' "${OUTLAST_GIT_USER:-x-access-token}" ;;
*) printf '%s\\n' "$OUTLAST_GIT_TOKEN" ;;
esac
"""

_ALWAYS = (
    "advice.detachedHead=false", "commit.gpgSign=false", "core.autocrlf=false", "core.fsmonitor=false",
    "core.hooksPath=/dev/null", "credential.helper=", "gc.auto=0", "http.followRedirects=false",
    "http.lowSpeedLimit=100", "http.lowSpeedTime=60", "maintenance.auto=false", "push.gpgSign=false",
    "push.recurseSubmodules=no", "push.followTags=false", "receive.autogc=false",
)  # fmt: skip
"""Whatever the user's own configuration says of these."""

_TRANSIENT = (
    "could not resolve host", "connection timed out", "connection refused", "connection reset", "early eof",
    "operation timed out", "the remote end hung up", "rpc failed", "returned error: 429", "returned error: 5",
    "operation too slow", "failed to connect", "network is unreachable", "empty reply",
)  # fmt: skip

_REFUSED = re.compile(r"returned error: 4(?!08|29)\d\d")  # whatever else git says of it, such as "RPC failed"

_NO_LOGIN = ("authentication failed", "could not read username", "could not read password", "returned error: 403")

_LOGIN = f" Set {TOKENS[0]} to a token that may write the contents of the repository."

LONGEST = 3600.0
"""Seconds that one command of git may take."""

LISTING = 120.0
"""Seconds in which a server has to list its references; the first thing that it is asked."""


@dataclass(frozen=True)
class Git:
    """A way to run git.

    Attributes:
        scratch: a folder for the script that answers git's questions; nothing else is written.
        settings: environment variables such as GIT_DIR.
        token: for the server, of HTTPS or of this machine; never an argument.
        user: the name that belongs to the token; by default one that GitHub takes with any.
    """

    scratch: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    user: str | None = None

    def run(self, *words: str | Path, data: bytes = b"", secret: bool = False) -> bytes:
        """Run a command; returns its stdout.

        Args:
            words: of the command, without "git".
            data: its stdin.
            secret: whether it speaks to the server, and so needs the token.

        Raises:
            RemoteUnavailable: it may succeed later.
            RemoteRefused: it failed.
            UsageError: git is not installed.
        """
        longest = LISTING if words[0] == "ls-remote" else LONGEST
        with self._waiting(words, longest) if secret else contextlib.nullcontext():
            code, out, err = self.ask(*words, data=data, secret=secret, longest=longest)
        if code == 0:
            return out
        reason = self._clean(err)
        later = any(each in reason.lower() for each in _TRANSIENT) and not _REFUSED.search(reason)
        kind = RemoteUnavailable if later else RemoteRefused
        hint = _LOGIN if any(each in reason.lower() for each in _NO_LOGIN) else ""
        raise kind(f"git {words[0]} failed: {reason or f'exit code {code}'}.{hint}", reason)

    @staticmethod
    def _waiting(words: Sequence[str | Path], longest: float) -> contextlib.AbstractContextManager[object]:
        """Say that a server does not answer; its URL follows "--"."""
        server = words[words.index("--") + 1 :][:1] if "--" in words else ()
        return Silence(" ".join(map(str, ("git", words[0], *server))), longest).waiting()

    def ask(
        self, *words: str | Path, data: bytes = b"", secret: bool = False, longest: float = LONGEST
    ) -> tuple[int, bytes, bytes]:
        """As `run`, for a command whose exit code is an answer."""
        options = [word for each in _ALWAYS for word in ("-c", each)]
        try:
            done = subprocess.run(
                ["git", *options, *map(str, words)],
                input=data,
                capture_output=True,
                check=False,
                cwd=self.scratch,
                env=self._environment(secret=secret),
                timeout=longest,
            )
        except FileNotFoundError as error:
            raise UsageError(
                "git is not installed, and --to git+dvc needs it. Install it, or publish to a store alone: --to ADDRESS"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise RemoteUnavailable(
                f"git {words[0]} took longer than {longest:.0f} seconds and was stopped."
            ) from error
        return done.returncode, done.stdout, done.stderr

    def _environment(self, *, secret: bool) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if name in PASSED}
        found |= {
            "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
            "GIT_CEILING_DIRECTORIES": str(self.scratch.resolve().parent),
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            **self.settings,
        }
        if secret and self.token:
            script = self.scratch / "askpass"
            if not script.exists():
                durable.write_file(script, [_ASKPASS.encode()])
                script.chmod(0o700)
            found |= {"GIT_ASKPASS": str(script), "OUTLAST_GIT_TOKEN": self.token}
            if self.user:
                found["OUTLAST_GIT_USER"] = self.user
        else:
            found |= {"GIT_ASKPASS": "", "SSH_ASKPASS": ""}
        return found

    def _clean(self, err: bytes) -> str:
        words = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
        kept = [line for line in words if line.startswith(("fatal:", "error:", "remote:", " !", "!"))] or words
        text = "; ".join(kept)
        if self.token:
            text = text.replace(self.token, "***")
        return shortened(text, 600).rstrip(". ")


def host_of(url: str) -> str:
    """The server of a URL, with its port, in lower case; "" for a folder and for HOST:PATH."""
    return urlsplit(url).netloc.rpartition("@")[2].lower() if "://" in url else ""


def token_for(url: str, environment: Mapping[str, str], *, named: bool = True) -> str | None:
    """The token for a server, from the environment; None: there is none for it, or it must not be sent there.

    A token goes over HTTPS, or to this machine, and one of GitHub goes to GitHub.

    Args:
        url: of the repository.
        environment: the variables.
        named: whether the user has named this server. Otherwise it gets no token but, if it is GitHub, one of GitHub.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" and not (parts.scheme == "http" and host in ("127.0.0.1", "localhost", "::1")):
        return None
    own = urlsplit(environment.get("GITHUB_SERVER_URL", "https://github.com")).hostname
    for name in TOKENS:
        if environment.get(name) and ((named and name == TOKENS[0]) or host in ("github.com", own)):
            return environment[name]
    return None


def checked_url(url: str, where: str) -> str:
    """A URL without a secret in it.

    Raises:
        UsageError: it has a password or a token in it, or is none that git may use.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if "::" in url.partition("/")[0] or scheme not in ("", "https", "http", "ssh", "file"):
        raise UsageError(
            f"{where} is not a URL that outlast gives to git; expected https://, ssh://, HOST:PATH or a folder."
        )
    parts = urlsplit(url) if scheme else None
    if parts and (parts.password or (parts.username and parts.scheme.startswith("http"))):
        raise UsageError(
            f"{where} has a password or token in it; it is not shown. It is in plain text wherever the URL is. Take it "
            "out, and set OUTLAST_GIT_TOKEN: git remote set-url REMOTE URL"
        )
    if scheme == "http" and (parts.hostname if parts else "") not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(f"{where} is not encrypted: {url}; expected https://.")
    if url.startswith("-") or any(ord(char) < 32 for char in url):
        raise UsageError(f"{where} is {url!r}; that is no URL.")
    return url


def lines(out: bytes) -> Sequence[str]:
    """The lines that a command has printed."""
    text = out.decode(errors="surrogateescape")
    return text.removesuffix("\n").split("\n") if text else []  # names may have other ends of lines in them
