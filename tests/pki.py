"""An in-memory authority for tests: certificates of any age, key and quality in milliseconds, and the .pfx around them.

    partner = pki.make_authority("Partner CA")
    issued = pki.issue("client.example.com", authority=partner, key="rsa-2048", not_after=pki.NOW + timedelta(days=30))
    file = pki.pfx(issued, password="secret")

Keys are throw-away. Each kind of slow key (RSA, DSA) is made a few times in a test process and then used again.
"""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certificates.pkcs12 import Identity

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)

_USAGES = {
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "anyExtendedKeyUsage": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_turns = itertools.count()


@dataclass(frozen=True)
class Issued:
    """A key with its certificate and the certificates above it, nearest first."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def certificate_der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        return tuple(one.public_bytes(Encoding.DER) for one in self.chain)

    @property
    def key_der(self) -> bytes:
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @property
    def certificate_pem(self) -> bytes:
        """The certificate and then those above it, as a TLS server's configuration wants them."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def identity(self) -> Identity:
        """What reading the .pfx of this gives."""
        return Identity(self.key_der, self.certificate_der, self.chain_der, None)


def make_key(kind: str = "ec-p256", *, fresh: bool = False) -> PrivateKey:
    """A private key: rsa-BITS, dsa-BITS, ec-p256, ec-p384, ec-p521, ed25519 or ed448.

    RSA and DSA keys come from a small stock unless `fresh`; two calls in a row still give two keys.
    """
    family, _, size = kind.partition("-")
    if family in ("rsa", "dsa"):
        return _slow_key(family, int(size), next(_turns) if fresh else next(_turns) % 4)
    match kind:
        case "ec-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ec-p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ec-p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
    raise ValueError(f"no key of kind {kind} is made here")


@functools.cache
def _slow_key(family: str, bits: int, number: int) -> rsa.RSAPrivateKey | dsa.DSAPrivateKey:
    if family == "rsa":
        return rsa.generate_private_key(65537, bits)
    return dsa.generate_private_key(bits)


def make_authority(
    cn: str = "Test Authority",
    *,
    authority: Issued | None = None,
    key: str | PrivateKey = "ec-p256",
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    organization: str | None = "Example Partner",
) -> Issued:
    """A certificate authority: a root, or below `authority` an intermediate one."""
    return issue(
        cn,
        key=key,
        authority=authority,
        not_before=not_before or NOW - timedelta(days=365),
        not_after=not_after or NOW + timedelta(days=3650),
        eku=None,
        organization=organization,
        is_authority=True,
    )


def issue(
    cn: str | None = "client.example.com",
    *,
    key: str | PrivateKey = "ec-p256",
    authority: Issued | None = None,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    eku: Sequence[str] | None = ("clientAuth",),
    sans: Sequence[str | x509.GeneralName] = (),
    organization: str | None = "Example Partner",
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
    is_authority: bool = False,
) -> Issued:
    """A certificate for `cn` (None for a subject without a name), by `authority` or else signed by itself.

    Valid from yesterday for a year unless told otherwise; `eku` None leaves the extension out; `sans` are DNS names or
    any general name. Each call makes a new key and serial number, unless `key` is a key.
    """
    own_key = make_key(key) if isinstance(key, str) else key
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    if cn is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, cn))
    subject = x509.Name(attributes)
    signer = authority.key if authority else own_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(own_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or NOW - timedelta(days=1))
        .not_valid_after(not_after or NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if is_authority:
        builder = builder.add_extension(_signing_only(), critical=True)
    if eku is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[one] for one in eku]), critical=False)
    if sans:
        names = [x509.DNSName(one) if isinstance(one, str) else one for one in sans]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    without_digest = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    certificate = builder.sign(signer, None if without_digest else digest or hashes.SHA256())
    above = (authority.certificate, *authority.chain) if authority else ()
    return Issued(own_key, certificate, above)


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def pem(der: bytes) -> bytes:
    """A certificate as PEM."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def pfx(
    issued: Issued,
    password: str = "secret",
    *,
    name: str | None = "client",
    certificates: Sequence[x509.Certificate] | None = None,
    key: bool = True,
    certificate: bool = True,
) -> bytes:
    """A PKCS #12 file as a partner would send it.

    `certificates` are those beside the leaf, in this order (default: its chain); without `key` or `certificate` the
    file lacks it. An empty `password` leaves the file unencrypted; otherwise it has as many rounds as OpenSSL gives it.
    """
    beside = issued.chain if certificates is None else tuple(certificates)
    algorithm = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
    algorithm = algorithm.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return pkcs12.serialize_key_and_certificates(
        name.encode() if name else None,
        issued.key if key else None,
        issued.certificate if certificate else None,
        list(beside) or None,
        algorithm.build(password.encode()) if password else NoEncryption(),
    )
