"""The operators of torchvision, for a torch that torchvision's own library does not load into.

PyPI's torchvision is built for CUDA. With CPU-only torch its library is not loaded, and `import torchvision` raises
"operator torchvision::nms does not exist". The operators are declared here, and the one that is called is computed in
torch. Nothing is done where torchvision works.
"""

from __future__ import annotations

import torch

from outlast_recipes.common.boxes import suppress

_kept: list[torch.library.Library] = []  # an operator disappears with its library object


def provide() -> None:
    """Import torchvision; where its operators are missing, declare them first. May be called again."""
    if _kept or _loads():
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", suppress, "CPU")
    _kept.append(library)
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True  # noqa: SLF001 - its functions ask it before each call


def _loads() -> bool:
    """Whether torchvision's own operators are there."""
    if torch.version.cuda is not None:
        return True
    from importlib.util import find_spec

    place = find_spec("torchvision")
    folders = list(place.submodule_search_locations or ()) if place else []
    for folder in folders:
        try:
            torch.ops.load_library(f"{folder}/_C.so")
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")
