"""Pictures of a run: curves, a phylogeny, and a film of the worlds."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from outlast_recipes.emergence import learn, nulls, refill, rollout
from outlast_recipes.emergence.config import Config
from outlast_recipes.emergence.learn import Colony
from outlast_recipes.emergence.trackers import Book
from outlast_recipes.emergence.world import BIRTH, DEATH, PARENT, UID, World

INK, PAPER, FAINT = "#22262b", "#ffffff", "#c9ced6"
NIGHT = np.array([13, 17, 23], float)
GLOW = np.array([[70, 95, 160], [200, 120, 50], [60, 160, 120], [150, 80, 170]], float)  # of field channels
FOOD = ((126, 200, 96), (96, 176, 224))  # of kinds
SCALE = 2  # factor of oversampling, for smooth edges


def _figure(wide: float, high: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=120, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curves(book: Book, path: Path) -> None:
    """One PNG with population, energy, births and deaths, intake, lineages, learning, and findings."""
    curve = {name: np.array(values) for name, values in book.curves.items()}
    panels = [
        ("agents of a world", ("population",)),
        ("energy of an agent", ("energy",)),
        ("births and deaths in 1,000 agent-steps", ("births", "starved", "aged")),
        ("meals in an agent-step", ("intake",)),
        ("founders that the living descend from; generation", ("lineages", "generation")),
        ("PPO: explained variance, entropy", ("explained_variance", "entropy")),
    ]
    figure = _figure(11, 11)
    axes = figure.subplots(5, 2)
    steps = np.arange(1, len(curve["population"]) + 1) * book.config.slot_steps / 1e6
    for axis, (title, names) in zip(axes.flat, panels, strict=False):
        for name in names:
            axis.plot(steps, curve[name], label=name, linewidth=1.5)
        axis.set_title(title, loc="left", fontsize=9, color=INK)
        if len(names) > 1:
            axis.legend(fontsize=7, frameon=False)
    _found(axes[3, 0], book)
    axis = axes[3, 1]
    for name in ("immigrants", "births_waiting", "begun_anew"):
        axis.plot(steps, curve[name], label=name.replace("_", " "), linewidth=1.5)
    axis.set_title("immigrants, births that waited, worlds restarted", loc="left", fontsize=9, color=INK)
    axis.legend(fontsize=7, frameon=False)
    at = np.array(book.looks) * book.config.slot_steps / 1e6
    axis = axes[4, 0]
    axis.plot(at, book.divergence, linewidth=1.5)
    axis.set_title("genomes apart, over what mutation alone gives", loc="left", fontsize=9, color=INK)
    axis = axes[4, 1]
    if "extremeness" in curve:
        axis.plot(steps, curve["extremeness"], linewidth=1.5, label="traits at the ends (0 to 1)")
        axis.step(at, np.array(book.species, float), where="mid", linewidth=1.5, label="species (1: yes)")
        axis.set_ylim(-0.05, 1.05)
        axis.legend(fontsize=7, frameon=False)
    else:
        axis.text(
            0.5,
            0.5,
            "one kind of food: no diets to separate species",
            transform=axis.transAxes,
            ha="center",
            fontsize=8,
            color=INK,
        )
    axis.set_title("specialists and species", loc="left", fontsize=9, color=INK)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7, colors=INK)
        axis.set_xlabel("million slot-steps", fontsize=7, color=INK)
    figure.savefig(path, format="png")


def _found(axis: Any, book: Book) -> None:
    """Draw a row for each kind of finding and a mark for each measurement, filled if something was detected."""
    axis.set_title("detected (filled) or not (hollow) at each measurement", loc="left", fontsize=9, color=INK)
    at = np.array(book.looks) * book.config.slot_steps / 1e6
    shown = [(name, np.array(rows)) for name, rows in book.findings.items() if rows and np.array(rows)[:, 3].any()]
    for height, (_, rows) in enumerate(shown):
        known = rows[:, 3] > 0
        found = known & (rows[:, 2] <= nulls.LEVEL)
        color = f"C{height}"
        axis.scatter(at[known], np.full(known.sum(), height), s=22, facecolors="none", edgecolors=color, linewidths=0.8)
        axis.scatter(at[found], np.full(found.sum(), height), s=22, color=color)
    axis.set_yticks(range(len(shown)), [name.replace("_", " ") for name, _ in shown], fontsize=7)
    axis.set_ylim(-0.7, max(len(shown) - 0.3, 0.7))
    if not shown:
        axis.text(0.5, 0.5, "no measurement yet", transform=axis.transAxes, ha="center", fontsize=8, color=INK)


class Life(NamedTuple):
    """One line of a family tree: the agent, its parent, birth and death (ticks), and whether it lives."""

    uid: int
    parent: int
    birth: int
    death: int
    lives: bool


def family(book: Book, worlds: World, world: int) -> list[Life]:
    """The living agents of a world, and all their ancestors."""
    rows = book.all_lives
    known = {
        int(row[1 + UID]): Life(
            int(row[1 + UID]), int(row[1 + PARENT]), int(row[1 + BIRTH]), int(row[1 + DEATH]), False
        )
        for row in rows[rows[:, 0] == world]
    }
    alive, now = np.asarray(worlds.alive[world]), int(worlds.t[world])
    uid, parent, birth = (np.asarray(getattr(worlds, name)[world]) for name in ("uid", "parent", "birth"))
    living = [Life(int(uid[at]), int(parent[at]), int(birth[at]), now, True) for at in np.flatnonzero(alive)]
    known |= {life.uid: life for life in living}
    kept: dict[int, Life] = {}
    for life in living:
        line: Life | None = life
        while line is not None and line.uid not in kept:
            kept[line.uid] = line
            line = known.get(line.parent)
    return sorted(kept.values(), key=lambda life: (life.birth, life.uid))


def phylogeny(book: Book, worlds: World, path: Path) -> None:
    """Draw the family tree of the fullest world: time to the right, a line for each life, a colour for each founder."""
    world = int(np.asarray(worlds.alive).sum(1).argmax())
    lives = family(book, worlds, world)
    figure = _figure(10, max(3.0, min(14.0, 1.5 + 0.09 * len(lives))))
    axis = figure.subplots()
    known = {life.uid: life for life in lives}
    children: dict[int, list[Life]] = {}
    for life in lives:
        children.setdefault(life.parent if life.parent in known else -1, []).append(life)
    heights: dict[int, float] = {}
    order: list[Life] = []

    # Each family is below its parent's line, the youngest child nearest to it, so that few lines cross.
    stack = list(reversed(children.get(-1, [])))
    while stack:
        life = stack.pop()
        heights[life.uid] = float(len(order))
        order.append(life)
        stack += children.get(life.uid, [])
    roots: dict[int, int] = {}
    for life in order:
        roots[life.uid] = roots.get(life.parent, life.uid)
    colors = {root: f"C{at % 10}" for at, root in enumerate(dict.fromkeys(roots.values()))}
    for life in order:
        height, color = heights[life.uid], colors[roots[life.uid]]
        axis.plot([life.birth, life.death], [height, height], color=color, linewidth=1.4 if life.lives else 0.8)
        if life.parent in known:
            axis.plot([life.birth, life.birth], [heights[life.parent], height], color=color, linewidth=0.6, alpha=0.7)
        if life.lives:
            axis.plot(life.death, height, ".", color=color, markersize=4)
    founders = len(colors)
    axis.set_title(
        f"world {world}: {sum(life.lives for life in lives)} living, from {founders} "
        f"founder{'s' if founders != 1 else ''}"
        if lives else "nobody lives", loc="left", fontsize=10, color=INK,
    )  # fmt: skip
    axis.set_xlabel("tick", fontsize=8, color=INK)
    axis.set_yticks([])
    axis.invert_yaxis()
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=INK)
    figure.savefig(path, format="png")


# film ---------------------------------------------------------------------------------------------------------------


class Frames(NamedTuple):
    """The frames of one world for a film, arrays [T, ...]."""

    pos: NDArray[np.int32]
    alive: NDArray[np.bool_]
    energy: NDArray[np.float32]
    uid: NDArray[np.int32]
    root: NDArray[np.int32]
    food_pos: NDArray[np.int32]
    food_on: NDArray[np.bool_]
    field: NDArray[np.float32]


def record(colony: Colony, config: Config, world: int, ticks: int, seed: int) -> Frames:
    """Simulate a population for some ticks without learning, in chunks as in training, and record one of its worlds."""
    train = config.train.model_copy(update={"num_steps": min(ticks, config.train.num_steps), "num_envs": 1})
    short = config.model_copy(update={"train": train})
    one = jax.tree.map(lambda each: each[world : world + 1], colony.worlds)

    @jax.jit
    def play(worlds: World, shared: Any, key: Any) -> Any:
        def look(after: World, _: rollout.Trajectory) -> tuple[Any, ...]:
            return tuple(getattr(after, name)[0] for name in Frames._fields)

        act = rollout.acts(shared, short)
        worlds, kept, *_ = rollout.rollout(worlds, act, key, jnp.float32(learn.mutates(config)), short, look=look)
        return refill.refill(worlds, colony.archive, jax.random.fold_in(key, 1), short)[0], kept

    chunks = []
    for number in range(-(-ticks // train.num_steps)):
        one, kept = play(one, colony.shared, jax.random.fold_in(jax.random.key(seed), number))
        chunks.append([np.asarray(each) for each in kept])
    return Frames(*(np.concatenate(each)[:ticks] for each in zip(*chunks, strict=True)))


def film(
    frames: Frames, config: Config, path: Path, *, cell: int = 18, between: int = 2, speed: int = 12, tell: Any = None
) -> None:
    """Write a film of a world as GIF (or WebP or APNG, by the suffix of the file name).

    The field glows, and food is green (the second kind blue). An agent has the colour of its founder, and its size
    shows its energy.

    Args:
        frames: the recorded frames.
        config: the config of the run.
        path: the file.
        cell: size of a cell in pixels.
        between: pictures per tick, between which agents move smoothly.
        speed: ticks in a second.
        tell: called with the number of drawn ticks and the total.
    """
    from PIL import Image

    ticks = len(frames.alive) - 1
    some = [_picture(frames, config, int(t), 0.0, cell) for t in np.linspace(0, ticks - 1, 4)]
    palette = _palette(frames, some) if path.suffix == ".gif" else None

    def pictures() -> Iterator[Any]:  # a generator, so that a long film is not kept in memory
        for t in range(ticks):
            for part in range(between):
                picture = _picture(frames, config, t, part / between, cell)
                yield picture.quantize(palette=palette, dither=Image.Dither.NONE) if palette else picture
            if tell:
                tell(t + 1, ticks)

    drawn = pictures()
    next(drawn).save(
        path, save_all=True, append_images=drawn, duration=round(1000 / speed / between), loop=0, optimize=False,
    )  # fmt: skip


def _color(root: int, share: float) -> tuple[int, ...]:
    """The colour of an agent: a hue for its founder, lighter with energy (0..1)."""
    rgb = colorsys.hls_to_rgb((root * 0.61803) % 1, 0.45 + 0.25 * share, 0.75)
    return tuple(round(255 * each) for each in rgb)


def _palette(frames: Frames, pictures: list[Any]) -> Any:
    """256 colours for all pictures of a film. Small bright objects get as much weight as the background."""
    from PIL import Image

    roots = np.unique(frames.root[frames.alive])[:64]
    swatches = np.array(
        [_color(int(root), share) for root in roots for share in (0.2, 0.6, 1.0)] + list(FOOD), np.uint8
    )
    side = pictures[0].width
    band = np.repeat(np.repeat(swatches[None], 8, 0), 8, 1)  # each as a square of 8 x 8 pixels
    rows = [band[:, at : at + side] for at in range(0, band.shape[1], side)]
    rows = [np.pad(row, ((0, 0), (0, side - row.shape[1]), (0, 0)), mode="edge") for row in rows]
    some = [np.asarray(picture.resize((side, side // 4))) for picture in pictures]
    return Image.fromarray(np.concatenate([*rows, *some])).quantize(256)


def _picture(frames: Frames, config: Config, t: int, part: float, cell: int) -> Any:
    from PIL import Image, ImageDraw

    size = config.env.grid_size
    field = (1 - part) * frames.field[t] + part * frames.field[t + 1]
    light = np.clip(field / config.field.cap, 0, 1) ** 0.7
    glow = GLOW[np.arange(light.shape[-1]) % len(GLOW)]
    ground = np.clip(NIGHT + 0.6 * (light @ glow), 0, 255).astype(np.uint8)
    side = size * cell
    picture = Image.fromarray(ground).resize((side * SCALE, side * SCALE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    unit = cell * SCALE

    def disc(
        row: float, column: float, radius: float, color: tuple[int, ...], outline: tuple[int, ...] | None = None
    ) -> None:
        x, y, r = (column + 0.5) * unit, (row + 0.5) * unit, radius * unit
        draw.ellipse((x - r, y - r, x + r, y + r), fill=color, outline=outline, width=max(1, round(unit / 12)))

    kinds = config.env.food_kinds
    for number in np.flatnonzero(frames.food_on[t]):
        row, column = frames.food_pos[t, number]
        disc(row, column, 0.2, FOOD[number % kinds])
    for slot in np.flatnonzero(frames.alive[t]):
        position = frames.pos[t, slot].astype(float)
        same = frames.alive[t + 1, slot] and frames.uid[t + 1, slot] == frames.uid[t, slot]
        following = frames.pos[t + 1, slot].astype(float) if same else position
        if np.abs(following - position).max() > 1:  # the agent crossed the border of a torus
            following = position
        row, column = position + part * (following - position)
        share = float(
            np.clip(frames.energy[t, slot] / min(config.env.max_energy, 2 * config.env.reproduce_threshold), 0, 1)
        )
        fading = 1.0 if same else 1 - part
        color = _color(int(frames.root[t, slot]), share)
        # Several agents in a cell are drawn side by side.
        shift = ((slot * 0.37) % 1 - 0.5) * 0.3, ((slot * 0.73) % 1 - 0.5) * 0.3
        disc(row + shift[0], column + shift[1], (0.26 + 0.16 * share) * fading, color, (245, 245, 240))
    return picture.resize((side, side), Image.Resampling.LANCZOS)
