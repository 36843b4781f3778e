"""`python -m outlast.launch.local.session FOLDER`: one session. It starts the training, and stops it at the limit.

A folder of a session holds

    session.json    command, working folder, seconds, grace; no variables, because some are secret
    code/           the unpacked bundle           request.json   the request for `outlast.launch.inside`
    inputs/         runs of earlier sessions      work/          files of this session
    begun           created by the process that starts the session or by the one that cancels it, never by both
    keeper.json, training.json    the processes: pid, began          log.txt    output of the training
    cancel          request to stop; with "now" in it: at once       end.json   how it ended

    If a record is missing or incomplete, for example after a power failure, the session counts as lost.

The keeper (`outlast.launch.keeper`) outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from outlast.launch.keeper import Job, Keeper, write
from outlast.launch.process import identity


def claim(folder: Path) -> bool:
    """Create the file `begun`. Returns whether this process created it and so decides whether the session starts."""
    try:
        os.close(os.open(folder / "begun", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def main(folder: Path) -> int:
    """Start the keeper in the background.

    Returns after its record is written, so that the caller knows that the session has started.
    """
    if not claim(folder):
        return 1
    waiting, go = os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(waiting)
        write(folder / "keeper.json", {"pid": keeper, "began": identity(keeper)})
        os.write(go, b"1")
        os.close(go)
        return 0
    code = 1
    try:
        os.close(go)
        if not os.read(waiting, 1):
            os._exit(code)  # without its record, nothing could stop the training
        os.setsid()
        about = json.loads((folder / "session.json").read_text())
        Keeper(folder, Job(about["command"], about["cwd"], about["seconds"], about["grace"])).run()
        code = 0
    finally:
        os._exit(code)  # skip the caller's exit handlers
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
