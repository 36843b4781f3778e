"""`python -m outlast.launch.slurm.job FOLDER`: the process of a job's script. It trains, and stops before the end.

Slurm's own end of a job is the limit. A job that Slurm starts again, because its node failed or another job was more
urgent, continues in the same folder. `job.json` says which job it is.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from outlast.environment import slurm
from outlast.environment.base import gpus
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN
from outlast.folder import plain, reading, records
from outlast.launch.keeper import Job, Keeper, training_command, write
from outlast.launch.slurm.node import free_port, on_all
from outlast.terminal import say

SESSION = records.form({"cwd": records.anything, "seconds": records.or_null(records.number)})
STARTED = records.form({"job": records.whole(1), "restarts": records.whole(), "time": records.number})

_LAST = 5.0  # seconds before the job's end at which the training is killed, so that its end can be recorded


def main(folder: Path) -> int:
    """Train; returns 0 for a run that is finished or wants another session, otherwise the training's exit code."""
    if plain.kind_of(folder / "end.json"):
        say(f"The session in {folder} has ended before. Nothing is done.")
        return EXIT_FINISHED
    about = reading.read_record(folder / "session.json", SESSION)
    started = {"job": int(os.environ["SLURM_JOB_ID"]), "restarts": slurm.restarts(), "time": time.time()}
    write(folder / "job.json", started)
    ends, limits = slurm.ends(), [about["seconds"]]
    if ends is not None:
        limits.append(ends - time.time() - _LAST)
    seconds = max(1.0, min((limit for limit in limits if limit is not None), default=86400.0 * 365))
    command, several = _training(folder)
    job = Job(command, about["cwd"], seconds, min(30.0, max(0.5, seconds / 10)), several)
    stop = (signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)
    code = Keeper(folder, job, stop=stop, cancel=(signal.SIGUSR2,)).run()
    return EXIT_FINISHED if code == EXIT_RUN_AGAIN else code


def _training(folder: Path) -> tuple[Sequence[str], bool]:
    """The command that trains, and whether it trains on several nodes."""
    asked, nodes = reading.read_record(folder / "request.json", records.table()), slurm.nodes()
    if not asked["ranks"]:
        if nodes > 1:
            say(f"The job has {nodes} nodes, and {asked['run']} trains on the first one alone.")
        return training_command(folder, 0), False
    if nodes == 1:
        return training_command(folder, len(slurm.within(gpus()))), False
    return on_all(nodes, folder, free_port()), True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
