"""The sandbox's real processes on free ports, and what a test needs to talk to them."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from sandbox.authority import Sample, World, prepare

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 20.0


class Announced:
    """A process that announces itself in one line; ended by its id."""

    def __init__(self, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.child.stdout is not None
        self.line = self.child.stdout.readline()
        if not self.line:
            _, errors = self.child.communicate(timeout=DEADLINE_SECONDS)
            raise AssertionError(f"{arguments[0]} ended with {self.child.returncode}: {errors}")

    def end(self) -> float:
        """Ask it to end, and say how many seconds that took."""
        began = time.monotonic()
        self.child.terminate()
        try:
            self.child.communicate(timeout=DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
        return time.monotonic() - began


def fetch(url: str, *, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
    """The body of an answer, as text, whatever its status says."""
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


@dataclass
class RunningPartner:
    world: World
    tls_port: int
    desk: str
    process: Announced = field(repr=False)

    def sample(self, slug: str) -> Sample:
        return next(sample for sample in self.world.samples if sample.slug == slug)

    def calls(self) -> list[dict[str, Any]]:
        return json.loads(fetch(self.desk + "calls.json"))["calls"]

    def new_calls(self, act: Callable[[], object], *, count: int = 1) -> list[dict[str, Any]]:
        """What the partner logged because of `act`, oldest first; waits until `count` calls are there."""
        before = self.calls()
        act()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(new := [call for call in self.calls() if call not in before and call["host"]]) < count:
            assert time.monotonic() < deadline, f"the partner logged {len(new)} calls instead of {count}"
            time.sleep(0.02)
        return new[::-1]

    def answer(
        self,
        host: str,
        *,
        present: str | None = None,
        file: Path | None = None,
        tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        named: str = "",
    ) -> dict[str, Any]:
        """Call a host with a sample's certificate (by slug), a PEM file's, or none; its JSON. Raises ssl.SSLError."""
        context = ssl.create_default_context(cafile=str(self.world.server_authority_file))
        context.minimum_version = context.maximum_version = tls
        with contextlib.ExitStack() as stack:
            if file is not None:
                context.load_cert_chain(file)
            if present is not None:
                pem = self.world.folder / f"test-{present}.pem"
                pem.write_bytes(self.pem(present))
                stack.callback(pem.unlink)
                context.load_cert_chain(pem)
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", self.tls_port), timeout=10))
            connection = stack.enter_context(context.wrap_socket(raw, server_hostname=host))
            with contextlib.suppress(ConnectionError):
                connection.sendall(f"GET / HTTP/1.0\r\nHost: {named or host}\r\n\r\n".encode())
            received = b""
            while part := connection.recv(4096):
                received += part
        return json.loads(received.partition(b"\r\n\r\n")[2])

    def opened(self, slug: str) -> pkcs12.PKCS12KeyAndCertificates:
        sample = self.sample(slug)
        return pkcs12.load_pkcs12(self.world.sample_file(sample).read_bytes(), sample.password.encode())

    def pem(self, slug: str) -> bytes:
        opened = self.opened(slug)
        assert opened.key is not None
        assert opened.cert is not None
        key = opened.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = [opened.cert, *opened.additional_certs]
        return key + b"".join(link.certificate.public_bytes(serialization.Encoding.PEM) for link in chain)

    def certificate(self, slug: str) -> x509.Certificate:
        opened = self.opened(slug)
        assert opened.cert is not None
        return opened.cert.certificate

    def write_pfx(self, path: Path, slug: str, password: str) -> Path:
        """A sample's key and chain in a PFX written anew, as an export would."""
        opened = self.opened(slug)
        assert opened.cert is not None
        content = pkcs12.serialize_key_and_certificates(
            b"exported",
            opened.key,
            opened.cert.certificate,
            [link.certificate for link in opened.additional_certs],
            serialization.BestAvailableEncryption(password.encode()),
        )
        path.write_bytes(content)
        return path


@dataclass
class RunningApp:
    url: str
    process: Announced = field(repr=False)

    def status(self) -> dict[str, Any]:
        return json.loads(fetch(self.url + "status"))

    def call(self, **target: str) -> dict[str, Any]:
        (kind, name), *_ = target.items()
        return json.loads(fetch(f"{self.url}calls.json?{kind}={name}"))


@pytest.fixture(scope="session")
def partner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPartner]:
    folder = tmp_path_factory.mktemp("sandbox")
    process = Announced("sandbox.partner", "--folder", str(folder), "--port", "0", "--http-port", "0")
    found = re.fullmatch(r"sandbox partner: tls=127\.0\.0\.1:(\d+) desk=(http://127\.0\.0\.1:\d+/)\n", process.line)
    assert found, process.line
    yield RunningPartner(prepare(folder), int(found[1]), found[2], process)
    process.end()


@pytest.fixture
def start_app(partner: RunningPartner) -> Iterator[Callable[..., RunningApp]]:
    started: list[Announced] = []

    def start(configuration: Path, *more: str) -> RunningApp:
        process = Announced(*app_arguments(partner, configuration), *more)
        started.append(process)
        found = re.fullmatch(r"sandbox app: (http://127\.0\.0\.1:\d+/)\n", process.line)
        assert found, process.line
        return RunningApp(found[1], process)

    yield start
    for process in started:
        process.end()


@pytest.fixture
def refused_start(partner: RunningPartner) -> Callable[[Path], str]:
    """Start the app where it must not start; returns its one line on stderr."""

    def start(configuration: Path) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", *app_arguments(partner, configuration)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert ended.returncode == 1, ended
        assert ended.stdout == ""
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        return ended.stderr

    return start


def app_arguments(partner: RunningPartner, configuration: Path) -> list[str]:
    return [
        "sandbox.app",
        "--configuration",
        str(configuration),
        "--port",
        "0",
        "--resolve",
        f"bank.sandbox.test:{partner.tls_port}:127.0.0.1",
        "--resolve",
        f"open.sandbox.test:{partner.tls_port}:127.0.0.1",
        "--trust",
        str(partner.world.server_authority_file),
        "--name",
        "Invoicing <Test>",
    ]


@pytest.fixture
def configuration(partner: RunningPartner, tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration folder: samples by slug in order, pins (target to slug, "" for none), never by name."""

    def write(
        *slugs: str,
        pins: Mapping[str, str] | None = None,
        never: str = "",
        folder: str = "configuration",
        **other: object,
    ) -> Path:
        place = tmp_path / folder
        place.mkdir()
        files = {slug: str(partner.write_pfx(place / f"{slug}.pfx", slug, f"Pw{slug[:3]}1")) for slug in slugs}
        settings: dict[str, object] = {
            "ClientCertificates": ",".join(files.values()),
            "ClientCertificatePasswords": ",".join(f"Pw{slug[:3]}1" for slug in slugs),
            "ClientCertificateUsages": json.dumps({key: slug and files[slug] for key, slug in (pins or {}).items()}),
            "NoClientCertificateUsages": never,
        }
        settings.update(other)
        (place / "custom-settings.json").write_text(json.dumps(settings))
        return place

    return write
