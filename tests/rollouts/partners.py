"""Partners of every temper, on loopback: OpenSSL's s_server, nginx, and Python's ssl behind SMTP, IMAP and LDAP."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certificates.addresses import read
from certificates.identities import Identity
from rollouts import outbound, probing
from tests import pki

HOST = "partner.example.com"
ROOT = pki.make_authority("Partner Root")
ISSUING = pki.make_authority("Partner Issuing", authority=ROOT)
STRANGER = pki.make_authority("Somebody Else")
CLIENT = pki.issue("client.example.com", authority=ISSUING)
A_WEEK_AGO, YESTERDAY = pki.NOW - timedelta(days=7), pki.NOW - timedelta(days=1)
EXPIRED = pki.issue("old.example.com", authority=ISSUING, not_before=A_WEEK_AGO, not_after=YESTERDAY)
OF_STRANGER = pki.issue("client.example.com", authority=STRANGER)
SERVER = pki.issue(HOST, authority=ISSUING, sans=[HOST], eku=("serverAuth",))


def identity(issued: pki.Issued, *, chain: bool = True) -> Identity:
    key = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    above = [link.public_bytes(Encoding.DER) for link in issued.chain[:1]] if chain else []
    return Identity(key, issued.certificate_der, tuple(above))


@dataclass
class Files:
    """The server's own files in a folder: `server.pem` (chain), `server.key`, `clients.pem` (whom it accepts)."""

    folder: Path
    server: pki.Issued = field(default_factory=lambda: SERVER)
    clients: pki.Issued = field(default_factory=lambda: ROOT)

    def __post_init__(self) -> None:
        links = [self.server.certificate, *self.server.chain[:1]]
        self.pem.write_bytes(b"".join(link.public_bytes(Encoding.PEM) for link in links))
        self.key.write_bytes(self.server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.accepted.write_bytes(self.clients.certificate.public_bytes(Encoding.PEM))

    @property
    def pem(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def accepted(self) -> Path:
        return self.folder / "clients.pem"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listens(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port}")


def door(port: int, host: str = HOST) -> outbound.Door:
    return outbound.Door(places={(host, port): ("127.0.0.1", port)})


def tried(
    port: int,
    issued: pki.Issued | None = CLIENT,
    *,
    scheme: str = "https",
    host: str = HOST,
    path: str = "",
    authorities: tuple[pki.Issued, ...] = (ROOT,),
    chain: bool = True,
    seconds: float = 8.0,
) -> probing.Finding:
    trial = probing.Trial(
        read(f"{scheme}://{host}:{port}{path}"),
        identity(issued, chain=chain) if issued else None,
        [one.certificate_der for one in authorities],
    )
    return probing.probe(trial, door=door(port, host), seconds=seconds)


@contextlib.contextmanager
def s_server(files: Files, *how: str) -> Iterator[int]:
    """OpenSSL's own server, with its answers for browsers (-www)."""
    port = free_port()
    argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(files.pem), "-key", str(files.key)]
    argv += ["-cert_chain", str(files.pem), "-CAfile", str(files.accepted), "-www", "-quiet", *how]
    running = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listens(port)
        yield port
    finally:
        running.kill()
        running.wait()


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {key}; ssl_client_certificate {accepted};
    ssl_verify_depth 3; ssl_protocols {versions}; {how}
    location / {{ return 200 "ok"; }}
    location /forbidden {{ return 403; }}
    location /who {{ return 401; }}
    location /broken {{ return 503; }}
    location /moved {{ return 302 http://169.254.169.254/latest/; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(files: Files, how: str = "ssl_verify_client on;", versions: str = "TLSv1.2 TLSv1.3") -> Iterator[int]:
    port = free_port()
    file = files.folder / "nginx.conf"
    file.write_text(
        NGINX.format(
            folder=files.folder, port=port, pem=files.pem, key=files.key, accepted=files.accepted, how=how,
            versions=versions,
        )
    )  # fmt: skip
    argv = ["/usr/sbin/nginx", "-p", str(files.folder), "-e", f"{files.folder}/error.log", "-c", str(file)]
    running = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        listens(port)
        yield port
    finally:
        running.kill()
        running.wait()


def context(files: Files, *, demands: bool = True, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files.pem, files.key)
    made.load_verify_locations(files.accepted)
    made.verify_mode = ssl.CERT_REQUIRED if demands else ssl.CERT_NONE
    if version:
        made.minimum_version = made.maximum_version = version
    return made


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Calls `serve` with each connection, in a thread; at most 20 of them."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)

    def accept() -> None:
        for _connection in range(20):
            try:
                connection, _address = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        connection.settimeout(10)
        with contextlib.suppress(OSError, ssl.SSLError, ValueError), connection:
            serve(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(server.getsockname()[1])
    finally:
        server.close()


def with_tls(made: ssl.SSLContext, answer: bytes = b"", *, hello: Callable[[socket.socket], bool] | None = None):
    """A server that greets in the clear (where `hello` says so), shakes hands, and answers each thing that it reads."""

    def serve(connection: socket.socket) -> None:
        if hello is not None and not hello(connection):
            return
        with made.wrap_socket(connection, server_side=True) as tls:
            while tls.recv(4096):
                if answer:
                    tls.sendall(answer)

    return serve


def smtp(connection: socket.socket) -> bool:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")
    assert connection.recv(200).startswith(b"EHLO")
    connection.sendall(b"250-mail.example.com\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 HELP\r\n")
    assert connection.recv(200) == b"STARTTLS\r\n"
    connection.sendall(b"220 go ahead\r\n")
    return True


def smtp_without(connection: socket.socket) -> bool:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")
    connection.recv(200)
    connection.sendall(b"250-mail.example.com\r\n250 HELP\r\n")
    connection.recv(200)
    return False


def imap(connection: socket.socket) -> bool:
    connection.sendall(b"* OK [CAPABILITY IMAP4rev2 STARTTLS] ready\r\n")
    assert connection.recv(200) == b"a1 STARTTLS\r\n"
    connection.sendall(b"a1 OK begin\r\n")
    return True


def ldap(connection: socket.socket) -> bool:
    asked = connection.recv(200)
    assert b"1.3.6.1.4.1.1466.20037" in asked
    # RFC 4511 §4.1.9 and §4.12: success, no matched name, no message.
    connection.sendall(bytes.fromhex("300c02010178070a010004000400"))
    return True
