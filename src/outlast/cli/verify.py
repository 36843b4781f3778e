"""outlast verify RUN."""

from __future__ import annotations

from outlast.checkpoint import verify
from outlast.cli import show
from outlast.cli.flags import Parser
from outlast.cli.status import folder_of
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, CorruptCheckpoint, UnknownName
from outlast.folder.layout import RunFolder, step_of
from outlast.report import read_run
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Read every byte of a run's checkpoints again; exit code 1 when one is damaged. Changes nothing."""
    parser = Parser("outlast verify", "Hash a run's checkpoints again.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    values = parser.parse(argv)
    place = RunFolder(read_run(folder_of(values.run, values.checkpoint_dir)).folder)
    folders = sorted(path for path in place.checkpoints.glob("step-*") if step_of(path) is not None)
    if not folders:
        raise UnknownName(f"{place.path} has no checkpoints to verify.")
    good = 0
    rows = show.table("checkpoint", "", "size", right=("size",))
    for path in folders:
        try:
            rows.add_row(path.name, "verified", format_bytes(verify(path).nbytes))
            good += 1
        except CorruptCheckpoint as error:
            rows.add_row(path.name, f"DAMAGED: {error}", "")
    show.console().print(rows)
    say(f"{good} of {len(folders)} checkpoints verify.")
    return EXIT_FINISHED if good == len(folders) else EXIT_FAILED
