"""What the runs in these tests track."""

from __future__ import annotations

import numpy as np


class Thing:
    """The smallest thing that has arrays."""

    def __init__(self) -> None:
        self.w = np.zeros(3)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"w": self.w}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.w = state["w"]
