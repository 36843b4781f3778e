"""What ultralytics finds when it is imported: it is offline and quiet, installs nothing, and loads known classes only.

It reads its settings once, at its import, and changes the process while it does: environment variables, print options
of NumPy and torch, `torch.save` and `PIL.Image.open`. `prepared` sets the first and takes back the second.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from outlast_recipes.yolo import packages
from outlast_recipes.yolo.packages import VERSION

LICENCE = (
    f"This training uses ultralytics {VERSION}, whose licence is AGPL-3.0. By its authors' position, the project that "
    "trains with it and the trained weights are under AGPL-3.0 as well, unless they sell you another licence "
    "(https://ultralytics.com/license). --model.architecture tiny trains without it."
)
OF_WEIGHTS = (
    f"These weights were trained with ultralytics {VERSION}, whose licence is AGPL-3.0. By its authors' position, they "
    "are under AGPL-3.0 as well, unless the authors sold another licence (https://ultralytics.com/license)."
)

_ENVIRONMENT = {
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",  # else it installs what a checkpoint names
    "YOLO_VERBOSE": "0",
    "ULTRALYTICS_SAFE_LOAD": "1",  # else loading a .pt file runs code from it
}
_RANKS = ("WORLD_SIZE", "RANK", "LOCAL_RANK")  # this recipe joins ranks itself; each is alone for ultralytics
_SWITCHES = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg")


def check_installed() -> None:
    """Raises outlast.ConfigError when ultralytics is absent, or another version than the one that is known here."""
    packages.check_installed("ultralytics", VERSION, ("ultralytics", "torchvision", "cv2"), "yolo")


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """The process as ultralytics is to find it at its import; afterwards it is as before."""
    folder = _private_folder()
    environment = dict(os.environ)
    numbers, save, opens = np.get_printoptions(), torch.save, Image.open
    os.environ.update(_ENVIRONMENT, YOLO_CONFIG_DIR=str(folder))
    for name in _RANKS:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        np.set_printoptions(**numbers)
        torch.set_printoptions(profile="default")
        torch.save, Image.open = save, opens


def _private_folder() -> Path:
    """A folder of this process for settings; what ultralytics keeps in it is unpickled, so nobody else may write it."""
    folder, owner = Path(tempfile.mkdtemp(prefix="outlast-yolo-")), os.getpid()
    (folder / "Ultralytics").mkdir(mode=0o700)
    off = {"settings_version": "0.0.8", **dict.fromkeys(_SWITCHES, False)}
    (folder / "Ultralytics" / "settings.json").write_text(json.dumps(off), encoding="utf-8")

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
