"""What is asked again, how often, and after which pauses."""

from __future__ import annotations

import pytest

from outlast.errors import RemoteRefused, RemoteUnavailable
from outlast.remote import retry


class Service:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.pauses, self.asked = list(failures), [], 0

    def ask(self) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def busy(after: float | None = None) -> RemoteUnavailable:
    return RemoteUnavailable("busy", after=after)


def test_transient_errors_are_retried_with_growing_pauses() -> None:
    service = Service(*[busy() for _ in range(5)])
    assert retry.until_answered(service.ask, retry.Tries(sleep=service.sleep)) == "answer"
    assert service.asked == 6
    for number, pause in enumerate(service.pauses):
        assert retry.FIRST * 2**number / 2 <= pause <= retry.FIRST * 2**number


def test_it_ends_with_the_last_error() -> None:
    service = Service(*[busy() for _ in range(99)])
    with pytest.raises(RemoteUnavailable):
        retry.until_answered(service.ask, retry.Tries(sleep=service.sleep))
    assert service.asked == retry.TRIES
    assert len(service.pauses) == retry.TRIES - 1


def test_the_service_says_when() -> None:
    service = Service(busy(after=7), busy(after=0), busy(after=-3))
    assert retry.until_answered(service.ask, retry.Tries(sleep=service.sleep)) == "answer"
    assert service.pauses == [7, 0, 0]


def test_a_service_that_wants_a_long_pause_is_not_waited_for() -> None:
    service = Service(busy(after=3600))
    with pytest.raises(RemoteUnavailable) as caught:
        retry.until_answered(service.ask, retry.Tries(sleep=service.sleep))
    assert caught.value.after == 3600
    assert (service.asked, service.pauses) == (1, [])


def test_permanent_errors_are_not_retried() -> None:
    service = Service(RemoteRefused("no"))
    with pytest.raises(RemoteRefused):
        retry.until_answered(service.ask, retry.Tries(sleep=service.sleep))
    assert (service.asked, service.pauses) == (1, [])
