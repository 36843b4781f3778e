"""The verbs of emergence: measure, ablate, render."""

from __future__ import annotations

import csv
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import outlast
from outlast_recipes.common.data_verbs import nothing
from outlast_recipes.common.run_options import add_checkpoint_arguments, add_seed
from outlast_recipes.emergence import assay, estimates, learn, metrics, pictures
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.devices import keep_compilations
from outlast_recipes.emergence.learn import Colony
from outlast_recipes.emergence.trackers import Book
from outlast_recipes.emergence.world import GRAVE

Tell = Callable[[int, int], None]


def opened(run: str, values: Namespace) -> tuple[outlast.SavedCheckpoint, Colony, Book]:
    """A run's checkpoint, population and book. `run` is a name, a run folder, or a checkpoint in one."""
    saved = outlast.open_saved(run, root=values.checkpoint_dir, step=values.step)
    if not isinstance(saved.config, Config):
        raise outlast.OutlastError(f"{run} is a run of {saved.recipe.name!r}; expected a run of 'emergence'.")
    keep_compilations()
    colony: Colony = saved.restore(learn.begin(saved.config))
    book = Book(saved.config)
    book.load_state_dict(saved.part("book"))
    return saved, colony, book


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"is {text}; expected a whole number of at least 1")
    return int(text)


def _run_arguments(parser: ArgumentParser) -> None:
    add_checkpoint_arguments(parser)
    add_seed(parser)


# measure ------------------------------------------------------------------------------------------------------------


def _measure_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="a run's name or folder, or a checkpoint's folder")
    _run_arguments(parser)
    parser.add_argument(
        "--gardens", type=count, default=5, metavar="N", help="number of common-garden repetitions (default: 5)"
    )
    parser.add_argument("--lives", type=Path, metavar="FILE", help="CSV file of all lives that ended")


def _measure(values: Namespace, tell: Tell) -> Iterable[str]:
    saved, colony, book = opened(values.run, values)
    config = saved.config
    lives = sum(map(len, book.lives))
    yield f"{saved.run_id} at step {saved.step}: {saved.step * config.slot_steps:,} slot-steps, {lives:,} lives ended"
    for name, curve in book.curves.items():
        if name in ("population", "intake", "births", "generation", "lineages", "energy"):
            yield f"  {name:12} {curve[-1]:.4g}"
    meals, scripted = [], []
    for number in range(values.gardens):
        key = jax.random.key(1000 * values.seed + number)
        meals.append(float(np.nanmean(np.asarray(assay.common_garden(colony, key, config)))))
        scripted.append(float(np.mean(np.asarray(assay.garden_of_greedy(key, config)))))
        tell(number + 1, values.gardens)
    found, forager = estimates.over_seeds(meals), estimates.over_seeds(scripted)
    yield f"common garden, meals in an agent-step: {found}; scripted forager {forager}"
    alive = np.asarray(colony.worlds.alive)
    if alive.sum() > 1:
        yield f"behavioural diversity: {metrics.behavioural_diversity(assay.choices(colony, config, 24, 64)):.4f} of 1"
    if book.looks:
        yield f"at the last measurement (chunk {book.looks[-1]}), with the value expected by chance:"
        for name, finding in book.latest().items():
            yield f"  {name:14} {finding}"
        yield f"  {'species':14} {'yes' if book.species[-1] else 'no'}"
    rng = np.random.default_rng(values.seed)
    for name in ("population", "intake", "generation"):
        at, event = estimates.change_point(np.array(book.curves[name]), rng)
        yield f"change of course of {name}: " + (f"at chunk {at}, {event}" if event.detected else str(event))
    if values.lives:
        with values.lives.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("world", *GRAVE))
            writer.writerows(book.all_lives.tolist())
        yield f"{values.lives}: {len(book.all_lives):,} lives"
    run = shlex.quote(str(values.run))
    yield f"Next: outlast ablate emergence --checkpoint {run}, or outlast render emergence {run}"


# ablate -------------------------------------------------------------------------------------------------------------

ANOTHER = "field of another world"
CONDITIONS: tuple[tuple[str, str], ...] = (
    ("as it is", ""),
    ("field not seen", "field"),
    (ANOTHER, "field"),
    ("field from far away", "field"),
    ("mean of the field", "field"),
    ("genomes: none", "genes"),
    ("genomes: mean of the world", "genes"),
    ("genomes: exchanged among the living", "genes"),
    ("food not seen", "food"),
    ("scripted forager", "policy"),
)


def _ablate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", required=True, metavar="RUN", help="a run's name or folder, or a checkpoint's folder"
    )
    _run_arguments(parser)
    parser.add_argument("--chunks", type=count, default=4, metavar="N", help="chunks of each condition (default: 4)")
    parser.add_argument(
        "--repeats", type=count, default=10, metavar="N", help="number of paired repetitions (default: 10)"
    )
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="folder for ablation.md and ablation.svg (default: in the run)"
    )


def _ablate(values: Namespace, tell: Tell) -> Iterable[str]:
    saved, colony, _ = opened(values.checkpoint, values)
    config = saved.config
    skipped = {"genes"} if config.evolution.genome == "none" else set()
    skipped |= {each for each in ("food", "field") if each in config.env.hide}
    conditions = [name for name, what in CONDITIONS if what not in skipped]
    if config.train.num_envs == 1 and ANOTHER in conditions:  # there is no other world
        conditions.remove(ANOTHER)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in conditions}
    for repeat in range(values.repeats):
        key = jax.random.key(10_000 * values.seed + repeat)
        for number, name in enumerate(conditions):
            found[name].append(under(name, colony, key, config, values.chunks))
            tell(repeat * len(conditions) + number + 1, values.repeats * len(conditions))
    rows = list(_table(found))
    about = (
        f"{values.repeats} paired repetitions of {values.chunks} chunks ({values.chunks * config.train.num_steps} "
        f"ticks, {config.train.num_envs} worlds), without learning; mean of the middle half [95 % interval]; d is "
        "Cohen's of the paired differences."
    )
    words = [
        f"# {saved.run_id} at step {saved.step}: ablations",
        "",
        about,
        "",
        *rows,
        "",
        (
            f"Command: outlast ablate emergence --checkpoint {values.checkpoint} --chunks {values.chunks} --repeats "
            f"{values.repeats} --seed {values.seed}"
        ),
    ]
    name = f"ablation-{saved.step:08d}"
    with saved.artifact(name, to=values.to) as made:
        (made / "ablation.md").write_text("\n".join(words) + "\n", encoding="utf-8")
        _bars(found, made / "ablation.svg")
    folder = values.to or saved.folder / "artifacts" / name
    yield from rows
    yield f"Written: {folder / 'ablation.md'} and {folder / 'ablation.svg'}"


def under(condition: str, colony: Colony, key: Any, config: Config, chunks: int) -> tuple[float, float]:
    """Meals per agent-step and agents per world, for a population under a condition."""
    genes = {
        "genomes: none": "none", "genomes: mean of the world": "mean",
        "genomes: exchanged among the living": "permuted",
    }  # fmt: skip
    if condition in genes:
        colony = assay.with_genes(colony, genes[condition], key, config)
    if condition == "food not seen":
        config = assay.no_food_seen(config)
    shown = list(assay.FIELDS).index(condition) if condition in assay.FIELDS else 0
    meals = agents = 0.0
    for number in range(chunks):
        scripted = condition == "scripted forager"
        colony, sums = assay.live_on(colony, jax.random.fold_in(key, number), config, shown, scripted=scripted)
        meals, agents = meals + float(sums["meals"]), agents + float(sums["agents"])
    ticks = chunks * config.train.num_steps * config.train.num_envs
    return meals / max(agents, 1.0), agents / ticks


def _table(found: dict[str, list[tuple[float, float]]]) -> Iterable[str]:
    yield "| condition | meals in an agent-step | change | d | agents of a world |"
    yield "|---|---|---|---|---|"
    usual = [meals for meals, _ in found["as it is"]]
    for name, pairs in found.items():
        meals, agents = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        change = 100 * (sum(meals) / max(sum(usual), 1e-9) - 1)
        paired = f"{change:+.1f} % | {estimates.effect_size(meals, usual):+.2f}" if name != "as it is" else " | "
        yield f"| {name} | {estimates.over_seeds(meals)} | {paired} | {estimates.over_seeds(agents)} |"


def _bars(found: dict[str, list[tuple[float, float]]], path: Path) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.42 * len(found) + 1), layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    for height, (name, pairs) in enumerate(found.items()):
        each = estimates.over_seeds([meals for meals, _ in pairs])
        axis.barh(height, each.value, color=pictures.FAINT if name == "as it is" else "#7d9cc9")
        axis.plot([each.low, each.high], [height, height], color=pictures.INK, linewidth=1.5)
    axis.set_yticks(range(len(found)), list(found), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("meals in an agent-step, with 95 % interval", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="svg")


# render -------------------------------------------------------------------------------------------------------------


def _render_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="a run's name or folder, or a checkpoint's folder")
    _run_arguments(parser)
    parser.add_argument(
        "--ticks", type=count, default=150, metavar="N", help="length of the film in ticks (default: 150)"
    )
    parser.add_argument(
        "--world", type=int, metavar="N", help="number of the world (default: the one with the most agents)"
    )
    parser.add_argument(
        "--cell", type=count, default=18, metavar="PIXELS", help="size of a cell in pixels (default: 18)"
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="folder for world.gif, curves.png and phylogeny.png (default: in the run)",
    )


def _render(values: Namespace, tell: Tell) -> Iterable[str]:
    saved, colony, book = opened(values.run, values)
    config = saved.config
    worlds = config.train.num_envs
    world = values.world if values.world is not None else int(np.asarray(colony.worlds.alive).sum(1).argmax())
    if not 0 <= world < worlds:
        raise outlast.OutlastError(f"--world is {world}; expected 0 to {worlds - 1}, the worlds of this run.")
    name = f"film-{saved.step:08d}"
    with saved.artifact(name, to=values.to) as made:
        frames = pictures.record(colony, config, world, values.ticks + 1, values.seed)
        pictures.film(frames, config, made / "world.gif", cell=values.cell, tell=tell)
        pictures.curves(book, made / "curves.png")
        pictures.phylogeny(book, colony.worlds, made / "phylogeny.png")
    folder = values.to or saved.folder / "artifacts" / name
    film = folder / "world.gif"
    size = film.stat().st_size / 1e6
    yield f"{film}: world {world} for {values.ticks} ticks after step {saved.step}, {size:.1f} MB"
    yield f"{folder / 'curves.png'} and {folder / 'phylogeny.png'}"


_NO_DATA = "emergence has no data: its worlds are made from the seed."

COMMANDS = (
    *(nothing(name, _NO_DATA) for name in ("data get", "data check", "data prepare")),
    outlast.Command(
        "measure", "measure a population, each value with its null distribution", _measure_arguments, _measure
    ),
    outlast.Command(
        "ablate", "ablate parts of a trained population and compare its foraging", _ablate_arguments, _ablate
    ),
    outlast.Command("render", "render a film of a world, the phylogeny and the curves", _render_arguments, _render),
)
