"""An app that takes its time: for SECONDS after its start it says that it is starting.

slow_app.py PORT CONFIGURATION SECONDS
"""

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

port, folder, seconds = int(sys.argv[1]), Path(sys.argv[2]).resolve(), float(sys.argv[3])
began = time.monotonic()
files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
lines = [f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
digest = hashlib.sha256("".join(lines).encode()).hexdigest()


class Status(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        up = time.monotonic() - began > seconds
        body = json.dumps({"status": "running" if up else "starting", "digest": digest}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


HTTPServer(("127.0.0.1", port), Status).serve_forever()
