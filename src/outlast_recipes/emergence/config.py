"""The values of an emergence run. Names and defaults of the document that it answers; where they differ, README.md says why."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

import outlast
from outlast import Section, setting

Genome = Literal["none", "film", "head", "lowrank", "full"]
Mode = Literal["gradient", "evolve", "freeze-evolve", "frozen"]
Hidden = Literal["food", "agents", "field"]


class Env(Section):
    """A world: its size, its food, its energy."""

    grid_size: int = setting(20, "cells along each side", ge=4)
    torus: bool = setting(default=False, help="leave at one border and come in at the opposite one")
    slots: int = setting(
        32, "agents that a world can hold", flags=("--evolution.max-agents",), aliases=("evolution.max_agents",), ge=2
    )
    founders: int = setting(8, "agents that a world begins with", aliases=("env.num_agents",), ge=1)
    populations: int = setting(
        1, "populations with a policy of their own, which share food and field and never interbreed", ge=1
    )
    num_food: int = setting(20, "places where food grows, each at most one piece", ge=1)
    food_kinds: int = setting(
        1, "kinds of food: 2 makes agents trade the use of one against the other (trade-off)", ge=1, le=2
    )
    tradeoff: float = setting(
        2.0, "exponent a of the trade-off: energies are t^a and (1-t)^a; above 1 specialists do better; 0: the trait does nothing", ge=0,
    )  # fmt: skip
    regrow: float = setting(0.1, "chance in a tick that an eaten piece grows again, elsewhere", ge=0, le=1)
    starting_energy: float = setting(200.0, "of founders", flags=("--evolution.starting-energy",), gt=0)
    max_energy: float = setting(200.0, "nobody holds more; the rest is wasted", flags=("--evolution.max-energy",), gt=0)
    food_energy: float = setting(100.0, "in a piece of food", flags=("--evolution.food-energy",), ge=0)
    energy_per_step: float = setting(1.0, "spent by living a tick", flags=("--evolution.energy-per-step",), ge=0)
    move_cost: float = setting(0.0, "spent besides by a move", ge=0)
    reproduction: Literal["auto", "choice"] = setting(
        "auto", "who has the energy gives birth; or only who chooses to, by an action of its own"
    )
    reproduce_threshold: float = setting(
        120.0, "energy from which one may give birth", flags=("--evolution.reproduce-threshold",), gt=0
    )
    reproduce_cost: float = setting(
        50.0, "energy that a parent gives its child", flags=("--evolution.reproduce-cost",), gt=0
    )
    births_by: Literal["energy", "random"] = setting("energy", "who gives birth where there is not room for all")
    births_per_tick: int = setting(2, "most births of a population of a world in a tick", ge=1, le=8)
    max_age: int = setting(0, "ticks after which an agent dies, give or take a tenth; 0: never", ge=0)
    max_steps: int = setting(0, "ticks after which a world begins anew with founders of its own; 0: never", ge=0)
    min_agents: int = setting(
        2, "a population of fewer gets immigrants, up to the number of founders, after a chunk", ge=0
    )
    sight: int = setting(2, "cells that an agent sees in each direction", aliases=("env.obs_radius",), ge=1)
    hide: tuple[Hidden, ...] = setting((), "what nobody sees: food, agents, field")

    @model_validator(mode="after")
    def _fits(self) -> Env:
        if self.slots % self.populations:
            raise ValueError(f"slots is {self.slots} and has to be a multiple of populations ({self.populations})")
        if self.founders > self.slots // self.populations:
            raise ValueError(
                f"founders is {self.founders} and a population has {self.slots // self.populations} slots; give at most so many"
            )
        if self.reproduce_cost >= self.reproduce_threshold:
            raise ValueError(
                f"reproduce_cost ({self.reproduce_cost:g}) is not below reproduce_threshold ({self.reproduce_threshold:g}): a birth could kill"
            )
        if self.reproduce_threshold > self.max_energy:
            raise ValueError(
                f"reproduce_threshold ({self.reproduce_threshold:g}) is over max_energy ({self.max_energy:g}): nobody could ever give birth"
            )
        if max(self.starting_energy, self.reproduce_cost) > self.max_energy:
            raise ValueError(
                f"starting_energy ({self.starting_energy:g}) and reproduce_cost ({self.reproduce_cost:g}), which a child gets, have to be at most "
                f"max_energy ({self.max_energy:g})"
            )
        return self


class Field(Section):
    """The field that all share: what is written, how it spreads and fades."""

    signals: int = setting(0, "channels that agents choose to mark", ge=0, le=8)
    presence: float = setting(0.05, "that every agent leaves in channel 1 each tick", ge=0)
    meals: float = setting(0.5, "that a meal leaves in channel 2", ge=0)
    mark: float = setting(0.1, "that a signal leaves in its channel", ge=0)
    spread: float = setting(0.1, "share of a cell that a tick exchanges with its neighbours", ge=0, le=1)
    decay: float = setting(0.05, "share that fades in a tick", ge=0, le=1)
    cap: float = setting(1.0, "most that a cell holds", gt=0)

    @property
    def channels(self) -> int:
        """Presence, meals, and those that are signalled in."""
        return 2 + self.signals


class Evolution(Section):
    """What a child inherits, and how it differs."""

    enabled: bool = setting(default=True, help="children differ from their parents")
    genome: Genome = setting(
        "head", "what each agent has of its own: none, gains of features (film), the action head, low-rank layers, all"
    )
    rank: int = setting(4, "of the low-rank layers", ge=1)
    founders_std: float = setting(
        0.0, "of the weights of founders' genomes; 0: founders are alike, and all that differs has mutated", ge=0
    )
    mutation_std: float = setting(0.03, "of the weights of a child's genome", ge=0)
    trait_std: float = setting(0.05, "of a child's trait", ge=0)
    inherit: Literal["parent", "random"] = setting(
        "parent", "whose genome a child has; a random one's is evolution without selection, the control"
    )
    births_per_chunk: int = setting(64, "most births of a world in a chunk; further ones wait, and are counted", ge=1)


class Model(Section):
    hidden: int = setting(64, "units in each of the two layers", ge=4)


class Train(Section):
    """Learning: PPO on the rollouts of all worlds."""

    total_steps: int = setting(10_000_000, "slot-steps in all: worlds x ticks x slots", on_resume="free", ge=1)
    num_envs: int = setting(32, "worlds", on_resume="fixed", ge=1)
    num_steps: int = setting(128, "ticks of a chunk: a rollout, then updates", on_resume="fixed", ge=2)
    mode: Mode = setting(
        "gradient", "gradient: PPO while genomes evolve. evolve: no PPO. freeze-evolve: in turns. frozen: neither",
        flags=("--train.training-mode",),
    )  # fmt: skip
    gradient_steps: int = setting(500_000, "slot-steps of a turn of PPO in freeze-evolve", ge=1)
    evolve_steps: int = setting(100_000, "slot-steps of a turn of evolution in freeze-evolve", ge=1)
    evolve_boost: float = setting(5.0, "times the mutation in a turn of evolution", ge=0)
    gamma: float = setting(0.99, "discount of a tick", ge=0, le=1)
    gae_lambda: float = setting(0.95, "of generalized advantage estimation", ge=0, le=1)
    clip: float = setting(0.2, "of the ratio of probabilities", gt=0)
    value_weight: float = setting(0.5, "of the value loss", ge=0)
    entropy: float = setting(0.01, "bonus for undecided actions", ge=0)
    max_grad_norm: float = setting(0.5, "gradients are scaled down to this", gt=0)
    lr_schedule: Literal["linear", "constant"] = setting("linear", "of the learning rate, to zero at the planned total")
    birth_reward: float = setting(0.0, "for a birth; a meal gives 1")
    death_penalty: float = setting(0.0, "for one's death")
    diversity_bonus: float = setting(
        0.1, "for each bit that a meal tells of who ate, by its kind and place: for what one eats oneself and others do not", on_resume="fixed", ge=0,
    )  # fmt: skip
    niche_pressure: float = setting(
        0.05, "share by which each near agent that eats the same things raises the cost of living", ge=0
    )


class Track(Section):
    """What is looked at while a run goes on."""

    every: int = setting(5, "chunks between two looks at specialists, signals and imitation", on_resume="free", ge=1)
    surrogates: int = setting(50, "shuffles that a value is held against", on_resume="free", ge=20)


class Config(outlast.Config):
    """All of it."""

    epochs: int = setting(4, "passes of PPO over a rollout", flags=("-e",), aliases=("max_epochs",), ge=1)
    batch_size: int = setting(16_384, "slot-steps of a minibatch", flags=("-b",), ge=1)
    learning_rate: float = setting(1e-3, "of Adam, at the beginning", flags=("--lr",), aliases=("lr",), ge=0)
    mixed_precision: bool = setting(default=False, help="compute the networks in bfloat16")
    env: Env = setting(Env(), "world", on_resume="fixed")
    field: Field = setting(Field(), "shared field", on_resume="fixed")
    evolution: Evolution = setting(Evolution(), "inheritance", on_resume="fixed")
    model: Model = setting(Model(), "policy", on_resume="fixed")
    train: Train = setting(Train(), "learning")
    track: Track = setting(Track(), "trackers", on_resume="free")

    @property
    def slot_steps(self) -> int:
        """Slot-steps of a chunk."""
        return self.train.num_envs * self.train.num_steps * self.env.slots

    @property
    def chunks(self) -> int:
        """Chunks in all: the run's steps."""
        return -(-self.train.total_steps // self.slot_steps)

    @property
    def minibatches(self) -> int:
        """Minibatches of a pass over a rollout in which every slot lives."""
        return max(1, round(self.slot_steps / self.batch_size))
