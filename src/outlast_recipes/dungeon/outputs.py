"""What a finished training leaves besides its checkpoints, in the run's folder for artifacts.

sample_rooms.png, sample_rooms.txt    rooms that were drawn for what the held-out dungeons ask for
sample_dungeon.png                    a whole dungeon of such rooms, after repair
sample_reconstructions.png            of the VQ-VAE: validation rooms, and below each what its codes give
test.json                             figures of the drawn rooms, without repair

`outlast archive` packs them with config.json, training_history.json, training_curves.png and the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import outlast
from outlast import Run
from outlast_recipes.common.artifacts import is_written
from outlast_recipes.dungeon.config import Config
from outlast_recipes.dungeon.evaluation import described, drawn
from outlast_recipes.dungeon.generate import generate
from outlast_recipes.dungeon.map_picture import draw_map
from outlast_recipes.dungeon.room_data import RoomData
from outlast_recipes.dungeon.room_pictures import draw_rooms
from outlast_recipes.dungeon.saved import sampler_of
from outlast_recipes.dungeon.tiles import decode
from outlast_recipes.dungeon.vqvae import RoomAutoencoder

_SHOWN, _ROW = 24, 8  # rooms of a picture, and of a row in it
_ROOMS, _KEYS = 12, 2  # of the dungeon that is drawn


def write_samples(run: Run, network: nn.Module, data: RoomData, config: Config) -> None:
    """Draw rooms with a finished generator, measure them, and write what is said above. The test is read once."""
    if is_written(run, "test.json"):
        return
    sampler = sampler_of(network, config, data.facts.known)
    rooms = drawn(sampler.once, data.asked, config.samples, config.seed)
    figures = described(rooms, data)
    run.log(**{f"test_{name}": value for name, value in figures.items() if name != "rooms"})
    about = {"run": run.id, "step": run.step, "corpus": data.name, "held_out": config.held_out, "seed": config.seed}
    text = "\n\n".join("\n".join(decode(room)) for room in rooms) + "\n"
    _write(run, "sample_rooms.txt", lambda path: path.write_text(text, encoding="utf-8"))
    _draw(run, "sample_rooms.png", lambda path: draw_rooms(rooms[:_SHOWN], path))
    try:
        made = generate(sampler, _ROOMS, _KEYS, config.seed, sampled_by=run.id)
    except outlast.DataError as error:  # no mission of this seed has a place on the grid
        run.tell(f"sample_dungeon.png is not drawn: {error}")
    else:
        _draw(run, "sample_dungeon.png", lambda path: draw_map(made, path))
    words = json.dumps(about | figures, indent=1) + "\n"
    _write(run, "test.json", lambda path: path.write_text(words, encoding="utf-8"))


@torch.no_grad()
def write_reconstructions(run: Run, network: RoomAutoencoder, data: RoomData) -> None:
    """Draw validation rooms, and what their codes give."""
    if is_written(run, "sample_reconstructions.png"):
        return
    rooms, asked = (tensor[::4][:_SHOWN] for tensor in data.validation.tensors)
    whole = max(_ROW, len(rooms) // _ROW * _ROW)
    rooms, asked = rooms[:whole], asked[:whole]
    device = network.places.device
    codes = network.encode(rooms.to(device), asked.to(device))
    again = network.decode(codes, asked.to(device)).argmax(1).cpu()
    rows = zip(rooms.split(_ROW), again.split(_ROW), strict=True)
    pairs: NDArray[np.uint8] = torch.cat([part for row in rows for part in row]).numpy().astype(np.uint8)
    _draw(run, "sample_reconstructions.png", lambda path: draw_rooms(pairs, path, columns=min(_ROW, whole)))


def _draw(run: Run, name: str, write: Callable[[Path], object]) -> None:
    try:
        import PIL  # noqa: F401 - what draws
    except ModuleNotFoundError:
        run.tell(f"{name} is not drawn: Pillow is not installed. It is in the extra outlast[plots].")
        return
    _write(run, name, write)


def _write(run: Run, name: str, write: Callable[[Path], object]) -> None:
    with run.artifact(name, part="ema") as path:
        write(path)
