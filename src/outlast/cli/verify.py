"""outlast verify RUN."""

from __future__ import annotations

from pathlib import Path

from outlast.checkpoint import verify
from outlast.cli import show
from outlast.cli.named import runs_of
from outlast.cli.parser import Parser
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, CorruptCheckpoint, OutlastError, UnknownName
from outlast.folder.artifact import manifests_in, verify_artifact
from outlast.folder.layout import RunFolder, step_of
from outlast.report import read_run
from outlast.terminal import say


def run(argv: list[str]) -> int:
    """Read every byte of a run's checkpoints and artifacts again; exit code 1 when one is damaged. Changes nothing."""
    parser = Parser("outlast verify", "Hash a run's checkpoints and artifacts again.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_argument("--checkpoint-dir", metavar="PATH", help="folder that holds the run folders (default: runs)")
    values = parser.parse(argv)
    found = runs_of(values.run, values.checkpoint_dir)
    codes = [_run(read_run(folder).folder, named=len(found) > 1) for folder in found]
    return max(codes)


def _run(path: Path, *, named: bool) -> int:
    """Verify one run; `named`: print its name, because there are several."""
    place = RunFolder(path)
    folders = sorted(path for path in place.checkpoints.glob("step-*") if step_of(path) is not None)
    manifests = manifests_in(place.artifacts)
    if not folders and not manifests:
        raise UnknownName(f"{place.path} has no checkpoints to verify.")
    if named:
        say(f"{place.path.name}:")
    good = _checkpoints(folders) if folders else 0
    said = [f"{good} of {len(folders)} checkpoints verify."] if folders else []
    if manifests:
        whole = _artifacts(place.artifacts, manifests)
        said.append(f"{whole} of {len(manifests)} artifacts with a manifest verify.")
        good += whole
    say(*said)
    return EXIT_FINISHED if good == len(folders) + len(manifests) else EXIT_FAILED


def _checkpoints(folders: list[Path]) -> int:
    """Print a table; returns the number of valid ones."""
    good, rows = 0, show.table("checkpoint", "", "size", right=("size",))
    for path in folders:
        try:
            rows.add_row(path.name, "verified", format_bytes(verify(path).nbytes))
            good += 1
        except CorruptCheckpoint as error:
            rows.add_row(path.name, f"DAMAGED: {error}", "")
    show.console().print(rows)
    return good


def _artifacts(folder: Path, manifests: list[Path]) -> int:
    """Print a table; returns the number of valid ones."""
    good, rows = 0, show.table("artifact", "", "at step", "size", right=("at step", "size"))
    for path in manifests:
        try:
            record = verify_artifact(path)
        except (OutlastError, FileNotFoundError) as error:
            rows.add_row(str(path.relative_to(folder)), f"DAMAGED: {error}", "", "")
            continue
        size = sum(entry["size"] for entry in record["files"].values())
        rows.add_row(record["name"], "verified", str(record.get("step", "")), format_bytes(size))
        good += 1
    show.console().print(rows)
    return good
