"""Files of ultralytics (.pt) that come from elsewhere. They are pickles: only tensors and known classes are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

import outlast
from outlast_recipes.yolo.ultralytics_adapter.library import torch_safe_load


class Outside(NamedTuple):
    """A file's weights, and what it is.

    Attributes:
        weights: name -> float32 tensor.
        architecture: its name, such as "yolo11s"; empty where the file does not say it.
        sentence: what the file is, for the user.
    """

    weights: dict[str, Tensor]
    architecture: str
    sentence: str


def read(path: Path) -> Outside:
    """The weights of a .pt file, averaged ones where it has both.

    Raises:
        outlast.DataError: it cannot be read, names something that is not loaded, or holds no network.
    """
    if not path.is_file():
        raise outlast.DataError(f"{path} is no file.")  # ultralytics would look for it on the network
    try:
        held, _ = torch_safe_load(str(path.resolve()), safe_only=True)
        return _what_it_holds(path, held)
    except outlast.DataError:
        raise
    except Exception as error:  # what an object of a file holds in its attributes is the file's choice
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise outlast.DataError(f"{path} is no file of ultralytics that can be loaded safely: {words:.200}") from error


def _what_it_holds(path: Path, held: Any) -> Outside:
    network = held.get("ema") or held.get("model") if isinstance(held, dict) else None
    if not isinstance(network, nn.Module):
        raise outlast.DataError(f"{path} holds no network; expected weights/best.pt or weights/last.pt of ultralytics.")
    weights = {}
    for name, each in network.state_dict().items():
        if each.numel() * each.element_size() > each.untyped_storage().nbytes():
            raise outlast.DataError(f"{path} holds {name:.100} with more values than there are in the file.")
        weights[name] = each.float() if each.is_floating_point() else each
        if not weights[name].isfinite().all():
            raise outlast.DataError(f"{path} holds weights that are not finite.")
    about = getattr(network, "yaml", None)
    name = Path(str(about.get("yaml_file", ""))).stem if isinstance(about, dict) else ""
    return Outside(weights, name, _what_it_is(held))


def _what_it_is(held: dict[str, object]) -> str:
    epoch, optimizer = held.get("epoch"), held.get("optimizer")
    if epoch in (None, -1) or optimizer is None:
        return "a finished training of ultralytics, whose optimizer was removed"
    epochs = getattr(held.get("train_args"), "get", lambda _: None)("epochs")
    return (
        f"a checkpoint of ultralytics after epoch {int(str(epoch)) + 1}{f' of {epochs}' if epochs else ''}, with "
        "averaged weights in float16 and no random state, so that training cannot continue from it exactly"
    )
