"""Kills a publisher, its git and the git server before each call that changes a file; started under shim.c.

    LD_PRELOAD=shim.so python -m tests.durability.publish.tree TEMPLATE FOLDER [STRIDE] [lose]

Prints one JSON object. With `lose`, every file that was written and not fsynced is empty afterwards, the server's too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from outlast.publish import gitcommand
from tests.durability.publish import publishers, sweep
from tests.publish import making

VARIABLES = {"LD_PRELOAD", "SWEEP_ROOT", "SWEEP_COUNT", "SWEEP_KILL", "SWEEP_LOG"}


def attempt(world: sweep.World, kill_at: int) -> int:
    """Publish in a process group of its own; returns the wait status."""
    for name in ("count", "log"):
        world.root.with_name(name).unlink(missing_ok=True)
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.setpgid(0, 0)
    signal.alarm(60)
    os.environ |= {
        "SWEEP_ROOT": f"{world.root}/", "SWEEP_COUNT": str(world.root.with_name("count")),
        "SWEEP_KILL": str(kill_at), "SWEEP_LOG": str(world.root.with_name("log")),
    }  # fmt: skip
    try:
        publishers.branch(world)
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
    template, folder = Path(sys.argv[1]), Path(sys.argv[2])
    stride, lose = int(sys.argv[3]), "lose" in sys.argv
    gitcommand.PASSED |= VARIABLES
    world = sweep.fresh(template, folder)
    assert attempt(world, 0) == 0, (folder / "error").read_text()
    total = int((folder / "count").read_text())
    found: list[str] = []
    locks = lost = 0
    for number in range(1, total + 1, stride):
        world = sweep.fresh(template, folder)
        before = making.fingerprint(world.tree)
        status = attempt(world, number)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status:
            found.append(f"{number}: ends with {status}: {(folder / 'error').read_text()}")
        if lose:
            lost += cut_power(world)
        if sentence := publishers.wrong_with_branch(world):
            found.append(f"{number}: {sentence}")
        status = attempt(world, 0)
        stale = list(world.server.rglob("*.lock"))
        if status and stale:  # the server's own, which its owner removes
            locks += 1
            for path in stale:
                path.unlink()
            status = attempt(world, 0)
        if status:
            found.append(f"{number}: the second publication fails: {(folder / 'error').read_text()}")
        elif sentence := publishers.wrong_with_branch(world) or ("" if sweep.is_visible(world) else "not visible"):
            found.append(f"{number}: published again: {sentence}")
        if making.fingerprint(world.tree) != before:
            found.append(f"{number}: the user's repository was written")
    points = len(range(1, total + 1, stride))
    print(json.dumps({"calls": total, "points": points, "lost": lost, "server_locks": locks, "wrong": found}))


if __name__ == "__main__":
    main()
