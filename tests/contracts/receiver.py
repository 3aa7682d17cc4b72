"""Stands in for somebody's own receiver of webhooks, with one app.

    receiver.py STATE PORT

Follows Standard Webhooks (spec/standard-webhooks.md): the signature is verified by that project's own library. Fetches
each export from the address in the order, with a signature of its own, and runs the app with it.

STATE/behaviour: what goes wrong (misbehaving.py). STATE/calls: a line for each start, stop and restart.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import threading
import time
import urllib.request
import uuid
import zipfile
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from misbehaving import SECONDS, Handler
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

state, port = Path(sys.argv[1]), int(sys.argv[2])
# base64 of “receiver-and-portal-know-it”
KEY = "whsec_cmVjZWl2ZXItYW5kLXBvcnRhbC1rbm93LWl0"
TAKES = 0.4
NOTHING = hashlib.sha256(b"").hexdigest()
lock = threading.Lock()


class App:
    incarnation = ""
    began = 0.0
    delivered = NOTHING
    loaded = NOTHING

    def start(self) -> None:
        self.incarnation, self.began, self.loaded = str(uuid.uuid4()), time.monotonic(), self.delivered

    def report(self) -> dict[str, Any]:
        if not self.incarnation:
            return {"status": "stopped", "delivered": self.delivered}
        starting = time.monotonic() - self.began < TAKES
        return {
            "status": "starting" if starting else "running",
            "incarnation": self.incarnation,
            "digest": self.loaded,
            "delivered": self.delivered,
        }


app = App()


def note(call: str) -> None:
    with (state / "calls").open("a") as file:
        file.write(call + "\n")


def fetch(address: str) -> str:
    """The digest of what is fetched, written from the documented words (sha256sum's form)."""
    now = datetime.now(UTC)
    mark = Webhook(KEY).sign("msg_fetch", now, "")
    headers = {
        "webhook-id": "msg_fetch", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": mark,
    }  # fmt: skip
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
        packed = zipfile.ZipFile(io.BytesIO(answer.read()))
    lines = [f"{hashlib.sha256(packed.read(name)).hexdigest()}  {name}\n" for name in sorted(packed.namelist())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Receiver(Handler):
    behaviour = state / "behaviour"

    def do_GET(self) -> None:
        if self.path == "/instances":
            self.answer(200, [app.incarnation] if app.incarnation else [])
        else:
            self.answer(200, {})

    def do_POST(self) -> None:
        body = self.body()
        if self.misbehaves():
            return
        try:
            Webhook(KEY).verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError:
            self.answer(401, {"message": "signature"})
            return
        order = json.loads(body)
        with lock:
            self.answer(200, self._carry_out(order["type"].removeprefix("countersign."), order["data"]))

    def _carry_out(self, what: str, data: dict[str, Any]) -> Any:
        match what:
            case "apply":
                found = fetch(data["bundle"]) if data["bundle"] else NOTHING
                if found == data["digest"] and found != app.delivered:
                    app.delivered = found
                    if app.incarnation:
                        note("restart")
                        app.start()
            case "start" if not app.incarnation:
                note("start")
                app.start()
            case "stop" if app.incarnation:
                note("stop")
                app.incarnation = ""
            case "restart":
                note("restart")
                app.start()
        return app.report()


server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
server.daemon_threads = True
threading.Timer(SECONDS, server.shutdown).start()
server.serve_forever()
