"""Single rooms as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outlast_recipes.dungeon.tile_pictures import INK, SIZE, draw_tile
from outlast_recipes.dungeon.tiles import HEIGHT, WIDTH

_GAP = 8  # pixels
_TINT = (196, 180, 150)


def draw_rooms(rooms: NDArray[np.uint8], path: Path, *, columns: int = 8) -> None:
    """Write rooms (N, 16, 11) as a PNG, side by side in rows.

    Args:
        rooms: at least one.
        path: of the file.
        columns: rooms in a row.
    """
    from PIL import Image, ImageDraw

    columns = min(columns, len(rooms))
    down, across = HEIGHT * SIZE + _GAP, WIDTH * SIZE + _GAP
    picture = Image.new("RGB", (columns * across + _GAP, -(-len(rooms) // columns) * down + _GAP), INK)
    pencil = ImageDraw.Draw(picture)
    for number, room in enumerate(rooms):
        top, left = _GAP + number // columns * down, _GAP + number % columns * across
        for (row, column), tile in np.ndenumerate(room):
            draw_tile(pencil, int(tile), left + column * SIZE, top + row * SIZE, _TINT)
    picture.save(path, format="PNG", optimize=True)
