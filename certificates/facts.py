"""What a certificate says, as plain values for columns, pages and searches.

No Django here. Certificates can be odd: what cannot be read is left empty or named by its number; nothing raises.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from certificates.chain import extension, is_self_issued
from certificates.der import SEQUENCE, Budget, context, parse
from certificates.diagnosis import Refusal
from certificates.remarks import Remark

MIN_RSA_BITS: Final = 2048
EXPLICIT: Final = ", explicit curve"
UNREADABLE: Final = "(cannot be read)"


# One attribute of a name: its number, the universal tag of its string type (X.680 §8.6) and its text. Those of one RDN
# stand together, in the order of the certificate.
Part = Sequence[str | int]
Parts = Sequence[Sequence[Part]]


@dataclass(frozen=True)
class ChainLink:
    """One certificate above the leaf."""

    subject: str
    issuer: str
    sha256: str
    not_after: datetime.datetime
    self_signed: bool


@dataclass(frozen=True)
class Facts:
    """A certificate's public facts.

    Names are RFC 4514 text, fingerprints and the serial number lower-case hex, times aware UTC. `key_kind` is "RSA",
    "EC P-256", "Ed25519", … and `key_bits` 0 where it is not known. `names` are subject alternative names, `usages`
    short names of extended key usages; both are empty where the certificate has no such extension. `chain` goes from
    the issuer towards the root, and `missing_issuer` names the first issuer above it that the file did not have.
    `subject_parts` is the subject once more, with the string types that its text does not tell (`parts_in`).
    """

    subject: str
    subject_parts: Parts
    common_name: str
    issuer: str
    issuer_common_name: str
    serial: str
    not_before: datetime.datetime
    not_after: datetime.datetime
    sha1: str
    sha256: str
    spki_sha256: str
    key_kind: str
    key_bits: int
    signature: str
    names: tuple[str, ...]
    usages: tuple[str, ...]
    chain: tuple[ChainLink, ...]
    missing_issuer: str | None


def facts(certificate_der: bytes, chain: tuple[bytes, ...] = (), *, now: datetime.datetime | None = None) -> Facts:
    """The facts of a leaf and its chain (DER, as `Identity` has them). They are the same at any `now`.

    Raises ValueError only where one of them is no certificate at all.
    """
    leaf = x509.load_der_x509_certificate(certificate_der)
    above = tuple(x509.load_der_x509_certificate(one) for one in chain)
    last = above[-1] if above else leaf
    key_kind, key_bits = _key(leaf)
    return Facts(
        subject=_name(lambda: leaf.subject),
        subject_parts=_parts(lambda: leaf.subject),
        common_name=_common_name(lambda: leaf.subject),
        issuer=_name(lambda: leaf.issuer),
        issuer_common_name=_common_name(lambda: leaf.issuer),
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        sha1=hashlib.sha1(certificate_der, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(certificate_der).hexdigest(),
        spki_sha256=_spki_sha256(leaf),
        key_kind=key_kind,
        key_bits=key_bits,
        signature=_signature(leaf),
        names=_alternative_names(leaf),
        usages=_usages(leaf),
        chain=tuple(_link(one) for one in above),
        missing_issuer=None if is_self_issued(last) else _name(lambda: last.issuer),
    )


def warnings(facts: Facts, *, now: datetime.datetime) -> tuple[Remark, ...]:
    """What to know about a certificate at `now` (aware), gravest first."""
    found: list[Remark] = []

    def warn(code: str, sentence: str, *, confirm: bool = True) -> None:
        found.append(Remark(code, sentence, confirm))

    if facts.not_after < now:
        warn("expired", f"It expired on {_day(facts.not_after)}, so servers will refuse it.")
    if facts.not_before > now:
        warn("not_yet_valid", f"It is valid from {_day(facts.not_before)}; until then servers will refuse it.")
    if facts.usages and not {"clientAuth", "anyExtendedKeyUsage"} & set(facts.usages):
        usages = ", ".join(facts.usages)
        warn("no_client_auth", f"It is not meant for clients (it allows {usages}), so many servers will refuse it.")
    if facts.key_kind == "RSA" and facts.key_bits < MIN_RSA_BITS:
        warn(
            "weak_key", f"Its RSA key has {facts.key_bits} bits; fewer than {MIN_RSA_BITS} are refused by many servers."
        )
    if facts.key_kind.endswith(EXPLICIT):
        warn("explicit_curve", "Its key spells its curve out instead of naming it, which Java and others refuse.")
    if facts.key_kind == "DSA":
        warn("dsa_key", "Its key is DSA, which TLS 1.3 and most servers no longer accept.")
    if re.search(r"sha1|md[245]", facts.signature, re.IGNORECASE):
        warn("weak_signature", f"It is signed with {facts.signature}, which many servers no longer accept.")
    first = min(facts.chain, key=lambda link: link.not_after, default=None)
    if first is not None and first.not_after < facts.not_after:
        warn(
            "issuer_expires_first",
            f"{first.subject}, which it depends on, expires on {_day(first.not_after)}, before it does itself; servers"
            " will refuse it from then on.",
            confirm=False,
        )
    if facts.missing_issuer is not None:
        warn(
            "chain_incomplete",
            f"The file does not contain its issuer {facts.missing_issuer}; servers that know it do not need it."
            if not facts.chain
            else f"Its chain ends below {facts.missing_issuer}; servers that know that issuer do not need it.",
            confirm=False,
        )
    return tuple(found)


def _day(moment: datetime.datetime) -> str:
    return f"{moment.day} {moment:%b %Y}"


def _name(read: Callable[[], x509.Name]) -> str:
    try:
        return read().rfc4514_string()
    except ValueError:
        return UNREADABLE


def parts_in(name: x509.Name) -> list[list[list[str | int]]]:
    """The parts of a name as a certificate has it; what is no text is left out."""
    rdns = [
        [[one.oid.dotted_string, one._type.value, one.value] for one in rdn if isinstance(one.value, str)]
        for rdn in name.rdns
    ]
    return [rdn for rdn in rdns if rdn]


def _parts(read: Callable[[], x509.Name]) -> Parts:
    try:
        return parts_in(read())
    except ValueError:
        return []


def _common_name(read: Callable[[], x509.Name]) -> str:
    """The last common name, which is the most specific; empty where there is none."""
    try:
        found = read().get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return ""
    if not found:
        return ""
    value = found[-1].value
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


_CURVES: Final = {
    "secp192r1": "P-192",
    "secp224r1": "P-224",
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
}


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return _number(certificate.public_key_algorithm_oid), 0
    match key:
        case rsa.RSAPublicKey():
            return "RSA", key.key_size
        case ec.EllipticCurvePublicKey():
            named = f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
            return named + (EXPLICIT if _has_explicit_curve(certificate) else ""), key.curve.key_size
        case dsa.DSAPublicKey():
            return "DSA", key.key_size
        case ed25519.Ed25519PublicKey():
            return "Ed25519", 256
        case ed448.Ed448PublicKey():
            return "Ed448", 456
    return type(key).__name__.removesuffix("PublicKey"), 0


def _has_explicit_curve(certificate: x509.Certificate) -> bool:
    """Whether its curve is spelled out instead of named, which RFC 5480 §2.1.1 forbids."""
    try:
        parts = parse(certificate.tbs_certificate_bytes, Budget()).children
    except Refusal:
        return False
    # version [0], which is absent in version 1, serial number, algorithm, issuer, validity, subject, public key
    at = 6 if parts and parts[0].tag == context(0) else 5
    algorithm = parts[at].children[0].children if len(parts) > at and parts[at].children else []
    return len(algorithm) > 1 and algorithm[1].tag == SEQUENCE


def _number(oid: x509.ObjectIdentifier) -> str:
    """The name that the library has for an object identifier, or its dotted form."""
    name = oid._name
    return oid.dotted_string if name == "Unknown OID" else name


def _spki_sha256(certificate: x509.Certificate) -> str:
    """The fingerprint of the public key, which a renewal with the same key keeps. Empty where it cannot be read."""
    try:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return hashlib.sha256(spki).hexdigest()


def _signature(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    name = _number(oid).removesuffix("Encryption")
    if oid != SignatureAlgorithmOID.RSASSA_PSS:
        return name
    try:
        digest = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return name
    return f"{name} with {digest.name}" if digest else name


def _usages(certificate: x509.Certificate) -> tuple[str, ...]:
    if (usages := extension(certificate, x509.ExtendedKeyUsage)) is None:
        return ()
    return tuple(
        "anyExtendedKeyUsage" if one == ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE else _number(one) for one in usages
    )


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    if (names := extension(certificate, x509.SubjectAlternativeName)) is None:
        return ()
    return tuple(_alternative_name(one) for one in names)


def _alternative_name(name: x509.GeneralName) -> str:
    match name:
        case x509.DirectoryName():
            return _name(lambda: name.value)
        case x509.RegisteredID():
            return name.value.dotted_string
        case x509.OtherName():
            return f"other name {name.type_id.dotted_string}"
    return str(name.value)


def _link(certificate: x509.Certificate) -> ChainLink:
    return ChainLink(
        subject=_name(lambda: certificate.subject),
        issuer=_name(lambda: certificate.issuer),
        sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        not_after=certificate.not_valid_after_utc,
        self_signed=is_self_issued(certificate),
    )
