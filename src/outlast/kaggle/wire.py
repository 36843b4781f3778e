"""HTTP calls to Kaggle: login, timeouts, retries, and errors with the server's reason."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from outlast.errors import LaunchError, LaunchRefused, UsageError
from outlast.kaggle.credentials import HOW, Credential
from outlast.waiting import Silence

T = TypeVar("T")

MOMENT = 429
"""Status of a temporary refusal: too many requests, or no connection."""

TIMEOUT = 120.0
"""Seconds in which a connection has to be made, and in which something of an answer has to arrive."""

_FULL = "session count"  # in Kaggle's message when other sessions of the account use all slots
_WAIT = (MOMENT, 500, 502, 503, 504)
_LONGEST = 60.0  # seconds between two tries


class KaggleRefused(LaunchRefused):
    """Kaggle refused a request.

    Attributes:
        status: the HTTP status; 200 for a refusal inside an answer.
    """

    def __init__(self, words: str, status: int = 200) -> None:
        super().__init__(words, "moment" if status == MOMENT else "full" if _FULL in words else "")
        self.status = status


class Wire:
    """The connection of one account.

    Args:
        credential: a login.
        patience: seconds for which safe calls are repeated after temporary refusals, outages and broken connections.
        sleep: the function that waits; tests replace it.
    """

    def __init__(
        self, credential: Credential, *, patience: float = 600.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            import kagglesdk.kaggle_client  # noqa: F401 - a missing library is reported here, not at the first call
        except ModuleNotFoundError as error:
            raise UsageError("Kaggle needs its client: pip install 'outlast[kaggle]'.") from error
        self.credential, self._patience, self.sleep = credential, patience, sleep
        self.silence = Silence("Kaggle", patience + TIMEOUT)
        self._sdk: Any = None
        self._renew = False
        self._user = credential.user

    @property
    def sdk(self) -> Any:
        """The library of the official client, logged in.

        Read this in every call, because the login may have been renewed.
        """
        if self._sdk is None:
            self._sdk = _logged_in(self.credential, renew=self._renew)
        return self._sdk

    @property
    def user(self) -> str:
        """The account's name. It is requested once if the login does not contain it.

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
        """Make a call that may safely be repeated, until it is answered.

        Raises:
            KaggleRefused: Kaggle refused it.
            LaunchError: it was not answered within `patience`.
        """
        end, pause = time.monotonic() + self._patience, 1.0
        with self.silence.waiting() as waiting:
            while True:
                try:
                    return self.call(what, call)
                except TemporaryError as error:
                    waiting.reason = str(error)
                    wait = error.retry_after or pause * random.uniform(0.7, 1.3)  # noqa: S311 - clients should not return at once
                    if time.monotonic() + wait > end:
                        raise LaunchError(
                            f"Kaggle did not answer the request for {what} within {self._patience:.0f} s: {error}. Run "
                            "the same command again later; repeating it is safe."
                        ) from error
                    self.sleep(wait)
                    pause = min(2 * pause, _LONGEST)

    def call(self, what: str, call: Callable[[], T], *, renewed: bool = False) -> T:
        """Make a call once.

        Raises:
            KaggleRefused: Kaggle refused it.
            TemporaryError: another try may succeed.
        """
        import requests

        try:
            with self.silence.waiting():
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
                self._sdk, self._renew = None, True  # a token expires after twelve hours; a relay runs for days
                return self.call(what, call, renewed=True)
            if status == 401:
                raise KaggleRefused(
                    f"Kaggle does not accept the login from {self.credential.source}. {HOW}", status
                ) from error
            raise KaggleRefused(f"Kaggle refused {what}: {status} {reason}.", status) from error
        except requests.ConnectionError as error:
            raise TemporaryError(
                f"the connection broke ({type(error).__name__})", certain=_never_connected(error)
            ) from error
        except requests.RequestException as error:
            raise TemporaryError(f"the connection broke ({type(error).__name__})") from error
        except ValueError as error:  # an HTML page with status 200: a rate limit, or a login page
            raise TemporaryError("Kaggle sent a web page instead of an answer") from error


class TemporaryError(Exception):
    """A failure after which another try may succeed. `certain`: whether the request certainly had no effect."""

    def __init__(self, words: str, retry_after: float | None = None, *, certain: bool = False) -> None:
        super().__init__(words)
        self.retry_after, self.certain = retry_after, certain


def _logged_in(credential: Credential, *, renew: bool) -> Any:
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_creds import KaggleCredentials

    if credential.kind == "key":
        return _bounded(KaggleClient(username=credential.user, password=credential.secret))
    if credential.kind == "token":
        return _bounded(KaggleClient(api_token=credential.secret))
    stored = KaggleCredentials.load(_bounded(KaggleClient()))
    if stored is None:
        raise UsageError(f"The login in {credential.source} does not exist any more. {HOW}")
    if renew:
        stored.refresh_access_token()  # the SDK's own check accepts a token until half an hour after its expiry
    return _bounded(KaggleClient(api_token=stored.get_access_token()))


def _bounded(client: Any) -> Any:
    """A client whose requests end; by itself it sets no timeout, and would wait for ever."""
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def send(self, request: Any, *, timeout: Any = None, **options: Any) -> Any:  # type: ignore[override]
            return super().send(request, timeout=timeout or TIMEOUT, **options)

    http = client.http_client()
    http._init_session()  # noqa: SLF001 - as in the client of kernels
    for scheme in ("https://", "http://"):
        http._session.mount(scheme, Bounded())  # noqa: SLF001
    return client


def _never_connected(error: Exception) -> bool:
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _reason(answer: Any) -> str:
    """The server's message in either form of its refusals."""
    try:
        found = answer.json()
        found = found.get("error", found)
        return str(found["message"]).rstrip(".") if isinstance(found, dict) else str(found)
    except (ValueError, KeyError, AttributeError, TypeError):
        return str(answer.reason)
