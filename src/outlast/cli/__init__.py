"""The command line: one file per verb. `outlast --help` imports only this file."""

from __future__ import annotations

import sys
from typing import NoReturn

from outlast.launch.table import VERBS as PROVIDERS_OWN

VERBS = {
    "train": "train a recipe, or continue its run",
    "run": "run any command so that it outlives its session: outlast run -- python train.py",
    "prove": "show that a training survives its interruptions: outlast prove -- python train.py",
    "resume": "continue a run by its name, with the values it had",
    "runs": "list runs with status and steps",
    "status": "show a run: attempts, checkpoints, last metrics",
    "report": "write curves, sessions, time, config and pictures of runs as one HTML file",
    "board": "show all runs of a folder in a browser, live",
    "checkpoints": "list a run's checkpoints: why, size, time, state of the hashes",
    "verify": "hash a run's checkpoints and artifacts again",
    "export": "write the model of a checkpoint as safetensors, or in a format of its recipe",
    "config": "print every value and where it came from",
    "doctor": "check machine, limits, data, disk and remotes before a session starts",
    **PROVIDERS_OWN,
    "launch": "train on another machine: start one attempt that continues where the last one stopped",
    "relay": "keep launching until the run is finished",
    "sweep": "train a recipe with every combination of values: outlast sweep RECIPE --lr 1e-3,5e-4 --seed 0..4",
    "logs": "print the log of a launched attempt",
    "fetch": "fetch and verify the files of a launched attempt",
    "cancel": "stop a launched attempt; its files are saved",
    "down": "delete a finished run's sessions and their files at the provider",
    "quota": "show the accelerator hours that are left this week",
    "push": "push a run's checkpoints, journal and records to a remote, for example a bucket",
    "pull": "copy a pushed run from a remote, verified",
    "publish": "make a run's results visible elsewhere, all or nothing: weights, metrics, artifacts",
    "sync": "send a run's metrics to a tracker, for example TensorBoard, from where it was left",
    "archive": "write a run's results as one zip: config, history, curves, final model, artifacts",
    "notebook": "write a notebook that trains a recipe, for the browser",
    "data": "get, check or prepare a recipe's data",
    "recipes": "list recipes, and what else they offer: outlast VERB RECIPE",
    "copy": "copy a recipe to make it your own",
}

_LONGEST = 2000  # characters of an error
_EXITS = "exit codes: 0 finished · 75 stopped cleanly, run me again · 1 failed · 2 usage · 130 interrupted"


def usage() -> str:
    """The text of `outlast --help`."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {words}" for verb, words in VERBS.items())
    return (
        "usage: outlast VERB ...\n\n"
        "Training runs that outlive their sessions.\n\n"
        f"{verbs}\n\n"
        "details: outlast VERB --help   version: outlast --version\n"
        f"{_EXITS}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code. An OutlastError is printed as one sentence on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to fail
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        from outlast import __version__

        sys.stdout.write(f"outlast {__version__}\n")
        return 0
    return _run(argv[0], argv[1:])


def as_module() -> NoReturn:
    """Run the command line of a process that `python -m` has started."""
    import os

    import outlast

    # Python has put the working folder first on its path, which the command `outlast` does not: nothing is imported
    # from there unasked.
    here = os.getcwd()  # noqa: PTH109
    if sys.path and sys.path[0] in ("", here) and os.path.dirname(outlast.__path__[0]) != here:  # noqa: PTH120
        del sys.path[0]
    sys.exit(main())


def _run(verb: str, argv: list[str]) -> int:
    import gc
    import importlib

    from outlast.errors import EXIT_FAILED, EXIT_INTERRUPTED, OutlastError, UsageError

    try:
        if verb not in VERBS:
            from outlast.config.words import nearest

            if argv and not argv[0].startswith("-"):
                from outlast.cli import offered
                from outlast.recipe.registry import names

                meant = not nearest(verb, VERBS) and nearest(argv[0], names())  # a recipe's verb, and its name mistyped
                if argv[0] in names() or "/" in argv[0] or meant:
                    return offered.run(verb, argv)
            raise UsageError(f"There is no verb {verb!r}.{nearest(verb, VERBS)} `outlast --help` lists them.")
        if verb in PROVIDERS_OWN:
            from outlast.cli import provided

            return provided.run(verb, argv)
        gc.disable()  # what is imported stays: a collection meanwhile takes a twentieth of the time and frees nothing
        try:
            module = importlib.import_module(f"outlast.cli.{verb}")
        finally:
            gc.freeze()  # nor does a later one look at it, such as those at the exit, which took 5 to 10 ms
            gc.enable()
        code: int = module.run(argv)
        return code
    except OutlastError as error:
        _complain(error)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # what reads our output has gone; nothing more can be said
        return 0
    except OSError as error:
        if (sentence := _of_the_system(verb, error)) is None:
            raise  # of a recipe, whose traceback says where
        _complain(sentence)
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED


def _of_the_system(verb: str, error: OSError) -> str | None:
    """The sentence about what a verb could not read or write; None for a failure whose traceback is needed."""
    import errno

    if verb not in ("train", "resume"):
        return f"{error.filename or verb}: {error.strerror}." if error.strerror is not None else None
    # Python words a full disk of temporary files otherwise.
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No usable temporary directory" in str(error.strerror)
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) and error.filename:  # a name that the user gave
        return f"{error.filename}: {error.strerror}. Check the path."
    if not full:
        return None
    return (
        f"The disk is full: {error.filename or error.strerror}. Checkpoints that were written are whole. Free disk "
        "space, and start the same command again: it continues the run."
    )


def _complain(sentence: object) -> None:
    from outlast.terminal import lines, shortened

    sys.stderr.write(f"error: {shortened(lines(sentence), _LONGEST, keep=chr(10))}\n")
