"""outlast pull RUN ADDRESS."""

from __future__ import annotations

import contextlib

from outlast.cli import push
from outlast.errors import EXIT_FINISHED
from outlast.folder.layout import RunFolder, check_run_id, runs_root
from outlast.remote import carry
from outlast.remote.address import open_remote
from outlast.terminal import command, say


def run(argv: list[str]) -> int:
    """Copy a run from a remote, and verify it."""
    made = push.parser("pull", "Bring a run home from a remote: the newest checkpoint there that verifies.")
    values = made.parse(argv)
    address, root = push.address_of(values.address, "pull"), runs_root(values.checkpoint_dir)
    folder = RunFolder(root / check_run_id(values.run))
    with contextlib.closing(open_remote(address, writes=False)) as remote:
        for sentence in carry.pull(folder, remote) or ["Nothing newer than what is here."]:
            say(sentence)
    where = () if values.checkpoint_dir is None else ("--checkpoint-dir", str(root))
    say(f"Look at it with: {command('outlast', 'status', values.run, *where)}")
    return EXIT_FINISHED
