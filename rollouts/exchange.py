"""One request of HTTP through the outbound door, and its answer: no redirect, one limit of time and one of size.

What a platform answers is for programs; of its words people see a line at most. No Django here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import certifi

from rollouts import outbound

# Seconds for one request with everything that belongs to it, and bytes of an answer.
SECONDS = 8.0
LARGEST = 4 * 1024 * 1024
SAID = 200
# Where peers put their words, in the order in which they are shown.
WORDS = ("message", "detail", "error", "error_description", "errorCode", "errorMessage")


class Failed(Exception):
    """One sentence: what could not be reached, or what it answered that is no answer."""

    def __init__(self, sentence: str, *, sent: bool = False, nobody: bool = False) -> None:
        super().__init__(sentence)
        # Whether the request may have arrived, so that it may have been obeyed; whether nobody listens there.
        self.sent, self.nobody = sent, nobody


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """What was answered, or None where it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def object(self) -> dict[str, Any]:
        """The JSON object that was answered, or an empty one."""
        found = self.json()
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Peer:
    """Whom to ask: `base` is http(s)://host[:port][/path]; `authorities` are PEM texts, trusted beside the public
    ones."""

    base: str
    door: outbound.Door
    authorities: str = ""
    seconds: float = SECONDS

    @property
    def name(self) -> str:
        return urlsplit(self.base).netloc

    def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Raises Failed, for an answer of any kind that is none; the status is for the caller to judge."""
        tls, host, port, before = read_address(self.base)
        until = time.monotonic() + self.seconds
        sent = False
        try:
            with contextlib.closing(self._connected(tls, host, port, until)) as connection:
                # A limit of each read lets an answer drip for ever; this one cuts it off.
                timer = threading.Timer(max(0.1, until - time.monotonic()), _hang_up, [connection.sock])
                timer.daemon = True
                timer.start()
                try:
                    sent = True
                    given = {"Accept": "application/json", "User-Agent": "Countersign", **(headers or {})}
                    connection.request(method, before + path, body=body, headers=given)
                    response = connection.getresponse()
                    content = response.read(LARGEST + 1)
                    if time.monotonic() >= until:  # hung up by us: what was read is a part of it
                        raise TimeoutError
                finally:
                    timer.cancel()
        except outbound.NotAllowed as error:
            raise Failed(str(error)) from None
        except outbound.Unreachable as error:
            raise Failed(str(error), nobody=error.step == "connect") from None
        except ssl.SSLCertVerificationError as error:
            raise Failed(
                f"The certificate of {self.name} is not believed here ({error.verify_message}); add its authority."
            ) from None
        except ssl.SSLError as error:
            raise Failed(f"{self.name} does not speak TLS as it should ({error.reason or error}).", sent=sent) from None
        except TimeoutError:
            raise Failed(f"{self.name} did not answer within {self.seconds:.0f} seconds.", sent=sent) from None
        except (OSError, http.client.HTTPException) as error:
            why = "in time" if time.monotonic() >= until - 0.05 else f"properly ({type(error).__name__})"
            raise Failed(f"{self.name} did not answer {why}.", sent=sent) from None
        if len(content) > LARGEST:
            raise Failed(f"{self.name} answers with more than {LARGEST // 1024 // 1024} MiB.", sent=True)
        if 300 <= response.status < 400:
            raise Failed(
                f"{self.name} points elsewhere ({response.status}), which is not followed; correct the address.",
                sent=True,
            )
        return Answer(response.status, content, {k.lower(): v for k, v in response.getheaders()})

    def _connected(self, tls: bool, host: str, port: int, until: float) -> http.client.HTTPConnection:
        reached = outbound.reach(host, port, door=self.door, until=until)
        opened = reached.connection
        try:
            opened.settimeout(max(0.1, until - time.monotonic()))
            if tls:
                opened = _context(self.authorities).wrap_socket(opened, server_hostname=host)
        except BaseException:
            reached.connection.close()
            raise
        connection = http.client.HTTPConnection(host, port)
        connection.sock = opened
        return connection


def read_address(text: str) -> tuple[bool, str, int, str]:
    """TLS or not, host, port and path of http(s)://host[:port][/path]. Raises ValueError with a sentence."""
    wrong = ValueError(f"“{text[:100]}” is not an address like https://host:port/path; correct it.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    # What tools read differently is not read at all: names and passwords, blanks, backslashes.
    odd = parts.username is not None or parts.query or parts.fragment or not re.fullmatch(r"[!-\[\]-~]+", text)
    if parts.scheme not in ("http", "https") or not host or odd:
        raise wrong
    tls = parts.scheme == "https"
    return tls, host, port or (443 if tls else 80), parts.path.rstrip("/")


def said(answer: Answer) -> str:
    """A line of what a peer says, for a sentence; "" where it says nothing that can be shown."""
    text = answer.body[: 4 * SAID].decode(errors="replace")
    if found := answer.object():
        errors = found.get("errors")
        objects = [found, *(errors if isinstance(errors, list) else [])]
        words = [one.get(name) for one in objects if isinstance(one, dict) for name in WORDS]
        text = " · ".join(word for word in words if isinstance(word, str))
    elif "html" in answer.headers.get("content-type", ""):
        text = ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SAID]


def _context(authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if authorities.strip():
        try:
            context.load_verify_locations(cadata=authorities)
        except ssl.SSLError as error:
            raise ssl.SSLError(0, "the authorities given for it are not PEM") from error
    return context


def _hang_up(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
