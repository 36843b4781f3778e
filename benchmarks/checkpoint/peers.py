"""Ways to save and load a model with its optimizer, behind one small interface. Written from the peers' public documentation."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Peer:
    """One way to save. `save` returns when training may go on, `finish` when all is handed to the system.

    Args:
        model, optimizer: what is saved.
        folder: where to.
    """

    module = "torch"
    background = False  # whether save returns before it is done

    def __init__(self, model: Any, optimizer: Any, folder: Path) -> None:
        self.model, self.optimizer, self.folder = model, optimizer, folder
        self.set_up()

    def set_up(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def save(self, place: Path) -> None:
        raise NotImplementedError

    def finish(self) -> None: ...

    def load(self, place: Path) -> None:
        raise NotImplementedError

    def take(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    @classmethod
    def installed(cls) -> bool:
        with contextlib.suppress(Exception):
            importlib.import_module(cls.module)
            return True
        return False


class TorchSave(Peer):
    def save(self, place: Path) -> None:
        import torch

        torch.save(self.state(), place)

    def load(self, place: Path) -> None:
        import torch

        self.take(torch.load(place, weights_only=True))


class SafeTensors(Peer):
    module = "safetensors.torch"

    def flat(self) -> dict[str, Any]:
        state = self.state()
        moments = state["optimizer"]["state"].items()
        return {f"o.{i}.{k}": v for i, s in moments for k, v in s.items()} | {
            f"m.{k}": v for k, v in state["model"].items()
        }

    def save(self, place: Path) -> None:
        from safetensors.torch import save_file

        save_file(self.flat(), place)

    def load(self, place: Path) -> None:
        from safetensors.torch import load_file

        found = load_file(place)
        self.model.load_state_dict({name[2:]: value for name, value in found.items() if name.startswith("m.")})
        state = self.optimizer.state_dict()
        for index, moments in state["state"].items():
            state["state"][index] = {name: found[f"o.{index}.{name}"] for name in moments}
        self.optimizer.load_state_dict(state)


class Distributed(Peer):
    """torch.distributed.checkpoint in one process."""

    module = "torch.distributed.checkpoint"

    def save(self, place: Path) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save(self.state(), checkpoint_id=str(place), no_dist=True)

    def load(self, place: Path) -> None:
        import torch.distributed.checkpoint as dcp

        state = self.state()
        dcp.load(state, checkpoint_id=str(place), no_dist=True)
        self.take(state)


class DistributedAsync(Distributed):
    """The same with async_save, which wants a process group."""

    background = True
    future: Any = None

    def set_up(self) -> None:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    def save(self, place: Path) -> None:
        import torch.distributed.checkpoint as dcp

        self.future = dcp.async_save(self.state(), checkpoint_id=str(place))

    def finish(self) -> None:
        self.future.result()


class Fabric(Peer):
    module = "lightning.fabric"

    def set_up(self) -> None:
        from lightning.fabric import Fabric as LightningFabric

        self.fabric = LightningFabric(accelerator="cpu", devices=1)

    def save(self, place: Path) -> None:
        self.fabric.save(place, {"model": self.model, "optimizer": self.optimizer})

    def load(self, place: Path) -> None:
        self.fabric.load(place, {"model": self.model, "optimizer": self.optimizer})


class Accelerate(Peer):
    module = "accelerate"

    def set_up(self) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=True)
        self.accelerator.prepare(self.model, self.optimizer)

    def save(self, place: Path) -> None:
        self.accelerator.save_state(str(place))

    def load(self, place: Path) -> None:
        self.accelerator.load_state(str(place))


class TorchSnapshot(Peer):
    module = "torchsnapshot"

    def save(self, place: Path) -> None:
        from torchsnapshot import Snapshot

        Snapshot.take(str(place), {"model": self.model, "optimizer": self.optimizer})

    def load(self, place: Path) -> None:
        from torchsnapshot import Snapshot

        Snapshot(str(place)).restore({"model": self.model, "optimizer": self.optimizer})


class Orbax(Peer):
    """Orbax with the same arrays in JAX, async as it is by default."""

    module = "orbax.checkpoint"
    background = True

    def set_up(self) -> None:
        import orbax.checkpoint as ocp

        self.checkpointer = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())

    def tree(self) -> Any:
        import jax

        flat = SafeTensors.flat(self)  # type: ignore[arg-type]
        return {name: jax.numpy.asarray(value.detach().numpy()) for name, value in flat.items() if value.ndim}

    def prepare(self) -> None:
        self.arrays = self.tree()

    def save(self, place: Path) -> None:
        self.checkpointer.save(place, self.arrays)

    def finish(self) -> None:
        self.checkpointer.wait_until_finished()

    def load(self, place: Path) -> None:
        self.checkpointer.restore(place)


PEERS: dict[str, type[Peer]] = {
    "torch.save": TorchSave,
    "safetensors": SafeTensors,
    "torch DCP": Distributed,
    "torch DCP async": DistributedAsync,
    "Lightning Fabric": Fabric,
    "Accelerate": Accelerate,
    "torchsnapshot": TorchSnapshot,
    "Orbax (JAX)": Orbax,
}


def sync(place: Path) -> None:
    """What none of them does by itself: fsync every file and its folder."""
    paths = [*place.rglob("*"), place] if place.is_dir() else [place]
    for path in [*paths, place.parent]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def timed(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
