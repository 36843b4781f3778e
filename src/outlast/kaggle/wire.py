"""HTTP calls to Kaggle: timeouts, retries and errors.

It logs in, repeats calls that may be repeated, and reports refusals with the server's reason.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from outlast.errors import LaunchError, LaunchRefused, UsageError
from outlast.kaggle.credentials import HOW, Credential

T = TypeVar("T")

MOMENT = 429
"""Status of a refusal that another try may not meet: too many requests, or no connection at all."""

_FULL = "session count"  # in Kaggle's words when other sessions of the account take all places
_WAIT = (MOMENT, 500, 502, 503, 504)
_LONGEST = 60.0  # seconds between two tries


class KaggleRefused(LaunchRefused):
    """Kaggle has refused something.

    Attributes:
        status: the HTTP status, 200 for a refusal that came as an answer.
    """

    def __init__(self, words: str, status: int = 200) -> None:
        super().__init__(words, "moment" if status == MOMENT else "full" if _FULL in words else "")
        self.status = status


class Wire:
    """One account.

    Args:
        credential: a login.
        patience: seconds for which calls that may be repeated wait out refusals for the moment, outages and broken
            lines.
        sleep: waits; for tests.
    """

    def __init__(
        self, credential: Credential, *, patience: float = 600.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            import kagglesdk.kaggle_client  # noqa: F401 - said here, not at the first call
        except ModuleNotFoundError as error:
            raise UsageError("Kaggle needs its client: pip install 'outlast[kaggle]'.") from error
        self.credential, self._patience, self.sleep = credential, patience, sleep
        self._sdk: Any = None
        self._renew = False
        self._user = credential.user

    @property
    def sdk(self) -> Any:
        """The official client's own wire library, logged in.

        Asked for again inside every call: a login may have to be renewed.
        """
        if self._sdk is None:
            self._sdk = _logged_in(self.credential, renew=self._renew)
        return self._sdk

    @property
    def user(self) -> str:
        """The account's name; asked for once when the login does not say it.

        Raises:
            KaggleRefused: the login is not valid.
        """
        if not self._user:
            from kagglesdk.security.types.oauth_service import IntrospectTokenRequest

            request = IntrospectTokenRequest()
            request.token = self.credential.secret
            answer = self.repeated("the login", lambda: self.sdk.security.oauth_client.introspect_token(request))
            self._user = str(answer.username)
        return self._user

    def prove(self) -> Any:
        """The quota as Kaggle sends it. Any login may ask for it, so this also proves that the login works.

        Raises:
            KaggleRefused: it does not.
        """

        def ask() -> Any:  # looks the client up anew: a login may have been renewed
            return self.sdk.kernels.kernels_api_client.get_accelerator_quota_statistics()

        return self.repeated("the quota", ask)

    def repeated(self, what: str, call: Callable[[], T]) -> T:
        """Make a call that does no harm when it is made twice, until it is answered.

        Raises:
            KaggleRefused: Kaggle will not do it.
            LaunchError: it was not answered for as long as this account's patience.
        """
        end, pause = time.monotonic() + self._patience, 1.0
        while True:
            try:
                return self.call(what, call)
            except TemporaryError as error:
                wait = error.retry_after or pause * random.uniform(0.7, 1.3)  # noqa: S311 - so that not all come back at once
                if time.monotonic() + wait > end:
                    raise LaunchError(
                        f"Kaggle has not answered on {what} for {self._patience:.0f} s: {error}. Nothing was changed; "
                        "try again later."
                    ) from error
                self.sleep(wait)
                pause = min(2 * pause, _LONGEST)

    def call(self, what: str, call: Callable[[], T], *, renewed: bool = False) -> T:
        """Make a call once.

        Raises:
            KaggleRefused: Kaggle will not do it.
            TemporaryError: another try may go well.
        """
        import requests

        try:
            return call()
        except requests.HTTPError as error:
            answer = error.response
            if answer is None:
                raise TemporaryError(str(error)) from error
            status, reason = answer.status_code, _reason(answer)
            if status in _WAIT:
                after = answer.headers.get("Retry-After", "")
                raise TemporaryError(
                    f"{status} {reason}",
                    float(after) if after.replace(".", "", 1).isdigit() else None,
                    certain=status == MOMENT,
                ) from error
            if status == 401 and self.credential.kind == "oauth" and self._sdk is not None and not renewed:
                self._sdk, self._renew = None, True  # an access token lives for twelve hours, a relay for days
                return self.call(what, call, renewed=True)
            if status == 401:
                raise KaggleRefused(
                    f"Kaggle does not know the login from {self.credential.source}. {HOW}", status
                ) from error
            raise KaggleRefused(f"Kaggle has refused {what}: {status} {reason}.", status) from error
        except requests.ConnectionError as error:
            raise TemporaryError(
                f"the connection broke ({type(error).__name__})", certain=_never_connected(error)
            ) from error
        except requests.RequestException as error:
            raise TemporaryError(f"the connection broke ({type(error).__name__})") from error
        except ValueError as error:  # a page of HTML with status 200: a throttle, or a wall to log in
            raise TemporaryError("it sent a page instead of an answer") from error


class TemporaryError(Exception):
    """May go well later. `certain`: whether the request surely did nothing."""

    def __init__(self, words: str, retry_after: float | None = None, *, certain: bool = False) -> None:
        super().__init__(words)
        self.retry_after, self.certain = retry_after, certain


def _logged_in(credential: Credential, *, renew: bool) -> Any:
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_creds import KaggleCredentials

    if credential.kind == "key":
        return KaggleClient(username=credential.user, password=credential.secret)
    if credential.kind == "token":
        return KaggleClient(api_token=credential.secret)
    stored = KaggleCredentials.load(KaggleClient())
    if stored is None:
        raise UsageError(f"The login that {credential.source} held is gone. {HOW}")
    if renew:
        stored.refresh_access_token()  # the SDK's own check takes a token for good until half an hour past its end
    return KaggleClient(api_token=stored.get_access_token())


def _never_connected(error: Exception) -> bool:
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _reason(answer: Any) -> str:
    """The server's sentence out of either form of its refusals."""
    try:
        found = answer.json()
        found = found.get("error", found)
        return str(found["message"]).rstrip(".") if isinstance(found, dict) else str(found)
    except (ValueError, KeyError, AttributeError, TypeError):
        return str(answer.reason)
