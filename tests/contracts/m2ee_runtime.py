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
import subprocess
import sys
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from misbehaving import SECONDS, Handler

PASSWORD = "Adm1n-of-the-runtime"
role, state, port, configuration = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
# Seconds for which a start is `starting`.
TAKES = 0.4


def note(call: str) -> None:
    with (state / "calls").open("a") as file:
        file.write(call + "\n")


def supervise() -> None:
    """Restart=always, with a short pause; ends with its runtime after SECONDS, whatever happens."""
    until = time.monotonic() + SECONDS
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


class Admin(Handler):
    behaviour = state / "behaviour"
    began = time.monotonic()

    def do_GET(self) -> None:
        self.answer(200, {"up": True})

    def do_POST(self) -> None:
        body = self.body()
        if self.misbehaves():
            return
        if self.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            self.answer(200, {"result": -2, "message": "Content type should be application/json"})
            return
        if self.headers.get("X-M2EE-Authentication") != base64.b64encode(PASSWORD.encode()).decode():
            self.answer(200, {"result": -4, "message": "Forbidden"})
            return
        try:
            asked: dict[str, Any] = json.loads(body)
        except ValueError:
            self.answer(200, {"result": -6, "message": "Unable to read the request"})
            return
        self._act(str(asked.get("action")), asked.get("params") or {})

    def _act(self, action: str, params: dict[str, Any]) -> None:
        starting = time.monotonic() - self.began < TAKES
        match action:
            case "echo":
                self.answer(200, {"result": 0, "feedback": {"echo": "pong"}})
            case "runtime_status":
                self.answer(200, {"result": 0, "feedback": {"status": "starting" if starting else "running"}})
            case "check_health" if not starting:
                sick = (state / "sick").exists()
                found = {"health": "sick", "diagnosis": "no mail"} if sick else {"health": "healthy"}
                self.answer(200, {"result": 0, "feedback": found})
            case "shutdown":
                note("shutdown")
                os._exit(0)
            case _:
                self.answer(200, {"result": -5, "message": "Action not found."})


if role == "supervise":
    supervise()
else:
    server = ThreadingHTTPServer(("127.0.0.1", port), Admin)
    server.daemon_threads = True
    server.serve_forever()
