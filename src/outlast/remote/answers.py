"""What the answers of a network service mean: which error a status is, and its words without secrets."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

from outlast.errors import RemoteError, RemoteRefused, RemoteUnavailable
from outlast.terminal import visible

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of HTTP after which the same request may succeed."""

_SECRETS = re.compile(
    r"(?i)\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\bya29\.\S+|\bgh[opsu]_\w+|\bhf_\w+|(?:bearer|basic)\s+\S+|(?<=//)[^/\s@]+@"
    r"|(?<![\w-])(?:x-(?:amz|goog)-[\w-]+|[\w-]*(?:signature|token|secret|passw\w*|credential|access_?key\w*))\s*[=:]\s*\S+"
)


def refusal(address: str, status: int, reason: str, retry_after: str | None = None) -> RemoteError:
    """The error for an HTTP status that is not a success, with the service's reason."""
    reason = scrubbed(reason) or "no reason was given"
    if status in TRANSIENT:
        return RemoteUnavailable(f"{address}: {reason} (status {status}).", reason, seconds_of(retry_after))
    advice = ""
    if status in (401, 403):
        advice = " Check the credentials that this service's own command line uses, and what they allow."
    return RemoteRefused(f"{address}: {reason} (status {status}).{advice} Nothing was changed there.", reason)


def unreachable(address: str, error: BaseException) -> RemoteUnavailable:
    """The error for a connection that was not made, or broke off."""
    reason = scrubbed(str(error)) or type(error).__name__
    return RemoteUnavailable(f"{address} was not reached, or the connection broke off: {reason}.", reason)


def scrubbed(text: str) -> str:
    """A service's words as one short line without what may be a secret."""
    return visible(_SECRETS.sub("***", " ".join(text.split())))[:300].rstrip(". ")


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date. None: no header, or another text."""
    if retry_after is None:
        return None
    try:
        return max(float(int(retry_after)), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
