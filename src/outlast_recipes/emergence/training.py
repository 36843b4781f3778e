"""A population that forages, reproduces, evolves and learns. One step of a run is a chunk: a rollout of all worlds,
then PPO.

Everything is a function of the values and of the state: interrupted and resumed equals uninterrupted, to the last bit
on a CPU with the same number of threads, whose gradients of PPO are computed in the same way (`compiled`).
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import outlast
from outlast import Run
from outlast_recipes.emergence import compiled as gradients
from outlast_recipes.emergence import learn, observe, pictures, policy
from outlast_recipes.emergence.commands import COMMANDS
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.devices import compiled, devices_of, keep_compilations, placement
from outlast_recipes.emergence.learn import Colony
from outlast_recipes.emergence.trackers import Book
from outlast_recipes.emergence.world import niches

CROWDED = 5  # density of agents in a cell with food, relative to the mean
PATIENCE = 3  # chunks without living agents after which training stops


def train(run: Run, config: Config) -> None:
    devices = devices_of(config)
    outlast.seed_everything(config.seed)  # the recipe does not use them, but each checkpoint contains their state
    warn(run, config)
    book = Book(config, computed(run, config))
    run.track(book=book)
    keep_compilations()
    fresh = learn.begin(config)
    spread = placement(fresh, devices)
    colony: Colony = run.restore(jax.device_put(fresh, spread))
    if not book.curves:
        book.begin(colony)
    step = compiled(config, spread)
    for number in run.steps(config.chunks):
        phase = learn.phase_of(number - 1, config)
        colony, lives, metrics, moves = step(colony, phase)
        logged = book.record(
            colony, np.asarray(lives.rows), np.asarray(lives.count), metrics, np.asarray(moves), float(phase.mutation)
        )
        run.offer(colony)
        if number % (1 if config.debug else config.log_every) == 0 or number in (1, config.chunks):
            shown: dict[str, Any] = logged | {"slot_steps": number * config.slot_steps}
            run.log(**shown)
        if int(colony.deserted) >= PATIENCE:
            raise outlast.OutlastError(
                f"All {config.train.num_envs} worlds had no agents for {PATIENCE} chunks, so training has no data. "
                "Begin a new run (--experiment-name) with more food (--env.num-food, --env.food-energy, "
                "--env.regrow) or with immigrants (--env.min-agents)."
            )
    with run.artifact("curves.png") as path:
        pictures.curves(book, path)
    with run.artifact("phylogeny.png") as path:
        pictures.phylogeny(book, colony.worlds, path)
    for line in summary(book):
        run.tell(line)


def computed(run: Run, config: Config) -> str:
    """How PPO's gradients are computed; says so where no compiler is found."""
    if gradients.fits(config) and isinstance(why := gradients.library(), str):
        run.tell(f"PPO's gradients are computed with XLA's operations, slower and to the same result: {why}.")
    return gradients.how(config)


def summary(book: Book) -> list[str]:
    """The findings of the last measurement."""
    found = [f"{NAMES[name]}: {finding}" for name, finding in book.latest().items() if finding.n]
    if book.looks and book.config.env.food_kinds == 2:
        found.append(
            f"species: {'yes' if book.species[-1] else 'no'} (groups of diets that children inherit, in three looks in "
            "a row)"
        )
    return found


NAMES = {
    "specialists": "traits at the ends",
    "labour": "division of labour",
    "diets": "groups of diets",
    "heredity": "children eat as their parents",
    "imitation": "moves follow others' moves",
    "field_food": "the field tells of food",
    "signals_food": "signals tell of food",
}


def warn(run: Run, config: Config) -> None:
    """Warn about an unusual economy before training starts."""
    env = config.env
    for line in economy(config)[1]:
        run.tell(line)
    if env.populations > 1 and config.evolution.genome == "none":
        run.tell("--evolution.genome is none: all agents of a population are equal; only populations differ.")


def economy(config: Config) -> tuple[float, list[str]]:
    """The estimated number of agents that the food of a world feeds, and a warning if it is unusual.

    It is the maximum: the number of agents if every piece were eaten at once.
    """
    env, field = config.env, config.field
    cost = env.energy_per_step + env.move_cost
    # With two kinds of food, the best generalist gets this share of a piece.
    use = 1.0 if env.food_kinds == 1 else max(0.5, 0.5**env.tradeoff)
    feeds = env.num_food * env.regrow * env.food_energy * use / cost if cost else float("inf")
    odd = []
    chosen = env.max_age and env.births_by == "energy"  # slots become free for those with the most energy
    if feeds > 0.8 * env.slots and not chosen:
        odd.append(
            f"the food of a world feeds about {min(feeds, 9999):.0f} agents and it has {env.slots} slots. All slots "
            "will be used, births wait for deaths, and selection is weak. In configs/train/emergence_lean.yaml food "
            "is the limit."
        )
    cells = env.grid_size**2 / CROWDED
    agents, meals = env.slots / cells, env.num_food * env.regrow / cells  # per cell and tick, in crowded cells
    written = {"presence": field.presence * agents, "meals": field.meals * meals}
    if field.signals:
        written["mark"] = field.mark * agents / (1 + field.signals)  # untrained, each is marked as often as none
    for name, each in written.items():
        steady = each / field.decay if field.decay else (float("inf") if each else 0.0)
        if steady > field.cap:
            odd.append(
                f"the field saturates: with --field.{name} {getattr(field, name):g} and --field.decay {field.decay:g} "
                f"a cell reaches about {steady:.1f}, more than --field.cap {field.cap:g}, and then it carries no "
                "information."
            )
    return feeds, odd


def check(config: Any) -> str:
    devices = devices_of(config)
    feeds, odd = economy(config)
    sizes = (
        f"{config.train.num_envs} worlds of {config.env.grid_size} x {config.env.grid_size} with {config.env.slots} "
        f"slots on {len(devices)} {devices[0].platform}; "
        f"{observe.size(config)} numbers seen, {niches(config)} niches, genomes of {policy.genome_size(config)}; "
        f"{config.chunks} chunks of "
        f"{config.slot_steps:,} slot-steps; food for about {min(feeds, 9999):.0f} agents a world"
    )
    return "simulated, no data: " + "; ".join([sizes, *odd])


commands = COMMANDS
