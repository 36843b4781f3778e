"""`outlast evaluate dungeon RUN`: figures of the rooms that a trained run draws."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

import outlast
from outlast_recipes.common.run_options import add_checkpoint_arguments, add_seed

_WORDS = {
    "valid": "valid",
    "valid_strict": "valid, strictly",
    "novel_valid": "novel and valid",
    "copies": "copies of training rooms",
    "new_interiors": "interiors that no training room has",
    "doors_as_asked": "doors as asked",
    "stairs_as_asked": "stairs as asked",
}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="name or folder of a run, or of a chain: its last stage that draws rooms")
    add_checkpoint_arguments(parser)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the corpus, if it is elsewhere now")
    parser.add_argument("--samples", type=int, default=200, metavar="N", help="rooms to draw (default: 200)")
    add_seed(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the figures as JSON")


def run(values: Namespace, _progress: Callable[[int, int], None]) -> Iterable[str]:
    from outlast_recipes.dungeon.evaluation import described, drawn
    from outlast_recipes.dungeon.room_data import load_rooms
    from outlast_recipes.dungeon.saved import load_sampler, open_generator

    if values.samples < 2:
        raise outlast.DataError(f"--samples is {values.samples}; expected 2 or more, because pairs are compared.")
    saved = open_generator(values.run, values.checkpoint_dir, values.step)
    config = saved.config.model_copy(update={"data_root": values.data}) if values.data else saved.config
    data = load_rooms(config)
    if (known := saved.part("facts")["rooms"]) != data.facts.rooms:
        raise outlast.DataError(
            f"{data.name} has other rooms ({data.facts.rooms}) than {saved.run_id} was trained on ({known}). Name that "
            "corpus with --data."
        )
    figures = described(drawn(load_sampler(saved).once, data.asked, values.samples, values.seed), data)
    yield (
        f"{saved.run_id}, step {saved.step}: {values.samples} rooms, seed {values.seed}, drawn for what the dungeons "
        f"{', '.join(config.held_out)} of {data.name} ask for, each drawn once and not repaired"
    )
    yield from (f"  {words:38}{100 * figures[name]:6.1f} %" for name, words in _WORDS.items())
    yield f"  {'tiles unlike the nearest training room':38}{100 * figures['distance']:6.1f} %"
    yield f"  {'tiles unlike another room':38}{100 * figures['diversity']:6.1f} %"
    divergences = ", ".join(f"{figures[f'tpkl_{size}']:.2f}" for size in (2, 3, 4))
    yield f"  TPKL divergence from the held-out dungeons, patterns of 2, 3 and 4 tiles: {divergences} nats"
    if values.output:
        about = {"run": saved.run_id, "step": saved.step, "seed": values.seed, "corpus": data.name}
        values.output.write_text(json.dumps(about | figures, indent=1) + "\n", encoding="utf-8")
        yield f"Wrote {values.output}"
