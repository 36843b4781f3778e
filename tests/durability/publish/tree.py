"""Kills a publisher, its git and the git server before each call that changes a file; started under shim.c.

    LD_PRELOAD=shim.so python -m tests.durability.publish.tree TEMPLATE FOLDER STRIDE [lose] [alone] [http]

Prints one JSON object. With `lose`, every file that was written and not fsynced is empty afterwards, the server's too.
With `alone`, only the publisher is killed; its git and the server go on, and are waited for. With `http`, the server is
asked over HTTP and lives in this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from outlast.publish import gitcommand
from outlast.remote import parallel
from tests.durability.publish import publishers, sweep
from tests.publish import making
from tests.standins import git as standin

VARIABLES = {"LD_PRELOAD", "SWEEP_ROOT", "SWEEP_COUNT", "SWEEP_KILL", "SWEEP_LOG", "SWEEP_CLIENT"}
_SUBREAPER = 36  # of prctl: processes whose parent was killed become ours


def attempt(world: sweep.World, kill_at: int, server: standin.Standin | None = None, *, alone: bool = False) -> int:
    """Publish in a process group of its own, until none of it is left; returns the publisher's wait status."""
    for name in ("count", "log"):
        world.root.with_name(name).unlink(missing_ok=True)
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-child, 0)
        if server:
            server.settle()
        return status
    os.setpgid(0, 0)
    signal.alarm(60)
    parallel.AT_ONCE = 1  # the same calls in the same order each time
    os.environ |= {
        "SWEEP_ROOT": f"{world.root}/", "SWEEP_COUNT": str(world.root.with_name("count")),
        "SWEEP_KILL": str(kill_at), "SWEEP_LOG": str(world.root.with_name("log")),
    }  # fmt: skip
    if alone:
        os.environ["SWEEP_CLIENT"] = str(os.getpid())
    try:
        publishers.branch(world, f"{server.url}/server.git" if server else "")
    except BaseException as error:
        world.root.with_name("error").write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
    os._exit(0)


def cut_power(world: sweep.World) -> int:
    """Empty what was written and not fsynced; returns how many files that are."""
    log, lost = world.root.with_name("log"), set()
    for line in log.read_text().splitlines() if log.exists() else []:
        kind, *file = line.split()
        if kind == "w":
            lost.add(tuple(file))
        else:
            lost.discard(tuple(file))
    count = 0
    for path in world.root.rglob("*"):
        found = path.lstat()
        if path.is_file() and (str(found.st_dev), str(found.st_ino)) in lost:
            path.chmod(0o644)
            os.truncate(path, 0)
            count += 1
    return count


def main() -> None:
    folder = Path(sys.argv[2])
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    gitcommand.PASSED |= VARIABLES
    if "http" not in sys.argv:
        _sweep(None)
        return
    os.environ["OUTLAST_GIT_TOKEN"] = standin.TOKEN
    with standin.served(folder / "world") as server:
        _sweep(server)


def _sweep(server: standin.Standin | None) -> None:
    template, folder = Path(sys.argv[1]), Path(sys.argv[2])
    stride, lose, alone = int(sys.argv[3]), "lose" in sys.argv, "alone" in sys.argv
    world = sweep.fresh(template, folder)
    assert attempt(world, 0, server) == 0, (folder / "error").read_text()
    total = int((folder / "count").read_text())
    found: list[str] = []
    locks = lost = visible = 0
    for number in range(1, total + 1, stride):
        world = sweep.fresh(template, folder)
        before = making.fingerprint(world.tree)
        status = attempt(world, number, server, alone=alone)
        visible += sweep.is_visible(world)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status:
            found.append(f"{number}: ends with {status}: {(folder / 'error').read_text()}")
        if lose:
            lost += cut_power(world)
        if sentence := publishers.wrong_with_branch(world):
            found.append(f"{number}: {sentence}")
        status = attempt(world, 0, server)
        stale = list(world.server.rglob("*.lock"))
        if status and stale:  # the server's own, which its owner removes
            locks += 1
            for path in stale:
                path.unlink()
            status = attempt(world, 0, server)
        if status:
            found.append(f"{number}: the second publication fails: {(folder / 'error').read_text()}")
        elif sentence := publishers.wrong_with_branch(world) or ("" if sweep.is_visible(world) else "not visible"):
            found.append(f"{number}: published again: {sentence}")
        if making.fingerprint(world.tree) != before:
            found.append(f"{number}: the user's repository was written")
    points = len(range(1, total + 1, stride))
    counts = {"calls": total, "points": points, "visible": visible, "lost": lost, "server_locks": locks}
    print(json.dumps({**counts, "wrong": found}))


if __name__ == "__main__":
    main()
