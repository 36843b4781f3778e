"""Ways to save and load a model with its optimizer, behind one small interface. Written from the peers' public
documentation."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Peer:
    """One way to save. `save` returns when training may continue, `finish` when all is handed to the system.

    `save` may return seconds that it spent on other things than saving; `waited` counts seconds for which the optimizer
    was held.

    Args:
        model, optimizer: what is saved.
        folder: where to.
    """

    module = "torch"
    background = False  # whether save returns before it is done

    def __init__(self, model: Any, optimizer: Any, folder: Path) -> None:
        self.model, self.optimizer, self.folder = model, optimizer, folder
        self.waited = 0.0
        self.set_up()

    def set_up(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def save(self, place: Path) -> float | None:
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


class LightningTrainer(Peer):
    """Trainer.save_checkpoint, and fit(ckpt_path=...) for what it loads."""

    module = "lightning"

    def set_up(self) -> None:
        import lightning
        import torch

        peer = self

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.network = peer.model

            def training_step(self, batch: Any, _: int) -> Any:
                return self.network(batch).square().mean()

            def configure_optimizers(self) -> Any:
                return peer.optimizer

        self.module_of, self.lightning = Module(), lightning
        self.data = torch.utils.data.DataLoader(torch.ones(8, self.model[0].in_features), batch_size=8)
        self.trainer = self.new_trainer()
        self.trainer.fit(self.module_of, self.data)

    def new_trainer(self, epochs: int = 1) -> Any:
        return self.lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=self.plugins(),
        )

    def plugins(self) -> list[Any]:
        return []

    def save(self, place: Path) -> None:
        self.trainer.save_checkpoint(place)

    def load(self, place: Path) -> None:
        # One epoch is done already, so this sets up, restores and ends.
        self.new_trainer().fit(self.module_of, self.data, ckpt_path=str(place))


class LightningTrainerAsync(LightningTrainer):
    """The same with Lightning's AsyncCheckpointIO."""

    background = True

    def plugins(self) -> list[Any]:
        from lightning.pytorch.plugins.io import AsyncCheckpointIO

        return [AsyncCheckpointIO()]

    def finish(self) -> None:
        self.trainer.strategy.checkpoint_io.teardown()  # what waits for its thread
        self.trainer = self.new_trainer()
        self.trainer.fit(self.module_of, self.data)


class HuggingFaceTrainer(Peer):
    """A step of transformers' Trainer that saves; only the time between its callbacks before and after the save
    counts."""

    module = "transformers"

    def set_up(self) -> None:
        import torch
        import transformers

        class Wrapped(torch.nn.Module):
            def __init__(self, network: Any) -> None:
                super().__init__()
                self.network = network

            def forward(self, x: Any) -> Any:
                return {"loss": self.network(x).square().mean()}

        class Watch(transformers.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
                watch.began = time.perf_counter()

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
                watch.took = time.perf_counter() - watch.began

        self.transformers, self.wrapped, self.watch = transformers, Wrapped(self.model), Watch()
        watch = self.watch

    def train(self, place: Path, steps: int, resume: str | None = None) -> None:
        import torch

        arguments = self.transformers.TrainingArguments(
            output_dir=str(place),
            max_steps=steps,
            save_strategy="steps",
            save_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
            per_device_train_batch_size=8,
        )
        scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer)
        rows = [{"x": torch.ones(self.model[0].in_features)} for _ in range(8)]
        trainer = self.transformers.Trainer(
            self.wrapped, arguments, train_dataset=rows, optimizers=(self.optimizer, scheduler), callbacks=[self.watch]
        )
        trainer.train(resume_from_checkpoint=resume)

    def save(self, place: Path) -> float:
        begun = time.perf_counter()
        self.train(place, 1)
        return time.perf_counter() - begun - self.watch.took

    def load(self, place: Path) -> None:
        self.train(place, 1, str(place / "checkpoint-1"))  # all steps are done: it loads and ends


class TorchExperimental(Peer):
    """torch.distributed.checkpoint._experimental: staged in a thread, written by a process; the optimizer waits for the
    staging."""

    module = "torch.distributed.checkpoint._experimental.builder"
    background = True

    def set_up(self) -> None:
        from torch.distributed.checkpoint._experimental.builder import make_async_checkpointer
        from torch.distributed.checkpoint._experimental.config import CheckpointerConfig
        from torch.distributed.checkpoint._experimental.staging import CheckpointStagerConfig

        # Its defaults want a GPU; without one these two have to be off.
        staging = CheckpointStagerConfig(use_pinned_memory=False, use_non_blocking_copy=False)
        self.checkpointer = make_async_checkpointer(CheckpointerConfig(staging_config=staging))
        self.staged, self.written = None, None
        self.optimizer.register_step_pre_hook(self.hold)

    def hold(self, *_: Any) -> None:
        if self.staged:
            begun = time.perf_counter()
            self.staged.result()
            self.waited, self.staged = self.waited + time.perf_counter() - begun, None

    def save(self, place: Path) -> None:
        self.staged, self.written = self.checkpointer.save(str(place), self.state())

    def finish(self) -> None:
        self.written.result()

    def load(self, place: Path) -> None:
        self.take(self.checkpointer.load(str(place)))


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


class Moonclip(Peer):
    """moonclip as by default: compressed by a thread of its own, every tensor hashed."""

    module = "moonclip"
    background = True
    number = 0

    def set_up(self) -> None:
        self.managers: dict[Path, Any] = {}

    def manager(self, place: Path) -> Any:
        from moonclip import CheckpointManager

        if place not in self.managers:
            self.managers[place] = CheckpointManager(str(place))
        return self.managers[place]

    def save(self, place: Path) -> None:
        self.number += 1
        self.last = self.manager(place)
        self.last.save(step=self.number, model=self.model, optimizer=self.optimizer)

    def finish(self) -> None:
        self.last.flush()

    def load(self, place: Path) -> None:
        self.manager(place).load_latest(self.model, self.optimizer)


class TorchCheckpointing(Peer):
    """torch_checkpointing, as its page on troubleshooting configures it without a GPU: a copy, and a process that
    writes. Without direct writes, which fail on ext4 (0.1.1), as they do not keep to the boundaries of pages."""

    module = "torch_checkpointing"
    background = True

    def set_up(self) -> None:
        from torch_checkpointing import CheckpointManager, ItemSpec
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

        storage = LocalFileSystemStorageConfig(use_direct_io=False)
        self.manager = CheckpointManager(
            CheckpointManager.Config(default=ItemSpec(requires_copy=True), storage_config=storage)
        )
        self.optimizer.register_step_pre_hook(self.hold)

    def hold(self, *_: Any) -> None:
        """Its documentation asks for the step inside its lock; to take it before the step waits for the same."""
        begun = time.perf_counter()
        with self.manager.lock():
            self.waited += time.perf_counter() - begun

    def save(self, place: Path) -> None:
        self.future = self.manager.save(str(place), self.state())

    def finish(self) -> None:
        self.future.result()

    def load(self, place: Path) -> None:
        self.take(dict(self.manager.load(str(place), into=self.state())))


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
    "torch experimental async": TorchExperimental,
    "Lightning Fabric": Fabric,
    "Lightning Trainer": LightningTrainer,
    "Lightning Trainer async": LightningTrainerAsync,
    "HF Trainer": HuggingFaceTrainer,
    "Accelerate": Accelerate,
    "torchsnapshot": TorchSnapshot,
    "moonclip": Moonclip,
    "torch_checkpointing": TorchCheckpointing,
    "Orbax (JAX)": Orbax,
}


def sync(place: Path) -> None:
    """fsync every file and its folder, which none of the peers does."""
    paths = [*place.rglob("*"), place] if place.is_dir() else [place]
    for path in [*paths, place.parent]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def timed(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
