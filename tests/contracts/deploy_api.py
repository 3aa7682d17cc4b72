"""Stands in for the Deploy API of Mendix Cloud, with one environment.

    deploy_api.py STATE PORT

Follows mendix/docs apidocs-mxsdk/apidocs/deployment/deploy-api-1.md: Mendix-Username and Mendix-ApiKey, GET
/apps/<AppId>/environments/<Mode>, POST …/stop, POST …/start → {"JobId"}, GET …/start/<JobId> → {"Status"}, and the
error codes of each. A start takes a moment, a stop too.

STATE/behaviour: what goes wrong (misbehaving.py). STATE/calls: a line for each start and stop. STATE/fails: the error
code with which a start ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from misbehaving import SECONDS, Handler

state, port = Path(sys.argv[1]), int(sys.argv[2])
USER, KEY = "ops@example.com", "Key-0f-the-api"
APP = "/api/1/apps/billing/environments/Acceptance"
TAKES = 0.4
lock = threading.Lock()


class App:
    status = "Stopped"
    job = ""
    began = 0.0
    stops_at = 0.0
    fails = ""

    def look(self) -> None:
        if self.job and self.status == "Stopped" and time.monotonic() - self.began > TAKES and not self.fails:
            self.status = "Running"
        if self.stops_at and time.monotonic() > self.stops_at:
            self.status, self.stops_at, self.job = "Stopped", 0.0, ""


app = App()


def fails() -> str:
    return (state / "fails").read_text() if (state / "fails").exists() else ""


def note(call: str) -> None:
    with (state / "calls").open("a") as file:
        file.write(call + "\n")


class Api(Handler):
    behaviour = state / "behaviour"

    def do_GET(self) -> None:
        if self.path == "/up":
            self.answer(200, {})
        elif self.path == "/instances":
            with lock:
                app.look()
                self.answer(200, [app.job] if app.status == "Running" else [])
        else:
            self._asked("GET")

    def do_POST(self) -> None:
        self._asked("POST")

    def _asked(self, method: str) -> None:
        body = self.body()
        if self.misbehaves():
            return
        if (self.headers.get("Mendix-Username"), self.headers.get("Mendix-ApiKey")) != (USER, KEY):
            self.answer(401, {"errorCode": "NOT_AUTHENTICATED", "errorMessage": "Not authenticated"})
            return
        with lock:
            app.look()
            self.answer(*self._act(method, self.path, body))

    def _act(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        match method, path.removeprefix(APP):
            case "GET", "":
                return 200, {
                    "Status": app.status, "EnvironmentId": "1b2c", "Url": "https://billing-accp.mendixcloud.com",
                    "Mode": "Acceptance", "ModelVersion": "1.2.3.4", "MendixVersion": "10.24.0", "Production": False,
                }  # fmt: skip
            case "POST", "/stop":
                if app.status == "Running" and not app.stops_at:
                    note("stop")
                    app.stops_at = time.monotonic() + TAKES
                return 200, {}
            case "POST", "/start":
                if json.loads(body or b"{}").keys() != {"AutoSyncDb"}:
                    return 400, {"errorCode": "INVALID_PARAMETERS", "errorMessage": "AutoSyncDb"}
                if app.status == "Running":
                    return 200, {"errorCode": "ALREADY_STARTED", "errorMessage": "The environment is already running"}
                if app.job and time.monotonic() - app.began < TAKES:
                    return 500, {"errorCode": "APP_ALREADY_HAS_A_STARTING_JOB", "errorMessage": "Already starting"}
                note("start")
                app.job, app.began, app.fails = str(uuid.uuid4()), time.monotonic(), fails()
                return 200, {"JobId": app.job}
            case "GET", start if start.startswith("/start/"):
                if start.removeprefix("/start/") != app.job:
                    return 404, {"errorCode": "NO_SUCH_STARTJOB", "errorMessage": "No such job"}
                if time.monotonic() - app.began < TAKES:
                    return 200, {"Status": "Starting"}
                if app.fails:
                    return 500, {"errorCode": app.fails, "errorMessage": "It failed"}
                return 200, {"Status": "Started"}
        return 404, {"errorCode": "ENVIRONMENT_NOT_FOUND", "errorMessage": "No such environment"}


server = ThreadingHTTPServer(("127.0.0.1", port), Api)
server.daemon_threads = True
threading.Timer(SECONDS, server.shutdown).start()
server.serve_forever()
