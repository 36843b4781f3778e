"""Every record of a run folder, mutated thousands of ways with hashes that fit: sentences, no traceback, no wait,
nothing outside.

What the readers may do with a mutated folder is to read it, or to refuse it with an OutlastError. Whatever they do, a
folder beside the run is neither opened nor changed, locks are let go, and signal handlers come back.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import outlast
from outlast import cli
from outlast.checkpoint import CheckpointStore, open_checkpoint, read_manifest
from outlast.environment import Environment, Limits
from outlast.errors import OutlastError
from outlast.folder import hashing
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.folder.lock import Lock
from outlast.remote.fork import fork
from outlast.remote.gather import bring_home
from outlast.report import read_run
from outlast.report.archive import archive
from outlast.report.curves import _ends
from outlast.report.history import history
from tests.folders import Walk, forge, seal, walk

EXAMPLES = 210
"""Mutations of each of the ten kinds; ten times as many in the slow test."""

CHECKPOINT = "checkpoints/step-00000004"
KINDS = (
    "run.json", "config.json", "attempts/0002.json", "journal.jsonl", "lock", "launches/0001.json",
    f"{CHECKPOINT}/{MANIFEST}", f"{CHECKPOINT}/state.json", f"{CHECKPOINT}/walk.safetensors",
    f"{CHECKPOINT}/rng.safetensors",
)  # fmt: skip
DEEP = "@deep@"
LEAVES = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**400, 0.5, -1e308, float("nan"), float("inf"), "", "x",
    "state.json", "\x1b[31m\x07", "\0", "\ud800", "[red]markup[/red]", "a" * 400, "../../../canary/secret.json",
    "@canary@/secret.json", "U8", "F64", "$array", [], {}, [0], [[]], {"": None}, {"$array": "x", "as": "torch"},
    {"$dict": [[1]]}, {"$tuple": 3}, DEEP, "0" * 32,
)  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, two attempts, a launch, a config and an artifact; and something beside it that is
    nobody's business."""
    root = tmp_path_factory.mktemp("fuzz")
    walk(root / "runs", stop=2, total=8)
    walk(root / "runs", stop=4, total=8)
    folder = root / "runs/r"
    (folder / "launches").mkdir()
    launch = {
        "format": 2, "number": 1, "time": "2026-01-01T00:00:00Z", "state": "fetched", "on": "kaggle",
        "slug": "outlast-r-001", "step": 2, "accelerator": "cpu", "datasets": ["outlast-code-1"], "user": "u",
        "budget": 3.0, "after": "", "seconds": 2.0, "asked": {"recipe": "x"}, "terms": {"hours": None},
    }  # fmt: skip
    (folder / "launches/0001.json").write_text(json.dumps(launch))
    config = {"format": 2, "values": {"lr": 0.1}, "origins": {"lr": "default"}, "fingerprint": "0" * 32}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "artifacts").mkdir(exist_ok=True)
    (folder / "artifacts/a.txt").write_text("a")
    (root / "canary").mkdir()
    (root / "canary/secret.json").write_text('{"secret": 1}')
    return root


opened_outside: list[str] = []
watched: list[str] = []


def _audit(event: str, words: tuple[Any, ...]) -> None:
    if watched and event in (
        "open",
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.truncate",
        "os.listdir",
    ):
        opened_outside.extend(
            str(word) for word in words[:2] if isinstance(word, str) and "canary" in os.path.normpath(word)
        )


sys.addaudithook(_audit)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all nodes of a JSON value."""
    yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from nodes(child, (*path, key))


def mutate_json(value: Any, draw: Any, canary: str) -> str:
    """The text of a JSON value with one node replaced, taken away, named otherwise, or given twice."""
    paths = list(nodes(value))
    *above, last = draw(st.sampled_from(paths[1:])) if len(paths) > 1 else (None,)
    how = draw(st.sampled_from(["replace", "replace", "replace", "delete", "rename", "twice", "swap"]))
    leaf = draw(st.sampled_from(LEAVES)) if how != "swap" else value
    for key in draw(st.sampled_from(paths)) if how == "swap" else ():
        leaf = leaf[key]
    leaf = json.loads(json.dumps(leaf))
    place = value
    for key in above:
        place = place[key]
    if how in ("replace", "swap") or not isinstance(place, dict):
        place[last] = leaf
    elif how == "delete":
        del place[last]
    elif how == "rename":
        place[leaf if isinstance(leaf, str) and leaf != DEEP else "other"] = place.pop(last)
    text = json.dumps(value)
    if how == "twice" and isinstance(value, dict):
        text = f"{text[:-1]}, {json.dumps(above[0] if above else last)}: {json.dumps(leaf)}}}"
    depth = draw(st.sampled_from([150, 250, 100_000]))
    return text.replace(json.dumps(DEEP), "[" * depth + "]" * depth).replace("@canary@", canary)


def mutate_bytes(data: bytes, draw: Any, others: list[Path]) -> bytes:
    """Bytes with some flipped, cut off, put in, or all of another file's."""
    how = draw(st.sampled_from(["flip", "cut", "insert", "other", "empty", "repeat"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if how == "flip":
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :] if data else data
    if how == "cut":
        return data[:at]
    if how == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
    if how == "other":
        return draw(st.sampled_from(others)).read_bytes()
    return b"" if how == "empty" else data + data


def mutate(folder: Path, kind: str, draw: Any, canary: str) -> None:
    """Change one file of a run folder, and let everything that hashes it vouch for it."""
    path, checkpoint = folder / kind, folder / CHECKPOINT
    data = path.read_bytes()
    if draw(st.integers(0, 3)) == 0:
        data = mutate_bytes(data, draw, sorted(each for each in folder.rglob("*") if each.is_file()))
    elif kind.endswith(".safetensors"):
        length = int.from_bytes(data[:8], "little")
        header = mutate_json(json.loads(data[8 : 8 + length]), draw, canary).encode()
        data = len(header).to_bytes(8, "little") + header + data[8 + length :]
    elif kind == "journal.jsonl":
        lines = data.splitlines()
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = mutate_json(json.loads(lines[at]), draw, canary).encode()
        data = b"\n".join(lines) + b"\n"
    else:
        data = mutate_json(json.loads(data), draw, canary).encode()
    path.write_bytes(data)
    if draw(st.integers(0, 9)) == 0:
        return  # and now and then nobody vouches for it
    if kind == f"{CHECKPOINT}/{MANIFEST}":
        with contextlib.suppress(ValueError, RecursionError, AttributeError, TypeError):
            seal(checkpoint, json.loads(data))
    elif kind.startswith(CHECKPOINT):
        forge(checkpoint, path.name, data)
    elif kind == "journal.jsonl":
        state = json.loads((checkpoint / "state.json").read_bytes())
        state["journal"] |= {"bytes": len(data), "xxh3_128": hashing.digest(data)}
        forge(checkpoint, "state.json", json.dumps(state).encode())


VERBS = (["status", "r"], ["status", "r", "--json"], ["checkpoints", "r"], ["verify", "r"], ["runs"])


def look(root: Path, verb: list[str], which: int) -> None:
    """One of the commands, and one of the functions that only read."""
    folder = root / "runs/r"
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        cli.main([*verb, "--checkpoint-dir", str(root / "runs")])
    out.flush()
    assert "\x1b[31m" not in out.buffer.getvalue().decode()
    works = (
        lambda: read_run(folder).metrics,
        lambda: (history(RunFolder(folder).journal, read_run(folder).latest), _ends(RunFolder(folder), float("inf"))),
        lambda: archive(folder, root / "out/a.zip", part="walk"),
        lambda: bring_home(RunFolder(root / "out/r"), [root / "runs"]),
        lambda: fork(RunFolder(folder), read_manifest(folder / CHECKPOINT), RunFolder(root / "out/fork")),
        lambda: [open_checkpoint(each.path, mend=True) for each in CheckpointStore(RunFolder(folder)).committed()],
    )
    with contextlib.suppress(OutlastError):
        works[which % len(works)]()


def train(root: Path) -> None:
    """One more attempt."""
    environment = Environment("local", Limits(seconds=None, ram=2**34, cores=2), inputs=(root / "nothing",))
    with (
        contextlib.suppress(OutlastError),
        outlast.open_run(
            "r",
            total_steps=6,
            root=root / "runs",
            progress="none",
            save="2 steps",
            background=False,
            environment=environment,
        ) as run,
    ):
        run.track(walk=(thing := Walk()))
        for _ in run.steps():
            thing.position, thing.count = np.ones(3), 1
            run.log(count=1)


def examine(template: Path, root: Path, kind: str, draw: Any) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    before = {path: path.read_bytes() for path in (root / "canary").iterdir()}
    beside = sorted(os.listdir(root))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    mutate(root / "runs/r", kind, draw, str(root / "canary"))
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(20)
    opened_outside.clear()
    watched.append("on")
    try:
        look(root, draw(st.sampled_from(VERBS)), draw(st.integers(0, 5)))
        train(root)
    finally:
        signal.alarm(0)
        watched.clear()
    assert {path: path.read_bytes() for path in (root / "canary").iterdir()} == before
    assert sorted(set(os.listdir(root)) - {"out"}) == beside
    assert opened_outside == []
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with contextlib.suppress(OutlastError):  # a forged lock of another machine may be somebody's
        lock = Lock(root / "runs/r/lock")
        lock.take("a test")
        lock.release()


def _too_long(*_: Any) -> None:
    raise AssertionError("a reader waits, or works without end")


def fuzz(template: Path, root: Path, kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(
        sys.modules["outlast.report.archive"],
        "draw_curves",
        lambda _, target, *__: (target.write_bytes(b"png"), target)[1],
    )
    monkeypatch.setattr("outlast.run.attempt.ORPHAN_SECONDS", 0.1)

    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate], report_multiple_bugs=False,
    )  # fmt: skip
    @given(st.data())
    def one(data) -> None:
        examine(template, root, kind, data.draw)

    one()


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder in memory where the system has one: thousands of folders are made and deleted."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder / "work"
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_records_are_sentences(template: Path, work: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz(template, work, kind, EXAMPLES, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_more(template: Path, work: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz(template, work, kind, 10 * EXAMPLES, monkeypatch)
