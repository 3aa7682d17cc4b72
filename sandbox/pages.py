"""What the sandbox's two small web servers share: a page's frame and style sheet, safe headers, and their end."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Sequence
from datetime import datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("style.css")
_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class LoopbackServer(ThreadingHTTPServer):
    """A threaded HTTP server on 127.0.0.1 whose threads never hold up its end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, answers: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", port), answers)

    def server_bind(self) -> None:
        """Bind without asking the resolver for this machine's name, which may take seconds."""
        if self.server_address[1]:
            # A named port must be free again right after a restart; a free one must be nobody else's.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


class Answers(BaseHTTPRequestHandler):
    """Sends pages, JSON and files with headers that allow no script, no frame and no caching."""

    server_version = "Sandbox"
    sys_version = ""
    timeout = 10

    def send(self, status: int, kind: str, body: bytes, *, download_as: str = "") -> None:
        """Send one answer and end. `download_as` offers the body as a file of that (plain ASCII) name."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        if download_as:
            self.send_header("Content-Disposition", f'attachment; filename="{download_as}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: object, status: int = 200) -> None:
        """Send a value as JSON."""
        self.send(status, "application/json", (json.dumps(value, indent=2) + "\n").encode())

    def send_page(self, title: str, body: str, status: int = 200) -> None:
        """Send a page; `body` is HTML whose texts are escaped already, `title` is escaped here."""
        self.send(status, "text/html; charset=utf-8", page(title, body).encode())

    def send_shared(self, path: str) -> None:
        """Answer what both servers have: the style sheet, no icon, and the page for everything unknown."""
        if path == "/style.css":
            self.send(200, "text/css; charset=utf-8", STYLE.read_bytes())
        elif path == "/favicon.ico":
            self.send(204, "image/x-icon", b"")
        else:
            self.send_page(
                "Not found", '<p class="lead">There is no such page. <a href="/">Back to the start</a></p>', 404
            )

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the supervisor's output stays readable, and the partner keeps its own log."""


def page(title: str, body: str) -> str:
    """A whole page around `body`."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Sandbox</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header class="top"><a class="brand" href="/">Sandbox</a><span class="muted">not for production</span></header>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def panel(title: str, body: str, *, note: str = "") -> str:
    """A titled section; `body` is HTML, `title` and `note` are texts."""
    small = f'<p class="muted note">{escape(note)}</p>' if note else ""
    return f'<section class="panel"><h2>{escape(title)}</h2>{small}{body}</section>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> str:
    """A table whose cells are HTML and whose heads are texts; on a phone each row becomes a card with its heads."""
    if not rows:
        return f'<p class="muted note">{escape(empty)}</p>'
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{escape(head_text)}"><div>{cell}</div></td>'
            for head_text, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def chip(word: str, kind: str) -> str:
    """A coloured word; `kind` is good, warn, bad or plain."""
    return f'<span class="chip {escape(kind)}">{escape(word)}</span>'


def when(moment: datetime) -> str:
    """A moment as HTML: `23 Nov 2026, 09:41:07 UTC`, machine-readable beside it."""
    text = f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC"
    return f'<time datetime="{escape(moment.isoformat())}">{escape(text)}</time>'


def fingerprint(sha256: str) -> str:
    """A fingerprint's first bytes, the whole one in the tooltip."""
    return f'<code title="{escape(sha256)}">{escape(sha256[:16])}…</code>'


class Ending:
    """Knows when SIGTERM or SIGINT asked this process to end. Make it in the main thread, before anything slow."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked.set())

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until asked to end, or for `seconds`; True when asked."""
        return self._asked.wait(seconds)


def serve(*servers: LoopbackServer, until: Ending) -> None:
    """Serve in threads until asked to end; answers under way are cut off, so that the end takes no time."""
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    until.wait()
    for server in servers:
        server.shutdown()
        server.server_close()
