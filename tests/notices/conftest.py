"""A mail server and a receiver of webhooks, real ones on loopback, and a clock that a test moves."""

from __future__ import annotations

import email
import http.server
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.message import Message as Mail
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone

from environments import actions as environments
from environments.models import Person
from rollouts.outbound import Door
from tests import ports

NOW = datetime(2027, 3, 10, 9, 0, tzinfo=timezone.get_fixed_timezone(0))


class Postbox:
    """What arrived at the mail server; `refuses` makes it say no, `down` takes it away."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Mail]] = []
        self.refuses = ""
        (self.port,) = ports.free_ports(1)
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # aiosmtpd's name
        if self.refuses:
            return self.refuses
        self.mails.append((list(envelope.rcpt_tos), email.message_from_bytes(envelope.content)))
        return "250 OK"

    def texts(self) -> list[str]:
        return [mail.get_payload(decode=True).decode().replace("\r\n", "\n") for _to, mail in self.mails]


@pytest.fixture
def postbox(settings: Any) -> Iterator[Postbox]:
    box = Postbox()
    box.controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.MAILS, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", box.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.DEFAULT_FROM_EMAIL, settings.ADDRESS = "Countersign <portal@example.com>", "https://portal.example.com"
    yield box
    box.controller.stop(no_assert=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # http.server's name
        server: Any = self.server
        server.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(server.answers)
        if server.answers == 302:
            self.send_header("Location", "http://127.0.0.1:9/inward")
        self.end_headers()

    def do_GET(self) -> None:
        server: Any = self.server
        server.received.append((self.path, b""))
        self.send_response(server.answers)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def receiver(settings: Any) -> Iterator[Any]:
    """`received` are (path, body); `answers` is the status; its address is `address`."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.answers = [], 200
    places = {("hooks.example.com", server.server_port): ("127.0.0.1", server.server_port)}
    settings.DOORS = settings.DOORS | {"notices": Door((), places)}
    server.address = f"json://hooks.example.com:{server.server_port}/t0ps3cret-path"
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., datetime]:
    """Sets the time, or moves it on; everything here asks django.utils.timezone."""
    now = [NOW]
    monkeypatch.setattr(timezone, "now", lambda: now[0])

    def move(**span: float) -> datetime:
        now[0] += timedelta(**span)
        return now[0]

    return move


@pytest.fixture
def person(application: Any, owner: Person) -> Callable[..., Person]:
    """A member of the application; keywords are those of add_member."""

    def add(name: str, role: str = "operator", address: str | None = None, **where: Any) -> Person:
        mail = f"{name}@example.com" if address is None else address
        made = Person.objects.create_user(name, password="x", email=mail)
        environments.add_member(application=application, person=made, role=role, by=owner, **where)
        return made

    return add
