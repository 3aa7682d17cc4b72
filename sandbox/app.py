"""The app: reads its configuration folder once at start, as a Mendix app does, and calls the partner with what it read.

It ends with code 1 and one line on stderr when the configuration is broken, and never looks at the folder again while
it runs: only a restart applies a change.
"""

from __future__ import annotations

import argparse
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.authority import BANK_HOST, OPEN_HOST
from sandbox.calls import Call, Route, call
from sandbox.configuration import Configuration, load
from sandbox.mendix import BrokenConfiguration, Target, choose
from sandbox.pages import Answers, Ending, LoopbackServer, chip, fingerprint, panel, serve, table, when

_RULE_WORDS = {
    "pinned": ("Pinned", "good"),
    "never": ("Never", "plain"),
    "default": ("Default", "warn"),
    "none-configured": ("None", "plain"),
}
_OUTCOME_WORDS = {
    "answered": ("Answered", "good"),
    "refused": ("Refused", "bad"),
    "unreachable": ("Unreachable", "warn"),
}


@dataclass
class App:
    """One start of the app. `hosts` says which host each target calls."""

    name: str
    configuration: Configuration
    hosts: Mapping[Target, str]
    routes: Mapping[str, Route]
    trust: Path | None
    incarnation: uuid.UUID = field(default_factory=uuid.uuid4)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_calls: dict[Target, Call] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, target: Target) -> Call:
        """Call the partner for one target and remember the outcome for the page."""
        made = call(self.configuration, target, self.hosts[target], routes=self.routes, trust=self.trust)
        with self._lock:
            self.last_calls[target] = made
        return made

    def status(self) -> dict[str, Any]:
        """What `/status` answers: the evidence of which configuration this start runs on."""
        return {
            "status": "running",
            "digest": self.configuration.digest,
            "incarnation": str(self.incarnation),
            "started_at": self.started_at.isoformat(),
            "certificates": len(self.configuration.certificates),
        }


class AppServer(LoopbackServer):
    """The app's web server on 127.0.0.1."""

    def __init__(self, port: int, app: App) -> None:
        self.app = app
        super().__init__(port, AppAnswers)


class AppAnswers(Answers):
    """The app's page, its evidence end point, and calls on request."""

    @property
    def app(self) -> App:
        """The app that is asked."""
        assert isinstance(self.server, AppServer)
        return self.server.app

    def do_GET(self) -> None:
        """/ · /status · /calls.json?host=… (or service=…, identifier=…), which makes the call and answers with it."""
        parts = urlsplit(self.path)
        if parts.path == "/":
            self.send_page(self.app.name, _page(self.app))
        elif parts.path == "/status":
            self.send_json(self.app.status())
        elif parts.path == "/calls.json":
            target = self._target(parse_qs(parts.query))
            if target is None:
                known = ", ".join(f"{target.kind}={target.name}" for target in self.app.hosts)
                self.send_json({"error": f"This app does not call that; ask for one of {known}."}, 404)
            else:
                self.send_json(self.app.call(target).as_json())
        else:
            self.send_shared(parts.path)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """/call: make one call, then show the page again. Only the app's own page may ask for it."""
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(min(int(length), 4096)) if length.isdecimal() else b""
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            self.send_page(
                "Not allowed", '<p class="lead">Another site asked for this call. Nothing was done.</p>', 403
            )
            return
        target = self._target(parse_qs(body.decode(errors="replace")))
        if urlsplit(self.path).path != "/call" or target is None:
            self.send_shared("")
            return
        self.app.call(target)
        self.send_response(303)
        self.send_header("Location", "/#calls")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _target(self, query: Mapping[str, Sequence[str]]) -> Target | None:
        for kind in ("host", "service", "identifier"):
            if kind in query:
                target = Target(kind, query[kind][0])
                return target if target in self.app.hosts else None
        return None


def _page(app: App) -> str:
    configuration = app.configuration
    certificates = [
        [
            str(certificate.position),
            f"<b>{escape(certificate.file)}</b> {fingerprint(certificate.sha256)}",
            escape(certificate.leaf.subject.rfc4514_string()),
            when(certificate.leaf.not_valid_after_utc)
            + (" " + chip("Expired", "bad") if certificate.leaf.not_valid_after_utc < datetime.now(UTC) else ""),
        ]
        for certificate in configuration.certificates
    ]
    return (
        '<dl class="facts">'
        f"<div><dt>Running since</dt><dd>{when(app.started_at)}</dd></div>"
        f'<div><dt>Configuration</dt><dd><code class="long">{escape(configuration.digest)}</code></dd></div>'
        f"<div><dt>Start</dt><dd><code>{escape(str(app.incarnation))}</code></dd></div>"
        "</dl>"
        + panel(
            "Client certificates",
            table(("Position", "File", "Subject", "Valid until"), certificates, empty="None: every call goes without."),
            note="Read once, when this app started. A change in the folder needs a restart.",
        )
        + '<div id="calls">'
        + panel(
            "Calls to the partner",
            table(
                ("Target", "Rule", "Last call", "What was sent and answered"),
                [_target_row(app, target) for target in app.hosts],
                empty="This app calls nobody.",
            ),
        )
        + "</div>"
    )


def _target_row(app: App, target: Target) -> list[str]:
    choice = choose(app.configuration.settings, target)
    made = app.last_calls.get(target)
    via = (
        ""
        if target.kind == "host"
        else f'<p class="muted">{escape(target.kind)}, calls {escape(app.hosts[target])}</p>'
    )
    button = (
        '<form method="post" action="/call">'
        f'<button name="{escape(target.kind)}" value="{escape(target.name)}">Call the partner</button></form>'
    )
    outcome, words = '<span class="muted">Not called yet</span>', ""
    if made is not None:
        outcome = f'{chip(*_OUTCOME_WORDS[made.last.outcome])}<p class="muted">{when(made.at)}</p>'
        words = "".join(_attempt(made, number) for number in range(len(made.attempts)))
    return [
        f"<code>{escape(target.name)}</code>{via}",
        f'{chip(*_RULE_WORDS[choice.rule])}<p class="muted">{escape(choice.reason)}</p>',
        outcome + button,
        words,
    ]


def _attempt(made: Call, number: int) -> str:
    attempt = made.attempts[number]
    sent = "Sent no certificate"
    if attempt.presented is not None:
        sent = f"Sent certificate {attempt.presented.position}, {attempt.presented.file}"
    words = attempt.words[:1].upper() + attempt.words[1:].rstrip(".")
    return f"<p>{escape(sent)}: <b>{escape(words)}.</b></p>"


def _resolve(text: str) -> tuple[str, Route]:
    """`host:port:address`, as in curl's --resolve; the port is the one that is connected to."""
    host, port, address = [*text.split(":", 2), "", ""][:3]
    if not host or not port.isdecimal() or not address:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port:address, such as {BANK_HOST}:9443:127.0.0.1")
    return host.lower(), Route(address.strip("[]"), int(port))


def _named_host(text: str) -> tuple[str, str]:
    name, _, host = text.partition("=")
    if not name or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST, such as Billing.PaymentService={BANK_HOST}")
    return name, host.lower()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.app", description=__doc__)
    parser.add_argument(
        "--configuration", type=Path, required=True, help="folder or link to it, followed once at start"
    )
    parser.add_argument("--port", type=int, required=True, help="this app's own page; 0 picks a free one")
    parser.add_argument("--partner-port", type=int, default=9443)
    parser.add_argument("--resolve", type=_resolve, action="append", default=[], metavar="HOST:PORT:ADDRESS")
    parser.add_argument("--trust", type=Path, help="PEM file of the authority behind the partner's server certificates")
    parser.add_argument("--name", default="Sandbox app")
    parser.add_argument("--service", type=_named_host, action="append", metavar="NAME=HOST")
    parser.add_argument("--identifier", type=_named_host, action="append", metavar="NAME=HOST")
    parser.add_argument("--start-delay", type=float, default=0.0, metavar="SECONDS", help="be slow to start")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m sandbox.app`: serve until SIGTERM, announced on stdout; 1 when the configuration is broken."""
    given = _parse(arguments)
    ending = Ending()
    routes = {host: Route("127.0.0.1", given.partner_port) for host in (BANK_HOST, OPEN_HOST)} | dict(given.resolve)
    hosts = {Target("host", host): host for host in routes}
    hosts |= {Target("service", n): h for n, h in given.service or [("Billing.PaymentService", BANK_HOST)]}
    hosts |= {Target("identifier", n): h for n, h in given.identifier or [("MY_ID", OPEN_HOST)]}
    unknown = sorted(set(hosts.values()) - set(routes))
    try:
        if unknown:
            raise BrokenConfiguration(
                f"Where {unknown[0]} is cannot be known; add --resolve {unknown[0]}:PORT:ADDRESS."
            )
        if given.trust is not None and not given.trust.is_file():
            raise BrokenConfiguration(f"{given.trust} (--trust) is not a file; start the partner first, it makes it.")
        app = App(given.name, load(given.configuration), hosts, routes, given.trust)
        if ending.wait(given.start_delay):
            return 0
        app.started_at = datetime.now(UTC)
        server = AppServer(given.port, app)
    except BrokenConfiguration as error:
        print(f"{given.name} did not start. {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{given.name} did not start. Port {given.port} cannot be used: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"sandbox app: http://127.0.0.1:{server.server_port}/", flush=True)
    serve(server, until=ending)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
