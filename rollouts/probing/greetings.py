"""What is said before TLS begins, and once it has begun: STARTTLS of SMTP, IMAP and LDAP, and one GET."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Final

from certificates.addresses import TestAddress

if TYPE_CHECKING:
    from rollouts.probing.handshake import Tls

# Bytes of an answer in the clear, and of one over HTTP.
CLEAR: Final = 8 * 1024
BEGINNING: Final = 4 * 1024
# RFC 4511 §4.12 and §4.14.1: the extended request 1.3.6.1.4.1.1466.20037 (StartTLS), as message 1.
_LDAP: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
_LDAP_RESULT: Final = re.compile(rb"\x78(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x0a\x01(.)", re.DOTALL)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r?\n)")


class NoTls(Exception):
    """One sentence: why TLS could not begin."""


def ask_for_tls(connection: socket.socket, scheme: str, until: float) -> None:
    """Leaves the connection where the TLS handshake begins. Raises NoTls."""
    try:
        {"smtp": _smtp, "imap": _imap, "ldap": _ldap}[scheme](connection, until)
    except TimeoutError:
        raise NoTls(f"The server did not answer in the words of {scheme.upper()} in time.") from None
    except OSError as error:
        raise NoTls(f"The server hung up before TLS began ({error.strerror or 'no reason given'}).") from None


def say_something(tls: Tls, scheme: str) -> None:
    """A word that changes nothing, so that the server has a reason to answer."""
    words = {"smtp": b"NOOP\r\n", "smtps": b"NOOP\r\n", "imap": b"a2 NOOP\r\n", "imaps": b"a2 NOOP\r\n"}
    if word := words.get(scheme):
        tls.send(word)


def get(tls: Tls, address: TestAddress) -> tuple[int | None, bytes]:
    """Status and the beginning of the answer to GET; no status where it was not HTTP."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = "" if address.port == 443 else f":{address.port}"
    tls.send(
        f"GET {address.path} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: Countersign connection test\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode()
    )
    answer = tls.read(BEGINNING)
    found = _STATUS.match(answer)
    return (int(found.group(1)) if found else None), answer


def _smtp(connection: socket.socket, until: float) -> None:
    """RFC 3207 §4, RFC 5321 §4.2.1: the last line of a reply has a blank after its code."""
    _smtp_reply(connection, until, "220")
    _send(connection, b"EHLO countersign.invalid\r\n", until)
    if not re.search(rb"^250[ -]STARTTLS\r?$", _smtp_reply(connection, until, "250"), re.MULTILINE | re.IGNORECASE):
        raise NoTls("The mail server does not offer STARTTLS.")
    _send(connection, b"STARTTLS\r\n", until)
    _smtp_reply(connection, until, "220")


def _smtp_reply(connection: socket.socket, until: float, code: str) -> bytes:
    reply = _until(connection, until, re.compile(rb"^\d{3} [^\n]*\n", re.MULTILINE))
    if not reply.startswith(code.encode()):
        said = reply.splitlines()[0][:80].decode("ascii", "replace") if reply else "nothing"
        raise NoTls(f"The mail server answered “{said}”, where {code} was expected.")
    return reply


def _imap(connection: socket.socket, until: float) -> None:
    """RFC 9051 §6.2.1."""
    if not _until(connection, until, re.compile(rb"^\* [^\n]*\n")).upper().startswith(b"* OK"):
        raise NoTls("The mail server does not greet as IMAP servers do.")
    _send(connection, b"a1 STARTTLS\r\n", until)
    if not re.search(rb"^a1 OK", _until(connection, until, re.compile(rb"^a1 [^\n]*\n", re.MULTILINE)), re.MULTILINE):
        raise NoTls("The mail server does not offer STARTTLS.")


def _ldap(connection: socket.socket, until: float) -> None:
    """RFC 4511 §4.14.1: an ExtendedResponse (tag 0x78) whose resultCode is success (0)."""
    _send(connection, _LDAP, until)
    answer = _until(connection, until, re.compile(rb"^\x30.*\x78", re.DOTALL))
    while (
        found := re.search(rb"\x78(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x0a\x01(.)", answer, re.DOTALL)
    ) is None:
        answer += _some(connection, until)
        if len(answer) > CLEAR:
            raise NoTls("The directory server's answer cannot be read.")
    if found.group(1) != b"\x00":
        raise NoTls(f"The directory server does not begin TLS (its result code is {found.group(1)[0]}).")


def _until(connection: socket.socket, until: float, ending: re.Pattern[bytes]) -> bytes:
    """As much as comes, until it looks complete. Nobody sends more before we have said something."""
    found = b""
    while not ending.search(found):
        found += _some(connection, until)
        if len(found) > CLEAR:
            raise NoTls("The server's greeting has no end.")
    return found


def _some(connection: socket.socket, until: float) -> bytes:
    connection.settimeout(max(0.001, until - time.monotonic()))
    piece = connection.recv(2048)
    if not piece:
        raise NoTls("The server hung up before TLS began.")
    return piece


def _send(connection: socket.socket, what: bytes, until: float) -> None:
    connection.settimeout(max(0.001, until - time.monotonic()))
    connection.sendall(what)
