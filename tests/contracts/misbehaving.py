"""What can go wrong with a peer that speaks HTTP, for stand-ins: one way each."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

# How long a stand-in lives, whatever happens to whoever started it.
SECONDS = float(os.environ.get("STAND_IN_SECONDS", "120"))


class Handler(BaseHTTPRequestHandler):
    """`behaviour` is the file that says what goes wrong."""

    behaviour: Path

    def misbehaves(self) -> bool:
        how = self.behaviour.read_text() if self.behaviour.exists() else ""
        match how:
            case "hang":
                time.sleep(20)
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case "drip":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b" ")
                        time.sleep(0.2)
            case "garbage":
                self.send(200, b"\xff\x00<html>" * 100)
            case "refuse":
                self.answer(500, {"message": "no"})
            case "redirect":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/")
                self.end_headers()
            case "huge":
                self.send(200, b"[" * (5 * 1024 * 1024))
        return bool(how)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, found: Any) -> None:
        self.send(status, json.dumps(found).encode())

    def send(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        return
