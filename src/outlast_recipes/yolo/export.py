"""The formats that `outlast export --format` writes besides safetensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import outlast
from outlast_recipes.yolo.saved import restored


def to_pt(saved: outlast.SavedCheckpoint, part: str, target: Path) -> Iterable[str]:
    """The file of the detector's own library; raises outlast.OutlastError when it has none."""
    detector = restored(saved, part)
    if not detector.write_pt(target):
        raise outlast.OutlastError(
            f"The detector {detector.architecture()['detector']!r} has no .pt file of its own; leave out --format for "
            "safetensors."
        )
    yield f"{target}: {detector.architecture().get('architecture', 'weights')} for `YOLO({str(target)!r})`"


EXPORTS = {"pt": to_pt}
