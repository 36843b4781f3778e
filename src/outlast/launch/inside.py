"""`python -m outlast.launch.inside REQUEST.json FOLDER EXIT`: the program that runs in a session.

It does what the recipe does before a training (`Recipe.before`), trains the requested run below FOLDER/runs, and writes
the exit code of `outlast train` into the file EXIT. The file is needed because torchrun, which may have started this
program, returns only its own exit codes. Of a command, the run is made by `outlast run`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import outlast
from outlast.checkpoint import CheckpointStore
from outlast.config import as_flag
from outlast.distributed import ranks
from outlast.environment import detect
from outlast.errors import EXIT_FINISHED, EXIT_RUN_AGAIN, OutlastError, PublishFailed, SessionEnded
from outlast.folder.layout import RunFolder
from outlast.launch.bundle import flags_of
from outlast.recipe import prepare, publishing, registry
from outlast.recipe.recipe import Recipe
from outlast.recipe.stages import bring_home_stages, with_what_is_left
from outlast.remote.attached import copies_of
from outlast.run.session import now
from outlast.terminal import say

MISSING_CHECKPOINT = 6
"""Exit code of a session that did not find the checkpoint to continue."""

NOT_PUBLISHED = 7
"""Exit code of a session that has finished its run, and has not published it as its environment file says."""


COMMAND = "command"
"""Folder of a command's files in the bundle."""

RANK_GONE = 8
"""Exit code of a session in which a rank has disappeared: its process was killed, or its machine went down."""


def report(request: Path, working: Path, place: Path) -> int:
    """Train, and write the exit code into a file; returns it.

    Each rank but the first writes into a file of its own. The first looks into them when another rank is gone, to see
    whether it has failed by itself.

    Args:
        request: the file of the request.
        working: the folder below which it trains.
        place: the file for the exit code.
    """
    rank, count = (int(os.environ.get(name) or default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    code = 1
    try:
        code = main(request, working)
    except Exception as error:
        code = RANK_GONE if ranks.says_gone(error) else 1
        raise
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        if rank:
            place.with_name(f"{place.name}.{rank}").write_text(str(code))
        else:
            if code == RANK_GONE:
                told = (_told(place.with_name(f"{place.name}.{other}")) for other in range(1, count))
                code = next((each for each in told if each not in (*_GOES_ON, None)), code)
            place.write_text(str(code))
    return code


_GOES_ON = (EXIT_FINISHED, EXIT_RUN_AGAIN, RANK_GONE)


def _told(place: Path) -> int | None:
    """The exit code that another rank wrote; None if it wrote none."""
    try:
        return int(place.read_text())
    except (OSError, ValueError):
        return None


def main(request: Path, working: Path) -> int:
    """Train, or run a command; returns the exit code of `outlast train` or `outlast run`."""
    asked, began = json.loads(request.read_text()), now()
    runs = working / "runs"
    if "command" in asked:
        return _run_command(asked, runs)
    flags = {key: value if isinstance(value, bool) else as_flag(value) for key, value in asked["values"].items()}
    flags |= {
        "checkpoint_dir": str(runs),
        "results_dir": "none",
        "log_dir": "none",
        "experiment_name": asked["run"],
        "budget": f"{asked['budget']:g}s",
    }
    try:
        found = _recipe_of(asked)
        wanted = prepare.Request(flags=flags)
        prepared = prepare.prepare(found, wanted)
        here = _newest(prepared.folder, prepared.environment.inputs)
        if _is_missing(asked, here):
            return MISSING_CHECKPOINT
        publishing.check(prepared)
        _bring_home(prepared)
        if _prepared_by(prepared, flags_of(flags), begun=here > 0):
            # Again: of the session's limit and budget, less is left now.
            prepared = with_what_is_left(prepare.prepare(found, wanted), now() - began)
        run = prepare.start(prepared, progress="plain")
    except SessionEnded as ended:
        return int(ended.code or 0)
    except OutlastError as error:
        say(f"error: {error}", error=True)
        return RANK_GONE if ranks.says_gone(error) else error.exit_code
    if ranks.is_main_process():
        say(f"run {run.id} is finished")
        try:
            for line in publishing.publish(prepared):
                say(line)
        except PublishFailed as error:
            say(f"error: {error}", error=True)
            return NOT_PUBLISHED
    return EXIT_FINISHED


def _recipe_of(asked: Mapping[str, Any]) -> Recipe:
    """The recipe of a request, or that of its stage."""
    found = replace(registry.find(asked["recipe"]), source=asked["source"])
    return found.of_stage(stage) if (stage := asked.get("stage")) else found


def _bring_home(prepared: prepare.PreparedRun) -> None:
    """Copy the runs that a stage is trained on from this session's inputs."""
    if prepared.recipe.stage:
        if prepared.recipe.ranks:
            ranks.meet()
        bring_home_stages(prepared, tell=say)


def _prepared_by(prepared: prepare.PreparedRun, flags: Sequence[str], *, begun: bool) -> bool:
    """Do what the recipe does before a training, on one rank; returns whether it does anything.

    Raises:
        OutlastError: the session is to end instead.
        SessionEnded: it was asked to stop meanwhile.
    """
    recipe = registry.loaded(prepared.recipe)
    if recipe.before is None:
        return False
    if recipe.ranks:
        ranks.meet()
    (channel,) = ranks.connect(1)
    before, config = recipe.before, prepared.resolved.config

    def work() -> str:
        try:
            for line in before(config, flags, begun):
                say(line)
        except SessionEnded as ended:
            return ended.reason
        return ""

    moment = "the steps before the training"
    ended = channel.broadcast(moment, channel.together(moment, work if channel.is_main else str).encode()).decode()
    if ended:
        raise SessionEnded(ended)
    return True


def _newest(folder: RunFolder, inputs: Iterable[Path]) -> int:
    """The newest step of the run in this session's folder or its inputs."""
    return max(CheckpointStore(place).newest_step() for place in [folder, *copies_of(folder.path.name, inputs)])


def _is_missing(asked: Mapping[str, Any], here: int) -> bool:
    """Whether this session has less than it is to continue; says so."""
    if here >= asked["step"]:
        return False
    say(
        f"Step {asked['step']} of {asked['run']} should be continued, but this session has only step {here}. "
        "It ends now."
    )
    return True


def _run_command(asked: Mapping[str, Any], runs: Path) -> int:
    """Run `outlast run` in the folder of the bundle that has the command's files; returns its exit code."""
    if _is_missing(asked, _newest(RunFolder(runs / asked["run"]), detect().inputs)):
        return MISSING_CHECKPOINT
    folder = Path(outlast.__file__).resolve().parents[1] / COMMAND
    folder.mkdir(exist_ok=True)  # no file was sent
    for name, target in asked["links"].items():
        (folder / name).symlink_to(target)
    remote = asked["values"].get("remote")
    flags = [
        f"--name={asked['run']}",
        f"--checkpoint-dir={runs}",
        f"--budget={asked['budget']:g}s",
        *([f"--remote={remote}"] if remote else []),
        *asked["flags"],
    ]
    # The command may import what lies beside its script.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    words = [sys.executable, "-P", "-m", "outlast", "run", *flags, "--", *asked["command"]]
    started: list[subprocess.Popen[bytes]] = []
    missed: list[int] = []

    def pass_on(number: int, _: object) -> None:
        for process in started:
            process.send_signal(number)
        missed.extend([] if started else [number])

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, pass_on)
    process = subprocess.Popen(words, cwd=folder, env=variables)
    started.append(process)
    for number in missed:
        process.send_signal(number)
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    code = report(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    # torchrun treats a rank that exits with 75 as failed, and kills the other ranks.
    sys.exit(EXIT_FINISHED if code in (EXIT_RUN_AGAIN, NOT_PUBLISHED) else code)
