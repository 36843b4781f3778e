"""A connection that can break: TCP passed on to another port of 127.0.0.1, and cut after so many bytes."""

from __future__ import annotations

import contextlib
import socket
import threading


class Cut:
    """Passes connections on to a port.

    `left` is how many bytes more may pass, both ways together; then every connection that is open is cut, once.
    """

    def __init__(self, port: int) -> None:
        self._target, self.left, self.cuts = port, None, 0
        self._lock, self._open = threading.Lock(), []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def after(self, size: int) -> None:
        """Cut once when so many bytes have passed."""
        with self._lock:
            self.left = size

    def close(self) -> None:
        self._server.close()
        self._cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._server.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target))
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._open.append(end)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                with self._lock:
                    if self.left is not None:
                        self.left -= len(data)
                    over = self.left is not None and self.left <= 0
                    if over:
                        self.left, self.cuts = None, self.cuts + 1
                if over:
                    self._cut()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        while self._open:
            end = self._open.pop()
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
