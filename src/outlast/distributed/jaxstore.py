"""A channel between the processes of a JAX program: the key-value store of `jax.distributed.initialize`.

JAX's collectives are those of training, and their order must be the same everywhere, so they cannot be used by the
thread that writes. A message to all takes about a millisecond. A process that has died is noticed by JAX's own
heartbeats: after `heartbeat_timeout_seconds` of `jax.distributed.initialize`, it ends the others.
"""

from __future__ import annotations

import sys
import time
from typing import Any

_ASK = 500  # milliseconds of one question, so that a signal is heard meanwhile
_SILENT = "DEADLINE_EXCEEDED"


def position() -> tuple[int, int] | None:
    """This process's number and the number of processes; None unless `jax.distributed.initialize` was called."""
    jax = sys.modules.get("jax")
    begun = getattr(getattr(jax, "distributed", None), "is_initialized", None)  # since JAX 0.5
    if begun is None or not begun():
        return None
    state = _state()
    return state.process_id, state.num_processes


def _state() -> Any:
    # No public name gives the client of the store. Orbax uses the same.
    from jax._src import distributed

    return distributed.global_state


class Store:
    """A channel.

    Args:
        name: its name; the same in all processes, and used once.
        rank: this process's number.
        count: the number of processes.
        patience: seconds to wait for a process that lives.
    """

    def __init__(self, name: str, rank: int, count: int, patience: float) -> None:
        self._client, self._name, self._rank, self._count = _state().client, name, rank, count
        self._patience, self._sent = patience, 0

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of all processes.

        Raises:
            RuntimeError: another process is gone.
        """
        self._client.key_value_set_bytes(self._key(self._sent, self._rank), data)
        end = time.monotonic() + self._patience
        found = [self._read(self._key(self._sent, rank), end) for rank in range(self._count)]
        if self._sent:  # all have sent this message, so all have read the one before
            self._client.key_value_delete(self._key(self._sent - 1, self._rank))
        self._sent += 1
        return found

    def _key(self, number: int, rank: int) -> str:
        return f"outlast/{self._name}/{number}/{rank}"

    def _read(self, key: str, end: float) -> bytes:
        while True:
            try:
                return bytes(self._client.blocking_key_value_get_bytes(key, _ASK))
            except RuntimeError as error:
                if _SILENT not in str(error) or time.monotonic() > end:
                    raise
