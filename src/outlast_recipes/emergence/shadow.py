"""The effect of drift alone on traits: populations with the same births and deaths, without selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.emergence.world import BIRTH, DEATH, PARENT, POPULATION, UID

SHADOWS = 50  # number of neutral populations


class Shadow:
    """Traits in populations with the same births and deaths but random parents, which show the effect of drift alone.

    This is the neutral shadow of Bedau and Packard. Column s of a world is one shadow. Each birth of the run is also a
    birth in every shadow.
    """

    def __init__(self) -> None:
        self.traits: dict[tuple[int, int], NDArray[np.float32]] = {}  # (world, uid) -> f32[SHADOWS]

    def follow(
        self, living: Mapping[str, NDArray[Any]], dead: NDArray[np.int32], std: float, rng: np.random.Generator
    ) -> None:
        """Repeat the births and deaths of a chunk.

        Args:
            living: the slots of the worlds after the chunk, arrays [W, N].
            dead: lives that ended in the chunk, rows of (world, *GRAVE).
            std: standard deviation of the mutation of traits in the chunk.
            rng: random generator.
        """
        traits, events = self.traits, []
        born = [
            (int(world), int(uid), int(parent), int(birth), int(population), float(trait))
            for world, uid, parent, birth, population, trait in _rows(living)
        ]
        for row in dead.tolist():
            world, uid = row[0], row[1 + UID]
            events.append((row[1 + DEATH], 0, world, uid, row[1 + POPULATION], 0, 0.5))
            if (world, uid) not in traits:
                born.append((world, uid, row[1 + PARENT], row[1 + BIRTH], row[1 + POPULATION], 0.5))
        for world, uid, parent, birth, population, trait in born:
            if (world, uid) not in traits:
                events.append((birth, 1, world, uid, population, parent, trait))
        members: dict[tuple[int, int], list[tuple[int, int]]] = {}
        groups = {(row[0], row[1]): row[4] for row in born} | {
            (row[0], row[1 + UID]): row[1 + POPULATION] for row in dead.tolist()
        }
        for who in traits:
            members.setdefault((who[0], groups[who]), []).append(who)
        for _, birth, world, uid, population, parent, trait in sorted(events):
            among = members.setdefault((world, population), [])
            if not birth:
                if (world, uid) in traits:
                    among.remove((world, uid))
                    del traits[world, uid]
                continue
            if parent < 0 or not among:
                own: NDArray[np.float32] = np.full(SHADOWS, trait, np.float32)
            else:
                chosen = np.stack([traits[who] for who in among])[
                    rng.integers(0, len(among), SHADOWS), np.arange(SHADOWS)
                ]
                own = np.clip(chosen + std * rng.standard_normal(SHADOWS, np.float32), 0, 1)
            traits[world, uid] = own
            among.append((world, uid))

    def now(self) -> NDArray[np.float64]:
        """Traits of the living agents, f64[SHADOWS, n]."""
        return np.stack(list(self.traits.values()), 1).astype(float) if self.traits else np.zeros((SHADOWS, 0))

    def state_dict(self) -> dict[str, Any]:
        """Arrays: world and uid of the agents, and their traits."""
        who = np.array(list(self.traits), np.int64).reshape(-1, 2)
        return {"who": who, "traits": np.array(list(self.traits.values()), np.float32).reshape(-1, SHADOWS)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`."""
        names = [(int(world), int(uid)) for world, uid in state["who"]]
        self.traits = dict(zip(names, np.array(state["traits"]), strict=True))


def _rows(living: Mapping[str, NDArray[Any]]) -> Any:
    world, slot = np.nonzero(living["alive"])
    names = ("uid", "parent", "birth", "population", "trait")
    return zip(world, *(living[name][world, slot] for name in names), strict=True)
