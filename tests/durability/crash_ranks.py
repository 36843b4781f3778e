"""The crash points of `crash`, for several ranks: one of them is killed before each of its file operations in turn.

    python -m tests.durability.crash_ranks ddp FOLDER [--ranks 2] [--rank 1] [--power] [--torn] [--stride N] [--offset
    N]

The others have to end by themselves; then all begin again, and what the finished run holds is compared with a twin's.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from tests.durability.crash import Counter

SECONDS = 60


def network():
    import torch
    from torch import nn

    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


def train_ddp(root: Path) -> None:
    """BatchNorm whose averages differ between ranks, dropout whose generators do, a step that is shared."""
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    bare = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.3), network())
    # With three ranks or more DDP adds gradients in another order after its first step, unless it may not regroup them.
    regroup = torch.distributed.get_world_size() > 2
    model = DistributedDataParallel(bare, find_unused_parameters=regroup)
    train(root, model, torch.distributed.get_rank(), samples=48)  # BatchNorm wants two a rank


def train_fsdp(root: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    model = network()
    for layer in (model[0], model[2]):
        fully_shard(layer)
    fully_shard(model)
    train(root, model, 0)


def train_plain(root: Path) -> None:
    """A model whose training does not depend on the number of ranks, but for the last bits."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    train(root, DistributedDataParallel(network()), torch.distributed.get_rank())


class Notes:
    """Something of each rank's own."""

    def __init__(self, rank: int) -> None:
        self.rank, self.steps = rank, []

    def state_dict(self):
        return {"rank": self.rank, "steps": self.steps}

    def load_state_dict(self, state) -> None:
        self.rank, self.steps = state["rank"], state["steps"]


def train(root: Path, model, rank: int, samples: int = 44) -> None:
    import torch

    import outlast
    from outlast.environment import Environment, Limits

    outlast.seed_everything(100 + rank)
    features = torch.arange(samples * 6, dtype=torch.float32).reshape(samples, 6).sin()
    dataset = torch.utils.data.TensorDataset(features, features.sum(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = outlast.DataLoader(dataset, 8, seed=3)
    notes = Notes(rank)
    with outlast.open_run(
        "r",
        root=root,
        save="4 steps, 1 epoch",
        keep=outlast.Retention(last=2),
        progress="none",
        environment=Environment("local", Limits(None, 2**34, 2)),
    ) as run:
        run.track(model=model, optimizer=optimizer, notes=notes)
        for x, y in run.batches(loader, epochs=2):
            optimizer.zero_grad()
            loss = (model(x).squeeze(1) - y).square().mean()
            loss.backward()
            optimizer.step()
            notes.steps.append(run.step)
            total = loss.detach().clone()
            torch.distributed.all_reduce(total)
            run.log(loss=total / torch.distributed.get_world_size())
            if EVERY_STEP:
                EVERY_STEP[0](run, model)


EVERY_STEP: list = []
TRAINERS = {"ddp": train_ddp, "fsdp": train_fsdp, "plain": train_plain}


def attempt(
    trainer,
    root: Path,
    ranks: int,
    killed: int = -1,
    counter: Counter | None = None,
    *,
    meeting: str = "",
    begin=lambda rank: None,
) -> list[int]:
    """Train on so many ranks, one fork each; returns their wait statuses."""
    place = root.parent / f"meeting-{time.monotonic_ns()}"
    meeting = meeting or f"file://{place}"
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            signal.alarm(SECONDS)
            import torch

            begin(rank)
            torch.set_num_threads(1)
            sys.stderr = open(root.parent / f"stderr-{rank}.txt", "w")  # noqa: SIM115
            faulthandler.enable(sys.stderr)
            torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
            if rank == killed and counter:
                counter.install()
            trainer(root)
            if counter and counter.kill_at == 0 and rank == killed:
                (root.parent / "operations.json").write_text(json.dumps(counter.names))
                (root.parent / "modules.json").write_text(json.dumps(sorted(sys.modules)))
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            traceback.print_exc()
            (root.parent / f"error-{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        os._exit(code)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    place.unlink(missing_ok=True)
    return statuses


def final_state(root: Path) -> dict[str, str] | None:
    """Hashes of what a finished run leaves, of all ranks."""
    import xxhash

    newest = max((root / "r" / "checkpoints").glob("step-*/MANIFEST.json"), default=None)
    if newest is None:
        return None
    paths = [path for path in sorted(newest.parent.iterdir()) if path != newest] + [root / "r" / "journal.jsonl"]
    return {path.name: xxhash.xxh3_128_hexdigest(path.read_bytes()) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", choices=TRAINERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rank", type=int, default=0, help="the one that is killed")
    parser.add_argument("--power", action="store_true")
    parser.add_argument("--torn", action="store_true")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    options = parser.parse_args()
    import importlib

    import torch  # noqa: F401 - once, and not in every fork

    os.fsync = lambda descriptor: None  # as in `crash`
    trainer, folder, ranks, rank = TRAINERS[options.trainer], options.folder.resolve(), options.ranks, options.rank
    folder.mkdir(parents=True, exist_ok=True)
    twin = folder / "twin"
    twin.mkdir()
    statuses = attempt(trainer, twin, ranks, rank, Counter(twin, 0, power=False, torn=False))
    assert not any(statuses), [path.read_text() for path in folder.glob("error-*.txt")]
    expected, names = final_state(twin), json.loads((folder / "operations.json").read_text())
    for name in json.loads((folder / "modules.json").read_text()):
        with contextlib.suppress(Exception):
            importlib.import_module(name)

    failures, slowest = [], 0.0
    points = range(1 + options.offset, len(names) + 1, options.stride)
    for point in points:
        root = folder / "crashed"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        begun = time.monotonic()
        statuses = attempt(trainer, root, ranks, rank, Counter(root, point, power=options.power, torn=options.torn))
        slowest = max(slowest, time.monotonic() - begun)
        place = [point, names[point - 1]]
        if not (os.WIFSIGNALED(statuses[rank]) and os.WTERMSIG(statuses[rank]) == signal.SIGKILL):
            failures.append([*place, f"was not killed: {statuses}"])
        elif (lost := folder / "lost.txt").exists():
            failures.append([*place, lost.read_text()])
            lost.unlink()
        elif any(statuses := attempt(trainer, root, ranks)):
            failures.append([*place, statuses, [path.read_text()[:300] for path in folder.glob("error-*.txt")]])
        elif (found := final_state(root)) != expected:
            failures.append([*place, [name for name in expected if (found or {}).get(name) != expected[name]]])
    print(
        json.dumps(
            {"operations": len(names), "points": len(points), "slowest": round(slowest, 1), "failures": failures}
        )
    )


if __name__ == "__main__":
    main()
