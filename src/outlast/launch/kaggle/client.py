"""The calls to Kaggle that launching needs. Errors contain the server's reason.

They use kagglesdk, the library of the official client. This module and `wire` add what it lacks: the server's reason
for a refusal, retries after 429, 503, HTML pages and broken connections, versions in status and outputs, and one
message for each failure.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from outlast.errors import AnswerLost, LaunchError
from outlast.kaggle.wire import MOMENT, KaggleRefused, TemporaryError, Wire
from outlast.launch.kaggle.answers import SHAPES, Output, PushAnswer, PushRequest, Quota, Status
from outlast.launch.kaggle.log import entries, joined, so_far
from outlast.launch.provider import Line

_STATES = {
    "QUEUED": "queued",
    "NEW_SCRIPT": "queued",
    "RUNNING": "running",
    "CANCEL_REQUESTED": "saving",
    "COMPLETE": "complete",
    "ERROR": "error",
    "CANCEL_ACKNOWLEDGED": "stopped",
}


class Kaggle(Wire):
    """The calls for one account."""

    @property
    def _kernels(self) -> Any:
        return self.sdk.kernels.kernels_api_client

    def quota(self) -> Quota:
        """The remaining accelerator time.

        Raises:
            KaggleRefused: the login is not valid.
        """
        answer = self.prove()

        def seconds(quota: Any, name: str) -> float:
            return float(getattr(quota, name).total_seconds()) if quota else 0.0

        return Quota(
            seconds(answer.gpu_quota, "time_used"),
            seconds(answer.gpu_quota, "total_time_allowed"),
            seconds(answer.tpu_quota, "time_used"),
            seconds(answer.tpu_quota, "total_time_allowed"),
            answer.quota_refresh_time,
        )

    def push(self, push: PushRequest) -> PushAnswer:
        """Run a private kernel. The request is never repeated, because a second push starts a second session.

        Raises:
            KaggleRefused: Kaggle refused it. Nothing was started.
            AnswerLost: the answer was lost. Check `status` of this slug before you push again.
            LaunchError: Kaggle did not find a source that it needs. The kernel was deleted.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelRequest

        request = ApiSaveKernelRequest()
        request.slug, request.new_title, request.text = f"{self.user}/{push.slug}", push.slug, push.text
        request.language, request.kernel_type, request.is_private = "python", "script", True
        request.enable_internet = push.internet
        request.enable_gpu, request.enable_tpu = push.accelerator == "t4x2", push.accelerator == "tpu"
        if SHAPES[push.accelerator]:
            request.machine_shape = SHAPES[push.accelerator]
        request.kernel_data_sources, request.dataset_data_sources = list(push.kernels), list(push.datasets)
        if push.seconds:
            request.session_timeout_seconds = push.seconds
        what = f"the push of {self.user}/{push.slug}"
        try:
            answer = self.call(what, lambda: self._kernels.save_kernel(request))
        except TemporaryError as error:
            if error.certain:
                raise KaggleRefused(
                    f"Kaggle refused {what} for now: {error}. Nothing was started. Try again later.", MOMENT
                ) from error
            raise AnswerLost(
                f"It is unknown whether {what} reached Kaggle: {error}. Check the status before you push again."
            ) from error
        if answer.error:
            raise KaggleRefused(f"Kaggle refused {what}: {answer.error} Nothing was started.")
        missing = [*(answer.invalid_kernel_sources or []), *(answer.invalid_dataset_sources or [])]
        if missing:
            self.delete(push.slug)
            raise LaunchError(
                f"Kaggle accepted {what} but did not find {', '.join(missing)}, so the session would run without. It "
                "was deleted. Check the names, and that the datasets are ready."
            )
        return PushAnswer(f"{self.user}/{push.slug}", int(answer.version_number), str(answer.url))

    def status(self, slug: str) -> Status | None:
        """The state of a kernel of this account; None if it does not exist or never ran.

        Raises:
            KaggleRefused: the login is not valid.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        request = ApiGetKernelSessionStatusRequest()
        request.user_name, request.kernel_slug = self.user, slug
        try:
            answer = self.repeated(f"the status of {slug}", lambda: self._kernels.get_kernel_session_status(request))
        except KaggleRefused as error:
            if error.status not in (403, 404):
                raise
            self.prove()  # a wrong key gets the same answer as a missing kernel: this call distinguishes them
            return None
        return Status(_STATES[answer.status.name], answer.failure_message or "")

    def outputs(self, slug: str) -> Iterator[Output]:
        """The files that a session left, requested page by page. Empty while it runs."""
        token = ""
        while True:
            answer = self._page(slug, 200, token)
            yield from (Output(each.file_name, each.url) for each in answer.files or [])
            token = answer.next_page_token or ""
            if not token:
                return

    def page(self, slug: str, size: int) -> int:
        """The number of files on one page if `size` are requested."""
        return len(self._page(slug, size, "").files or [])

    def log(
        self,
        slug: str,
        *,
        until_over: bool = True,
        pause: float = 5.0,
        longest: float = 20.0,
        seen: Callable[[Status | None], None] = lambda _: None,
    ) -> Iterator[Line]:
        """Lines that a session prints, each once.

        They come from the live log while the session runs, and from the stored log afterwards. Each connection sends
        the live log from its beginning and may end early. Therefore lines are counted, and the connection is repeated
        until the session has ended.

        Args:
            slug: the kernel.
            until_over: continue until the session has ended; False: only the lines so far. A running session is read
                until it has printed nothing for two seconds.
            pause: seconds between two connections.
            longest: most seconds for which a running session is read if `until_over` is False.
            seen: called with Kaggle's state of the session after each query.
        """
        told = 0
        while True:
            seen(status := self.status(slug))
            over = status is None or status.over
            lines: Iterable[Line] = ()
            if over:
                lines = self._stored(slug)
            elif status and status.state != "queued":
                lines = self._lines(slug) if until_over else so_far(self._lines(slug), longest)
            for number, line in enumerate(lines):
                if number >= told:
                    yield line
                    told += 1
            if over or not until_over:
                return
            self.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - clients should not return at the same moment

    def cancel(self, session: int) -> None:
        """Stop a session, by the id that its kernel printed.

        Kaggle saves its files, which takes about two minutes per gigabyte.

        Raises:
            KaggleRefused: the session belongs to another account, or this kind of login lacks the permission.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiCancelKernelSessionRequest

        request = ApiCancelKernelSessionRequest()
        request.kernel_session_id = session
        try:
            answer = self.repeated(
                f"the end of session {session}", lambda: self._kernels.cancel_kernel_session(request)
            )
        except KaggleRefused as error:
            if error.status == 403 and self.credential.kind == "key":
                raise KaggleRefused(
                    f"{error} Some accounts cannot do this with a legacy key. Run `kaggle auth login` and try again.",
                    403,
                ) from error
            raise
        if answer.error_message:
            raise KaggleRefused(f"Kaggle did not stop session {session}: {answer.error_message}")

    def delete(self, slug: str) -> None:
        """Delete a kernel with all its versions and files.

        A running session ends at once, and none of its files is kept.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiDeleteKernelRequest

        request = ApiDeleteKernelRequest()
        request.user_name, request.kernel_slug = self.user, slug
        self.repeated(f"the deletion of {slug}", lambda: self._kernels.delete_kernel(request))

    # one connection ------------------------------------------------------------------------------------------------

    def _page(self, slug: str, size: int, token: str) -> Any:
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

        request = ApiListKernelSessionOutputRequest()
        request.user_name, request.kernel_slug, request.page_size = self.user, slug, size
        if token:
            request.page_token = token
        return self.repeated(f"the files of {slug}", lambda: self._kernels.list_kernel_session_output(request))

    def _lines(self, slug: str) -> Iterator[Line]:
        """One connection to the log, from the first line until the connection ends."""
        import requests

        with contextlib.suppress(requests.RequestException, ValueError):  # the caller counts lines and connects again
            yield from self._connection(slug)

    def _stored(self, slug: str) -> list[Line]:
        """The stored log of a session that has ended; empty if Kaggle keeps none."""
        try:
            return self.repeated(f"the log of {slug}", lambda: list(self._connection(slug)))
        except KaggleRefused as refusal:
            if refusal.status == 404:
                return []
            raise

    def _connection(self, slug: str) -> Iterator[Line]:
        http = self.sdk.http_client()
        http._init_session()  # noqa: SLF001 - as the official client does; the SDK has no streaming call
        base = http._get_request_url("", "").rstrip("/")  # noqa: SLF001
        with http._session.get(  # noqa: SLF001
            f"{base}/kernels/logs/stream/{self.user}/{slug}",
            stream=True,
            timeout=(30.0, 90.0),
            headers={"Accept": "text/event-stream, */*"},
        ) as answer:
            answer.raise_for_status()
            yield from joined(entries(answer))
