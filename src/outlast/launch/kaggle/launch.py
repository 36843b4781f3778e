"""Start an attempt on Kaggle, follow it, and bring home what it left."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from outlast import files, places
from outlast.checkpoint import Store, verify
from outlast.environment.kaggle import HOURS, HOURS_TPU, reserve
from outlast.errors import CorruptCheckpoint, KaggleRefused, LaunchError, UsageError
from outlast.files import MANIFEST, RunFolder
from outlast.launch import bundle
from outlast.launch.kaggle.client import Kaggle, Output, Push
from outlast.launch.records import LaunchRecord, all_launches
from outlast.recipe import Prepared

INLINE = 900_000
"""Bytes of code that one push may have; Kaggle refuses about a megabyte."""
_MARK = re.compile(r"::outlast (session|image|device|exit) (.*)")
_BACKSTOP = 5 * 60  # seconds before the platform's own end at which the push asks Kaggle to stop it
_TRIES = 3
_LIST = "outlast-files.json"
_LOCKS = ("/lock", "/ranks")
_PARALLEL = 4


class NothingLeft(LaunchError):
    """A session has left no file of the run."""


def script(prepared: Prepared, accelerator: str, seconds: float) -> tuple[str, bundle.Bundle]:
    """The one file that is pushed: the runner with the bundle inside.

    Raises:
        UsageError: it is larger than a push may be.
    """
    packed = bundle.make(prepared, bundle.request_of(prepared, budget=seconds))
    about = {"accelerator": accelerator, "sha256": hashlib.sha256(packed.data).hexdigest()}
    runner = (Path(__file__).parent / "runner.py").read_text()
    text = runner.replace('ABOUT = "{}"', f"ABOUT = {json.dumps(json.dumps(about))}", 1)
    text = text.replace('DATA = ""', f'DATA = "{base64.b64encode(packed.data).decode()}"', 1)
    if len(text) > INLINE:
        raise UsageError(
            f"The code of {prepared.recipe.source} takes {len(text) // 1000} kB packed, and a push may have {INLINE // 1000} kB. Leave out of its "
            "folder what is not code."
        )
    return text, packed


def session_seconds(accelerator: str) -> float:
    """Seconds that a session may train: the platform's limit without what it needs to store outputs."""
    hours = HOURS_TPU if accelerator == "tpu" else HOURS
    return hours * 3600.0 - reserve(0) - _BACKSTOP


def launch(
    kaggle: Kaggle, prepared: Prepared, *, accelerator: str, internet: bool = True, seconds: float | None = None
) -> LaunchRecord:
    """Push one attempt. It is on record before it is pushed, so a lost answer cannot lose it.

    Args:
        kaggle: the account.
        prepared: what is to be trained.
        accelerator: "t4x2", "tpu" or "cpu".
        internet: whether the kernel may reach the outside.
        seconds: budget of the session; as long as the platform allows when not given.

    Raises:
        UsageError: the run has checkpoints here that Kaggle has not.
        KaggleRefused, LaunchError: as of `Kaggle.push`.
    """
    folder = prepared.folder
    seconds = seconds or session_seconds(accelerator)
    text, packed = script(prepared, accelerator, seconds)
    before = _previous(kaggle, folder)
    number = max((each.number for each in all_launches(folder)), default=0) + 1
    slug = _slug(prepared.run_id, number)
    while kaggle.status(slug) is not None:  # of a run of this name that was launched from elsewhere
        number += 1
        slug = _slug(prepared.run_id, number)
    record = LaunchRecord.begin(
        folder,
        number,
        on="kaggle",
        slug=slug,
        accelerator=accelerator,
        bundle=packed.hash,
        budget=seconds,
        after=before,
    )
    try:
        pushed = kaggle.push(
            Push(
                slug,
                text,
                accelerator,
                internet=internet,
                seconds=int(seconds + reserve(0)),
                kernels=[f"{kaggle.user}/{before}"] if before else [],
            )
        )
    except KaggleRefused as error:
        record.learn(state="refused", end={"reason": "refused", "words": str(error)})
        raise
    record.learn(state="pushed", url=pushed.url)
    return record


def follow(kaggle: Kaggle, record: LaunchRecord, *, until_over: bool = True) -> Iterator[str]:
    """The lines that the session prints, from the first; what it says of itself goes on record instead."""
    for line in kaggle.log(record.record["slug"], until_over=until_over):
        mark = _MARK.fullmatch(line.strip())
        if mark is None:
            yield line
        elif mark[2] != record.record.get(mark[1]):
            record.learn(**{mark[1]: mark[2]})


def listen(kaggle: Kaggle, record: LaunchRecord) -> str:
    """Put on record what the session has said of itself so far; returns its state, as `state_of` does."""
    for _ in follow(kaggle, record, until_over=False):
        pass
    return state_of(kaggle, record)


def state_of(kaggle: Kaggle, record: LaunchRecord) -> str:
    """In one word or two: queued, running, saving, succeeded, stopped, failed(code), timed-out, out-of-memory, cancelled, lost."""
    status = kaggle.status(record.record["slug"])
    if status is None:
        return "lost" if record.record["state"] != "refused" else "refused"
    if not status.over:
        return status.state
    if "exceeded the max" in status.message:
        return "timed-out"
    if "memory" in status.message:
        return "out-of-memory"
    if status.state == "stopped":
        return "cancelled"
    code = record.record.get("exit", "0" if status.state == "complete" else "1")
    return {"0": "succeeded", "75": "stopped"}.get(code, f"failed({code})")


def fetch(kaggle: Kaggle, record: LaunchRecord, *, progress: Callable[[int, int], None] = lambda *_: None) -> list[str]:
    """Bring home what a session left: every file whole, every checkpoint verified, and only then into the run folder.

    What was fetched stays beside the run folder until all of it is right, so that a second call goes on where this one ended.

    Returns:
        Sentences for the user.

    Raises:
        LaunchError: a file does not come whole, or nothing of the run is there.
    """
    slug, folder = record.record["slug"], record.folder
    there = folder.path.parent / f".fetched-{slug}"
    prefix = f"runs/{folder.path.name}/"
    for attempt in range(_TRIES):
        listed = {output.name: output for output in kaggle.outputs(slug)}
        outputs = [
            output
            for name, output in listed.items()
            if name.startswith(prefix) and ".." not in name.split("/") and not name.endswith(_LOCKS)
        ]
        if _LIST in listed and not (there / _LIST).exists():
            outputs.insert(0, listed[_LIST])
        wanted = [output for output in outputs if not (there / output.name).exists()]
        done = len(outputs) - len(wanted)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for missing in pool.map(lambda output: _download(output, there), wanted):
                done += not missing
                progress(done, len(outputs))
        damaged = _damaged(there, RunFolder(there / prefix.rstrip("/")))
        for path in damaged:
            path.unlink(missing_ok=True)
        if not damaged and all((there / output.name).exists() for output in outputs):
            break
        if attempt == _TRIES - 1:
            raise LaunchError(
                f"Of the {len(outputs)} files that {slug} left, some did not come whole in {_TRIES} tries. What came is kept; fetch again."
            )
    if not any(output.name.startswith(prefix) for output in outputs):
        raise NothingLeft(
            f"{slug} has left nothing of the run {folder.path.name}: it runs still, or it ended before its first save."
        )
    told = places.bring_home(folder, [there])
    if (there / prefix / "artifacts").is_dir():
        shutil.copytree(there / prefix / "artifacts", folder.artifacts, dirs_exist_ok=True)
    shutil.rmtree(there)
    record.learn(state="fetched")
    return told


def _previous(kaggle: Kaggle, folder: RunFolder) -> str:
    """The slug whose outputs the next session continues from: the newest launch that left something; empty for a first one."""
    for record in reversed(all_launches(folder)):
        slug = record.record["slug"]
        status = kaggle.status(slug)
        if status is None:
            continue
        if not status.over:
            raise UsageError(
                f"{slug} is {status.state} still, and a run has one writer: follow it with `outlast logs {folder.path.name}`, or end it with "
                f"`outlast cancel {folder.path.name}`."
            )
        if next(_of_run(kaggle, slug, folder), None):
            return str(slug)
    if Store(folder).committed():
        raise UsageError(
            f"{folder.path} has checkpoints that Kaggle has not, and sending them there is not built yet. Continue it here, or begin a run "
            "under another name (--experiment-name)."
        )
    return ""


def _of_run(kaggle: Kaggle, slug: str, folder: RunFolder) -> Iterator[Output]:
    return (output for output in kaggle.outputs(slug) if output.name.startswith(f"runs/{folder.path.name}/"))


def _slug(run_id: str, number: int) -> str:
    name = "-".join(re.findall(r"[a-z0-9]+", run_id.lower()))[:40]
    return f"outlast-{name}-{number:03d}"


def _download(output: Output, there: Path) -> bool:
    """Fetch one file under a temporary name; returns whether it is still missing."""
    import requests

    target = there / output.name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{files.TEMPORARY}{target.name}")
    try:
        with requests.get(output.url, stream=True, timeout=60) as answer, temporary.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(2**20):
                file.write(piece)
            expected = answer.headers.get("Content-Length")
            if expected and file.tell() != int(expected):
                return True
        temporary.replace(target)
    except (requests.RequestException, OSError):
        return True
    finally:
        temporary.unlink(missing_ok=True)
    return False


def _damaged(there: Path, folder: RunFolder) -> list[Path]:
    """Files that are not what the session's list says; and files of checkpoints that are not what their manifests say.

    A session that was killed has left no list; then what is no checkpoint is believed if it can be read.
    """
    try:
        listed = _listed(there / _LIST)
    except (CorruptCheckpoint, KeyError, TypeError):
        return [there / _LIST]
    here = {path.relative_to(there).as_posix(): path for path in there.rglob("*") if path.is_file()}
    bad = [here[name] for name, expected in listed.items() if name in here and not _is(here[name], expected)]
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
    if not path.exists():
        return {}
    whole = files.read_json(path)
    listed: dict[str, str] = whole["files"]
    if hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest() != whole["sha256"]:
        raise CorruptCheckpoint(f"{path} was changed on the way.")
    return listed


def _is(path: Path, expected: str) -> bool:
    """Whether a file has this sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected


def _is_json(path: Path) -> bool:
    try:
        files.read_json(path)
    except FileNotFoundError:
        return True
    except CorruptCheckpoint:
        return False
    return True
