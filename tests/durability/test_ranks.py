"""Several ranks: killed anywhere, stopped by one, damaged, continued on another number of them."""

from __future__ import annotations

import datetime as dt
import errno
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
importlib.import_module("torch.distributed.fsdp")  # here once, and not in every fork

import outlast  # noqa: E402
from outlast import errors  # noqa: E402
from outlast.checkpoint import CheckpointStore, open_checkpoint, verify  # noqa: E402
from outlast.checkpoint.export import export  # noqa: E402
from outlast.distributed import ranks  # noqa: E402
from outlast.folder import durable  # noqa: E402
from outlast.folder.layout import RunFolder  # noqa: E402
from outlast.folder.presence import Presence  # noqa: E402
from outlast.run import agreement  # noqa: E402
from outlast.tracking import read  # noqa: E402
from tests import messages, processes  # noqa: E402
from tests.conftest import REPOSITORY  # noqa: E402
from tests.durability import crash_ranks  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks after torch is imported")


def crash(folder: Path, *options: str) -> dict:
    command = [sys.executable, "-m", "tests.durability.crash_ranks", *options[:1], str(folder / "work"), *options[1:]]
    done = processes.run(command, cwd=REPOSITORY, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("trainer", "count", "rank", "stride"),
    [("ddp", 2, 0, 12), ("ddp", 2, 1, 6), ("fsdp", 2, 0, 40), ("fsdp", 4, 3, 13)],
)
def test_killed_at_some_points(tmp_path: Path, trainer: str, count: int, rank: int, stride: int) -> None:
    result = crash(
        tmp_path, trainer, "--ranks", str(count), "--rank", str(rank), "--stride", str(stride), "--offset", "2"
    )
    assert result["operations"] >= (150 if rank == 0 else 50)
    assert result["points"] >= 4
    assert result["failures"] == []
    assert result["slowest"] < 30, "the others do not notice that a rank is gone"


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--torn",), ("--power", "--torn")], ids=["kill", "power"])
@pytest.mark.parametrize(("trainer", "count"), [("ddp", 2), ("fsdp", 2), ("ddp", 4), ("fsdp", 4)])
def test_every_rank_killed_at_many_points(tmp_path: Path, trainer: str, count: int, options: tuple[str, ...]) -> None:
    for rank in range(count):
        stride = str({("ddp", 2): 1, ("fsdp", 2): 3}.get((trainer, count), 9))
        result = crash(
            tmp_path / str(rank), trainer, "--ranks", str(count), "--rank", str(rank), "--stride", stride, *options
        )
        assert result["failures"] == []


@pytest.fixture(autouse=True)
def _asked_after_every_step(monkeypatch) -> None:
    monkeypatch.setattr(agreement, "PAUSE_SECONDS", 0.0)  # these steps take a millisecond


def run_on(root: Path, count: int, trainer: str = "plain", every_step=None) -> list[int]:
    """Exit codes of the ranks; a signal counts as minus its number."""
    crash_ranks.EVERY_STEP[:] = [every_step] if every_step else []
    root.mkdir(parents=True, exist_ok=True)
    return exit_codes(root, crash_ranks.attempt(crash_ranks.TRAINERS[trainer], root, count))


def exit_codes(root: Path, statuses: list[int]) -> list[int]:
    codes = [os.waitstatus_to_exitcode(status) for status in statuses]
    for rank, code in enumerate(codes):
        if code == -signal.SIGSEGV:
            print((root.parent / f"stderr-{rank}.txt").read_text())
    return codes


def one_is_told_to_stop(run, model) -> None:
    if run.step == 7 and torch.distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def losses(root: Path) -> list[float]:
    return [line["loss"] for line in read(root / "r/journal.jsonl")]


def newest(root: Path) -> Path:
    return max((root / "r/checkpoints").glob("step-*"))


def told(root: Path) -> list[str]:
    return json.loads(max((root / "r/attempts").glob("*.json")).read_text())["told"]


@pytest.mark.parametrize("trainer", ["plain", "fsdp"])
def test_one_rank_is_told_to_stop_and_all_save_and_stop(tmp_path: Path, trainer: str) -> None:
    assert run_on(tmp_path / "twin/runs", 2, trainer) == [0, 0]
    root = tmp_path / "stopped/runs"
    assert run_on(root, 2, trainer, one_is_told_to_stop) == [75, 75]
    step = open_checkpoint(newest(root)).checkpoint.step
    assert 7 <= step < 12
    record = json.loads((root / "r/attempts/0001.json").read_text())
    assert record["end"]["reason"] == "preempted"
    assert run_on(root, 2, trainer) == [0, 0]
    assert crash_ranks.final_state(root) == crash_ranks.final_state(tmp_path / "twin/runs")


def test_rank_0_pushes_the_files_of_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks on an empty machine continue what two others have pushed."""
    assert run_on(tmp_path / "twin/runs", 2, "fsdp") == [0, 0]
    monkeypatch.setenv("OUTLAST_REMOTE", str(tmp_path / "remote"))
    assert run_on(tmp_path / "first/runs", 2, "fsdp", one_is_told_to_stop) == [75, 75]
    assert list(newest(tmp_path / "first/runs").glob("*.rank-0001.safetensors"))
    assert run_on(tmp_path / "second/runs", 2, "fsdp") == [0, 0]
    assert any(str(tmp_path / "remote/r") in sentence for sentence in told(tmp_path / "second/runs"))
    assert crash_ranks.final_state(tmp_path / "second/runs") == crash_ranks.final_state(tmp_path / "twin/runs")


@pytest.mark.parametrize(
    ("trainer", "before", "after"), [("plain", 2, 4), ("fsdp", 2, 4), ("fsdp", 4, 2), ("fsdp", 2, 1)]
)
def test_another_number_of_ranks_continues_the_same_training(
    tmp_path: Path, trainer: str, before: int, after: int
) -> None:
    assert run_on(tmp_path / "twin/runs", 2, trainer) == [0, 0]
    root = tmp_path / "other/runs"
    assert run_on(root, before, trainer, one_is_told_to_stop) == [75] * before
    assert run_on(root, after, trainer) == [0] * after
    np.testing.assert_allclose(losses(root), losses(tmp_path / "twin/runs"), rtol=1e-4)
    ddp = (trainer, after) == ("plain", 4)
    said = "run/another-number-of-ranks-and-unused-parameters" if ddp else "run/another-number-of-ranks"
    messages.said(told(root), said, before=before, after=after)
    one, other = (verify(newest(each)) for each in (root, tmp_path / "twin/runs"))
    assert one.step == other.step
    generators = [open_checkpoint(newest(root), ranks=ranks.Ranks(rank, after)).parts["rng"] for rank in range(after)]
    if trainer == "plain":  # which seeds every rank for itself
        assert len({bytes(each["torch"].data) for each in generators}) == after


def test_a_sharded_run_continues_alone_and_exports_whole_tensors(tmp_path: Path) -> None:
    def save_whole(run, model) -> None:
        one_is_told_to_stop(run, model)
        whole = {name: tensor.full_tensor() for name, tensor in model.state_dict().items()}
        if torch.distributed.get_rank() == 0:
            np.savez(tmp_path / f"whole-{run.step}.npz", **{name: tensor.numpy() for name, tensor in whole.items()})

    root = tmp_path / "runs"
    assert run_on(root, 2, "fsdp", save_whole) == [75, 75]
    step = verify(newest(root)).step
    whole = dict(np.load(tmp_path / f"whole-{step}.npz"))
    export(newest(root), "model", tmp_path / "model.safetensors")
    from safetensors.numpy import load_file

    exported = load_file(tmp_path / "model.safetensors")
    assert exported.keys() == whole.keys()
    model = crash_ranks.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with outlast.open_run("r", root=root, progress="none") as run:
        run.track(model=model, optimizer=optimizer, notes=crash_ranks.Notes(0))
        for name, array in whole.items():
            assert np.array_equal(array, exported[name])
            assert np.array_equal(array, model.state_dict()[name].numpy())
        shapes = {tuple(state["exp_avg"].shape) for state in optimizer.state.values()}
        assert shapes == {tuple(parameter.shape) for parameter in model.parameters()}


@pytest.mark.parametrize("damaged", ["rng.rank-0001.safetensors", "state.rank-0001.json", "model.safetensors"])
def test_damage_on_one_rank_counts_for_all(tmp_path: Path, damaged: str) -> None:
    assert run_on(tmp_path / "twin/runs", 2) == [0, 0]
    root = tmp_path / "other/runs"
    assert run_on(root, 2, every_step=one_is_told_to_stop) == [75, 75]
    place = newest(root) / damaged
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(errors.CorruptCheckpoint, match=damaged):
        verify(newest(root))
    assert run_on(root, 2) == [0, 0]
    assert crash_ranks.final_state(root) == crash_ranks.final_state(tmp_path / "twin/runs")
    assert [path.name[:-2] for path in (root / "r/set-aside").iterdir()] == [place.parent.name]
    assert any(damaged in sentence for sentence in told(root))


def test_state_that_all_ranks_share_is_stored_once(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert run_on(root, 2) == [0, 0]
    names = {path.name for path in newest(root).iterdir()}
    assert "model.safetensors" in names
    assert "optimizer.safetensors" in names
    assert not {"model.rank-0001.safetensors", "optimizer.rank-0001.safetensors"} & names
    state = json.loads((newest(root) / "state.rank-0001.json").read_text())
    assert state["parts"].keys() == {"notes"}
    assert state["parts"]["notes"]["state"]["rank"] == 1


def test_ranks_that_do_not_train_together_are_all_kept(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        rank = torch.distributed.get_rank()
        torch.manual_seed(rank)
        model = torch.nn.Sequential(torch.nn.Embedding(5000, 8), torch.nn.Linear(8, 1))
        with torch.no_grad():
            model[0].weight.zero_()  # large, and the same wherever one looks
            model[0].weight[1234] = rank + 1
        with outlast.open_run("r", total_steps=2, root=root, progress="none") as run:
            run.track(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
            for _ in run.steps():
                pass

    root = tmp_path / "runs"
    root.mkdir()
    assert crash_ranks.attempt(train, root, 2) == [0, 0]
    for rank in range(2):
        opened = open_checkpoint(newest(root), ranks=ranks.Ranks(rank, 2))
        weight = np.frombuffer(opened.parts["model"]["0.weight"].data, np.float32).reshape(5000, 8)
        assert (weight[1234] == rank + 1).all()


def test_a_run_that_rank_0_cannot_open_is_refused_on_all(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with outlast.open_run("r", total_steps=1, root=root, progress="none"):
        assert run_on(root, 2) == [1, 1]
    texts = [(tmp_path / f"error-{rank}.txt").read_text() for rank in range(2)]
    assert texts[0].startswith("RunBusy: ")
    assert texts[1] == f"RankFailed: Rank 0: {texts[0].removeprefix('RunBusy: ')}"


def test_ranks_at_different_steps_get_an_error(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        rank = torch.distributed.get_rank()
        with outlast.open_run("r", total_steps=100, root=root, progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for step in run.steps():
                if rank == 1 and step == 3:
                    break

    root = tmp_path / "runs"
    root.mkdir()
    assert all(crash_ranks.attempt(train, root, 2))
    texts = [(tmp_path / f"error-{rank}.txt").read_text() for rank in range(2)]
    messages.said(texts[0], "distributed/rank-after-a-step", rank=0, other=1)
    messages.said(texts[1], "distributed/rank-is-saving", rank=1, step=3, other=0)
    record = json.loads((root / "r/attempts/0001.json").read_text())
    assert record["end"]["reason"] == "failed"


def test_a_failed_write_on_one_rank_costs_all_one_save(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        rank = torch.distributed.get_rank()
        if rank == 1:
            from outlast.folder import durable

            real, times = durable.write_files, iter([True])

            def write_files(folder, contents):
                if next(times, False):
                    raise OSError(28, "No space left on device")
                return real(folder, contents)

            durable.write_files = write_files
        torch.manual_seed(rank)
        with outlast.open_run("r", total_steps=4, root=root, save="2 steps", background=False, progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for _ in run.steps():
                pass

    root = tmp_path / "runs"
    root.mkdir()
    assert crash_ranks.attempt(train, root, 2) == [0, 0]
    assert [path.name for path in sorted((root / "r/checkpoints").glob("step-*"))] == ["step-00000004"]
    messages.said(told(root), "checkpoint/another-rank-failed", step=2)
    assert any(os.strerror(errno.ENOSPC) in sentence for sentence in told(root))


def fork(tmp_path: Path, train, count: int = 2) -> list[int]:
    root = tmp_path / "runs"
    root.mkdir(exist_ok=True)
    return exit_codes(root, crash_ranks.attempt(train, root, count))


def steps(tmp_path: Path) -> list[int]:
    return [checkpoint.step for checkpoint in CheckpointStore(RunFolder(tmp_path / "runs/r")).committed()]


def test_one_rank_may_ask_for_a_save_while_the_policy_does(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        rank = torch.distributed.get_rank()
        with outlast.open_run("r", total_steps=60, root=root, save="20 steps", progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for step in run.steps():
                if rank == 1 and step in (20, 33):
                    run.save()

    assert fork(tmp_path, train) == [0, 0]
    assert steps(tmp_path) == [33, 40, 60]


def test_the_best_of_the_epochs_is_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(agreement, "PAUSE_SECONDS", 100.0)

    def train(root: Path) -> None:
        keep = outlast.Retention(last=1, best=1, metric="val", mode="max")
        loader = outlast.DataLoader(list(range(24)), 8)
        with outlast.open_run("r", root=root, save="10m", keep=keep, progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for _ in run.batches(loader, epochs=4):
                if run.epoch_end:
                    run.log(val=-abs(run.epoch - 2))

    assert fork(tmp_path, train) == [0, 0]
    assert steps(tmp_path) == [6, 12]


def test_a_large_buffer_of_a_ranks_own_is_kept(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        rank = torch.distributed.get_rank()
        model = torch.nn.Linear(2, 2)
        model.register_buffer("seen", torch.zeros(2**20, dtype=torch.uint8))
        with outlast.open_run("r", total_steps=2, root=root, progress="none") as run:
            run.track(model=model, optimizer=torch.optim.SGD(model.parameters()))
            for _ in run.steps():
                model.seen[12345 + rank] = 1

    assert fork(tmp_path, train) == [0, 0]
    for rank in range(2):
        seen = open_checkpoint(newest(tmp_path / "runs"), ranks=ranks.Ranks(rank, 2)).parts["model"]["seen"].data
        assert [index for index, value in enumerate(bytes(seen)) if value] == [12345 + rank]


def test_a_change_that_torch_does_not_count_is_not_lost(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        rank = torch.distributed.get_rank()
        model = torch.nn.Linear(2, 2)
        model.register_buffer("seen", torch.zeros(100))
        with outlast.open_run("r", total_steps=4, root=root, save="2 steps", progress="none") as run:
            run.track(model=model)
            for step in run.steps():
                if step == 4:
                    model.seen.data[5] = rank + 1

    assert fork(tmp_path, train) == [0, 0]
    for rank in range(2):
        seen = open_checkpoint(newest(tmp_path / "runs"), ranks=ranks.Ranks(rank, 2)).parts["model"]["seen"].data
        assert np.frombuffer(seen, np.float32)[5] == rank + 1


def test_sharded_averages_and_trees_are_restored_in_shards(tmp_path: Path) -> None:
    class Average:
        def __init__(self, model) -> None:
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

        def update(self, model) -> None:
            for name, tensor in model.state_dict().items():
                self.weights[name].lerp_(tensor, 0.5)

        def state_dict(self):
            return self.weights

        def load_state_dict(self, state) -> None:
            for name, tensor in state.items():
                self.weights[name].copy_(tensor)

    def train(root: Path, total: int) -> None:
        from torch.distributed.fsdp import fully_shard

        model = crash_ranks.network()
        fully_shard(model)
        optimizer = torch.optim.AdamW(model.parameters())
        average = Average(model)
        with outlast.open_run("r", total_steps=total, root=root, progress="none") as run:
            run.track(model=model, optimizer=optimizer, average=average)
            tree = run.restore({"copy": model.state_dict()["0.weight"].clone()})
            for _ in run.steps():
                model(torch.ones(3, 6)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
                average.update(model)
                tree = {"copy": tree["copy"] + model.state_dict()["0.weight"]}
                run.offer(tree)
            run.log(
                total=sum(tensor.full_tensor().sum() for tensor in average.weights.values())
                + tree["copy"].full_tensor().sum()
            )

    for folder, totals in (("twin", (4,)), ("cut", (2, 4))):
        (tmp_path / folder).mkdir()
        for total in totals:
            assert fork(tmp_path / folder, lambda root, total=total: train(root, total)) == [0, 0]
    ends = [read(tmp_path / folder / "runs/r/journal.jsonl")[-1]["total"] for folder in ("twin", "cut")]
    assert ends[0] == ends[1]


def test_the_next_attempt_waits_for_ranks_whose_rank_0_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ranks"
    Presence(path).wait_for_others(0.0)
    orphan = Presence(path)
    orphan.show()
    with messages.raises(errors.RunBusy, "folder/rank-of-an-earlier-attempt"):
        Presence(path).wait_for_others(0.1)
    orphan.hide()
    Presence(path).wait_for_others(0.0)


def test_training_ends_when_the_writers_channel_is_broken(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        real = CheckpointStore._write_data

        def slow(self, snapshot, target):
            if torch.distributed.get_rank() == 1 and snapshot.step == 4:
                time.sleep(3)
            return real(self, snapshot, target)

        CheckpointStore._write_data = slow
        new_group, patience = torch.distributed.new_group, iter([dt.timedelta(days=1), dt.timedelta(seconds=1)])
        torch.distributed.new_group = lambda **options: new_group(**options | {"timeout": next(patience)})
        torch.manual_seed(torch.distributed.get_rank())
        with outlast.open_run("r", total_steps=10**6, root=root, save="2 steps", progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for _ in run.steps():
                time.sleep(0.05)

    assert fork(tmp_path, train) == [1, 1]
    texts = [(tmp_path / f"error-{rank}.txt").read_text() for rank in range(2)]
    messages.said("\n".join(texts), "run/another-rank-has-ended", step=2)
    assert steps(tmp_path) == [2]


def test_without_a_manifest_no_checkpoint_exists_on_any_rank(tmp_path: Path) -> None:
    def train(root: Path) -> None:
        real = CheckpointStore._seal

        def seal(self, moment, snapshot, target, entries, begun):
            if snapshot.step == 3 and torch.distributed.get_rank() == 1:
                self._ranks.all_gather(moment, b"{}")
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, moment, snapshot, target, entries, begun)

        def write_json(path: Path, value, **more):
            if path.parent.name == "step-00000003":
                raise OSError(28, "No space left on device")
            return write(path, value, **more)

        CheckpointStore._seal, write, durable.write_json = seal, durable.write_json, write_json
        with outlast.open_run("r", total_steps=3, root=root, save="2 steps", progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for _ in run.steps():
                pass

    assert fork(tmp_path, train) == [1, -signal.SIGKILL]
    assert steps(tmp_path) == [2]
    assert json.loads((tmp_path / "runs/r/attempts/0001.json").read_text())["end"]["reason"] == "failed"


def test_a_signal_on_one_rank_counts_for_all_at_a_break(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(agreement, "PAUSE_SECONDS", 100.0)

    def train(root: Path) -> None:
        with outlast.open_run("r", total_steps=100, root=root, progress="none") as run:
            run.track(model=torch.nn.Linear(2, 2))
            for step in run.steps():
                if step == 5:
                    if torch.distributed.get_rank() == 1:
                        os.kill(os.getpid(), signal.SIGTERM)
                    break

    assert fork(tmp_path, train) == [75, 75]
    assert json.loads((tmp_path / "runs/r/attempts/0001.json").read_text())["end"]["reason"] == "preempted"


def test_processes_that_have_not_met_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with messages.raises(errors.UsageError, "distributed/processes-have-not-met", count=2):
        outlast.open_run("r", root=tmp_path)


def test_shares_of_a_batch(monkeypatch) -> None:
    data = list(range(22))

    def batches(count: int, **options) -> list[list[list[int]]]:
        found = []
        for rank in range(count):
            monkeypatch.setattr(ranks, "position", lambda rank=rank: (rank, count))
            found.append([batch.tolist() for batch in outlast.DataLoader(data, 10, seed=1, **options)])
        return found

    (whole,) = batches(1)
    assert [len(batch) for batch in whole] == [10, 10, 2]
    for count in (2, 5, 10):
        shares = batches(count)
        for index, batch in enumerate(whole):
            together = [sample for rank in range(count) for sample in shares[rank][index]]
            assert together[: len(batch)] == batch
            assert all(shares[rank][index] for rank in range(count))
    whole_of_all = [whole] * 3
    assert batches(3, split=False) == whole_of_all
    monkeypatch.setattr(ranks, "position", lambda: (0, 3))
    with messages.raises(errors.UsageError, "data/cannot-be-shared-equally", ranks=3, batch=10):
        outlast.DataLoader(data, 10)
