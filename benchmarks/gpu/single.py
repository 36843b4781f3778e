"""Checks that need one process each: `python -m benchmarks.gpu.single CHECK FOLDER DEVICE` prints a JSON object."""

from __future__ import annotations

import json
import os
import socket
import sys
from importlib import util
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import same

import outlast
from outlast.environment import Environment, Limits

HERE = Environment("local", Limits(None, 2**40, 2))


def opened(folder: Path, name: str, steps: int, **options: Any) -> outlast.Run:
    """A quiet run."""
    settings = {"total_steps": steps, "root": folder, "progress": "none", "environment": HERE, "deterministic": True}
    return outlast.open_run(name, **{**settings, **options})


def pinned(folder: Path, device: str) -> dict[str, Any]:
    """A save whose copy runs on a side stream while training continues, compared with the parameters at that step."""
    import torch

    from outlast.checkpoint import open_checkpoint
    from outlast.state import adapters

    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(8))).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    expected: dict[int, dict[str, Any]] = {}
    with opened(folder, "pinned", 6, save="2 steps") as run:
        run.track(model=model, optimizer=optimizer)
        for step in run.steps():
            loss = model(torch.randn(32, 1024, device=device)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 2 == 0:
                expected[step] = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    wrong = []
    for step, state in expected.items():
        place = folder / "pinned" / "checkpoints" / f"step-{step:08d}"
        if not place.is_dir():
            continue
        arrays = open_checkpoint(place).parts["model"]
        wrong += [
            f"step {step}: {name}"
            for name, value in state.items()
            if bytes(arrays[name].data) != value.contiguous().view(torch.uint8).numpy().tobytes()
        ]
    memory = memoryview(bytearray(2**20))
    undo = adapters.pin(memory)
    if undo:
        undo()
    checked = sum((folder / "pinned" / "checkpoints" / f"step-{step:08d}").is_dir() for step in expected)
    words = f"{checked} checkpoints, each byte as it was at its step; buffers are {'' if undo else 'not '}pinned"
    if wrong or not checked:
        return {"error": f"differs: {', '.join(wrong[:3])}" if wrong else "no checkpoint was kept"}
    if device.startswith("cuda") and not undo:
        return {"error": "the buffer could not be pinned (cudaHostRegister)"}
    return {"words": words}


def nccl(folder: Path, device: str) -> dict[str, Any]:
    """DistributedDataParallel with one rank, stopped and resumed, against an uninterrupted run."""
    import torch
    import torch.distributed as dist

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
    }
    on_gpu = device.startswith("cuda")
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")

    def train(place: Path, stop: int | None) -> None:
        outlast.seed_everything(1)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64).to(device))
        optimizer = torch.optim.AdamW(model.parameters())
        with opened(place, "ddp", 8) as run:
            run.track(model=model, optimizer=optimizer)
            for step in run.steps():
                loss = model(torch.randn(8, 64, device=device)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log(loss=loss)
                if step == stop:
                    run.session.request_stop("budget", "the check asks for it")

    _twice(train, folder, stop=3)
    dist.destroy_process_group()
    difference = same(folder / "cut" / "ddp", folder / "whole" / "ddp")
    return {"error": difference} if difference else {"words": f"{'NCCL' if on_gpu else 'gloo'}, one rank"}


def jax(folder: Path, device: str) -> dict[str, Any]:
    """A jitted update with dropout, stopped and resumed, against an uninterrupted run."""
    try:
        import jax as framework
        import jax.numpy as jnp
    except ImportError as error:
        return {"skipped": f"JAX is not installed ({error})"}
    if device.startswith("cuda") and not any(util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return {"skipped": f"JAX {framework.__version__} has no CUDA plugin here"}

    @framework.jit
    def update(state: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        key, now = framework.random.split(state["key"])
        x = framework.random.normal(now, (32, 128))

        def loss_of(weights: Any) -> Any:
            kept = framework.random.bernoulli(now, 0.9, (32, 128))
            return jnp.mean((jnp.tanh((x * kept) @ weights) - x) ** 2)

        loss, gradient = framework.value_and_grad(loss_of)(state["weights"])
        return {"key": key, "weights": state["weights"] - 0.1 * gradient}, loss

    def train(place: Path, stop: int | None) -> None:
        with opened(place, "jax", 8) as run:  # before the first computation, else JAX takes other kernels
            weights = framework.random.normal(framework.random.key(1), (128, 128))
            state = run.restore({"key": framework.random.key(0), "weights": weights})
            for step in run.steps():
                state, loss = update(state)
                run.offer(state, loss=loss)
                if step == stop:
                    run.session.request_stop("budget", "the check asks for it")

    _twice(train, folder, stop=3)
    platform = framework.devices()[0].platform
    if device.startswith("cuda") and platform != "gpu":
        return {"skipped": f"JAX {framework.__version__} sees no GPU (its first device is {platform})"}
    difference = same(folder / "cut" / "jax", folder / "whole" / "jax")
    return {"error": difference} if difference else {"words": f"JAX {framework.__version__} on {platform}"}


def _twice(train: Any, folder: Path, stop: int) -> None:
    """An uninterrupted run below `whole`, and one of two attempts below `cut`."""
    train(folder / "whole", None)
    try:
        train(folder / "cut", stop)
    except outlast.SessionEnded:
        train(folder / "cut", None)


CHECKS = {"pinned": pinned, "nccl": nccl, "jax": jax}

if __name__ == "__main__":
    print(json.dumps(CHECKS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])))
