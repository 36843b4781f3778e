"""Servers that lead elsewhere: how far a download goes with them, what it tells whom, and what it does not follow."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import outlast
from outlast_recipes.common.downloading import File, download
from outlast_recipes.common.source import REDIRECTS
from tests import messages

CONTENT = b"some content " * 50_000
KNOWN = hashlib.sha256(CONTENT).hexdigest()
HEADERS = {"Accept-Encoding", "Connection", "Host", "User-Agent"}  # those of any request of Python's


class Server(ThreadingHTTPServer):
    """Sends `CONTENT`, or leads elsewhere: `leads` has the place for each path, with the status."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"
        self.leads: dict[str, tuple[int, str]] = {}
        self.fails: dict[str, int] = {}
        self.cut, self.left = len(CONTENT), 10**9  # bytes of a reply, and replies before it is unavailable
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        server.headers.append(dict(self.headers))
        if self.path in server.leads:
            status, place = server.leads[self.path]
            self.reply(status, **({"Location": place} if place else {}), **{"Set-Cookie": "key=secret"})
        elif self.path in server.fails or server.left == 0:
            self.reply(server.fails.get(self.path, 503))
        elif first := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""):
            at = int(first[1])
            place = f"bytes {at}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.reply(206, CONTENT[at:], **{"Content-Range": place, "ETag": '"one"'})
        else:
            self.reply(200, CONTENT, ETag='"one"')

    def reply(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.server.left -= status in (200, 206)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def serving(server: Server) -> Iterator[Server]:
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def first() -> Iterator[Server]:
    yield from serving(Server())


@pytest.fixture
def second() -> Iterator[Server]:
    yield from serving(Server())


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a certificate of its own, which is trusted."""
    place = tmp_path / "tls"
    place.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=place, capture_output=True, check=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(place / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert.pem", place / "key.pem")
    yield from serving(Server(context))


def fetch(server: Server, folder: Path) -> list[float]:
    """Fetch the file f.bin; returns the pauses."""
    pauses: list[float] = []
    file = File("f.bin", len(CONTENT), KNOWN)
    assert download(server.address, [file], folder, lambda *_: None, pause=pauses.append) == 1
    assert (folder / "f.bin").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["f.bin"]
    return pauses


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_host_is_asked_for_the_file_and_told_nothing_else(
    first: Server, second: Server, tmp_path: Path, status: int
) -> None:
    first.leads["/f.bin"] = (status, f"{second.address}/a%20b/c?key=12")
    assert fetch(first, tmp_path / "d") == []
    assert (first.asked, second.asked) == (["/f.bin"], ["/a%20b/c?key=12"])
    assert set(second.headers[0]) == HEADERS, "neither cookies nor where it came from"


@pytest.mark.parametrize("place", ["/other/f", "other/f", "//127.0.0.1:{port}/other/f", "/other/f#part"])
def test_a_place_is_read_as_browsers_do(first: Server, tmp_path: Path, place: str) -> None:
    first.leads["/f.bin"] = (302, place.format(port=first.server_address[1]))
    fetch(first, tmp_path / "d")
    assert first.asked == ["/f.bin", "/other/f"]


def test_a_place_with_spaces_is_asked_for(first: Server, tmp_path: Path) -> None:
    first.leads["/f.bin"] = (302, "/my f\xfcr")
    fetch(first, tmp_path / "d")
    assert first.asked[1] == "/my%20f%FCr"


def test_it_goes_on_where_it_was_though_the_place_is_another_one_each_time(
    first: Server, second: Server, tmp_path: Path
) -> None:
    second.cut, second.left = 300_000, 1
    first.leads["/f.bin"] = (302, f"{second.address}/f?signature=1")
    with pytest.raises(outlast.DataError, match="is continued"):
        fetch(first, tmp_path / "d")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    assert max(map(len, kept.values())) == 300_000
    assert not any(b"signature" in each for each in kept.values()), "a signed address is a key"
    second.cut, second.left, second.asked, second.headers = len(CONTENT), 1, [], []
    first.leads["/f.bin"] = (302, f"{second.address}/f?signature=2")
    fetch(first, tmp_path / "d")
    assert second.asked == ["/f?signature=2"]
    assert (second.headers[0]["Range"], second.headers[0]["If-Range"]) == ("bytes=300000-", '"one"')


def test_each_try_begins_at_the_first_address(first: Server, second: Server, tmp_path: Path) -> None:
    """Because a signed address does not hold for long."""
    second.cut = 300_000
    first.leads["/f.bin"] = (302, f"{second.address}/f?signature=1")
    fetch(first, tmp_path / "d")
    assert first.asked == ["/f.bin"] * 3
    assert [headers.get("Range") for headers in second.headers] == [None, "bytes=300000-", "bytes=600000-"]


def test_it_leads_elsewhere_a_few_times_and_no_more(first: Server, tmp_path: Path) -> None:
    first.leads = {"/f.bin": (302, "/1"), **{f"/{number}": (302, f"/{number + 1}") for number in range(1, REDIRECTS)}}
    fetch(first, tmp_path / "d")
    assert len(first.asked) == REDIRECTS + 1
    first.leads[f"/{REDIRECTS}"] = (302, "/f.bin?again=1")
    first.asked = []
    with messages.raises(outlast.DataError, "download/leads-elsewhere-too-often", most=REDIRECTS, end="/f.bin"):
        fetch(first, tmp_path / "other")
    assert len(first.asked) == REDIRECTS + 1, "and it is not tried again"
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("http://example.org/f", "http://example.org/f"),
        ("http://localhost/f", "http://localhost/f"),
        ("https://user:secret@example.org/f?secret", "https://example.org/f"),
        ("http://127.0.0.1@example.org/f", "http://example.org/f"),
        ("file:///etc/hostname", "file:///etc/hostname"),
        ("ftp://127.0.0.1/f", "ftp://127.0.0.1/f"),
        ("data:text/plain,secret", "://data:text/plain,secret"),
        ("https://", "https://"),
        ("https://[::1/f", "https://[::1/f"),
        ("https://a..org/f", "https://a..org/f"),
        ("https://example.org:99999/f", "https://example.org:99999/f"),
    ],
)
def test_other_places_are_not_followed(first: Server, tmp_path: Path, place: str, shown: str) -> None:
    first.leads["/f.bin"] = (302, place)
    with messages.raises(outlast.DataError, "download/leads-where-nobody-goes", place=repr(shown)) as caught:
        fetch(first, tmp_path / "d")
    assert "secret" not in str(caught.value).replace("plain,secret", "")
    assert first.asked == ["/f.bin"], "and it is not tried again"


def test_https_stays_https_and_never_leads_to_this_machine(secure: Server, first: Server, tmp_path: Path) -> None:
    secure.leads = {"/f.bin": (302, "/next"), "/next": (302, f"{first.address}/f")}
    with messages.raises(
        outlast.DataError, "download/https-leads-to-http", path="/next", place=repr(f"{first.address}/f")
    ):
        fetch(secure, tmp_path / "d")
    assert first.asked == []
    secure.leads["/next"] = (302, f"{secure.address}/end")
    fetch(secure, tmp_path / "d")
    assert secure.asked[-3:] == ["/f.bin", "/next", "/end"]


def test_a_certificate_that_nobody_knows_ends_it(
    secure: Server, first: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    first.leads["/f.bin"] = (302, f"{secure.address}/f?key=1")
    with pytest.raises(outlast.DataError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        fetch(first, tmp_path / "d")
    assert f"/f.bin, which leads to {secure.address}/f, was not received" in str(caught.value)
    assert secure.asked == []


def test_what_is_refused_there_names_both_addresses(first: Server, second: Server, tmp_path: Path) -> None:
    first.leads["/f.bin"] = (302, f"{second.address}/f?key=1")
    second.fails["/f?key=1"] = 403
    with messages.raises(outlast.DataError, "download/refused-elsewhere", file="/f.bin", other="/f", status=403):
        fetch(first, tmp_path / "d")


def test_another_content_there_is_not_kept(first: Server, second: Server, tmp_path: Path) -> None:
    first.leads["/f.bin"] = (302, f"{second.address}/f")
    known = File("f.bin", None, "0" * 64)
    with pytest.raises(outlast.DataError, match=r"/f\.bin, which leads to http.*/f, has another content"):
        download(first.address, [known], tmp_path / "d", lambda *_: None)
    assert list((tmp_path / "d").iterdir()) == []


@pytest.mark.parametrize(("status", "place"), [(302, ""), (300, "/f"), (304, "/f"), (305, "/f")])
def test_other_answers_lead_nowhere(first: Server, tmp_path: Path, status: int, place: str) -> None:
    first.leads["/f.bin"] = (status, place)
    with pytest.raises(outlast.DataError, match=rf"/f\.bin was refused: {status} "):
        fetch(first, tmp_path / "d")
    assert first.asked == ["/f.bin"]


def test_this_machine_is_asked_without_a_proxy_wherever_it_leads(
    first: Server, second: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    first.leads["/f.bin"] = (302, f"{second.address}/f")
    fetch(first, tmp_path / "d")
    assert first.asked == ["/f.bin"]
    assert second.asked == ["/f"]
