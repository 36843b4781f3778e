"""The config of an emergence run. README.md explains where names and defaults differ from its specification."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

import outlast
from outlast import Section, setting

Genome = Literal["none", "film", "head", "lowrank", "full"]
Mode = Literal["gradient", "evolve", "freeze-evolve", "frozen"]
Hidden = Literal["food", "agents", "field"]

RENAMED = {"kl": "approx_kl", "clipped": "clipfrac", "explained": "explained_variance"}
"""Metrics that version 0.4 and before logged under other names."""


class Env(Section):
    """A world: its size, food and energy."""

    grid_size: int = setting(20, "grid size: cells along each side of a world", ge=4)
    torus: bool = setting(default=False, help="whether opposite borders are joined")
    slots: int = setting(
        32,
        "maximum number of agents in a world",
        flags=("--evolution.max-agents",),
        aliases=("evolution.max_agents",),
        ge=2,
    )
    founders: int = setting(8, "number of agents at the beginning of a world", aliases=("env.num_agents",), ge=1)
    populations: int = setting(
        1, "number of populations, each with a policy of its own; they share food and field and never interbreed", ge=1
    )
    num_food: int = setting(20, "number of food places, each with at most one piece", ge=1)
    food_kinds: int = setting(1, "number of food kinds; with 2, agents trade one against the other", ge=1, le=2)
    tradeoff: float = setting(
        2.0,
        "trade-off exponent a: energies are t^a and (1-t)^a; above 1 specialists do better, 0: no effect",
        ge=0,
    )
    regrow: float = setting(0.1, "probability per tick that an eaten piece grows again at another place", ge=0, le=1)
    starting_energy: float = setting(200.0, "energy of a founder", flags=("--evolution.starting-energy",), gt=0)
    max_energy: float = setting(
        200.0, "maximum energy of an agent; a surplus is lost", flags=("--evolution.max-energy",), gt=0
    )
    food_energy: float = setting(100.0, "energy of a piece of food", flags=("--evolution.food-energy",), ge=0)
    energy_per_step: float = setting(1.0, "energy cost of a tick", flags=("--evolution.energy-per-step",), ge=0)
    move_cost: float = setting(0.0, "additional energy cost of a move", ge=0)
    reproduction: Literal["auto", "choice"] = setting(
        "auto", "reproduction: automatic above the threshold (auto), or by an action of its own (choice)"
    )
    reproduce_threshold: float = setting(
        120.0, "minimum energy of a parent", flags=("--evolution.reproduce-threshold",), gt=0
    )
    reproduce_cost: float = setting(
        50.0, "energy that a parent gives to its child", flags=("--evolution.reproduce-cost",), gt=0
    )
    births_by: Literal["energy", "random"] = setting(
        "energy", "order of births when slots are short: parents with the most energy first, or random"
    )
    births_per_tick: int = setting(2, "maximum number of births per population and tick in a world", ge=1, le=8)
    max_age: int = setting(0, "maximum age in ticks, varied by a tenth; 0: none", ge=0)
    max_steps: int = setting(0, "number of ticks after which a world is reset to founders; 0: never", ge=0)
    min_agents: int = setting(
        2, "minimum number of agents in a population; below it, immigrants restore the number of founders", ge=0
    )
    sight: int = setting(2, "visual range in cells in each direction", aliases=("env.obs_radius",), ge=1)
    hide: tuple[Hidden, ...] = setting((), "observations that are hidden from agents: food, agents, field")

    @model_validator(mode="after")
    def _fits(self) -> Env:
        if self.slots % self.populations:
            raise ValueError(f"slots is {self.slots}; expected a multiple of populations ({self.populations})")
        if self.founders > self.slots // self.populations:
            raise ValueError(
                f"founders is {self.founders}; expected at most {self.slots // self.populations}, the slots of a "
                "population"
            )
        if self.reproduce_cost >= self.reproduce_threshold:
            raise ValueError(
                f"reproduce_cost is {self.reproduce_cost:g}; expected less than reproduce_threshold "
                f"({self.reproduce_threshold:g}), because a birth could kill the parent"
            )
        if self.reproduce_threshold > self.max_energy:
            raise ValueError(
                f"reproduce_threshold is {self.reproduce_threshold:g}; expected at most max_energy "
                f"({self.max_energy:g}), because no agent could reproduce"
            )
        if max(self.starting_energy, self.reproduce_cost) > self.max_energy:
            raise ValueError(
                f"starting_energy is {self.starting_energy:g} and reproduce_cost, the energy of a child, is "
                f"{self.reproduce_cost:g}; expected at most max_energy ({self.max_energy:g})"
            )
        return self


class Field(Section):
    """The shared field: what agents write to it, how it spreads and fades."""

    signals: int = setting(0, "number of signal channels that agents may write to", ge=0, le=8)
    presence: float = setting(0.05, "amount that each agent adds to the presence channel per tick", ge=0)
    meals: float = setting(0.5, "amount that a meal adds to the meal channel", ge=0)
    mark: float = setting(0.1, "amount that a signal adds to its channel", ge=0)
    spread: float = setting(0.1, "diffusion rate: share of a cell exchanged with its neighbours per tick", ge=0, le=1)
    decay: float = setting(0.05, "decay rate: share of a cell that fades per tick", ge=0, le=1)
    cap: float = setting(1.0, "maximum of a cell", gt=0)

    @property
    def channels(self) -> int:
        """Number of channels: presence, meals, and signals."""
        return 2 + self.signals


class Evolution(Section):
    """Inheritance and mutation."""

    enabled: bool = setting(default=True, help="whether children's genomes mutate")
    genome: Genome = setting(
        "head", "parameters of an agent's own: none, gains of features (film), the action head, low-rank layers, or all"
    )
    rank: int = setting(4, "rank of the low-rank layers", ge=1)
    founders_std: float = setting(0.0, "standard deviation of founders' genomes; 0: founders are alike", ge=0)
    mutation_std: float = setting(0.03, "standard deviation of a genome's mutation", ge=0)
    trait_std: float = setting(0.05, "standard deviation of a trait's mutation", ge=0)
    inherit: Literal["parent", "random"] = setting(
        "parent", "source of a child's genome: its parent, or a random agent (evolution without selection, the control)"
    )
    births_per_chunk: int = setting(
        64, "maximum number of births in a world per chunk; further births wait and are counted", ge=1
    )


class Model(Section):
    hidden: int = setting(64, "units of each of the two hidden layers", ge=4)


class Train(Section):
    """Learning: PPO on the rollouts of all worlds."""

    total_steps: int = setting(10_000_000, "total slot-steps: worlds x ticks x slots", on_resume="free", ge=1)
    num_envs: int = setting(32, "number of worlds", on_resume="fixed", ge=1)
    num_steps: int = setting(128, "ticks of a rollout, before the PPO updates", on_resume="fixed", ge=2)
    mode: Mode = setting(
        "gradient",
        "training mode: PPO and evolution (gradient), no PPO (evolve), in phases (freeze-evolve), neither (frozen)",
        flags=("--train.training-mode",),
    )
    gradient_steps: int = setting(500_000, "slot-steps of a PPO phase of freeze-evolve", ge=1)
    evolve_steps: int = setting(100_000, "slot-steps of an evolution phase of freeze-evolve", ge=1)
    evolve_boost: float = setting(5.0, "factor of mutations in an evolution phase", ge=0)
    gamma: float = setting(0.99, "discount factor per tick", ge=0, le=1)
    gae_lambda: float = setting(0.95, "lambda of generalized advantage estimation", ge=0, le=1)
    clip: float = setting(0.2, "PPO clip range", gt=0)
    value_weight: float = setting(0.5, "value loss coefficient", ge=0)
    entropy: float = setting(0.01, "entropy bonus coefficient", ge=0)
    max_grad_norm: float = setting(0.5, "maximum gradient norm", gt=0)
    lr_schedule: Literal["linear", "constant"] = setting(
        "linear", "learning rate schedule: linear to zero at the planned total, or constant"
    )
    birth_reward: float = setting(0.0, "reward for a birth; a meal gives 1")
    death_penalty: float = setting(0.0, "penalty for the agent's death")
    diversity_bonus: float = setting(
        0.1,
        "diversity bonus per bit of information that a meal's kind and place give about who ate",
        on_resume="fixed",
        ge=0,
    )
    niche_pressure: float = setting(
        0.05, "niche pressure: share by which a near agent with the same diet raises the cost of a tick", ge=0
    )


class Track(Section):
    """Measurements during a run."""

    every: int = setting(
        5, "number of chunks between two measurements of specialists, signals and imitation", on_resume="free", ge=1
    )
    surrogates: int = setting(50, "number of surrogates of a null distribution", on_resume="free", ge=20)


class Config(outlast.Config):
    """The config of the recipe."""

    epochs: int = setting(4, "PPO epochs over a rollout", flags=("-e",), aliases=("max_epochs",), ge=1)
    batch_size: int = setting(16_384, "slot-steps of a PPO minibatch", flags=("-b",), ge=1)
    learning_rate: float = setting(1e-3, "initial learning rate of Adam", flags=("--lr",), aliases=("lr",), ge=0)
    mixed_precision: bool = setting(default=False, help="compute the networks in bfloat16")
    env: Env = setting(Env(), "world", on_resume="fixed")
    field: Field = setting(Field(), "shared field", on_resume="fixed")
    evolution: Evolution = setting(Evolution(), "inheritance", on_resume="fixed")
    model: Model = setting(Model(), "policy", on_resume="fixed")
    train: Train = setting(Train(), "learning")
    track: Track = setting(Track(), "trackers", on_resume="free")

    @property
    def slot_steps(self) -> int:
        """Slot-steps per chunk."""
        return self.train.num_envs * self.train.num_steps * self.env.slots

    @property
    def chunks(self) -> int:
        """Total number of chunks: the steps of the run."""
        return -(-self.train.total_steps // self.slot_steps)

    @property
    def minibatches(self) -> int:
        """Minibatches of a pass over a rollout in which every slot is alive."""
        return max(1, round(self.slot_steps / self.batch_size))
