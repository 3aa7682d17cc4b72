"""rediss:// and amqps://: the server's certificate is always checked, against the named authority or the machine's."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery import Celery
from cryptography import x509

from portal import engines
from tests import pki, services
from tests.journeys.product import pour

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


class TlsDoor:
    """Takes TLS off connections and hands them on, as what stands before a broker in a cloud does."""

    def __init__(self, folder: Path, port: int) -> None:
        authority = pki.make_authority("Broker CA")
        here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        issued = pki.issue("broker", authority=authority, eku=("serverAuth",), sans=here)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(authority.certificate_pem)
        (folder / "server.pem").write_bytes(issued.certificate_pem + issued.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self._server = port
        self._door = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._open, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _open(self) -> None:
        while self._door.fileno() >= 0:
            with suppress(OSError):  # who does not like the certificate goes away
                client, _address = self._door.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server)) as server:
            threading.Thread(target=pour, args=(server, client), daemon=True).start()
            pour(client, server)


@pytest.fixture(scope="module", params=[services.Valkey, services.RabbitMQ])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The broker's address over TLS, and the file with its authority."""
    with request.param() as server:
        door = TlsDoor(tmp_path_factory.mktemp("tls"), server.port)
        scheme, _, rest = server.url.partition("://")
        yield f"{scheme}s://{rest.replace(str(server.port), str(door.port))}", str(door.ca)
        door.close()


def talk(url: str, ca: str) -> None:
    """As the portal does, with its settings."""
    app = Celery("tls", set_as_current=False)
    app.conf.update({name.lower(): value for name, value in engines.broker(url, ca=ca).items()})
    with app.connection_for_write() as connection:
        connection.default_channel.queue_declare("tls")


def test_a_broker_is_trusted_by_the_named_authority(address: tuple[str, str]):
    talk(*address)


def test_a_broker_that_nobody_vouches_for_is_told_nothing(address: tuple[str, str]):
    url, ca = address
    for wrong in ((url, ""), (url.replace("127.0.0.1", "localhost"), ca)):
        with pytest.raises(Exception, match=r"(?i)certificate.verify.failed|hostname mismatch"):
            talk(*wrong)
