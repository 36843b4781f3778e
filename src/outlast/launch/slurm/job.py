"""`python -m outlast.launch.slurm.job FOLDER`: the process of a job's script. It trains, and stops before the end.

Slurm's own end of a job is the limit. A job that Slurm starts again, because its node failed or another job was more
urgent, continues in the same folder. `job.json` says which job it is.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from outlast.environment import slurm
from outlast.environment.base import gpus
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN
from outlast.folder import plain, reading, records
from outlast.launch.keeper import Job, Keeper, write
from outlast.launch.sessionfolders import training_command
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
    restarts = os.environ.get("SLURM_RESTART_COUNT") or "0"
    write(folder / "job.json", {"job": int(os.environ["SLURM_JOB_ID"]), "restarts": int(restarts), "time": time.time()})
    ends, limits = slurm.ends(), [about["seconds"]]
    if ends is not None:
        limits.append(ends - time.time() - _LAST)
    seconds = max(1.0, min((limit for limit in limits if limit is not None), default=86400.0 * 365))
    job = Job(training_command(folder, _cards(folder)), about["cwd"], seconds, min(30.0, max(0.5, seconds / 10)))
    stop = (signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)
    code = Keeper(folder, job, stop=stop, cancel=(signal.SIGUSR2,)).run()
    return EXIT_FINISHED if code == EXIT_RUN_AGAIN else code


def _cards(folder: Path) -> int:
    """GPUs of the job that the training uses: none, unless the recipe supports several ranks."""
    asked = reading.read_record(folder / "request.json", records.table())
    return len(slurm.within(gpus())) if asked["ranks"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
