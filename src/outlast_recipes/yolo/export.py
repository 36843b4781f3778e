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
            f"{saved.run_id} has the detector {detector.architecture()['detector']}, which has no .pt file; expected "
            "one of ultralytics. Leave out --format to write safetensors."
        )
    yield f"{target}: {detector.architecture().get('architecture', 'weights')} for `YOLO({str(target)!r})`"


EXPORTS = {"pt": to_pt}
