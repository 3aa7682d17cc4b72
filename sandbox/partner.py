"""The partner: a TLS server with two host names, and a desk (a page) where its sample files and its log are.

`bank.sandbox.test` demands a client certificate of the partner's own authority and says who called;
`open.sandbox.test` accepts anybody and says whether a certificate was sent. Both listen on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import threading
import time
from collections import deque
from datetime import datetime
from html import escape
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.authority import BANK_HOST, DEFAULT_FOLDER, OPEN_HOST, Sample, World, prepare
from sandbox.handshakes import Handshake, described, is_of_authority, let_the_alert_arrive, requested_host
from sandbox.pages import Answers, Ending, LoopbackServer, chip, fingerprint, panel, serve, table, when

LOG_FILE = "partner-log.jsonl"
LOG_ENTRIES = 1000
_LOG_SLACK = 100
_PREPARED_AGAIN_AFTER_SECONDS = 3600.0
_TIMEOUT_SECONDS = 5.0
_AT_ONCE = 32


class CallLog:
    """What the partner saw, newest last: the last 1000 calls, also as JSON lines in a file of at most 1100 lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=LOG_ENTRIES)
        if path.exists():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    self._entries.append(json.loads(line))
                except ValueError:
                    continue  # the last line of a run that was killed
        self._rewrite()

    def add(self, entry: dict[str, Any]) -> None:
        """Keep one call."""
        with self._lock:
            self._entries.append(entry)
            self._lines += 1
            if self._lines > LOG_ENTRIES + _LOG_SLACK:
                self._rewrite()
                return
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def newest_first(self) -> list[dict[str, Any]]:
        """The kept calls, newest first by their beginning: a refusal may be noted after its caller called again."""
        with self._lock:
            return sorted(self._entries, key=lambda entry: str(entry.get("at")), reverse=True)

    def _rewrite(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in self._entries))
        temporary.replace(self._path)
        self._lines = len(self._entries)


class Partner:
    """What both servers share: the folder's content, looked at again every hour, and the log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._world = prepare(folder)
        self._prepared_at = time.monotonic()
        self.log = CallLog(folder / LOG_FILE)

    @property
    def world(self) -> World:
        """The authorities, certificates and samples; renewed where a long run has made them too old."""
        with self._lock:
            if time.monotonic() - self._prepared_at > _PREPARED_AGAIN_AFTER_SECONDS:
                self._world = prepare(self._folder)
                self._prepared_at = time.monotonic()
            return self._world

    def answer(self, handshake: Handshake, tls: ssl.SSLSocket) -> dict[str, Any]:
        """What the partner says to a caller whose handshake was accepted; also what the log keeps."""
        seen = handshake.sent[0] if handshake.sent else None
        of_ours = seen is not None and is_of_authority(seen, self.world.client_authorities)
        if seen is None:
            sentence = "You sent no client certificate."
        elif of_ours:
            sentence = f"You are {seen.subject.rfc4514_string()}."
        else:
            sentence = f"You sent a certificate of an authority that is not ours: {seen.subject.rfc4514_string()}."
        facts = described(seen) if seen else dict.fromkeys(("subject", "issuer", "serial", "sha256", "not_after"))
        return {
            "host": handshake.host,
            "caller": facts["subject"],
            "issuer": facts["issuer"],
            "serial": facts["serial"],
            "sha256": facts["sha256"],
            "not_after": facts["not_after"],
            "certificate_sent": seen is not None,
            "own_authority": of_ours,
            "tls": tls.version(),
            "sentence": sentence,
        }

    def note(self, handshake: Handshake, outcome: str, words: str, *, tls: str | None, request: str = "") -> None:
        """Keep what was seen: `outcome` is answered or refused."""
        seen = handshake.sent[0] if handshake.sent else None
        self.log.add(
            {
                "at": handshake.at.isoformat(timespec="microseconds"),
                "host": handshake.host,
                "outcome": outcome,
                "words": words,
                "certificate": described(seen) if seen else None,
                "tls": tls,
                "request": request[:200],
            }
        )


class TlsAnswers(Answers):
    """One request on a connection whose handshake was accepted."""

    def __init__(self, tls: ssl.SSLSocket, address: Any, server: TlsServer, handshake: Handshake) -> None:
        self.handshake = handshake
        self.partner = server.partner
        super().__init__(tls, address, server)

    def do_GET(self) -> None:
        """Say who called; a Host header for the other name is misdirected (RFC 9110 section 15.5.20)."""
        tls: Any = self.connection
        answer = self.partner.answer(self.handshake, tls)
        named = self.headers.get("Host", "").partition(":")[0].lower()
        if named and named != self.handshake.host:
            answer = {"sentence": f"This connection is for {self.handshake.host}, not for {named}."}
        misdirected = "host" not in answer
        self.partner.note(
            self.handshake,
            "refused" if misdirected else "answered",
            answer["sentence"],
            tls=tls.version(),
            request=f"{self.command} {self.path}",
        )
        self.send_json(answer, 421 if misdirected else 200)

    do_POST = do_GET  # what a SOAP client sends is not read, only who sent it
    do_HEAD = do_GET


class TlsServer(LoopbackServer):
    """Accepts TLS connections for both hosts and logs the refused ones too."""

    def __init__(self, port: int, partner: Partner) -> None:
        self.partner = partner
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(port, BaseHTTPRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands and answer, in this connection's own thread."""
        with self._places:
            request.settimeout(_TIMEOUT_SECONDS)
            try:
                handshake = Handshake(self.partner.world, requested_host(request))
            except OSError:
                return  # went away before it said a word
            tls = handshake.around(request)
            try:
                tls.do_handshake()
            except OSError as error:
                self.partner.note(handshake, "refused", _why_refused(error, handshake), tls=None)
                let_the_alert_arrive(tls)
                return
            try:
                TlsAnswers(tls, client_address, self, handshake)
                tls.unwrap()
            except OSError:
                pass  # the caller went away; what it sent is in the log
            finally:
                tls.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line instead of a traceback: a caller's mistakes are no fault of the partner's."""
        error = sys.exc_info()[1]
        print(f"sandbox partner: a connection failed ({type(error).__name__})", file=sys.stderr, flush=True)


def _why_refused(error: OSError, handshake: Handshake) -> str:
    if handshake.host not in (BANK_HOST, OPEN_HOST):
        return "The caller asked for a host name that is not here."
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate was refused: {error.verify_message}."
    if isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "No client certificate was sent, and this host demands one."
    return f"The handshake failed ({getattr(error, 'reason', None) or type(error).__name__})."


class Desk(LoopbackServer):
    """The partner's web page, on plain HTTP."""

    def __init__(self, port: int, partner: Partner, tls_port: int) -> None:
        self.partner = partner
        self.tls_port = tls_port
        super().__init__(port, DeskAnswers)


class DeskAnswers(Answers):
    """The desk: sample files to download with the password beside each, and the partner's last calls."""

    def do_GET(self) -> None:
        """/ · /samples.json · /samples/<file> · /calls.json · /partner-{server,client}-ca.pem · /status"""
        desk = self.server
        assert isinstance(desk, Desk)
        world, path = desk.partner.world, urlsplit(self.path).path
        files = {f"/samples/{sample.file}": sample for sample in world.samples}
        if path == "/":
            self.send_page("Partner's desk", _desk(desk))
        elif path == "/status":
            self.send_json({"status": "running", "tls_port": desk.tls_port})
        elif path == "/calls.json":
            self.send_json({"calls": desk.partner.log.newest_first()})
        elif path == "/samples.json":
            samples = [{**vars(sample), "path": path_of} for path_of, sample in files.items()]
            self.send_json({"samples": samples})
        elif path in files:
            content = world.sample_file(files[path]).read_bytes()
            self.send(200, "application/x-pkcs12", content, download_as=files[path].file)
        elif path in ("/partner-server-ca.pem", "/partner-client-ca.pem"):
            content = (world.folder / path[1:]).read_bytes()
            self.send(200, "application/x-pem-file", content, download_as=path[1:])
        else:
            self.send_shared(path)

    do_HEAD = do_GET


def _desk(desk: Desk) -> str:
    samples = [
        [
            _download(sample),
            f"<code>{escape(sample.password)}</code>",
            escape(sample.subject),
            when(datetime.fromisoformat(sample.not_after)),
        ]
        for sample in desk.partner.world.samples
    ]
    calls = [_call_row(entry) for entry in desk.partner.log.newest_first()[:50]]
    hosts = [
        [
            f"<code>{BANK_HOST}:{desk.tls_port}</code>",
            "Demands a client certificate of our authority, and says who called.",
        ],
        [f"<code>{OPEN_HOST}:{desk.tls_port}</code>", "Accepts anybody, and says whether a certificate was sent."],
    ]
    trust = (
        '<p class="note">Both names are reached on 127.0.0.1. Trust '
        '<a href="/partner-server-ca.pem" download>our server authority</a>; we accept certificates of '
        '<a href="/partner-client-ca.pem" download>our client authority</a>.</p>'
    )
    return (
        '<p class="lead">You play the partner’s customer. Take a certificate file from here, as if it had come by '
        "e-mail, and upload it to your app’s environment.</p>"
        + panel(
            "Certificate files",
            table(("File", "Password", "Subject", "Valid until"), samples, empty="There are no files."),
            note="Throw-away keys, made on this machine. Not for production.",
        )
        + panel("Hosts", table(("Host", "What it does"), hosts, empty="") + trust)
        + panel(
            "Last calls",
            table(("When", "Host", "Outcome", "What we saw"), calls, empty="Nobody has called yet."),
            note="Newest first, refused handshakes too. Load the page again for newer ones.",
        )
    )


def _download(sample: Sample) -> str:
    link = f'<a href="/samples/{escape(sample.file)}" download><b>{escape(sample.name)}</b></a>'
    return f'{link}<p class="muted">{escape(sample.purpose)}</p>'


def _call_row(entry: dict[str, Any]) -> list[str]:
    certificate = entry.get("certificate")
    sent = "No certificate."
    if certificate:
        sent = f"{escape(str(certificate['subject']))} {fingerprint(str(certificate['sha256']))}"
    answered = entry.get("outcome") == "answered"
    return [
        when(datetime.fromisoformat(str(entry["at"]))),
        f"<code>{escape(str(entry.get('host') or 'no name'))}</code>",
        chip("Answered", "good") if answered else chip("Refused", "bad"),
        f'{sent}<p class="muted">{escape(str(entry.get("words", "")))}</p>',
    ]


def main() -> int:
    """`python -m sandbox.partner`: serve until SIGTERM. Announces both addresses in one line on stdout."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.partner", description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="authorities, samples and log live here")
    parser.add_argument("--port", type=int, default=9443, help="TLS; 0 picks a free one")
    parser.add_argument("--http-port", type=int, default=9080, help="the desk; 0 picks a free one")
    arguments = parser.parse_args()
    ending = Ending()
    try:
        partner = Partner(arguments.folder)
        tls = TlsServer(arguments.port, partner)
        desk = Desk(arguments.http_port, partner, tls.server_port)
    except OSError as error:
        print(f"The sandbox partner cannot start: {error}.", file=sys.stderr)
        return 1
    print(f"sandbox partner: tls=127.0.0.1:{tls.server_port} desk=http://127.0.0.1:{desk.server_port}/", flush=True)
    serve(tls, desk, until=ending)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
