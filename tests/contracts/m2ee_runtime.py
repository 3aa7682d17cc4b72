"""Stands in for a Mendix runtime with its M2EE admin port, and for the supervisor that brings it back.

    m2ee_runtime.py supervise STATE PORT CONFIGURATION
    m2ee_runtime.py run STATE PORT CONFIGURATION

Follows mendix/m2ee-tools src/m2ee/client.py (POST /, {"action", "params"}, X-M2EE-Authentication: base64 of the
password; {"result", "feedback"}), client_errno.py (-1 to -7), and mendix/docs refguide/runtime/
monitoring-mendix-runtime.md. `shutdown` cuts the connection, as System.exit(0) in a finally clause does.

STATE/behaviour holds what goes wrong: hang, reset, drip, garbage, refuse, redirect, huge. STATE/calls gets a line for
each start and each shutdown. STATE/sick makes check_health say so.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PASSWORD = "Adm1n-of-the-runtime"
role, state, port, configuration = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
# Seconds for which a start is `starting`.
TAKES = 0.4


def note(call: str) -> None:
    with (state / "calls").open("a") as file:
        file.write(call + "\n")


def supervise() -> None:
    """Restart=always, with a short pause; ends with its runtime after two minutes, whatever happens."""
    until = time.monotonic() + 120
    runtime: subprocess.Popen[bytes] | None = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        while time.monotonic() < until:
            note("start")
            runtime = subprocess.Popen([sys.executable, __file__, "run", *sys.argv[2:]])
            runtime.wait()
            time.sleep(0.3)
    finally:
        if runtime:
            runtime.kill()


class Admin(BaseHTTPRequestHandler):
    began = time.monotonic()

    def do_GET(self) -> None:
        self._answer(200, {"up": True})

    def do_POST(self) -> None:
        how = (state / "behaviour").read_text() if (state / "behaviour").exists() else ""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if how:
            self._misbehave(how)
            return
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            self._answer(200, {"result": -2, "message": "Content type should be application/json"})
            return
        if self.headers.get("X-M2EE-Authentication") != base64.b64encode(PASSWORD.encode()).decode():
            self._answer(200, {"result": -4, "message": "Forbidden"})
            return
        try:
            asked: dict[str, Any] = json.loads(body)
        except ValueError:
            self._answer(200, {"result": -6, "message": "Unable to read the request"})
            return
        self._act(str(asked.get("action")), asked.get("params") or {})

    def _act(self, action: str, params: dict[str, Any]) -> None:
        starting = time.monotonic() - self.began < TAKES
        match action:
            case "echo":
                self._answer(200, {"result": 0, "feedback": {"echo": "pong"}})
            case "runtime_status":
                self._answer(200, {"result": 0, "feedback": {"status": "starting" if starting else "running"}})
            case "check_health" if not starting:
                sick = (state / "sick").exists()
                found = {"health": "sick", "diagnosis": "no mail"} if sick else {"health": "healthy"}
                self._answer(200, {"result": 0, "feedback": found})
            case "shutdown":
                note("shutdown")
                os._exit(0)
            case _:
                self._answer(200, {"result": -5, "message": "Action not found."})

    def _misbehave(self, how: str) -> None:
        match how:
            case "hang":
                time.sleep(20)
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case "drip":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b" ")
                    time.sleep(0.2)
            case "garbage":
                self._raw(200, b"\xff\x00<html>" * 100)
            case "refuse":
                self._answer(500, {"message": "no"})
            case "redirect":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/")
                self.end_headers()
            case "huge":
                self._raw(200, b"[" * (5 * 1024 * 1024))

    def _answer(self, status: int, found: dict[str, Any]) -> None:
        self._raw(status, json.dumps(found).encode())

    def _raw(self, status: int, body: bytes) -> None:
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


if role == "supervise":
    supervise()
else:
    server = ThreadingHTTPServer(("127.0.0.1", port), Admin)
    server.daemon_threads = True
    server.serve_forever()
