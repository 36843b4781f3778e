"""One dangerous line each: a change of the code that an earlier suite let through, and that the test here notices."""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import outlast
from outlast.checkpoint import CheckpointStore, Retention, Snapshot, verify
from outlast.checkpoint import staging as staging_module
from outlast.checkpoint.flight import Flight, SaveAbandoned, TornCopy
from outlast.checkpoint.staging import Staging
from outlast.checkpoint.writer import Writer
from outlast.config import Config, resolve, setting
from outlast.errors import CorruptCheckpoint, SaveFailed, UsageError
from outlast.folder import durable, hashing, layout
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.run.agreement import Agreement
from outlast.run.parts import Parts
from outlast.run.session import Session
from outlast.state.array import Array
from tests import messages
from tests.folders import inside

fetch = importlib.import_module("outlast.launch.fetch")  # the package has a function of that name


class Heard(outlast.Sink):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.sentences: list[str] = []

    def saved(self, facts) -> None:
        self.steps.append(facts.step)

    def told(self, level, sentence) -> None:
        self.sentences.append(sentence)


def test_a_failed_save_in_the_background_is_not_a_saved_step(opened, monkeypatch) -> None:
    real, heard = durable.write_files, Heard()

    def write_files(folder, contents):
        if folder.name == "step-00000002":
            raise OSError(28, "No space left on device")
        return real(folder, contents)

    monkeypatch.setattr(durable, "write_files", write_files)
    with pytest.raises(RuntimeError), opened(total_steps=9, save="2 steps", sinks=[heard]) as run:
        run.track(model=torch.nn.Linear(2, 2))
        for step in run.steps():
            if step == 3:
                inside(run).saver.wait_for_writer()
                assert inside(run).saver.saved_step == -1
                raise RuntimeError("the script's own")
    assert heard.steps == []
    messages.said(heard.sentences, "run/nothing-had-been-saved")


class Values(Config):
    rate: float = setting(0.5, "no default is 0")
    count: int = setting(3, "nor this")
    flag: bool = setting(True, "nor false")
    name: str | None = setting("a", "nor none")


@pytest.mark.parametrize("layer", ["environment", "default"])
def test_zero_and_false_of_a_stored_run_are_values(tmp_path: Path, layer: str) -> None:
    nothing = {"rate": "0", "count": "0", "flag": "false", "name": "none"}
    stored = resolve(Values, flags=nothing).record()
    environment = None
    if layer == "environment":
        environment = tmp_path / "kaggle.yaml"
        environment.write_text("training_overrides:\n  rate: 1.0\n  count: 7\n  flag: true\n  name: b\n")
    again = resolve(Values, stored=stored, environment_file=environment)
    config = again.config
    assert (config.rate, config.count, config.flag, config.name) == (0.0, 0, False, None)
    assert again.changes == ()


def state(step: int, **parts) -> dict:
    return {"step": step, "loop": [0, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": parts, "rng": None}


def staged(staging: Staging | None = None, step: int = 1, **things) -> Flight:
    parts = Parts(None)
    parts.track(things)
    arrays, nodes, _ = parts.pack()
    files, copies = (staging or Staging()).stage(arrays, parts.guarded())
    return Flight(Snapshot(step, "steps", files, state(step, **nodes)), copies, 0.0)


def of_layer(layer: torch.nn.Module) -> Flight:
    return staged(layer=layer, optimizer=torch.optim.SGD(layer.parameters()))


def contents(flight: Flight, part: str) -> bytes:
    return b"".join(bytes(piece) for file in flight.checked().files if file.part == part for piece in file.pieces())


def test_one_counted_change_between_the_samples_tears_a_copy() -> None:
    """torch counts it, and none of the 64 sampled places sees it."""
    layer = torch.nn.Linear(512, 512)
    copy = of_layer(layer)
    assert not copy.copied
    with torch.no_grad():
        layer.weight.view(-1)[3] += 1.0
    with pytest.raises(TornCopy, match="weight"):
        contents(copy, "layer")


def test_files_of_a_killed_save_are_not_used_by_the_next(tmp_path: Path) -> None:
    store = CheckpointStore(RunFolder(tmp_path))
    left = store.folder.checkpoint(4)
    left.mkdir(parents=True)
    (left / "model.rank-0001.safetensors").write_bytes(b"left")
    store.commit(Snapshot.of(4, "steps", {}, state(4)))
    assert sorted(path.name for path in left.iterdir()) == [MANIFEST, "state.json"]


def test_one_changed_letter_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    path = (
        CheckpointStore(RunFolder(tmp_path)).commit(Snapshot.of(4, "steps", {}, state(4), {"score": 0.25})).path
        / MANIFEST
    )
    text = path.read_text()
    assert '"score": 0.25' in text
    path.write_text(text.replace('"score": 0.25', '"score": 0.75'))
    with messages.raises(CorruptCheckpoint, "checkpoint/changed-after-written"):
        verify(path.parent)


def test_only_what_an_optimizer_guards_is_copied_later() -> None:
    """Anything else is copied before the program may go on."""
    layer, free = torch.nn.Linear(512, 512), torch.nn.Linear(512, 512)
    copy = staged(layer=layer, free=free, optimizer=torch.optim.SGD(layer.parameters()))
    before = free.weight.detach().clone()
    with torch.no_grad():
        free.weight.add_(1.0)
    assert before.numpy().tobytes() in contents(copy, "free")


def test_augmentation_differs_from_batch_to_batch() -> None:
    class Drawn(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int):
            return torch.rand(1).double() + np.random.rand() / 10

    loader = outlast.DataLoader(Drawn(), 3, seed=5)
    values = torch.cat([next(loader) for _ in range(8)]).flatten().tolist()  # two epochs
    assert len(set(values)) == 24


def shared_run(tmp_path: Path, last: int = 2) -> tuple[CheckpointStore, list[Path]]:
    """Checkpoints 1 to 3 of a layer that does not change; the last two share its file."""
    durable.make_folder(tmp_path / "run")
    store, staging, layer = (
        CheckpointStore(RunFolder(tmp_path / "run"), Retention(last=last)),
        Staging(),
        torch.nn.Linear(600, 600),
    )
    for step in (1, 2, 3):
        store.commit(staged(staging, step, layer=layer, optimizer=torch.optim.SGD(layer.parameters())).checked())
    shared = sorted((store.folder.checkpoints / "shared").iterdir())
    assert len(shared) == 2
    return store, shared


def test_an_unreadable_manifest_keeps_the_shared_files(tmp_path: Path) -> None:
    store, shared = shared_run(tmp_path)
    manifests = [store.folder.checkpoint(step) / MANIFEST for step in (2, 3)]
    texts = [path.read_bytes() for path in manifests]
    for path in manifests:
        path.write_bytes(b"{")
    store.sweep()
    assert [path for path in shared if path.exists()] == shared
    for path, text in zip(manifests, texts, strict=True):
        path.write_bytes(text)
        verify(path.parent)


@pytest.mark.parametrize("more", [b"\0", b"x" * 5000])
@pytest.mark.parametrize("size", [100, 2**12], ids=["part of a chunk", "whole chunks"])
def test_a_longer_file_is_another_file(tmp_path: Path, monkeypatch, size: int, more: bytes) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 2**11)
    path = tmp_path / "file"
    written = durable.write_file(path, [b"a" * size])
    with path.open("ab") as file:
        file.write(more)
    with pytest.raises(CorruptCheckpoint, match=f"{size + len(more)} bytes"):
        hashing.read_verified(path, written, lambda count: memoryview(bytearray(count)))


def session_left(there: Path) -> RunFolder:
    """What a session left of a run, as it was downloaded, with the session's own list."""
    folder = RunFolder(there / "runs/walk")
    for place in (folder.path, folder.attempts):
        durable.make_folder(place)
    durable.write_json(folder.run, {"format": layout.FORMAT, "id": "walk"})
    durable.write_json(folder.attempt(1), {"number": 1})
    CheckpointStore(folder).commit(Snapshot.of(3, "steps", {}, state(3)))
    listed = {
        path.relative_to(there).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in there.rglob("*")
        if path.is_file()
    }
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    (there / fetch.LIST_FILE).write_text(json.dumps({"files": listed, "sha256": digest}))
    return folder


def test_what_a_session_left_is_checked_against_its_list(tmp_path: Path) -> None:
    folder = session_left(tmp_path)
    assert fetch.damaged_files(tmp_path, folder) == []
    assert folder.run.relative_to(tmp_path).as_posix() in fetch.promised_files(tmp_path, "runs/walk/")
    folder.run.write_text('{"format": 1, "id": "another"}')
    assert fetch.damaged_files(tmp_path, folder) == [folder.run]
    place = tmp_path / fetch.LIST_FILE
    place.write_text(place.read_text().replace("runs/walk/run.json", "runs/walk/run.JSON"))
    assert fetch.damaged_files(tmp_path, folder) == [place], "the list itself was changed on the way"


def test_what_a_killed_session_left_is_checked_without_a_list(tmp_path: Path) -> None:
    folder = session_left(tmp_path)
    (tmp_path / fetch.LIST_FILE).unlink()
    assert fetch.damaged_files(tmp_path, folder) == []
    folder.attempt(1).write_text('{"number": ')
    state = folder.checkpoint(3) / "state.json"
    state.write_bytes(state.read_bytes() + b" ")
    assert sorted(fetch.damaged_files(tmp_path, folder)) == sorted([folder.attempt(1), state])


class Gate:
    """Makes the writer wait at a place until the test lets it go on."""

    def __init__(self) -> None:
        self.here, self.open = threading.Event(), threading.Event()

    def __call__(self, *_) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.here.set()
            self.open.wait(20)


def test_a_best_on_its_way_to_the_disk_counts(opened, monkeypatch) -> None:
    gate, real = Gate(), CheckpointStore._write_data
    monkeypatch.setattr(CheckpointStore, "_write_data", lambda *words: (gate(), real(*words))[1])
    keep = Retention(last=1, best=1, metric="score")
    with opened(total_steps=3, save="never", keep=keep) as run:
        run.track(model=torch.nn.Linear(2, 2))
        for step in run.steps():
            run.log(score=(0.5, 0.4, 0.4)[step - 1])
            if step == 1:
                run.save()
            if step == 2:
                assert gate.here.wait(20)
                store, coming = inside(run).attempt.store, inside(run).saver.coming
                assert not store.is_best({"score": 0.4}, coming)
                assert store.is_best({"score": 0.6}, coming)
                gate.open.set()


def test_after_a_torn_copy_training_waits_for_every_copy(opened, monkeypatch) -> None:
    copy, gate, heard = staging_module._copy, Gate(), Heard()
    monkeypatch.setattr(staging_module, "_copy", lambda *words: (gate(), copy(*words))[1])
    layer = torch.nn.Linear(512, 512)
    with opened(total_steps=5, save="never", sinks=[heard]) as run:
        run.track(layer=layer, optimizer=torch.optim.SGD(layer.parameters()))
        for step in run.steps():
            with torch.no_grad():
                layer.weight.mul_(0.5)  # no optimizer's step
            gate.open.set()
            if step > 1:
                inside(run).saver.wait_for_writer()
            gate.open.clear()
            run.save()
        gate.open.set()
    assert messages.times_said(heard.sentences, "checkpoint/changed-outside-the-step") == 1
    assert heard.steps == [2, 3, 4, 5]


def test_the_copy_does_not_wait_for_the_journal(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "run")
    gate, flight = Gate(), of_layer(torch.nn.Linear(512, 512))
    writer = Writer(CheckpointStore(RunFolder(tmp_path / "run")), before=gate)
    writer.submit(flight)
    assert gate.here.wait(20)
    assert flight.copied
    assert not flight.done
    gate.open.set()
    writer.close()
    assert flight.future.result().step == 1


@pytest.mark.parametrize("part", ["less than half", "more than half"])
def test_a_save_that_is_half_written_is_finished_and_another_given_up(part: str) -> None:
    arrays = {f"{name}": {"w": Array("U8", (100,), bytes(100))} for name in "abc"}
    flight = Flight(Snapshot.of(1, "steps", arrays, {}), (), 0.0)
    written = (piece for file in flight.checked().files for piece in file.pieces())
    for _ in range(2 if part == "less than half" else 5):
        next(written)
    flight.hurry()
    if part == "less than half":
        with pytest.raises(SaveAbandoned):
            list(written)
    else:
        assert list(written)


def test_a_save_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(RunFolder(tmp_path))
    flight = Flight(Snapshot.of(4, "steps", {"a": {"w": Array("U8", (9,), bytes(9))}}, state(4)), (), 0.0)
    flight.abandon()
    with pytest.raises(SaveAbandoned):
        store.commit(flight.checked())
    assert list(store.folder.checkpoints.iterdir()) == []


def test_a_second_save_of_a_step_that_finds_no_room_leaves_the_first(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs/r")
    durable.make_folder(folder.path)
    first = CheckpointStore(folder).commit(Snapshot.of(4, "steps", {}, state(4)))
    with messages.raises(SaveFailed, "checkpoint/nothing-was-written"):
        CheckpointStore(folder, allowance=1).commit(Snapshot.of(4, "steps", {}, state(4)))
    assert verify(first.path).step == 4


def test_a_save_by_time_that_failed_is_tried_again_within_a_minute(opened, monkeypatch) -> None:
    real = durable.write_files

    def write_files(folder, contents):
        if folder.name == "step-00000002":
            raise OSError(28, "No space left on device")
        return real(folder, contents)

    monkeypatch.setattr(durable, "write_files", write_files)
    with opened(total_steps=4, save="10m") as run:
        run.track(model=torch.nn.Linear(2, 2))
        for step in run.steps():
            if step == 2:
                run.save()
            if step == 3:
                assert inside(run).schedule.next_save > 500
                inside(run).saver.wait_for_writer()
                assert inside(run).schedule.next_save <= 60


class Together:
    """The other ranks, who answer as a test says; the fields of an answer are step, stop, wish, pace."""

    def __init__(self, *others: tuple[int, int, int, int]) -> None:
        self.others, self.asked = others, 0

    def all_gather_numbers(self, _: str, *own: int) -> list[tuple[int, ...]]:
        self.asked += 1
        return [own, *self.others]


def agreement(here, *others: tuple[int, int, int, int]) -> Agreement:
    return Agreement(Together(*others), Session(here))


@pytest.mark.parametrize(("number", "reason"), [(1, "budget"), (2, "preempted"), (3, "cancelled")])
def test_any_rank_stops_all(here, number: int, reason: str) -> None:
    agreed = agreement(here, (7, 0, 0, 1), (7, number, 0, 1))
    agreed.after(7, None)
    assert agreed.should_stop()
    assert agreed._session.reason == reason
    assert agreed._session.explanation == "rank 2 has to stop"
    agreed._ranks.others = ()
    agreed.after(8, None, at_once=True)
    assert agreed.should_stop(), "for good"


def test_any_rank_may_wish_for_a_save(here) -> None:
    assert agreement(here, (7, 0, 0, 1), (7, 0, 3, 1)).after(7, "time") == "asked"
    assert agreement(here, (7, 0, 0, 1)).after(7, "best") == "best"
    assert agreement(here, (7, 0, 0, 1)).after(7, None) is None


def test_ranks_at_different_steps_are_refused(here) -> None:
    with messages.raises(UsageError, "run/ranks-at-other-steps", steps="rank 0 at 7, rank 1 at 8"):
        agreement(here, (8, 0, 0, 1)).after(7, None)


def test_ranks_ask_each_other_at_least_every_tenth_step(here) -> None:
    agreed = agreement(here, (7, 0, 0, 1))
    for _ in range(41):
        agreed.after(7, None)
    assert agreed._ranks.asked >= 5
    slow = agreement(here, (7, 0, 0, 400_000))  # microseconds that a step takes on the slowest rank
    for _ in range(4):
        slow.after(7, None)
    assert slow._ranks.asked == 4, "after each, where a step takes as long as the answer may"
