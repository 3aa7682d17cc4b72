"""The partner's TLS side: which host a caller wants, and the context that asks, demands, or accepts anybody.

OpenSSL copies the rule *demand a certificate or not* into a connection when it begins, so swapping the context in an
SNI callback would come too late. A context of its own therefore reads the name from the waiting ClientHello (its SNI
callback ends that rehearsal), and the connection is then made with the right context.

What a caller sent is seen even when it is refused: `SSLContext._msg_callback` (CPython, undocumented, present since
3.8) shows the Certificate message before OpenSSL judges it. open.sandbox.test uses this to accept anybody: the
certificate that arrives is trusted for this one connection. Where the callback is missing, that host accepts the
partner's own authority only, and a refused caller's certificate stays unknown.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization

from sandbox.authority import BANK_HOST, OPEN_HOST, World

_HELLO_SECONDS = 5.0
_CERTIFICATE_MESSAGE = 11  # RFC 8446 section 4, and RFC 5246 section 7.4
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python does not name
_MAX_HELLO = 64 * 1024


def requested_host(connection: socket.socket) -> str | None:
    """The name in the ClientHello that waits on `connection`, which is left unread; None for no name or no TLS.

    Raises OSError when the caller went away without a word, as those do who only look whether the port is open.
    """
    deadline = time.monotonic() + _HELLO_SECONDS
    known = 0
    while time.monotonic() < deadline:
        waiting = connection.recv(_MAX_HELLO, socket.MSG_PEEK)
        if not waiting and not known:
            raise ConnectionAbortedError
        if len(waiting) > known:
            known = len(waiting)
            complete, name = _rehearse(waiting)
            if complete:
                return name
        time.sleep(0.01)  # peeking does not block while a part of the hello is there
    return None


def _rehearse(hello: bytes) -> tuple[bool, str | None]:
    names: list[str | None] = []

    def note(_connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int:
        names.append(name)
        return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = note
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    try:
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLWantReadError:
        return False, None
    except ssl.SSLError:
        pass  # ended by our own alert, or not TLS
    return True, names[0] if names else None


class Handshake:
    """One TLS handshake as the partner sees it. `sent` is filled with the caller's certificates while it goes on."""

    def __init__(self, world: World, host: str | None) -> None:
        self.host = host
        self.at = datetime.now(UTC)
        self.sent: list[x509.Certificate] = []
        self._world = world
        self._context = self._make_context()

    def around(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection with TLS around it; its `do_handshake` is the caller's to make."""
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _make_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # No resumption: each call shows its certificate anew, so the log is about this call and no earlier one.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        if self.host not in (BANK_HOST, OPEN_HOST):
            context.load_cert_chain(self._world.server_file(BANK_HOST))
            context.sni_callback = _unknown_name
            return context
        context.load_cert_chain(self._world.server_file(self.host))
        for authority in self._world.client_authorities:
            context.load_verify_locations(cadata=_der(authority))
        if self.host == BANK_HOST:
            context.verify_mode = ssl.CERT_REQUIRED
        else:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        if hasattr(context, "_msg_callback"):
            context._msg_callback = self._note_message
        return context

    def _note_message(
        self, _connection: Any, direction: str, version: Any, _content: Any, kind: Any, message: bytes
    ) -> None:
        if direction != "read" or kind != _CERTIFICATE_MESSAGE or self.sent:
            return
        # One callback sees every message, so what it cannot read it leaves to OpenSSL to refuse.
        for der in certificates_of(message, tls13=version == ssl.TLSVersion.TLSv1_3):
            try:
                self.sent.append(x509.load_der_x509_certificate(der))
            except ValueError:
                return
        if self.sent and self.host == OPEN_HOST:
            self._context.load_verify_locations(cadata=_der(self.sent[0]))


def certificates_of(message: bytes, *, tls13: bool) -> list[bytes]:
    """The DER certificates in a Certificate handshake message, leaf first (RFC 8446 section 4.4.2, RFC 5246 7.4.2)."""
    place = 4  # type and length
    if tls13:
        place += 1 + message[place]  # the request's context
    end = min(place + 3 + int.from_bytes(message[place : place + 3], "big"), len(message))
    place += 3
    found: list[bytes] = []
    while place + 3 <= end:
        length = int.from_bytes(message[place : place + 3], "big")
        place += 3
        found.append(message[place : place + length])
        place += length
        if tls13:
            place += 2 + int.from_bytes(message[place : place + 2], "big")
    return found


def is_of_authority(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> bool:
    """Whether one of `authorities` issued `certificate` itself, expiry aside."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def described(certificate: x509.Certificate) -> dict[str, str]:
    """What the partner says about a certificate: subject, issuer (RFC 4514), serial and SHA-256 (lower hex), expiry."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _unknown_name(_connection: Any, _name: str | None, _context: ssl.SSLContext) -> int:
    return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def let_the_alert_arrive(tls: ssl.SSLSocket) -> None:
    """End a refused connection. Closing with unread bytes would reset it and might destroy our alert, so read first."""
    deadline = time.monotonic() + 1.0
    try:
        tls.shutdown(socket.SHUT_WR)
        tls.settimeout(0.5)
        while time.monotonic() < deadline and tls.recv(4096):
            pass
    except OSError:
        pass
    finally:
        tls.close()
