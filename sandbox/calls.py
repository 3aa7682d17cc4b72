"""The app's outgoing calls: real TLS handshakes with the certificate that the settings select.

How the default rule is approximated. A Java runtime sees the server's list of accepted authorities before it answers
and picks the first certificate whose chain leads to one of them. Python's `ssl` cannot see that list before it must
choose, so a call under the default rule tries the certificates in their order, one connection each, until the
server's alert no longer says that the *authority* is unknown. Any other refusal (expired, revoked) is final, because
the runtime would have picked that certificate too. The partner's log therefore shows one refused handshake for each
certificate passed over.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.configuration import Configuration, OpenedCertificate
from sandbox.mendix import Target, choose

_TIMEOUT_SECONDS = 5.0
_MAX_ANSWER = 64 * 1024
_ALERTS = {
    "CERTIFICATE_REQUIRED": "the server demands a client certificate and got none",
    "UNKNOWN_CA": "the server does not accept the authority that issued the certificate (alert: unknown CA)",
    "CERTIFICATE_EXPIRED": "the server says that the certificate has expired (alert: certificate expired)",
    "CERTIFICATE_REVOKED": "the server says that the certificate is revoked (alert: certificate revoked)",
    "CERTIFICATE_UNKNOWN": "the server refused the certificate (alert: certificate unknown)",
    "BAD_CERTIFICATE": "the server refused the certificate (alert: bad certificate)",
    "UNSUPPORTED_CERTIFICATE": "the server cannot use this kind of certificate (alert: unsupported certificate)",
    "ACCESS_DENIED": "the server knows the certificate but does not let it in (alert: access denied)",
    "UNRECOGNIZED_NAME": "the server does not know this host name (alert: unrecognised name)",
    "HANDSHAKE_FAILURE": "the server refused the handshake, often for want of a certificate (alert: handshake failure)",
}
_OF_AN_UNKNOWN_AUTHORITY = ("UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "BAD_CERTIFICATE")


@dataclass(frozen=True)
class Route:
    """Where a host name is reached: an address and a port."""

    address: str
    port: int


@dataclass(frozen=True)
class Attempt:
    """One connection. `outcome` is answered, refused or unreachable; `alert` is the TLS alert's name or ""."""

    presented: OpenedCertificate | None
    outcome: str
    words: str
    alert: str = ""
    answer: Any = None
    status: int = 0


@dataclass(frozen=True)
class Call:
    """One call to a target: the rule that selected the certificate, and every connection that was made for it."""

    at: datetime
    target: Target
    host: str
    rule: str
    reason: str
    attempts: tuple[Attempt, ...]

    @property
    def last(self) -> Attempt:
        """The connection that decided the outcome."""
        return self.attempts[-1]

    def as_json(self) -> dict[str, Any]:
        """The shape of `/calls.json`: target, host, rule, reason, sent, outcome, words, answer, attempts."""
        return {
            "at": self.at.isoformat(),
            "target": {"kind": self.target.kind, "name": self.target.name},
            "host": self.host,
            "rule": self.rule,
            "reason": self.reason,
            "sent": _presented(self.last.presented),
            "outcome": self.last.outcome,
            "words": self.last.words,
            "answer": self.last.answer,
            "attempts": [
                {"sent": _presented(attempt.presented), "outcome": attempt.outcome, "words": attempt.words}
                for attempt in self.attempts
            ],
        }


def call(
    configuration: Configuration, target: Target, host: str, *, routes: Mapping[str, Route], trust: Path | None
) -> Call:
    """Call `host` for `target` with the certificate that the settings select. Never raises for what the peer does."""
    choice = choose(configuration.settings, target)
    positions = {entry.position for entry in choice.offered}
    offered: Sequence[OpenedCertificate | None] = [
        certificate for certificate in configuration.certificates if certificate.position in positions
    ] or [None]
    attempts: list[Attempt] = []
    for certificate in offered:
        attempt = _connect(host, routes[host], certificate, trust, configuration.authorities)
        attempts.append(attempt)
        if attempt.alert not in _OF_AN_UNKNOWN_AUTHORITY:
            break
    return Call(datetime.now(UTC), target, host, choice.rule, choice.reason, tuple(attempts))


def _presented(certificate: OpenedCertificate | None) -> dict[str, Any] | None:
    if certificate is None:
        return None
    return {
        "position": certificate.position,
        "file": certificate.file,
        "subject": certificate.leaf.subject.rfc4514_string(),
        "sha256": certificate.sha256,
    }


def _connect(
    host: str, route: Route, certificate: OpenedCertificate | None, trust: Path | None, authorities: Sequence[bytes]
) -> Attempt:
    try:
        context = _context(certificate, trust, authorities)
        with (
            socket.create_connection((route.address, route.port), timeout=_TIMEOUT_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            status, body = _get(tls, host)
    except ssl.SSLCertVerificationError as error:
        words = f"this app does not trust the server's certificate ({error.verify_message}); nothing was sent"
        return Attempt(certificate, "refused", words)
    except ssl.SSLError as error:
        alert = _alert(error.reason or "")
        if alert:
            return Attempt(certificate, "refused", _ALERTS[alert], alert)
        return Attempt(certificate, "refused", f"the TLS connection failed ({error.reason or 'no reason given'})")
    except (OSError, http.client.HTTPException) as error:
        words = f"{host} at {route.address} port {route.port} does not answer ({type(error).__name__})"
        return Attempt(certificate, "unreachable", words)
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = body.decode(errors="replace")[:500]
    sentence = answer.get("sentence") if isinstance(answer, dict) else None
    return Attempt(certificate, "answered", str(sentence or f"answered with status {status}"), "", answer, status)


def _get(tls: ssl.SSLSocket, host: str) -> tuple[int, bytes]:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sandbox-app\r\nConnection: close\r\n\r\n"
    try:
        tls.sendall(request.encode("ascii"))
    except ssl.SSLError:
        raise
    except OSError:
        # In TLS 1.3 the server judges the certificate after our handshake is done; its alert may wait to be read.
        pass
    response = http.client.HTTPResponse(tls)
    response.begin()
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    body = b""
    while len(body) < _MAX_ANSWER and time.monotonic() < deadline:
        part = response.read(4096)
        if not part:
            break
        body += part
    return response.status, body


def _context(certificate: OpenedCertificate | None, trust: Path | None, authorities: Sequence[bytes]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(trust) if trust else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for authority in authorities:
        context.load_verify_locations(cadata=authority)
    if certificate is not None:
        # ssl reads keys from files only; this one exists in memory and has no name (Linux).
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(certificate.pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


def _alert(reason: str) -> str:
    """The alert's name in OpenSSL's reason, such as TLSV13_ALERT_CERTIFICATE_REQUIRED; "" when it is no alert."""
    name = reason.partition("_ALERT_")[2]
    return name if name in _ALERTS else ""
