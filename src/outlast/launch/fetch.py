"""Fetches the files of a session."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from outlast.checkpoint import CheckpointStore, verify
from outlast.errors import CorruptCheckpoint, LaunchError
from outlast.folder import copying, durable, layout, plain, reading, records
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.folder.lock import Lock
from outlast.launch.provider import Handle, Output, Provider
from outlast.launch.records import LaunchRecord, all_launches
from outlast.remote.gather import bring_home
from outlast.remote.retention import apply_retention
from outlast.report import read_run
from outlast.terminal import shortened

_TRIES = 3
LIST_FILE = "outlast-files.json"
_LOCKS = ("/lock", "/ranks")
_PARALLEL = 4
_LISTED = records.form({"files": records.table(records.text(64)), "sha256": records.text(64)})


class NothingLeft(LaunchError):
    """A session left no file of the run."""


class AnotherHistory(LaunchError):
    """A session does not continue the run of this machine, so none of its files was copied into the run folder."""


def fetch(
    provider: Provider, record: LaunchRecord, *, progress: Callable[[int, int], None] = lambda *_: None
) -> list[str]:
    """Fetch the files of a session. They are copied into the run folder after all files and checkpoints were verified.

    Until then they are in a folder beside the run folder, so that a second call continues an interrupted fetch.
    Afterwards the run's retention policy is applied, and older sessions on this machine are cleared, because the next
    session needs only the newest one. Earlier sessions whose files a relay owes are fetched first.

    Returns:
        Messages for the user.

    Raises:
        UsageError: the session belongs to another run.
        LaunchError: the session has not ended, it left only files of another run, or a file was not fetched completely.
        NothingLeft: it left no files of the run. This is recorded.
        AnotherHistory: it does not continue the run of this machine. Its files are kept in a separate folder, which the
            message names. This is recorded.
        RunBusy: the run is being trained on this machine.
    """
    name, folder = record.name, record.folder
    record.check_own(provider)
    state = provider.state(record.handle)
    if state is not None and not state.over:
        raise LaunchError(
            f"{name} is still {state.word}, and {provider.title} gives files only when a session has ended. Follow it "
            f"with `{record.command('logs', '-f')}`."
        )
    owed = _fetch_owed(provider, record)
    download = folder.path.parent / f".fetched-{name}"
    if state is None or not _all_of(provider, record, download, f"runs/{folder.path.name}/", progress):
        durable.remove_any(download)
        if record.record["state"] == "fetched":
            return [*owed, f"{name} was fetched before, and {provider.title} has no more files of it."]
        if record.record["state"] not in ("refused", "abandoned", "deleted"):
            record.learn(state="fetched" if state else "lost", step=CheckpointStore(folder).newest_step())
        why = "it ended before it wrote anything" if state else f"it is not on {provider.title}"
        raise NothingLeft(f"{name} left no files of the run {folder.path.name}: {why}.")
    told = _take(record, download)
    durable.remove_any(download)
    record.learn(state="fetched", step=CheckpointStore(folder).newest_step())
    _clear(provider, record)
    return owed + told


def _fetch_owed(provider: Provider, record: LaunchRecord) -> list[str]:
    """Fetch the earlier sessions that a relay has gone on without; returns messages for the user."""
    told = []
    for each in all_launches(record.folder):
        if each.number < record.number and each.is_owed and each.provider == provider.name:
            try:
                told += fetch(provider, each)
            except NothingLeft as error:
                told.append(str(error))
    return told


def steps_left(provider: Provider, handle: Handle, folder: RunFolder) -> list[int]:
    """The steps of the complete checkpoints that a session left."""
    mark = re.compile(rf"runs/{re.escape(folder.path.name)}/checkpoints/step-(\d+)/{re.escape(MANIFEST)}")
    found = (mark.fullmatch(output.name) for output in provider.outputs(handle))
    return [int(match[1]) for match in found if match]


def _take(record: LaunchRecord, download: Path) -> list[str]:
    """Copy the fetched files into the run folder; returns messages for the user."""
    folder = record.folder
    lock = Lock(folder.lock)
    durable.make_folder(folder.path)
    lock.take("a fetch")  # a run has one writer, and it may be trained on this machine meanwhile
    try:
        told = folder.check()
        brought = bring_home(folder, [download])
        told += brought.told
        if not brought.rejected:
            told += copying.copy_tree(download / f"runs/{folder.path.name}/artifacts", folder.artifacts)
            told += apply_retention(folder)
    finally:
        lock.release()
    if brought.rejected:
        reached, own = (
            CheckpointStore(each).newest_step() for each in (RunFolder(download / f"runs/{folder.path.name}"), folder)
        )
        record.learn(state="rejected", reached=reached)
        raise AnotherHistory(
            f"{record.name} reached step {reached}, but none of its checkpoints was copied into {folder.path}, which "
            f"is at step {own}. {' '.join(told)} Its files are in {download}; delete them when you do not need them."
        )
    return told


def _clear(provider: Provider, newest: LaunchRecord) -> None:
    """Clear sessions whose files were fetched. An unfinished run needs the files of the newest one."""
    folder = newest.folder
    finished = bool(plain.kind_of(folder.run)) and read_run(folder.path).status == "finished"
    fetched = [each for each in all_launches(folder) if each.record["state"] == "fetched"]
    for each in fetched:
        superfluous = finished or each.number != newest.number
        if superfluous and each.provider == provider.name and each.is_own(provider):
            provider.clear(each.handle)


def _all_of(
    provider: Provider, record: LaunchRecord, download: Path, prefix: str, progress: Callable[[int, int], None]
) -> int:
    """Download all files of a run and check them; returns their number.

    Addresses expire, so files that are missing or damaged are listed and fetched again, as long as that makes progress.
    """
    fruitless, whole = 0, -1
    while True:
        listed = {output.name: output for output in provider.outputs(record.handle)}
        outputs = [output for name, output in listed.items() if _is_inside(name, prefix) and not name.endswith(_LOCKS)]
        others = sorted({name.split("/")[1] for name in listed if re.match(r"runs/[^/]+/", name)})
        if not outputs and others:
            raise LaunchError(
                f"{record.name} left files of {', '.join(map(shortened, others[:3]))}; expected files of "
                f"{prefix.split('/')[1]}. Nothing was fetched."
            )
        if LIST_FILE in listed:
            outputs.insert(0, listed[LIST_FILE])
        _download_all(
            [output for output in outputs if not (download / output.name).exists()], download, len(outputs), progress
        )
        damaged = damaged_files(download, RunFolder(download / prefix.rstrip("/")))
        for path in damaged:
            durable.remove_any(path)
        wanted = {output.name for output in outputs} | promised_files(download, prefix)
        now = sum((download / name).exists() for name in wanted)
        if now == len(wanted) and not damaged:
            return len(wanted - {LIST_FILE})
        fruitless, whole = (0 if now > whole else fruitless + 1), max(now, whole)
        if fruitless == _TRIES:
            raise LaunchError(
                f"Of the {len(wanted)} files that {record.name} left, {len(wanted) - now} were not fetched "
                "completely, even after a retry. The others are kept; run the same command again."
            )


def _download_all(outputs: list[Output], download: Path, total: int, progress: Callable[[int, int], None]) -> None:
    done = total - len(outputs)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for missing in pool.map(lambda output: _download(output, download), outputs):
            done += not missing
            progress(done, total)


def promised_files(download: Path, prefix: str) -> set[str]:
    """Names in the list that the session wrote. The provider may list fewer."""
    try:
        names = set(_listed(download / LIST_FILE))
    except CorruptCheckpoint:
        return set()
    return {name for name in names if _is_inside(name, prefix)}


def _is_inside(name: str, prefix: str) -> bool:
    """Whether a name from a session or a provider is that of a file below the run's folder."""
    plain = not {"", ".", ".."} & set(name.split("/")) and "\\" not in name
    return (
        plain and name.startswith(prefix) and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)
    )


def _download(output: Output, download: Path) -> bool:
    """Fetch one file under a temporary name, then rename it; returns whether it is still missing."""
    target = download / output.name
    temporary = target.with_name(f"{layout.TEMPORARY}{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        output.save(temporary)
        temporary.replace(target)
    except OSError:
        return True
    finally:
        temporary.unlink(missing_ok=True)
    return False


def damaged_files(download: Path, folder: RunFolder) -> list[Path]:
    """Files that do not match the session's list, and files of checkpoints that do not match their manifests.

    A killed session leaves no list. Then files outside checkpoints are accepted if they can be read.
    """
    try:
        listed = _listed(download / LIST_FILE)
    except CorruptCheckpoint:
        return [download / LIST_FILE]
    downloaded = {path.relative_to(download).as_posix(): path for path in plain.plain_files(download)}
    bad = [
        downloaded[name]
        for name, expected in listed.items()
        if name in downloaded and not _is(downloaded[name], expected)
    ]
    if not listed:
        bad += [path for path in (folder.run, folder.config, *folder.attempts.glob("*.json")) if not _is_json(path)]
    for manifest in folder.checkpoints.glob(f"step-*/{MANIFEST}"):
        try:
            verify(manifest.parent)
        except CorruptCheckpoint as error:
            named = [path for path in manifest.parent.iterdir() if str(path) in str(error)]
            bad += named or list(manifest.parent.iterdir())
    return bad


def _listed(path: Path) -> dict[str, str]:
    """Name -> sha256 of all files of a session, from its own list; empty if it left no list."""
    if not plain.kind_of(path):
        return {}
    whole = reading.read_record(path, _LISTED)
    listed: dict[str, str] = whole["files"]
    if hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest() != whole["sha256"]:
        raise CorruptCheckpoint(f"{path} was changed during the transfer.")
    return listed


def _is(path: Path, expected: str) -> bool:
    """Whether a file has this sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected


def _is_json(path: Path) -> bool:
    try:
        reading.read_json(path)
    except FileNotFoundError:
        return True
    except CorruptCheckpoint:
        return False
    return True
