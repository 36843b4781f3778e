"""A Slurm cluster as a provider. The relay runs on a login node, and each session is a job.

A session is a folder below RUNS/.jobs, on a disk that the login node and the nodes share (`outlast.launch.
sessionfolders`), with the batch script. Its job writes there how it goes on, so that Slurm is asked only about what the
folder cannot tell: whether the job waits, and how it ended if it could not write that.

Each session is a new job, and no requeued one: that needs no right to requeue, and does not wait two minutes.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from outlast.config.units import format_seconds
from outlast.errors import EXIT_RUN_AGAIN, LaunchError, LaunchRefused, UsageError
from outlast.folder import durable, plain, records
from outlast.launch.keeper import DOWN, LOG, write
from outlast.launch.options import Option
from outlast.launch.provider import Capabilities, Handle, Limits, Request, State, Tell, Terms, Word
from outlast.launch.schema import MADE
from outlast.launch.sessionfolders import FolderProvider, age, ended, read
from outlast.launch.slurm.job import STARTED
from outlast.launch.slurm.scheduler import Job, Scheduler
from outlast.launch.slurm.script import SCRIPT, partition_of, script

OPTIONS = (
    Option(
        "time",
        "time limit of a job, in which the training starts, trains and saves",
        "seconds",
        setting=True,
        metavar="TIME",
        absent="that of the partition",
    ),
    Option(
        "sbatch",
        "flag of sbatch, such as partition=gpu or gres=gpu:1; may be given several times",
        "list",
        setting=True,
        metavar="FLAG",
    ),
    Option(
        "nodes",
        "number of nodes of a job, on which a recipe for several ranks trains together",
        "whole",
        setting=True,
        metavar="N",
        absent="one",
    ),
)
FOLDER = ".jobs"

_LOOK = 0.2  # least seconds between two looks into a folder
LATE = 90.0
"""Seconds that a shared disk may take to show what a node has written."""
_END = 60.0  # seconds that Slurm may take to end a job
_UNRECORDED = "unrecorded"  # when Slurm was first seen to say that a job has ended which has recorded no end
_HANDLE = records.form({"session": MADE}, {"job": records.whole(1)})

_WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNS = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")
_ENDS: dict[str, Word] = {
    "CANCELLED": "cancelled",
    "TIMEOUT": "timed-out",
    "DEADLINE": "timed-out",
    "OUT_OF_MEMORY": "out-of-memory",
    "FAILED": "failed",
}
"""States of jobs. All others, such as NODE_FAIL, BOOT_FAIL, PREEMPTED and REVOKED, are "lost"."""


def connect(runs: Path, *, user: str | None = None, patience: float = 600.0) -> SlurmProvider:  # noqa: ARG001 - as all
    """The jobs of this user for the runs of this folder."""
    return SlurmProvider(runs.absolute() / FOLDER, Scheduler(patience))


class SlurmProvider(FolderProvider):
    """The Slurm cluster of this machine (see `outlast.launch.provider.Provider`).

    Args:
        root: the folder of the sessions.
        scheduler: Slurm.
        late: seconds that a shared disk may take to show what a node has written.
    """

    name = "slurm"
    title = "Slurm"
    environment = "slurm"
    capabilities = Capabilities(
        full=True, live_logs=True, folders=True, inputs="ended", settles=60.0, ask=10.0, longer="--time"
    )
    looks = (_LOOK, math.inf)

    def __init__(self, root: Path, scheduler: Scheduler, late: float = LATE) -> None:
        super().__init__(root, _HANDLE)
        self.scheduler, self._late = scheduler, late
        self._longest = functools.cache(scheduler.longest)

    def limits(self, terms: Terms) -> Limits:
        """A session is as long as --time, otherwise as the partition allows.

        Raises:
            UsageError: neither has a limit.
        """
        given = terms.options.get("time")
        seconds = given or self._longest(partition_of(terms.options.get("sbatch") or ()))
        if seconds is None:
            raise UsageError(
                "The partition has no time limit; expected one, as a session trains until shortly before its end. "
                "Give --time, such as --time 4h. Nothing was started."
            )
        return Limits(seconds, accelerator="this cluster")

    # starting ------------------------------------------------------------------------------------------------------

    def plan(self, request: Request) -> Handle:
        """The name of the session's folder.

        Raises:
            UsageError: several nodes are asked for, and the recipe trains on one process.
        """
        nodes = request.terms.options.get("nodes") or 1
        if nodes > 1 and not request.asked["ranks"]:
            raise UsageError(
                f"{request.run} trains in one process, and --nodes is {nodes}; expected a recipe for "
                "several ranks (ranks=True). Leave --nodes out. Nothing was started."
            )
        return super().plan(request)

    def preview(self, request: Request, folder: Path) -> str:
        """Write the batch script into a folder."""
        place = folder / f"{request.name}.sh"
        durable.make_folder(folder)
        durable.write_file(place, [self._script(request).encode()])
        return (
            f"{place} is the script of a job that would train {request.run} for {format_seconds(request.training)} at "
            f"most, with {len(request.bundle.files)} files of code, bundle {request.bundle.hash[:12]}. Nothing was "
            "submitted."
        )

    def submit(self, request: Request, handle: Handle, *, begun: Callable[[], None], tell: Tell) -> Handle:
        """Create the folder, then submit its script."""
        text = self._script(request)
        self._folders.delete(handle)  # of a session of this name that was refused, as `state` says
        about = {"cwd": str(Path.cwd()), "seconds": request.terms.options.get("time")}
        folder = self._folders.create(handle, request, about)
        durable.write_file(folder / SCRIPT, [text.encode()])
        begun()
        try:
            job = self.scheduler.submit(request.name, folder / SCRIPT)
        except (LaunchRefused, UsageError):
            self._folders.delete(handle)
            raise
        tell(f"{request.name} is job {job}")
        return {**handle, "job": job}

    def _script(self, request: Request) -> str:
        options = request.terms.options
        folder = self._folders.of(self.plan(request))
        return script(request.name, folder, options.get("time"), options.get("sbatch") or (), options.get("nodes"))

    # existing sessions ---------------------------------------------------------------------------------------------

    def state(self, handle: Handle) -> State | None:
        """The state of the session: from its folder if it has begun, otherwise from Slurm."""
        folder = self._folders.of(handle)
        if not folder.is_dir():
            return None
        if end := ended(folder):
            return self._with_reason(folder, end)
        started, job = read(folder / "job.json", STARTED), self.scheduler.find(folder.name, folder / SCRIPT)
        seconds = max(0.0, age(folder / "job.json")) if started else None
        if job is None:
            if end := ended(folder):  # it may have ended between the two looks
                return end
            if not started and "job" not in handle:
                return None  # it was never submitted
            return State("lost", "Slurm does not know its job any more, and it recorded no end", seconds=seconds)
        if job.state in _WAITS:
            return State("queued", "" if job.reason in ("None", "") else job.reason)
        if job.state in _RUNS:
            (folder / _UNRECORDED).unlink(missing_ok=True)  # of an end before Slurm started it again
            asked = plain.kind_of(folder / "cancel") is not None
            return State("saving" if asked else "running", seconds=seconds)
        return self._unrecorded(folder, job, seconds)

    def _with_reason(self, folder: Path, end: State) -> State:
        """The end that a session recorded. If a signal stopped it, Slurm says whether a person cancelled the job."""
        if end.message != DOWN:
            return end
        job = self.scheduler.find(folder.name, folder / SCRIPT)
        if job and job.state in _RUNS and end.exit == EXIT_RUN_AGAIN:
            return State("saving", seconds=end.seconds)
        cancelled = job is not None and job.state == "CANCELLED" and end.exit == EXIT_RUN_AGAIN
        found = (
            replace(end, word="cancelled", message="its job was cancelled") if cancelled else replace(end, message="")
        )
        write(folder / "end.json", asdict(found))
        return found

    def _unrecorded(self, folder: Path, job: Job, seconds: float | None) -> State:
        """The state of a session whose job has ended, by what Slurm says. Its own record may still be on its way.

        It is recorded, because Slurm forgets a job some minutes after its end.
        """
        mark = folder / _UNRECORDED
        if not plain.kind_of(mark):
            mark.write_text("")
        if seconds is not None and age(mark) < self._late:
            return State("saving", seconds=seconds)
        why = f"Slurm says {job.state}" + (f", {job.reason}" if job.reason not in ("None", "") else "")
        if job.state == "FAILED" and seconds is None:
            why += f"; its script ended before the training began: read {folder / LOG}"
        found = State(_ENDS.get(job.state, "lost"), why, seconds=seconds)
        record = {"word": found.word, "message": why, "exit": None, "seconds": seconds or 0.0}
        if end := ended(folder):
            return end
        write(folder / "end.json", record)
        return found

    def cancel(self, handle: Handle) -> None:
        """Ask the training to save and stop. It is killed if it does not. A job that waits is removed."""
        folder = self._folders.existing(handle)
        state, job = self.state(handle), self.scheduler.find(folder.name, folder / SCRIPT)
        if state is None or state.over or job is None:
            return
        if state.word == "queued":
            self.scheduler.cancel(job.number)
        elif not plain.kind_of(folder / "cancel"):
            (folder / "cancel").write_text("")
            self.scheduler.cancel(job.number, signal="USR2")  # a node may see the file late

    def delete(self, handle: Handle, others: Sequence[Handle] = ()) -> list[str]:  # noqa: ARG002 - nothing is shared
        """Delete the session's folder. Its job is ended first."""
        folder = self._folders.of(handle)
        end = time.monotonic() + _END
        while (state := self.state(handle)) is not None and not state.over:
            if job := self.scheduler.find(folder.name, folder / SCRIPT):
                self.scheduler.cancel(job.number)
            if time.monotonic() > end:
                raise LaunchError(
                    f"{folder} was still running {_END:.0f} s after its job was cancelled. Nothing was deleted."
                )
            time.sleep(_LOOK)
        return self._folders.delete(handle) if state else []
