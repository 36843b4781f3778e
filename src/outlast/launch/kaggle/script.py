"""The file that is pushed to Kaggle: the runner, with the bundle inside if that is small enough."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from outlast.launch import bundle
from outlast.launch.provider import Request

INLINE = 900_000
"""Most bytes of a pushed file. Kaggle refuses about a megabyte. Larger bundles go into a dataset."""


@dataclass(frozen=True)
class Script:
    """The pushed script.

    Attributes:
        text: the contents of the file.
        bundle: the bundle.
        dataset: the dataset for the bundle; empty if the bundle is in the text.
    """

    text: str
    bundle: bundle.Bundle
    dataset: str = ""

    @property
    def file(self) -> str:
        """The bundle's file name in its dataset. Kaggle does not unpack files with such a name."""
        return f"bundle-{self.bundle.hash[:16]}.bin"


def script(request: Request, accelerator: str) -> Script:
    """The file for a request."""
    packed = request.bundle
    about = {
        "accelerator": accelerator,
        "sha256": hashlib.sha256(packed.compressed).hexdigest(),
        "request": dict(request.asked),
    }
    runner = (Path(__file__).parent / "runner.py").read_text()
    inline = base64.b85encode(packed.compressed).decode()
    if len(runner) + len(inline) + 1000 > INLINE:
        made = Script("", packed, f"outlast-code-{packed.hash[:16]}")
        inline, about = "", about | {"file": made.file}
    else:
        made = Script("", packed)
    text = runner.replace('ABOUT = "{}"', f"ABOUT = {json.dumps(json.dumps(about))}", 1)
    return Script(text.replace('DATA = ""', f'DATA = "{inline}"', 1), packed, made.dataset)
