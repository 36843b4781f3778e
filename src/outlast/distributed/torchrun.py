"""The variables of torchrun, for ranks that outlast itself starts on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

_OF_RANKS = ("RANK", "LOCAL_RANK", "ROLE_RANK")
_OF_COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE")
_OTHERS = ("MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME")


def variables(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun gives to a process of one machine.

    Args:
        rank: of the process.
        count: number of ranks.
        port: on which they meet.
    """
    usual = {"OMP_NUM_THREADS": "1", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
    given = {name: os.environ.get(name, value) for name, value in usual.items()} | {"MASTER_ADDR": "127.0.0.1"}
    names = {"ROLE_NAME": "default", "TORCHELASTIC_RUN_ID": "outlast"}  # by which libraries know torchrun
    numbers = {"MASTER_PORT": port, "GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1}
    numbers |= dict.fromkeys(_OF_RANKS, rank)
    numbers |= dict.fromkeys(_OF_COUNTS, count)
    numbers |= {"TORCHELASTIC_RESTART_COUNT": 0, "TORCHELASTIC_MAX_RESTARTS": 0}
    return {**given, **names, **{name: str(number) for name, number in numbers.items()}}


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what says that its process is a rank."""
    names = (*_OF_RANKS, *_OF_COUNTS, *_OTHERS)
    return {
        name: value for name, value in environment.items() if name not in names and not name.startswith("TORCHELASTIC_")
    }


def free_port() -> int:
    """A port of this machine that is free now."""
    import socket  # `outlast run` starts mostly one rank, and then without it

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
