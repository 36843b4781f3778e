"""outlast verify RUN."""

from __future__ import annotations

import contextlib
from pathlib import Path

from outlast.checkpoint import verify
from outlast.cli import show
from outlast.cli.named import runs_of
from outlast.cli.parser import Parser
from outlast.config.units import format_bytes
from outlast.errors import EXIT_FAILED, EXIT_FINISHED, CorruptCheckpoint, OutlastError, UnknownName, UsageError
from outlast.folder.artifact import manifests_in, verify_artifact
from outlast.folder.layout import RunFolder, check_run_id, step_of
from outlast.report import read_run
from outlast.terminal import command, say


def run(argv: list[str]) -> int:
    """Read every byte of a run's checkpoints and artifacts again; exit code 1 when one is damaged. Changes nothing."""
    parser = Parser("outlast verify", "Hash a run's checkpoints and artifacts again, here or in a remote.")
    parser.add_argument("run", help="a run's name or folder; with --remote, the run's name")
    parser.add_argument("--remote", metavar="ADDRESS", help="read what was pushed to this remote, and nothing here")
    parser.add_runs_folder()
    values = parser.parse(argv)
    if values.remote is not None:
        if values.checkpoint_dir is not None:
            raise UsageError("--checkpoint-dir names a folder of this machine, and --remote a remote. Leave one out.")
        return _pushed(check_run_id(values.run), values.remote)
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


def _pushed(name: str, address: str) -> int:
    """Verify a run in a remote."""
    from outlast.remote.address import open_remote
    from outlast.remote.revision import PushedRun
    from outlast.remote.verify import verify_pushed

    with contextlib.closing(open_remote(address, writes=False)) as remote:
        pushed = PushedRun(remote, name)
        if pushed.revision is None and not pushed.told:
            raise UnknownName(f"{remote.address()} has no run {name!r} that was pushed.")
        rows, damage = show.table("checkpoint", "", "size", right=("size",)), list(pushed.told)
        size = sum(blob.size for blobs in (pushed.revision.files if pushed.revision else {}).values() for blob in blobs)
        with show.bytes_bar("verifying", size) as advance:
            for part in verify_pushed(pushed):
                rows.add_row(part.name, "DAMAGED" if part.damage else "verified", format_bytes(part.size))
                damage += part.damage
                advance(part.size)
        show.console().print(rows)
        say(*dict.fromkeys(damage))
        if not damage:
            say(f"{pushed.address()} verifies.")
            return EXIT_FINISHED
    say(
        "Delete the damaged objects there. Then a machine that has these checkpoints sends them again: "
        + command("outlast", "push", name, address)
    )
    return EXIT_FAILED


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
