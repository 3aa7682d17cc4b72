"""A proxy on loopback, for one message: whoever is told its port reaches the outside through the outbound door, with
names resolved once, the address judged, and limits of time and size. RFC 9110 §9.3.6 (CONNECT), §7.1 (absolute form).

It lives as long as the message takes, listens for connections from this machine only, and keeps nothing.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from types import TracebackType
from urllib.parse import urlsplit

from rollouts import outbound

HEAD = 64 * 1024
LARGEST = 4 * 1024 * 1024


class Relay:
    """Use as a context; `port` is where it listens. `refusal`: what the door said, where it let nothing through."""

    def __init__(self, door: outbound.Door, *, seconds: float) -> None:
        self.door = door
        self.until = time.monotonic() + seconds
        self.refusal = ""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(2)

    def _serve(self) -> None:
        while time.monotonic() < self.until:
            try:
                self._listening.settimeout(max(0.1, self.until - time.monotonic()))
                inner, _address = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=[inner], daemon=True).start()

    def _carry(self, inner: socket.socket) -> None:
        with contextlib.closing(inner), contextlib.suppress(OSError, ValueError):
            inner.settimeout(max(0.1, self.until - time.monotonic()))
            head, rest = _head(inner)
            method, target, *_version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            if method == "CONNECT":
                parts = urlsplit(f"//{target}")
                opened = b""
            else:
                parts = urlsplit(target)
                path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
                opened = _one_request(head, method, path) + b"\r\n\r\n"
            try:
                reached = outbound.reach(parts.hostname or "", parts.port or 80, door=self.door, until=self.until)
            except (outbound.NotAllowed, outbound.Unreachable) as error:
                self.refusal = str(error)
                inner.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with contextlib.closing(reached.connection) as outer:
                if opened:
                    outer.sendall(opened + rest)
                else:
                    inner.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    if rest:
                        outer.sendall(rest)
                self._both_ways(inner, outer)

    def _both_ways(self, inner: socket.socket, outer: socket.socket) -> None:
        passed = 0
        with selectors.DefaultSelector() as both:
            both.register(inner, selectors.EVENT_READ, outer)
            both.register(outer, selectors.EVENT_READ, inner)
            while passed < LARGEST and (left := self.until - time.monotonic()) > 0:
                for key, _events in both.select(left):
                    assert isinstance(key.fileobj, socket.socket)
                    piece = key.fileobj.recv(65536)
                    if not piece:
                        return
                    key.data.sendall(piece)
                    passed += len(piece)


def _head(inner: socket.socket) -> tuple[bytes, bytes]:
    """What stands before the empty line, and what came behind it already."""
    read = b""
    while b"\r\n\r\n" not in read:
        piece = inner.recv(4096)
        read += piece
        if not piece or len(read) > HEAD:
            raise ValueError("no request")
    head, rest = read.split(b"\r\n\r\n", 1)
    return head, rest


def _one_request(head: bytes, method: str, path: str) -> bytes:
    """The head for the server itself. The connection carries this one request, so that no other goes through it."""
    lines = head.split(b"\r\n")[1:]
    ours = (b"connection:", b"proxy-connection:", b"proxy-authorization:")
    kept = [line for line in lines if not line.lower().startswith(ours)]
    return b"\r\n".join([f"{method} {path} HTTP/1.1".encode("latin-1"), *kept, b"Connection: close"])
