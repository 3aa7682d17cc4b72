"""The sandbox's authorities, the partner's server certificates, and the sample .pfx files that a user downloads.

Everything lives in one folder and is created once; running again keeps what is there and renews only what has grown
too old for its story. All keys are throw-away, their names say so, and files that hold one are 0600.

    FOLDER/partner-server-ca.pem     what an app must trust to call the partner
    FOLDER/partner-client-ca.pem     the authorities whose client certificates the partner accepts (no keys)
    FOLDER/authority/*.pem           key and certificate of each authority, in one file so that they cannot part
    FOLDER/server/<host>.pem         key, certificate and chain of each host of the partner
    FOLDER/samples/*.pfx             the sample files; FOLDER/samples.json says their passwords and what each is for
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import os
import secrets
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BANK_HOST = "bank.sandbox.test"
OPEN_HOST = "open.sandbox.test"
DEFAULT_FOLDER = Path("var/sandbox")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_AUTHORITY_DAYS = 20 * 365
_SERVER_DAYS = 397
_SERVER_RENEWED_BELOW_DAYS = 60


@dataclass(frozen=True)
class Sample:
    """One sample file: what it is called, where it lies, the password that opens it, and what it is for."""

    slug: str
    name: str
    file: str
    password: str
    purpose: str
    subject: str
    not_before: str
    not_after: str
    sha256: str
    accepted: bool


@dataclass(frozen=True)
class World:
    """Where the created things are. `client_authorities` are the certificates (root, intermediate) the bank accepts."""

    folder: Path
    client_authorities: tuple[x509.Certificate, ...]
    samples: tuple[Sample, ...]

    @property
    def server_authority_file(self) -> Path:
        """The PEM file that an app trusts to call the partner."""
        return self.folder / "partner-server-ca.pem"

    @property
    def client_authority_file(self) -> Path:
        """The PEM file (root and intermediate) of the partner's client authority, without keys."""
        return self.folder / "partner-client-ca.pem"

    def server_file(self, host: str) -> Path:
        """The PEM file with key, certificate and chain for one of the partner's hosts."""
        return self.folder / "server" / f"{host}.pem"

    def sample_file(self, sample: Sample) -> Path:
        """Where a sample lies."""
        return self.folder / "samples" / sample.file


@dataclass(frozen=True)
class _Story:
    """What a sample should be: whose, how long it is valid from its making, and when it no longer tells its story."""

    slug: str
    name: str
    common_name: str
    purpose: str
    key_kind: str
    valid_days: int
    started_days_ago: int
    renewed_below_days: int | None
    stranger: bool = False


_STORIES = (
    _Story(
        "bank-payments",
        "Bank payments (valid 1 year)",
        "Bank payments",
        "The everyday certificate. bank.sandbox.test accepts it and names you.",
        "rsa",
        365,
        0,
        180,
    ),
    _Story(
        "bank-payments-renewal",
        "Bank payments, renewal (same subject, new key)",
        "Bank payments",
        "Upload it as the renewal of the one above: the pins stay, the partner sees a new serial number.",
        "rsa",
        730,
        0,
        365,
    ),
    _Story(
        "reports-expiring",
        "Reports (expiring in 12 days)",
        "Reports",
        "Still accepted, but about to expire: see how that is shown.",
        "ec",
        365,
        353,
        8,
    ),
    _Story(
        "reports-renewal",
        "Reports, renewal (same subject, new key)",
        "Reports",
        "The next one: upload it as the renewal of the expiring one, in each place that uses it.",
        "ec",
        365,
        0,
        180,
    ),
    _Story(
        "archive-expired",
        "Archive (expired)",
        "Archive",
        "Expired three weeks ago. bank.sandbox.test refuses it during the handshake.",
        "ec",
        365,
        386,
        None,
    ),
    _Story(
        "other-authority",
        "Shipping (of another authority)",
        "Shipping",
        "Valid, but of an authority that bank.sandbox.test does not accept. open.sandbox.test accepts anybody.",
        "ec",
        365,
        0,
        180,
        stranger=True,
    ),
)


def prepare(folder: Path, *, now: datetime | None = None) -> World:
    """Create what is missing in `folder`, renew what has grown too old, and say what there is.

    Safe to call again and from several processes at once (a lock in the folder). `now` is an aware datetime.
    """
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        for name in ("authority", "server", "samples"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        root = _authority(folder / "authority" / "client-root.pem", "Sandbox Partner CA root", None, moment)
        issuing = _authority(folder / "authority" / "client-issuing.pem", "Sandbox Partner CA issuing", root, moment)
        stranger = _authority(folder / "authority" / "stranger.pem", "Sandbox Stranger CA", None, moment)
        server = _authority(folder / "authority" / "server.pem", "Sandbox Partner server CA", None, moment)
        world = World(
            folder, (root.certificate, issuing.certificate), _samples(folder, issuing, root, stranger, moment)
        )
        _publish(world.server_authority_file, _pem(server.certificate))
        _publish(world.client_authority_file, _pem(root.certificate) + _pem(issuing.certificate))
        for host in (BANK_HOST, OPEN_HOST):
            _server_certificate(world.server_file(host), host, server, moment)
    return world


@dataclass(frozen=True)
class _Issuer:
    key: PrivateKey
    certificate: x509.Certificate


def _authority(path: Path, title: str, parent: _Issuer | None, now: datetime) -> _Issuer:
    if path.exists():
        stored = path.read_bytes()
        key = serialization.load_pem_private_key(stored, None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path.name} holds a key of a kind that the sandbox does not make; delete the folder.")
        return _Issuer(key, x509.load_pem_x509_certificate(stored))
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{title}, not for production", "Sandbox Partner")
    issuer_name, issuer_key = (parent.certificate.subject, parent.key) if parent else (name, key)
    certificate = (
        _builder(name, issuer_name, key, now, _AUTHORITY_DAYS, 1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None if parent is None else 0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(path, _key_pem(key) + _pem(certificate))
    return _Issuer(key, certificate)


def _server_certificate(path: Path, host: str, issuer: _Issuer, now: datetime) -> None:
    if path.exists():
        current = x509.load_pem_x509_certificate(path.read_bytes())
        if current.not_valid_after_utc - now > timedelta(days=_SERVER_RENEWED_BELOW_DAYS):
            return
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _builder(_name(host, "Sandbox Partner"), issuer.certificate.subject, key, now, _SERVER_DAYS, 1)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    _write(path, _key_pem(key) + _pem(certificate) + _pem(issuer.certificate))


def _samples(folder: Path, issuing: _Issuer, root: _Issuer, stranger: _Issuer, now: datetime) -> tuple[Sample, ...]:
    manifest = folder / "samples.json"
    kept = {sample.slug: sample for sample in _read_manifest(manifest)}
    samples: list[Sample] = []
    for story in _STORIES:
        current = kept.get(story.slug)
        if current is None or not (folder / "samples" / current.file).exists() or _too_old(story, current, now):
            issuer, chain = (stranger, [stranger]) if story.stranger else (issuing, [issuing, root])
            current = _make_sample(folder / "samples", story, issuer, chain, now)
        samples.append(current)
    if tuple(samples) != tuple(kept.values()):
        _write(manifest, (json.dumps([asdict(sample) for sample in samples], indent=2) + "\n").encode())
    return tuple(samples)


def _too_old(story: _Story, sample: Sample, now: datetime) -> bool:
    if story.renewed_below_days is None:
        return False
    return datetime.fromisoformat(sample.not_after) - now < timedelta(days=story.renewed_below_days)


def _make_sample(folder: Path, story: _Story, issuer: _Issuer, chain: list[_Issuer], now: datetime) -> Sample:
    key: PrivateKey
    if story.key_kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(
            _name(story.common_name, "Sandbox Customer"),
            issuer.certificate.subject,
            key,
            now,
            story.valid_days,
            story.started_days_ago,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    password = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))
    content = pkcs12.serialize_key_and_certificates(
        story.common_name.encode(),
        key,
        certificate,
        [link.certificate for link in chain],
        serialization.BestAvailableEncryption(password.encode()),
    )
    _write(folder / f"{story.slug}.pfx", content)
    return Sample(
        slug=story.slug,
        name=story.name,
        file=f"{story.slug}.pfx",
        password=password,
        purpose=story.purpose,
        subject=certificate.subject.rfc4514_string(),
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        accepted=not story.stranger and story.slug != "archive-expired",
    )


def _read_manifest(path: Path) -> list[Sample]:
    try:
        return [Sample(**entry) for entry in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []  # of an older release or cut short: the samples are made anew


def _name(common_name: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, days: int, started_days_ago: int
) -> x509.CertificateBuilder:
    """A certificate valid for `days`, of which `started_days_ago` (at least five minutes) have passed."""
    start = now - max(timedelta(days=started_days_ago), timedelta(minutes=5))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _publish(path: Path, content: bytes) -> None:
    """Write a file without a secret, for an app of any user to read; one that is right already stays untouched."""
    if not path.exists() or path.read_bytes() != content:
        _write(path, content)
        path.chmod(0o644)


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all, readable by the owner only (mkstemp makes the file 0600)."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """`python -m sandbox.authority`: prepare the folder and list the samples."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.authority", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    world = prepare(parser.parse_args().folder)
    print(f"Trust {world.server_authority_file} to call the partner. Sample files:")
    for sample in world.samples:
        print(f"  {world.sample_file(sample)}  password {sample.password}  {sample.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
