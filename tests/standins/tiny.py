"""The smallest framework that there can be: an array, a layer, and dice, of which everybody shares one."""

from __future__ import annotations

import array

VERSION = "1.0"


class Vector:
    """Numbers in double precision."""

    def __init__(self, values) -> None:
        self.values = array.array("d", values)


class Dice:
    """A random generator: a linear congruential one."""

    def __init__(self, seed: int = 0) -> None:
        self.state = seed

    def roll(self) -> float:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state / 2**64


shared = Dice(11)


class Layer:
    """Weights, and the rate by which they are moved. It has no state_dict: only the adapter knows what its state is."""

    def __init__(self, width: int, rate: float) -> None:
        self.weights = Vector([0.0] * width)
        self.rate = rate

    def step(self, noise: float) -> None:
        self.weights.values = array.array("d", [value + self.rate * noise for value in self.weights.values])
