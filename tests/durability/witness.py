"""Scripts for the outside witness, ckpt-chaos, which kills any script at its file events and looks at what it leaves.

    python tests/durability/witness.py torch_10_lines|jax_10_lines|workers OUT [--store naive]

Trains below OUT and writes the final weights to OUT/final.npy. The two examples are executed as they stand in
`examples/`; all that is added is more saves than the one at their end.

ckpt-chaos sees names: `os.open` for writing, renames, deletions, folders. It does not see `os.write`, which raises no
audit event, and tears only what goes through `open()`. Where it has armed this process, writes are reported to it here,
as its own wrappers report `torch.save`. It kills and does not cut the power, so an fsync would be no event of its own.
"""

from __future__ import annotations

import argparse
import functools
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))


def report_writes(witness) -> None:
    """Make every write of the armed process an event, which may be torn."""
    real_open, real_write = os.open, os.write
    files: dict[int, tuple[str, tuple[int, int]]] = {}

    def identity(descriptor) -> tuple[int, int]:
        found = os.fstat(descriptor)
        return found.st_dev, found.st_ino

    def remember(path, flags, *args, **more):
        descriptor = real_open(path, flags, *args, **more)
        files.pop(descriptor, None)
        if isinstance(path, str | os.PathLike) and witness._under(path):
            files[descriptor] = os.fspath(path), identity(descriptor)
        return descriptor

    def write(descriptor, data):
        # A number is given again once it is closed, to a pipe of the loader's workers, say: that is no write of ours.
        path, own = files.get(descriptor, ("", None))
        if own == identity(descriptor) and witness._event("os.write", path, tornable=True):
            real_write(descriptor, memoryview(data)[: len(data) // 2])
            os._exit(137)
        return real_write(descriptor, data)

    os.open, os.write = remember, write


def example(name: str, weights: Callable[[dict], list]) -> list:
    import outlast

    outlast.open_run = functools.partial(outlast.open_run, save="300 steps")
    return weights(runpy.run_path(str(REPOSITORY / "examples" / f"{name}.py")))


def torch_10_lines() -> list:
    return example("torch_10_lines", lambda names: list(names["model"].state_dict().values()))


def jax_10_lines() -> list:
    import jax

    return example("jax_10_lines", lambda names: jax.tree.leaves(names["state"][0]))


def workers() -> list:
    """Two loader processes, whose augmentation draws; saves in the middle of epochs, one deleted later."""
    import random

    import torch

    import outlast

    class Noisy(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 32

        def __getitem__(self, index: int):
            x = torch.full((6,), float(index)).sin() + torch.rand(6) + random.random() + np.random.rand()
            return x.float(), x.sum().float()

    outlast.seed_everything(1)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = outlast.DataLoader(Noisy(), 8, seed=3, num_workers=2)
    with outlast.open_run("workers", save="3 steps", keep=outlast.Retention(last=2)) as run:
        run.track(model=model, optimizer=optimizer)
        for x, y in run.batches(loader, epochs=2):
            loss = (model(x).squeeze(1) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(loss=loss)
    return list(model.state_dict().values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("script", choices=["torch_10_lines", "jax_10_lines", "workers"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", choices=["outlast", "naive"], default="outlast")
    options = parser.parse_args()
    if "ckpt_chaos.inject" in sys.modules:
        report_writes(sys.modules["ckpt_chaos.inject"])
    if options.store == "naive":
        import outlast.run.open
        from tests.durability.naive import NaiveStore

        outlast.run.open.CheckpointStore = NaiveStore
    from outlast.run import saver

    saver._FLUSH = float("inf")  # the file events of a loaded machine are those of the reference too
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    arrays = globals()[options.script]()
    np.save("final.npy", np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays]))


if __name__ == "__main__":
    main()
