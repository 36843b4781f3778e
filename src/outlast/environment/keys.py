"""The originals' `secrets.json`: one JSON object with the keys of several services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from outlast.errors import UsageError

FIELDS = ("WANDB_API_KEY", "GITHUB_TOKEN", "GDRIVE_USER_CREDENTIALS", "HF_TOKEN")
"""Names that such a file may have. Each is also the name of an environment variable."""

_LARGEST = 64 * 1024


def read_keys(path: Path) -> dict[str, object]:
    """The object in a file of keys; raises UsageError, whose message never contains a value."""
    try:
        with path.open("rb") as opened:
            data = opened.read(_LARGEST + 1)
        found: dict[str, object] = json.loads(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not JSON; expected an object with {', '.join(FIELDS)}.") from None
    unknown = sorted(set(found) - set(FIELDS)) if isinstance(found, dict) else ["no object"]
    if unknown or not found:
        raise UsageError(
            f"{path} holds {', '.join(unknown) or 'nothing'}; expected an object with some of {', '.join(FIELDS)} and "
            "nothing else, so that no key "
            "is sent by mistake."
        )
    empty = [name for name, value in found.items() if not value]
    if empty:
        raise UsageError(f"{path}: {', '.join(empty)} has no value. Fill it in, or leave it out.")
    return found


def variables_of(found: Mapping[str, object]) -> dict[str, str]:
    """The keys as environment variables: a text as it is, an object as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
