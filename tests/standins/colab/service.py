"""A stand-in of Colab for Google's own command `colab`: an HTTPS proxy on loopback that answers in the place of
colab.research.google.com, and a real Jupyter server for each runtime.

The client goes through HTTPS_PROXY and trusts REQUESTS_CA_BUNDLE. What it asks that is not known here is recorded in
`strays` and refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HOST = "colab.research.google.com"
VARIANTS = ("DEFAULT", "GPU", "TPU")
ACCELERATORS = ("NONE", "G4", "T4", "L4", "A100", "H100", "V5E1", "V6E1")
XSSI = ")]}'\n"

CONFIG = '''
import os
from jupyter_server.auth.identity import IdentityProvider, User

class Proxy(IdentityProvider):
    """Colab's proxy lets nobody through without the token of the runtime."""
    async def get_user(self, handler):
        found = handler.get_argument("colab-runtime-proxy-token", None) or handler.request.headers.get(
            "X-Colab-Runtime-Proxy-Token"
        )
        return User("colab") if found == os.environ["STANDIN_TOKEN"] else None

c = get_config()
c.ServerApp.identity_provider_class = Proxy
c.ServerApp.disable_check_xsrf = True
c.ServerApp.allow_root = True
c.ServerApp.open_browser = False
c.ServerApp.jpserver_extensions = {}
'''

STARTUP = """
import os as _os
def _inside(name, change):
    def changed(path, *more, **named):
        if str(path) == "/content":
            path = _os.environ["OUTLAST_COLAB_ROOT"] + "/content"
        return change(path, *more, **named)
    setattr(_os, name, changed)
_inside("makedirs", _os.makedirs)
_inside("chdir", _os.chdir)
"""
"""In a runtime /content is a folder of the machine; here it is one of the stand-in."""


class Colab:
    """The service.

    Args:
        folder: its world: certificates, and a folder for each runtime.
        python: an interpreter that has jupyter_server, ipykernel, and what a training needs.

    Attributes:
        strays: requests that the client is not known to make.
        calls: method and path of each answered request.
        refuse: status code for the next assignment, then removed.
        most: runtimes at a time.
    """

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.strays: list[str] = []
        self.calls: list[str] = []
        self.runtimes: dict[str, dict[str, Any]] = {}
        self.waiting: dict[str, str] = {}
        self.refuse: list[int] = []
        self.most = 2
        self.balance = 12.5
        self.lifetime = 3600
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._tls = certificates(folder)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for endpoint in list(self.runtimes):
            self.take_back(endpoint)

    def environment(self, home: Path) -> dict[str, str]:
        """Variables of the client: the proxy, the certificate, and a service account of this machine."""
        home.mkdir(parents=True, exist_ok=True)
        settings = home / ".config/colab-cli/settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text('{"enable_update_check": false}')
        settings.chmod(0o600)
        account = home / "account.json"
        account.write_text(json.dumps({
            "type": "service_account", "project_id": "p", "private_key_id": "1", "client_id": "1",
            "private_key": (self.folder / "ca.key").read_text(), "client_email": "ada@p.iam.gserviceaccount.com",
            "token_uri": f"http://127.0.0.1:{self.server.server_port}/token",
        }))  # fmt: skip
        return {
            "HOME": str(home),
            "HTTPS_PROXY": f"http://127.0.0.1:{self.server.server_port}",
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(self.folder / "ca.pem"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(account),
            "COLAB_CLI_RETRY_BACKOFF": "0.1",
        }

    # runtimes ------------------------------------------------------------------------------------------------------

    def start(self, accelerator: str, variant: str, shape: str) -> str:
        number = len(list(self.folder.glob("vm-*"))) + 1
        endpoint = f"m-s-{number}"
        root = self.folder / f"vm-{number}"
        (root / "content").mkdir(parents=True)
        profile = root / "ipython/profile_default/startup"
        profile.mkdir(parents=True)
        (profile / "content.py").write_text(STARTUP)
        (root / "config.py").write_text(CONFIG)
        token = f"token-of-{endpoint}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "OMP_NUM_THREADS")}
        environment = kept | {
            "HOME": str(root), "IPYTHONDIR": str(root / "ipython"), "OUTLAST_COLAB_ROOT": str(root),
            "STANDIN_TOKEN": token, "JUPYTER_RUNTIME_DIR": str(root / "jupyter"), "COLAB_RELEASE_TAG": "stand-in",
            "JUPYTER_PLATFORM_DIRS": "1",
        }  # fmt: skip
        words = ["--config", str(root / "config.py"), f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}"]
        process = subprocess.Popen(
            [str(self.python), "-m", "jupyter_server", *words, "--ServerApp.ip=127.0.0.1"],
            env=environment, cwd=root, stdin=subprocess.DEVNULL, stdout=(root / "server.txt").open("wb"),
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5)
                break
            time.sleep(0.1)
        self.runtimes[endpoint] = {
            "process": process, "root": root, "token": token, "url": f"http://127.0.0.1:{port}",
            "accelerator": accelerator, "variant": variant, "shape": shape,
        }  # fmt: skip
        return endpoint

    def take_back(self, endpoint: str) -> None:
        """End a runtime and all that was started in it. Nothing of it is kept."""
        runtime = self.runtimes.pop(endpoint)
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"STANDIN_TOKEN={runtime['token']}".encode() in place.read_bytes():
                    os.kill(int(place.parent.name), signal.SIGKILL)
        runtime["process"].wait()
        shutil.rmtree(runtime["root"] / "content", ignore_errors=True)

    def _about(self, endpoint: str) -> dict[str, Any]:
        runtime = self.runtimes[endpoint]
        return {
            "accelerator": runtime["accelerator"],
            "endpoint": endpoint,
            "variant": VARIANTS.index(runtime["variant"]),
            "runtimeProxyInfo": {
                "token": runtime["token"], "tokenExpiresInSeconds": self.lifetime, "url": runtime["url"],
            },
        }  # fmt: skip

    # answers -------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: Any) -> tuple[int, Any]:
        """Status and body of a request for colab.research.google.com."""
        address = urlsplit(path)
        asked = {key: values[0] for key, values in parse_qs(address.query).items()}
        self.calls.append(f"{method} {address.path}")
        if headers.get("Authorization") != "Bearer access-of-ada" or asked.pop("authuser", "") != "0":
            return 401, {}
        parts = address.path.removeprefix("/tun/m/").split("/")
        with self._lock:
            if (method, parts) == ("GET", ["ccu-info"]) and not asked:
                rate = 1.76 * len(self.runtimes)
                return 200, {
                    "currentBalance": self.balance, "consumptionRateHourly": rate,
                    "assignmentsCount": len(self.runtimes),
                }  # fmt: skip
            if (method, parts) == ("GET", ["assignments"]) and not asked:
                variants = {"DEFAULT": 0, "GPU": 1, "TPU": 2}
                listed = [
                    self._about(name)
                    | {"variant": variants[each["variant"]], "machineShape": int(each["shape"] == "hm")}
                    for name, each in self.runtimes.items()
                ]
                return 200, {"assignments": listed}
            if parts == ["assign"] and method in ("GET", "POST"):
                return self._assign(method, asked, headers.get("X-Goog-Colab-Token"))
            if parts[0] == "unassign" and len(parts) == 2:
                if parts[1] not in self.runtimes:
                    return 404, {}
                if method == "GET":
                    return 200, {"token": f"xsrf-{parts[1]}"}
                if method == "POST" and headers.get("X-Goog-Colab-Token") == f"xsrf-{parts[1]}":
                    self.take_back(parts[1])
                    return 200, {}
        self.strays.append(f"{method} {path}")
        return 404, {}

    def _assign(self, method: str, asked: dict[str, str], xsrf: str | None) -> tuple[int, Any]:
        notebook = asked.pop("nbh", "")
        known = {"variant": VARIANTS, "accelerator": ACCELERATORS, "shape": ("hm",)}
        if len(notebook) != 44 or any(value not in known.get(key, ()) for key, value in asked.items()):
            self.strays.append(f"{method} assign {asked}")
            return 400, {}
        if method == "GET":
            self.waiting[notebook] = f"xsrf-{notebook[:8]}"
            return 200, {
                "acc": asked.get("accelerator", "NONE"), "nbh": notebook, "token": self.waiting[notebook],
                "variant": asked.get("variant", "DEFAULT"),
            }  # fmt: skip
        if xsrf != self.waiting.get(notebook):
            return 403, {}
        if self.refuse:
            return self.refuse.pop(), {}
        if len(self.runtimes) >= self.most:
            return 412, {}
        endpoint = self.start(asked.get("accelerator", "NONE"), asked.get("variant", "DEFAULT"), asked.get("shape", ""))
        return 200, self._about(endpoint) | {
            "variant": {"DEFAULT": 0, "GPU": 1, "TPU": 2}[asked.get("variant", "DEFAULT")]
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_CONNECT(self) -> None:
                host = self.path.rpartition(":")[0]
                if host != HOST:
                    world.strays.append(f"CONNECT {self.path}")
                    self.send_error(502)
                    return
                self.send_response(200)
                self.end_headers()
                self.connection = world._tls.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb", -1), self.connection.makefile("wb", 0)
                self.close_connection = False

            def do_GET(self) -> None:
                self._reply(*world.answer("GET", self.path, self.headers))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/token":
                    return self._reply(200, {"access_token": "access-of-ada", "expires_in": 3600}, "")
                return self._reply(*world.answer("POST", self.path, self.headers))

            def _reply(self, status: int, body: Any, before: str = XSSI) -> None:
                data = (before + json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


def certificates(folder: Path) -> ssl.SSLContext:
    """A certificate for the host by an authority of its own; returns the server's side."""
    openssl = shutil.which("openssl")
    assert openssl
    (folder / "names").write_text(f"subjectAltName=DNS:{HOST}\n")

    def made(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    made("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
         "-subj", "/CN=stand-in")  # fmt: skip
    made("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "host.key", "-out", "host.csr", "-subj", f"/CN={HOST}")
    made("x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "host.pem", "-days", "2",
         "-extfile", "names")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem", folder / "host.key")
    return context


@contextlib.contextmanager
def service(folder: Path, python: Path) -> Iterator[Colab]:
    """The service, and its end."""
    with Colab(folder, python) as running:
        yield running
