"""The smallest app that keeps the status contract: loads a folder once at its start and says what it loaded.

    tiny_app.py PORT --configuration DIR --behaviour FILE

The behaviour file (JSON, may be absent) is read at start: {"exit": "reason"} ends at once,
{"refuse": "text"} ends at once when a file's name contains the text, {"deaf": true} ignores
SIGTERM, {"child": true} starts a process of its own, {"answer": "..."} sends this body, {"redirect": url},
{"drip": true}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any


def digest_of(folder: Path) -> str:
    """Written from the contract's words, on purpose not with the project's own function."""
    folder = folder.resolve()
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    lines = [f"{hashlib.sha256((folder / p).read_bytes()).hexdigest()}  {p}\n" for p in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--configuration", type=Path, required=True)
    parser.add_argument("port", type=int)
    parser.add_argument("--behaviour", type=Path, required=True)
    options = parser.parse_args()
    behaviour: dict[str, Any] = json.loads(options.behaviour.read_text()) if options.behaviour.exists() else {}
    if "exit" in behaviour:
        sys.exit(behaviour["exit"])
    if "refuse" in behaviour and any(behaviour["refuse"] in p.name for p in options.configuration.rglob("*")):
        sys.exit("this configuration is refused")
    if behaviour.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour.get("child"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(options.configuration)])
    status = {"status": "running", "digest": digest_of(options.configuration), "incarnation": str(uuid.uuid4())}
    body = behaviour.get("answer", json.dumps(status)).encode()

    class Status(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if "redirect" in behaviour else 200)
            self.send_header("Location", behaviour.get("redirect", ""))
            self.end_headers()
            if behaviour.get("drip"):
                for _ in range(40):  # a byte every 0.2 s: each read succeeds, the answer never ends
                    self.wfile.write(b" ")
                    time.sleep(0.2)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    HTTPServer(("127.0.0.1", options.port), Status).serve_forever()


main()
