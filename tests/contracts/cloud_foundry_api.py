"""Stands in for a Cloud Controller and its UAA, with one app of two instances.

    cloud_foundry_api.py STATE PORT HOST

Follows cloudfoundry/cloud_controller_ng docs/v3 (root, apps, environment variables, actions, deployments, processes and
stats, permissions, errors) and cloudfoundry/uaa docs (POST /oauth/token). The package cloudfoundry-client uses it too
(tests/contracts/test_cloud_foundry.py).

STATE/behaviour: what goes wrong (misbehaving.py). STATE/calls: a line for each start, stop and restart. STATE/crashes:
instances crash instead of coming up. STATE/expired: the next token is worth nothing.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from misbehaving import SECONDS, Handler

state, port = Path(sys.argv[1]), int(sys.argv[2])
GUID = "7f6c1f0e-3c1d-4a55-9a0e-3f4f7a2c9f10"
PROCESS = "6a901b7c-9417-4dc1-8189-d3234aa0ab82"
# The name under which it is reached: cf.test, with api. and login. before it, or an address.
host = sys.argv[3]
named = not host[0].isdigit()
HERE, LOGIN = (f"http://{'api.' if named else ''}{host}:{port}", f"http://{'login.' if named else ''}{host}:{port}")
USER, PASSWORD = "ops@example.com", "Pass-of-the-user"
CLIENT = "Basic " + base64.b64encode(b"cf-ops:Secret-of-the-client").decode()
TAKES, INSTANCES = 0.4, 2
lock = threading.Lock()


class App:
    state = "STOPPED"
    variables: dict[str, str] = {"JBP_CONFIG": "left alone"}
    # When each instance was started; of a rolling deployment, when it began.
    started = [0.0] * INSTANCES
    deploying = 0.0
    tokens: set[str] = set()

    def look(self) -> None:
        """A rolling deployment replaces one instance after the other."""
        if self.deploying:
            done = int((time.time() - self.deploying) / TAKES)
            for number in range(min(done, INSTANCES)):
                if self.started[number] < self.deploying:
                    self.started[number] = self.deploying + TAKES * number
            if done > INSTANCES:
                self.deploying = 0.0

    def start_all(self) -> None:
        self.state, self.started = "STARTED", [time.time()] * INSTANCES


app = App()


def note(call: str) -> None:
    with (state / "calls").open("a") as file:
        file.write(call + "\n")


def error(code: int, title: str, detail: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "title": title, "detail": detail}]}


def as_app() -> dict[str, Any]:
    return {
        "guid": GUID, "name": "billing", "state": app.state, "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z", "metadata": {"labels": {}, "annotations": {}},
        "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}},
        "relationships": {"space": {"data": {"guid": "2f35885d-0c9d-4423-83ad-fd05066f8576"}}},
        "links": {name: {"href": f"{HERE}/v3/apps/{GUID}{path}", **more} for name, path, more in (
            ("self", "", {}), ("environment_variables", "/environment_variables", {}), ("processes", "/processes", {}),
            ("start", "/actions/start", {"method": "POST"}), ("stop", "/actions/stop", {"method": "POST"}),
        )},
    }  # fmt: skip


def stats() -> list[dict[str, Any]]:
    found = []
    for index, started in enumerate(app.started if app.state == "STARTED" else []):
        up = time.time() - started
        crashes = (state / "crashes").exists()
        found.append(
            {
                "type": "web", "index": index, "uptime": int(up), "host": "10.244.16.10", "usage": {}, "details": None,
                "state": ("CRASHED" if crashes else "RUNNING") if up > TAKES or app.deploying else "STARTING",
                "mem_quota": 268435456, "disk_quota": 1073741824, "fds_quota": 16384, "isolation_segment": None,
                "instance_ports": [{"external": 61000 + index, "internal": 8080}],
            }
        )  # fmt: skip
    return found


class Api(Handler):
    behaviour = state / "behaviour"

    def do_GET(self) -> None:
        if self.path == "/instances":
            with lock:
                app.look()
                # One app: its instances run as one.
                self.answer(200, ["app"] if app.state == "STARTED" else [])
            return
        if self.path == "/up":
            self.answer(200, {})
            return
        self._asked("GET")

    def do_POST(self) -> None:
        self._asked("POST")

    def do_PATCH(self) -> None:
        self._asked("PATCH")

    def _asked(self, method: str) -> None:
        body = self.body()
        if self.misbehaves():
            return
        path, query = urlsplit(self.path).path.rstrip("/"), parse_qs(urlsplit(self.path).query)
        with lock:
            app.look()
            if path in ("", "/v3"):
                self.answer(200, self._root())
            elif path == "/oauth/token":
                self.answer(*self._token(parse_qs(body.decode())))
            elif self.headers.get("Authorization", "").partition(" ")[2] not in app.tokens:
                self.answer(401, error(1000, "CF-InvalidAuthToken", "Invalid Auth Token"))
            else:
                self.answer(*self._act(method, path, query, json.loads(body or b"{}")))

    def _root(self) -> dict[str, Any]:
        login = {"href": LOGIN}
        names = {"self": "/v3", "apps": "/v3/apps", "deployments": "/v3/deployments", "processes": "/v3/processes"}
        known: dict[str, Any] = {name: {"href": HERE + path} for name, path in names.items()}
        v3 = {"href": f"{HERE}/v3", "meta": {"version": "3.190.0"}}
        return {
            "links": {**known, "login": login, "uaa": login, "cloud_controller_v3": v3, "cloud_controller_v2": None}
        }

    def _token(self, form: dict[str, list[str]]) -> tuple[int, Any]:
        given = {name: values[0] for name, values in form.items()}
        by_client = given.get("grant_type") == "client_credentials"
        by_user = (given.get("username"), given.get("password")) == (USER, PASSWORD)
        if self.headers.get("Authorization") != CLIENT or not (by_client or by_user):
            return 401, {"error": "unauthorized", "error_description": "Bad credentials"}
        token = f"token-{uuid.uuid4()}"
        if (state / "expired").exists():
            (state / "expired").unlink()
        else:
            app.tokens.add(token)
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": 599, "refresh_token": "x"}

    def _act(self, method: str, path: str, query: dict[str, list[str]], given: dict[str, Any]) -> tuple[int, Any]:
        match method, path.removeprefix(f"/v3/apps/{GUID}"):
            case "GET", "":
                return 200, as_app()
            case "GET", "/permissions":
                return 200, {"read_basic_data": True, "read_sensitive_data": True}
            case "GET", "/environment_variables":
                return 200, {"var": app.variables, "links": {}}
            case "PATCH", "/environment_variables":
                for name, value in given["var"].items():
                    if value is None:
                        app.variables.pop(name, None)
                    else:
                        app.variables[name] = value
                return 200, {"var": app.variables, "links": {}}
            case "POST", "/actions/start":
                if app.state != "STARTED":
                    note("start")
                    app.start_all()
                return 200, as_app()
            case "POST", "/actions/stop":
                if app.state != "STOPPED":
                    note("stop")
                    app.state, app.deploying = "STOPPED", 0.0
                return 200, as_app()
            case "POST", "/actions/restart":
                note("restart")
                app.start_all()
                return 200, as_app()
            case "GET", "/processes/web":
                return 200, {"guid": PROCESS, "type": "web", "instances": INSTANCES, "links": {}}
            case "GET", "/processes/web/stats":
                return 200, {"resources": stats()}
        if (method, path) == ("POST", "/v3/deployments"):
            if given["relationships"]["app"]["data"]["guid"] != GUID or given.get("strategy") != "rolling":
                return 422, error(10008, "CF-UnprocessableEntity", "App is invalid")
            note("restart")
            app.deploying = time.time()
            return 201, {"guid": str(uuid.uuid4()), "status": {"value": "ACTIVE", "reason": "DEPLOYING"}}
        if (method, path) == ("GET", "/v3/deployments"):
            active = app.deploying and query.get("app_guids") == [GUID] and query.get("status_values") == ["ACTIVE"]
            return 200, {"pagination": {"total_results": 1}, "resources": [{"guid": "d"}] if active else []}
        return 404, error(10010, "CF-ResourceNotFound", "App not found")


server = ThreadingHTTPServer(("127.0.0.1", port), Api)
server.daemon_threads = True
threading.Timer(SECONDS, server.shutdown).start()
server.serve_forever()
