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
    """A session has left no file of the run."""


class AnotherHistory(LaunchError):
    """What a session did does not continue the run as it is here, so none of it was taken."""


def fetch(
    provider: Provider, record: LaunchRecord, *, progress: Callable[[int, int], None] = lambda *_: None
) -> list[str]:
    """Bring home what a session left: every file whole, every checkpoint verified, and only then into the run folder.

    What was fetched stays beside the run folder until all of it is right, so that a second call continues where this
    one ended. Of the checkpoints, those stay that the run's own retention keeps; of the run's sessions on this machine,
    the one that the next session continues from.

    Returns:
        Sentences for the user.

    Raises:
        UsageError: the session is one of another run.
        LaunchError: the session has not ended, has left another run only, or a file does not come whole.
        NothingLeft: it has left nothing of the run, which is on record then.
        AnotherHistory: what it did does not continue the run as it is here; it is kept in a folder of its own, which
            the message names, and that is on record.
        RunBusy: the run is being trained here.
    """
    name, folder = record.name, record.folder
    record.check_own(provider)
    state = provider.state(record.handle)
    if state is not None and not state.over:
        raise LaunchError(
            f"{name} is still {state.word}, and {provider.title} gives files only when a session has ended. Follow it "
            f"with `{record.command('logs', '-f')}`."
        )
    download = folder.path.parent / f".fetched-{name}"
    if state is None or not _all_of(provider, record, download, f"runs/{folder.path.name}/", progress):
        durable.remove_any(download)
        if record.record["state"] == "fetched":
            return [f"{name} was fetched before, and {provider.title} has no more files of it."]
        if record.record["state"] not in ("refused", "abandoned", "deleted"):
            record.learn(state="fetched" if state else "lost", step=CheckpointStore(folder).newest_step())
        why = "it ended before it wrote anything" if state else f"it is not on {provider.title} (any more)"
        raise NothingLeft(f"{name} has left nothing of the run {folder.path.name}: {why}.")
    told = _take(record, download)
    durable.remove_any(download)
    record.learn(state="fetched", step=CheckpointStore(folder).newest_step())
    _clear(provider, record)
    return told


def steps_left(provider: Provider, handle: Handle, folder: RunFolder) -> list[int]:
    """The steps whose checkpoints a session has left whole."""
    mark = re.compile(rf"runs/{re.escape(folder.path.name)}/checkpoints/step-(\d+)/{re.escape(MANIFEST)}")
    found = (mark.fullmatch(output.name) for output in provider.outputs(handle))
    return [int(match[1]) for match in found if match]


def _take(record: LaunchRecord, download: Path) -> list[str]:
    """Take what was fetched into the run folder; returns sentences for the user."""
    folder = record.folder
    lock = Lock(folder.lock)
    durable.make_folder(folder.path)
    lock.take("a fetch")  # the run may be trained here meanwhile, and has one writer
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
            f"{record.name} reached step {reached}, and nothing of it is taken into {folder.path}, which is at step "
            f"{own}. {' '.join(told)} Delete {download} when you do not need it."
        )
    return told


def _clear(provider: Provider, newest: LaunchRecord) -> None:
    """Let go of sessions whose files were fetched; a run that goes on needs those of the newest one."""
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
    """Download all files of a run and check them; returns how many there are.

    Addresses live for a short time only, so what came too late, damaged or not at all is listed again, as long as
    anything comes.
    """
    fruitless, whole = 0, -1
    while True:
        listed = {output.name: output for output in provider.outputs(record.handle)}
        outputs = [output for name, output in listed.items() if _is_inside(name, prefix) and not name.endswith(_LOCKS)]
        others = sorted({name.split("/")[1] for name in listed if re.match(r"runs/[^/]+/", name)})
        if not outputs and others:
            raise LaunchError(
                f"{record.name} has left files of {', '.join(map(shortened, others[:3]))} and none of "
                f"{prefix.split('/')[1]}; nothing was fetched, and the launch is on record as before."
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
    """Names in the session's own list, whatever the provider lists."""
    try:
        names = set(_listed(download / LIST_FILE))
    except CorruptCheckpoint:
        return set()
    return {name for name in names if _is_inside(name, prefix)}


def _is_inside(name: str, prefix: str) -> bool:
    """Whether a name that a session or a provider gives is that of a file below the run's folder."""
    plain = not {"", ".", ".."} & set(name.split("/")) and "\\" not in name
    return (
        plain and name.startswith(prefix) and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)
    )


def _download(output: Output, download: Path) -> bool:
    """Fetch one file under a temporary name; returns whether it is still missing."""
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
    """Files that are not what the session's list says; and files of checkpoints that are not what their manifests say.

    A session that was killed has left no list; then what is no checkpoint is trusted if it can be read.
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
    """Name -> sha256 of all that a session left, in its own words; empty when it left no list."""
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
