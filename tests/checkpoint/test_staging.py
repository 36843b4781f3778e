"""The copy that training does not wait for: whatever changes meanwhile, the bytes are those of the step."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from tests import messages
from tests.counting import attempts
from tests.folders import committed, inside
from torch import nn

import outlast
from outlast.checkpoint import CheckpointStore, Retention, Snapshot, memory, open_checkpoint
from outlast.checkpoint import staging as module
from outlast.checkpoint.flight import Flight, TornCopy
from outlast.checkpoint.snapshot import File, files_of
from outlast.checkpoint.staging import Staging
from outlast.errors import SaveFailed
from outlast.folder import durable
from outlast.folder.layout import RunFolder
from outlast.run.parts import Parts


class Slow:
    """Makes every copy in another thread than the main one wait until it is let go."""

    def __init__(self, monkeypatch) -> None:
        self.gate = threading.Event()
        real = module._copy

        def copy(*words) -> None:
            if threading.current_thread() is not threading.main_thread():
                self.gate.wait(20)
            real(*words)

        monkeypatch.setattr(module, "_copy", copy)


def network() -> tuple[nn.Module, torch.optim.Optimizer, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.Linear(256, 128))
    ema = nn.Linear(256, 256)
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer)
    return model, optimizer, ema


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(32, 256)).square().mean().backward()
    optimizer.step()


def packed(**things) -> tuple[dict, dict, set]:
    parts = Parts(None)
    parts.track(things)
    arrays, nodes, _ = parts.pack()
    state = {"loop": [0, 0], "journal": {"bytes": 0, "xxh3_128": "0" * 32}, "parts": nodes, "rng": None}
    return arrays, state, parts.guarded()


def staged_in(staging: Staging, *, step: int = 1, **things) -> Flight:
    arrays, state, guarded = packed(**things)
    files, copies = staging.stage(arrays, guarded)
    return Flight(Snapshot(step, "steps", files, state), copies, 0.0)


def joined(files: Sequence[File]) -> dict[str, bytes]:
    return {f"{file.part}{file.shared}": b"".join(bytes(piece) for piece in file.pieces()) for file in files}


def contents(flight: Flight) -> dict[str, bytes]:
    return joined(flight.checked().files)


def test_a_part_that_changes_its_form_is_laid_out_again() -> None:
    staging = Staging()
    for size in (10, 10, 20, 10):
        layer = nn.Linear(size, 3)
        staged = staged_in(staging, layer=layer)
        found = safetensors.torch.load(contents(staged)["layerFalse"])
        assert torch.equal(found["weight"], layer.weight)
        assert torch.equal(found["bias"], layer.bias)


def test_what_changes_during_the_copy_is_saved_as_it_was() -> None:
    """BatchNorm's buffers, an EMA and the generators change in forward; parameters and Adam's moments in the step."""
    model, optimizer, ema = network()
    expected = joined(files_of(packed(model=model, optimizer=optimizer, ema=ema)[0]))
    staged = staged_in(Staging(), model=model, optimizer=optimizer, ema=ema)
    assert not staged.copied, "the optimizer's part waits"
    with torch.no_grad():
        model(torch.randn(32, 256))  # running mean and variance
        for parameter in ema.parameters():
            parameter.mul_(0.5)
        torch.rand(3)
    staged.hold()
    train(model, optimizer)
    assert contents(staged) == expected


def test_the_optimizer_waits_for_the_copy_and_forward_does_not(tmp_path: Path, here, monkeypatch) -> None:
    slow = Slow(monkeypatch)
    model, optimizer, _ = network()
    with outlast.open_run("r", total_steps=3, root=tmp_path, save="1 steps", progress="none", environment=here) as run:
        run.track(model=model, optimizer=optimizer)
        states = {}
        for step in run.steps():
            if step == 2:
                assert not inside(run).saver._flight.copied
                assert inside(run).saver.saved_step == -1
                threading.Timer(0.3, slow.gate.set).start()
            before = inside(run).attempt.watch.held
            train(model, optimizer)
            states[step] = {name: value.clone() for name, value in model.state_dict().items()}
            if step == 2:
                assert inside(run).attempt.watch.held - before > 0.0, "the step had to wait, or help"
    for checkpoint in committed(run.folder):
        held = open_checkpoint(checkpoint.path).parts["model"]
        for name, value in states[checkpoint.step].items():
            assert bytes(held[name].data) == value.reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("how", ["counted", "uncounted"])
def test_a_torn_copy_is_never_committed_and_the_next_one_is_whole(tmp_path: Path, here, monkeypatch, how: str) -> None:
    slow = Slow(monkeypatch)
    model, optimizer, _ = network()
    told = []

    class Listener(outlast.Sink):
        def told(self, level, sentence) -> None:
            told.append(sentence)

    with outlast.open_run(
        "r", total_steps=3, root=tmp_path, save="never", progress="none", environment=here, sinks=[Listener()]
    ) as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            if step == 1:
                run.save()
            if step == 2:
                weight = model[0].weight.data if how == "uncounted" else model[0].weight.detach()
                weight.mul_(3.0)  # no optimizer did this
                slow.gate.set()
                inside(run).saver.wait_for_writer()
    messages.said(told, "checkpoint/weight-was-changed-outside-the-optimizer", number=0)
    assert [checkpoint.step for checkpoint in committed(run.folder)] == [2, 3]
    stored = bytes(open_checkpoint(committed(run.folder)[0].path).parts["model"]["0.weight"].data)
    assert stored == model[0].weight.detach().numpy().tobytes()


def test_a_failed_write_is_heard_of_at_the_next_step_and_at_the_end(tmp_path: Path, here, monkeypatch) -> None:
    told: list[tuple[int, str]] = []

    class Listener(outlast.Sink):
        def told(self, level, sentence) -> None:
            told.append((run.step, sentence))

    real, full = durable.write_files, threading.Event()

    def write(folder, contents):
        if full.is_set() and folder.name.startswith("step-"):
            raise OSError(28, "No space left on device", str(folder))
        return real(folder, contents)

    monkeypatch.setattr(durable, "write_files", write)
    model, optimizer, _ = network()
    run = outlast.open_run(
        "r", total_steps=6, root=tmp_path, save="never", progress="none", environment=here, sinks=[Listener()]
    )
    with messages.raises(SaveFailed, "checkpoint/no-space"), run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            if step in (1, 3):
                run.save()
            if step == 3:
                full.set()
            time.sleep(0.2)
    assert told[0][0] == 4
    messages.said(told[0][1], "checkpoint/step-training-goes", step=3)
    assert [checkpoint.step for checkpoint in committed(run.folder)] == [1]


def test_a_preemption_gives_up_a_save_that_is_not_half_written(tmp_path: Path, here, monkeypatch) -> None:
    slow = Slow(monkeypatch)
    model, optimizer, _ = network()
    run = outlast.open_run("r", total_steps=9, root=tmp_path, save="never", progress="none", environment=here)
    with pytest.raises(outlast.SessionEnded), run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            if step == 1:
                run.save()
            if step == 2:
                run.session.request_stop("preempted", "test")
                threading.Timer(0.2, slow.gate.set).start()
    assert [(c.step, c.reason) for c in committed(run.folder)] == [(2, "preempted")]


def saved_while_training_waits(tmp_path: Path, here) -> outlast.Run:
    model, optimizer, _ = network()
    with outlast.open_run("r", total_steps=1, root=tmp_path, progress="none", environment=here) as run:
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps():
            train(model, optimizer)
    messages.said(attempts(tmp_path)[0]["told"][0], "checkpoint/has-no-room-for-copy")
    assert [checkpoint.step for checkpoint in committed(run.folder)] == [1]
    return run


def test_without_room_for_a_copy_training_waits_with_a_message(tmp_path: Path, here, monkeypatch) -> None:
    monkeypatch.setattr("outlast.run.saver.available", lambda: 1000)
    run = saved_while_training_waits(tmp_path, here)
    assert inside(run).saver._staging.nbytes == 0


def test_the_buffer_is_used_again_and_let_go() -> None:
    model, optimizer, _ = network()
    staging = Staging()
    addresses = set()
    for _ in range(3):
        staged = staged_in(staging, model=model, optimizer=optimizer)
        contents(staged)
        addresses.add(np.frombuffer(staging._memory, np.uint8).ctypes.data)
    assert len(addresses) == 1
    assert staging.nbytes < 1.05 * staged.snapshot.nbytes + 64 * durable.PAGE
    staging.close()
    assert staging.nbytes == 0


def test_a_save_that_is_over_keeps_no_memory(tmp_path: Path) -> None:
    """Without the garbage collector, which may come by much later: there is one buffer, and the next may be larger."""
    durable.make_folder(tmp_path / "run")
    gc.disable()
    try:
        flight = staged_in(Staging(), layer=nn.Linear(256, 256))
        CheckpointStore(RunFolder(tmp_path / "run")).commit(flight.checked())
        files, over = weakref.ref(flight.snapshot.files[0].pieces), weakref.ref(flight)
        del flight
        assert (files(), over()) == (None, None)
    finally:
        gc.enable()


# what does not change is stored once -----------------------------------------------------------------------------


def frozen_run(root: Path, here, steps: int, *, keep: int = 2) -> tuple[outlast.Run, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 8))
    model[0].requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    with outlast.open_run(
        "r", total_steps=steps, root=root, save="1 steps", keep=Retention(last=keep), progress="none", environment=here
    ) as run:
        run.track(model=model, optimizer=optimizer)
        for _ in run.steps():
            optimizer.zero_grad()
            model(torch.randn(4, 512)).square().mean().backward()
            optimizer.step()
    return run, model


def test_a_frozen_backbone_is_stored_once_and_any_reader_opens_it(tmp_path: Path, here) -> None:
    run, model = frozen_run(tmp_path, here, 5)
    shared = run.folder / "checkpoints/shared"
    assert len(list(shared.iterdir())) == 2, "one file, twice"
    newest = committed(run.folder)[-1]
    assert (newest.path / "model.safetensors").stat().st_size < 200_000
    with safe_open(next(iter(shared.iterdir())), "pt") as file:
        assert torch.equal(file.get_tensor("0.weight"), model[0].weight)
    run, again = frozen_run(tmp_path, here, 6)
    assert run.resumed_from == 5
    assert torch.equal(again[0].weight, model[0].weight)


def test_one_damaged_copy_of_a_shared_file_is_mended_from_the_other(tmp_path: Path, here) -> None:
    run, _ = frozen_run(tmp_path, here, 4)
    first = max((run.folder / "checkpoints/shared").iterdir())
    good = first.read_bytes()
    first.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    newest = committed(run.folder)[-1].path
    open_checkpoint(newest)
    assert first.read_bytes() != good, "reading changes nothing unless it is to"
    open_checkpoint(newest, mend=True)
    assert first.read_bytes() == good


def test_retention_keeps_shared_files_as_long_as_they_are_referred_to(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "run")
    store = CheckpointStore(RunFolder(tmp_path / "run"), Retention(last=1))
    staging = Staging()
    layer = nn.Linear(600, 600)

    def commit(step: int) -> None:
        store.commit(staged_in(staging, step=step, layer=layer).checked())

    shared = tmp_path / "run/checkpoints/shared"
    commit(1)
    assert not shared.exists()
    commit(2)
    kept = sorted(path.name for path in shared.iterdir())
    commit(3)
    assert sorted(path.name for path in shared.iterdir()) == kept
    with torch.no_grad():
        layer.weight.add_(1.0)
    commit(4)
    assert list(shared.iterdir()) == []
    assert torch.equal(
        torch.frombuffer(open_checkpoint(store.committed()[0].path).parts["layer"]["weight"].data, dtype=torch.float32),
        layer.weight.detach().reshape(-1),
    )


def test_a_part_is_read_without_the_rest(tmp_path: Path, monkeypatch) -> None:
    durable.make_folder(tmp_path / "run")
    store = CheckpointStore(RunFolder(tmp_path / "run"))
    model, optimizer, _ = network()
    arrays, state, _ = packed(model=model, optimizer=optimizer)
    path = store.commit(Snapshot.of(1, "steps", arrays, state)).path
    os.truncate(path / "optimizer.safetensors", 10)
    opened = open_checkpoint(path, parts=["model"])
    assert set(opened.parts) == {"model"}
    assert opened.parts["model"]["0.weight"].nbytes == 256 * 256 * 4


def test_a_torn_copy_is_an_error_of_its_own() -> None:
    model, optimizer, _ = network()
    staged = staged_in(Staging(), model=model, optimizer=optimizer)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    with messages.raises(TornCopy, "checkpoint/weight-was-changed-outside-the-optimizer", number=0):
        contents(staged)


def test_an_unforeseen_error_in_the_writer_costs_one_save_and_not_the_training(
    tmp_path: Path, here, monkeypatch
) -> None:
    real, once = CheckpointStore.commit, iter([True])

    def commit(self, state, *callbacks):
        if next(once, False):
            raise ZeroDivisionError("unforeseen")
        return real(self, state, *callbacks)

    monkeypatch.setattr(CheckpointStore, "commit", commit)
    model, optimizer, _ = network()
    with outlast.open_run("r", total_steps=3, root=tmp_path, save="never", progress="none", environment=here) as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            if step == 1:
                run.save()
            time.sleep(0.1)
    messages.said(attempts(tmp_path)[0]["told"][0], "checkpoint/zerodivisionerror-unforeseen")
    assert [checkpoint.step for checkpoint in committed(run.folder)] == [3]


def test_when_the_system_refuses_the_memory_training_waits(tmp_path: Path, here, monkeypatch) -> None:
    def refuse(nbytes, **more):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(module.memory, "allocate", refuse)
    assert saved_while_training_waits(tmp_path, here).step == 1


def test_a_platforms_allowance_makes_room_for_the_next_one_and_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    from outlast.checkpoint.prune import SPARE

    durable.make_folder(tmp_path / "runs/run")
    retention = Retention(last=9, best=1, metric="accuracy")
    store = CheckpointStore(RunFolder(tmp_path / "runs/run"), retention, SPARE + 2_300_000)
    layer = nn.Linear(350, 350)  # half a megabyte
    for step in range(1, 8):
        with torch.no_grad():
            layer.weight.add_(1.0)
        arrays, state, _ = packed(layer=layer)
        store.commit(Snapshot.of(step, "steps", arrays, state, {"accuracy": 1.0 if step == 2 else 0.1}))
        kept = [checkpoint.step for checkpoint in store.committed()]
        assert kept[-1] == step
    assert kept == [2, 6, 7]
    assert store.dropped == [1, 3, 4, 5]


@pytest.mark.parametrize(("cost", "expected"), [(0.1e-9, []), (2e-9, [8 * 2**20])])
def test_huge_pages_are_given_up_where_they_cost_more_than_small_ones(monkeypatch, cost: float, expected) -> None:
    """The machine moves other pages to make room for a huge one, which can take longer than to read the file."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        pytest.skip("no huge pages here")
    given_up, clock = [], iter(count * cost * memory._PIECE for count in range(100))

    class Block(mmap.mmap):
        def madvise(self, advice, start=0) -> None:
            if advice == mmap.MADV_NOHUGEPAGE:
                given_up.append(start)

    monkeypatch.setattr(memory, "_PATIENCE", 0.01)
    monkeypatch.setattr(mmap, "mmap", Block)
    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    assert bytes(memory.allocate(2**24 + 5)) == bytes(2**24 + 5)
    assert given_up == expected


@pytest.mark.skipif(sys.platform != "linux", reason="forked data workers")
def test_a_forked_worker_may_collect_the_buffer_and_keeps_running() -> None:
    size = 2**23
    held = [memory.allocate(size, own=True)]
    held[0][:4] = b"mine"
    child = os.fork()
    if not child:
        code = 1
        try:  # where the parent's buffer lies, the system must not have put anything of the child's
            later = [mmap.mmap(-1, size // 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(3)]
            seen = bytes(held[0][:4])
            held.clear()
            for block in later:
                block[:] = b"x" * (size // 2)
            code = 0 if seen == bytes(4) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held[0][:4] == b"mine"


@pytest.mark.skipif(sys.platform != "linux", reason="forked data workers")
def test_a_save_while_forked_workers_live_copies_no_pages_for_them() -> None:
    size = 2**25
    block, contents = memory.allocate(size, own=True), bytes(size)
    block[:] = contents
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block[:] = contents
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < size // durable.PAGE // 4
    os.close(write)
    os.waitpid(child, 0)
