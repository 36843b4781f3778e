"""Records of a run besides its state: curves, lives and findings. They are part of every checkpoint.

They are computed on the host from the results of each chunk, with random numbers that depend on the seed and the chunk.
Therefore a resumed run has the same records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.emergence import influence, learn, metrics, nulls, ppo
from outlast_recipes.emergence.config import RENAMED, Config
from outlast_recipes.emergence.learn import WATCHED, Colony
from outlast_recipes.emergence.nulls import NOTHING, Finding
from outlast_recipes.emergence.shadow import Shadow
from outlast_recipes.emergence.world import GRAVE, MEALS_A, MEALS_B, World, population_of

WINDOW = 512  # number of ticks for the measurement of imitation
PAIRS = 24
STREAK = 3  # consecutive measurements in which inherited groups of diets must be detected to count as species
FINDINGS = ("specialists", "labour", "diets", "heredity", "imitation", "field_food", "signals_food")


class Book:
    """The records of a run.

    Attributes:
        curves: name -> a value for each chunk.
        lives: every life that ended, i32 rows of (world, *GRAVE).
        looks: the chunk of each measurement; findings: name -> rows of value, null, p, n.
        species: for each measurement, whether it was the third in a row with groups of diets that children inherit.
        divergence: divergence of genomes at each measurement (`metrics.divergence`); NaN if unknown.
        shadow: the neutral populations; used with two kinds of food.
        computed: how PPO's gradients are computed (`compiled.how`). A session with another way goes on, and its resume
            is said not to be exact.
    """

    def __init__(self, config: Config, computed: str = "") -> None:
        self.config, self.computed = config, computed
        self.curves: dict[str, list[float]] = {}
        self._stored: dict[str, str] = {}
        self.lives: list[NDArray[np.int32]] = []
        self.looks: list[int] = []
        self.findings: dict[str, list[list[float]]] = {name: [] for name in FINDINGS}
        self.species: list[bool] = []
        self.divergence: list[float] = []
        self.shadow = Shadow()
        self._moves: deque[NDArray[np.int8]] = deque(maxlen=-(-WINDOW // config.train.num_steps))

    # recording ---------------------------------------------------------------------------------------------------

    def begin(self, colony: Colony) -> None:
        """Record the founders."""
        if self.config.env.food_kinds == 2:
            self.shadow.follow(
                self._living(colony.worlds), np.zeros((0, 1 + len(GRAVE)), np.int32), 0.0, np.random.default_rng(0)
            )

    def record(
        self, colony: Colony, rows: NDArray[np.int32], counts: NDArray[np.int32], sums: Mapping[str, Any],
        moves: NDArray[np.int8], mutation: float,
    ) -> dict[str, float]:  # fmt: skip
        """Record a chunk; returns the values to log.

        Args:
            colony: the state after the chunk.
            rows: lives that ended, i32[W, L, len(GRAVE)].
            counts: number of filled rows of each world, i32[W].
            sums: sums over the chunk, and the metrics of PPO.
            moves: i8[T, WATCHED, N].
            mutation: factor of mutations in this chunk.
        """
        chunk = int(colony.chunk)
        living = self._living(colony.worlds)
        dead = np.concatenate(
            [np.column_stack([np.full(count, world), rows[world, :count]]) for world, count in enumerate(counts)]
        ).astype(np.int32)
        self.lives.append(dead)
        self._moves.append(np.asarray(moves))
        if self.config.env.food_kinds == 2:
            std = self.config.evolution.trait_std * mutation
            self.shadow.follow(living, dead, std, np.random.default_rng((self.config.seed, chunk, 1)))
        logged = self._curves(sums, living)
        for name, value in logged.items():
            self.curves.setdefault(name, []).append(value)
        if chunk % self.config.track.every == 0:
            logged |= self._look(colony, living, chunk)
        return logged

    def _living(self, worlds: World) -> dict[str, NDArray[Any]]:
        names = ("alive", "uid", "parent", "root", "birth", "trait", "generation", "meals", "energy")
        found = {name: np.asarray(getattr(worlds, name)) for name in names}
        group = np.asarray(population_of(self.config))
        return found | {"population": np.broadcast_to(group, found["alive"].shape)}

    def _curves(self, sums: Mapping[str, Any], living: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        value = {name: float(each) for name, each in sums.items()}
        config = self.config
        ticks = config.train.num_envs * config.train.num_steps
        agents = max(value["agents"], 1.0)
        alive = living["alive"]
        found = {
            "population": value["agents"] / ticks,
            "worlds_alive": float(alive.any(1).mean()),
            "intake": value["meals"] / agents,  # meals per agent-step
            "births": 1000 * value["births"] / agents,  # per 1,000 agent-steps
            "births_waiting": value["waiting"],
            "starved": 1000 * value["starved"] / agents,
            "aged": 1000 * value["aged"] / agents,
            "immigrants": value["immigrants"],
            "begun_anew": value["begun"],
            "energy": float(living["energy"][alive].mean()) if alive.any() else 0.0,
            "generation": float(living["generation"][alive].mean()) if alive.any() else 0.0,
            "lineages": float(
                np.mean([_lineages(root[selected]) for root, selected in zip(living["root"], alive, strict=True)])
            ),
            "niche_bits": value["bits"] / max(value["meals"], 1.0),
            "marks": value["marks"] / agents,
        }
        if config.env.food_kinds == 2:
            found["extremeness"] = (
                float(metrics.extremeness(living["trait"][alive].astype(float))) if alive.any() else 0.0
            )
        return found | {name: value[name] for name in (*ppo.METRICS, "explained_variance")}

    # measurements ------------------------------------------------------------------------------------------------

    def _look(self, colony: Colony, living: Mapping[str, NDArray[Any]], chunk: int) -> dict[str, float]:
        rng, config = np.random.default_rng((self.config.seed, chunk, 2)), self.config
        surrogates = config.track.surrogates
        found = dict.fromkeys(FINDINGS, NOTHING)
        found["imitation"] = self._imitation(living, rng)
        field, food = np.asarray(colony.worlds.field), np.asarray(colony.worlds.food_on)
        place = np.asarray(colony.worlds.food_pos)
        present = np.zeros(field.shape[:3], bool)
        for world, (selected, at) in enumerate(zip(food, place, strict=True)):
            present[world, at[selected, 0], at[selected, 1]] = True
        found["field_food"] = influence.field_effect(field[..., 1], present, surrogates, rng)
        if config.field.signals:
            found["signals_food"] = influence.field_effect(field[..., 2:].sum(-1), present, surrogates, rng)
        if config.env.food_kinds == 2:
            found |= self._specialists(living, rng)
        self.looks.append(chunk)
        for name, finding in found.items():
            self.findings[name].append([finding.value, finding.null, finding.p, finding.n])
        latest = [self._both(at) for at in range(-min(STREAK, len(self.looks)), 0)]
        self.species.append(len(latest) == STREAK and all(latest))
        logged: dict[str, float] = {}
        for name, finding in found.items():
            if finding.n:
                logged |= {name: finding.value, f"{name}_p": finding.p}
        alive = living["alive"]
        genes = np.asarray(colony.worlds.genes)[alive]
        apart = float("nan")
        if genes.shape[1] and len(genes) and config.train.mode != "freeze-evolve":  # mutation varies there
            evolution, mutates = config.evolution, learn.mutates(config)
            apart = metrics.divergence(
                genes.astype(float),
                living["generation"][alive],
                mutates * evolution.mutation_std,
                evolution.founders_std,
            )
        self.divergence.append(apart)
        logged["divergence"] = apart
        return {name: value for name, value in logged.items() if np.isfinite(value)}

    def _both(self, at: int) -> bool:
        return all(self.findings[name][at][2] <= nulls.LEVEL for name in ("diets", "heredity"))

    def _imitation(self, living: Mapping[str, NDArray[Any]], rng: np.random.Generator) -> Finding:
        moves = np.concatenate(list(self._moves))[-WINDOW:]
        if len(moves) < WINDOW:
            return NOTHING
        columns: list[NDArray[np.int8]] = []
        pairs: list[tuple[int, int]] = []
        for world in range(min(WATCHED, moves.shape[1])):
            selected = np.flatnonzero((moves[:, world] >= 0).all(0) & living["alive"][world])
            # A slot that another agent took over without a tick in between holds two lives.
            selected = selected[self._lived_through(living, world, selected)]
            rng.shuffle(selected)
            first = len(columns)
            columns += [moves[:, world, slot] for slot in selected[:8]]
            count = len(columns) - first
            pairs += [(first + a, first + b) for a in range(count) for b in range(count) if a != b]
        if not pairs:
            return NOTHING
        chosen = rng.permutation(len(pairs))[:PAIRS]
        table = np.stack(columns, 1).astype(np.int64)
        return influence.imitation(table, [pairs[at] for at in chosen], self.config.track.surrogates, rng)

    def _lived_through(
        self, living: Mapping[str, NDArray[Any]], world: int, slots: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        ticks = len(self.curves["population"]) * self.config.train.num_steps
        return np.asarray(living["birth"][world, slots] <= ticks - WINDOW)

    def _specialists(self, living: Mapping[str, NDArray[Any]], rng: np.random.Generator) -> dict[str, Finding]:
        surrogates, alive = self.config.track.surrogates, living["alive"]
        recent = np.concatenate(self.lives[-self.config.track.every :])
        meals = np.concatenate([recent[:, [1 + MEALS_A, 1 + MEALS_B]], living["meals"][alive]]).astype(np.int64)
        found = {
            "specialists": metrics.specialists(living["trait"][alive].astype(float), self.shadow.now()),
            "labour": metrics.division_of_labour(meals, surrogates, rng),
        }
        diet = {
            (int(row[0]), int(row[1])): _diet(row[1 + MEALS_A], row[1 + MEALS_B]) for row in self.all_lives[-20_000:]
        }
        worlds, slots = np.nonzero(alive)
        for world, slot in zip(worlds.tolist(), slots.tolist(), strict=True):
            diet[world, int(living["uid"][world, slot])] = _diet(*living["meals"][world, slot])
        # One agent of each world, because agents of one world are similar by descent, which creates groups.
        one = [diet[world, int(rng.choice(living["uid"][world][alive[world]]))] for world in np.unique(worlds).tolist()]
        points = np.array([share for share in one if np.isfinite(share)])[:, None]
        labels, found["diets"] = metrics.clusters(points, surrogates, rng, most=2)
        if found["diets"].detected:
            border = (points[labels == 0].mean() + points[labels == 1].mean()) / 2
            pairs = [
                (
                    diet[world, int(living["uid"][world, slot])],
                    diet.get((world, int(living["parent"][world, slot])), np.nan),
                    world,
                )
                for world, slot in zip(worlds.tolist(), slots.tolist(), strict=True)
            ]
            known = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 3)
            groups = (known[:, :2] > border).astype(np.int64)
            found["heredity"] = metrics.heredity(
                groups[:, 0], groups[:, 1], known[:, 2].astype(np.int64), surrogates, rng
            )
        return found

    # reading and saving ------------------------------------------------------------------------------------------

    def latest(self) -> dict[str, Finding]:
        """The findings of the last measurement, by name; empty before the first."""
        last = {name: rows[-1] for name, rows in self.findings.items() if rows}
        return {name: Finding(value, null, p, int(count)) for name, (value, null, p, count) in last.items()}

    @property
    def all_lives(self) -> NDArray[np.int32]:
        """Rows of (world, *GRAVE) for every life that ended."""
        return np.concatenate(self.lives) if self.lives else np.zeros((0, 1 + len(GRAVE)), np.int32)

    def state_dict(self) -> dict[str, Any]:
        """Arrays: curves, lives, findings, shadow, and the moves of the last ticks."""
        return {
            "curves": {self._stored.get(name, name): np.array(values) for name, values in self.curves.items()},
            "lives": self.all_lives,
            "ends": np.array([len(each) for each in self.lives], np.int64),
            "looks": np.array(self.looks, np.int64),
            "findings": {name: np.array(rows).reshape(-1, 4) for name, rows in self.findings.items()},
            "species": np.array(self.species, bool),
            "divergence": np.array(self.divergence),
            "shadow": self.shadow.state_dict(),
            "moves": np.stack(self._moves) if self._moves else np.zeros((0, 0, 0, 0), np.int8),
            "computed": self.computed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`; how gradients are computed stays as it is."""
        # A run keeps the names of its first checkpoint, so that the loaded state equals the checkpoint.
        self._stored = {new: former for former, new in RENAMED.items() if former in state["curves"]}
        self.curves = {
            RENAMED.get(name, name): [float(value) for value in values] for name, values in state["curves"].items()
        }
        ends = np.cumsum(state["ends"])
        self.lives = [np.array(each) for each in np.split(np.array(state["lives"]), ends[:-1])] if len(ends) else []
        self.looks = [int(chunk) for chunk in state["looks"]]
        self.findings = {name: [[float(v) for v in row] for row in rows] for name, rows in state["findings"].items()}
        self.species = [bool(value) for value in state["species"]]
        self.divergence = [float(value) for value in state["divergence"]]
        self.shadow.load_state_dict(state["shadow"])
        self._moves.clear()
        self._moves.extend(np.array(each) for each in state["moves"])


def _lineages(roots: NDArray[np.int32]) -> float:
    """Effective number of founders of the living agents: exp of the entropy of their shares."""
    if not len(roots):
        return 0.0
    share = np.unique(roots, return_counts=True)[1] / len(roots)
    return float(np.exp(-(share * np.log(share)).sum()))


def _diet(a: int, b: int) -> float:
    """Share of the first kind of food in the meals; NaN if there were too few."""
    return float(a) / float(a + b) if a + b >= 4 else float("nan")
