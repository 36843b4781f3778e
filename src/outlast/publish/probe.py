"""Asks a destination's servers whether a publication could be made there; nothing stays on them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from outlast.publish import kaggle
from outlast.publish.destination import GIT, Destination
from outlast.publish.git import AUTHOR
from outlast.publish.gitcommand import Git, lines, token_for
from outlast.publish.repository import url_of
from outlast.remote import probe as remote_probe
from outlast.remote.address import open_remote


def probe(destination: Destination) -> list[str]:
    """What a destination can do.

    Returns:
        A line for the store or the dataset's account, and one for the git server where there is one.

    Raises:
        UsageError: the destination is incomplete, or unknown.
        RemoteError: a server does not answer, or refuses.
    """
    destination.check()
    if kaggle.is_kaggle(destination.to):
        return [kaggle.probe(destination.to)]
    address = str(destination.store or destination.to)
    with contextlib.closing(open_remote(address)) as store:
        found = [f"{address}: {remote_probe.probe(store)}"]
    if destination.to == GIT:
        with tempfile.TemporaryDirectory(prefix="outlast-") as scratch:
            url = url_of(destination.git or "origin", destination.repository, Path(scratch))
            _push_nothing(url, Path(scratch))
        found.append(f"{url}: can be pushed to")
    return found


def _push_nothing(url: str, scratch: Path) -> None:
    """Let git begin a push: the server says whether it takes one, and no object or branch is sent."""
    outside = Git(scratch, token=token_for(url, os.environ))
    refs = lines(outside.run("ls-remote", "--", url, secret=True))
    form = "sha256" if any(len(line.partition("\t")[0]) == 64 for line in refs) else "sha1"
    inside = Git(scratch, {"GIT_DIR": str(scratch / "repository")}, token=outside.token)
    inside.run("init", "--quiet", "--bare", "--template=", f"--object-format={form}", scratch / "repository")
    tree = lines(inside.run("hash-object", "-t", "tree", "-w", "--stdin"))[0]
    text = f"tree {tree}\nauthor {AUTHOR} 0 +0000\ncommitter {AUTHOR} 0 +0000\n\nprobe\n"
    commit = lines(inside.run("hash-object", "-t", "commit", "-w", "--stdin", data=text.encode()))[0]
    inside.run(
        "push", "--dry-run", "--porcelain", "--no-verify", "--no-signed", "--", url,
        f"{commit}:refs/heads/outlast-doctor", secret=True,
    )  # fmt: skip
