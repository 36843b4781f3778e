"""The files of a session in one zip, for a machine that gets them at once."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from outlast.launch.bundle import own_recipe
from outlast.launch.provider import Request


def packed(request: Request, after: Mapping[str, Path] | None = None) -> bytes:
    """The zip of a session: code/, request.json, and files of the run below inputs/sent/.

    Args:
        request: the request.
        after: files of the session that is continued, for inputs/after/, where they have no other way there.
    """
    asked = dict(request.asked)
    if "source" in asked and (own := own_recipe(asked["source"])):
        asked["recipe"] = f"code/{own}"
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        with zipfile.ZipFile(io.BytesIO(request.bundle.data)) as code:
            for name in code.namelist():
                archive.writestr(zipfile.ZipInfo(f"code/{name}", (1980, 1, 1, 0, 0, 0)), code.read(name))
        archive.writestr("request.json", json.dumps(asked))
        for name, path in request.files.items():
            archive.write(path, f"inputs/sent/{name}")
        for name, path in (after or {}).items():
            archive.write(path, f"inputs/after/{name}")
    return whole.getvalue()
