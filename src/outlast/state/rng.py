"""The random generators that a training script uses without naming them: Python's, NumPy's, torch's.

JAX has none: its keys are part of the state that the script offers.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from outlast.errors import CorruptCheckpoint

_seeded: list[int] = []


def seeded() -> int | None:
    """What the program seeded everything with the last time, None when it did not."""
    return _seeded[-1] if _seeded else None


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and (when it is loaded) torch, all devices. JAX has none to seed.

    A run remembers the seed: another one at a resume is told.
    """
    _seeded[:] = [seed]
    seed_generators(seed)


def seed_generators(seed: int) -> None:
    """The same, and nobody remembers it."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def capture() -> dict[str, Any]:
    """The state of every global generator whose library is loaded, as a tree of arrays and numbers."""
    import numpy as np

    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {"version": version, "words": np.array(words, dtype=np.uint32), "gauss": gauss},
    }
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state["numpy"] = {
        "kind": kind,
        "keys": np.array(keys),
        "position": int(position),
        "has_gauss": int(has_gauss),
        "cached": float(cached),
    }
    if torch := sys.modules.get("torch"):
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["torch.cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def restore(state: dict[str, Any]) -> None:
    """Set the global generators to a captured state. A library that is not loaded now is left alone.

    Raises:
        CorruptCheckpoint: it is no state of these generators; none has been changed then, or some.
    """
    try:
        _restore(state)
    except CorruptCheckpoint:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(
            f"The checkpoint holds random generators that cannot be set ({type(error).__name__}: {error})."
        ) from error


def _restore(state: dict[str, Any]) -> None:
    import numpy as np

    from outlast.state import numpy as ours

    python = state["python"]
    random.setstate((python["version"], tuple(int(word) for word in python["words"]), python["gauss"]))
    legacy = state["numpy"]
    ours.set_random_state(
        np.random,
        {
            "bit_generator": legacy["kind"],
            "state": {"key": legacy["keys"], "pos": legacy["position"]},
            "has_gauss": legacy["has_gauss"],
            "gauss": legacy["cached"],
        },
    )
    torch = sys.modules.get("torch")
    if torch and "torch" in state:
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available():
            for index, device_state in enumerate(state.get("torch.cuda", [])[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(device_state, index)
