"""Certificate requests (PKCS #10, RFC 2986): the key, what is asked for, and how people type it.

No Django here. A subject is typed one part a line, the common name first, as these pages show names (RFC 4514 §2.1);
inside the request the parts stand in the opposite order, which is the usual one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certificates.facts import Part, Parts, parts_in
from certificates.pem import armoured

# Kind of key → how a page calls it, and the hash that signs the request with it.
KEYS: Final[dict[str, tuple[str, hashes.SHA256 | hashes.SHA384]]] = {
    "rsa-3072": ("RSA 3072", hashes.SHA256()),
    "ec-p256": ("EC P-256", hashes.SHA256()),
    "ec-p384": ("EC P-384", hashes.SHA384()),
}
# As RFC 4514 and OpenSSL spell them.
_KEYWORDS: Final = {
    "CN": NameOID.COMMON_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "C": NameOID.COUNTRY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "title": NameOID.TITLE,
    "postalCode": NameOID.POSTAL_CODE,
    "businessCategory": NameOID.BUSINESS_CATEGORY,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "dnQualifier": NameOID.DN_QUALIFIER,
    "pseudonym": NameOID.PSEUDONYM,
}
_OTHER_SPELLINGS: Final = {"e": "emailAddress", "email": "emailAddress", "s": "ST", "sp": "ST"}
_OIDS: Final = {keyword.lower(): oid for keyword, oid in _KEYWORDS.items()}
_SHORT: Final = {oid.dotted_string: keyword for keyword, oid in _KEYWORDS.items()}
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")  # X.680 §41.4
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_KINDS_OF_NAMES: Final = re.compile(r"(DNS|IP|mail|email|URI)\s*:\s*", re.IGNORECASE)
MAX_LINES: Final = 100
MAX_TEXT: Final = 10_000


class RequestError(Exception):
    """What was typed cannot be asked for: a sentence, and the field that it belongs beside."""

    def __init__(self, sentence: str, field: str) -> None:
        super().__init__(sentence)
        self.field = field


@dataclass(frozen=True)
class Made:
    """A key that never was anywhere else (PKCS #8 DER), and the request that it signed (DER)."""

    key: bytes = field(repr=False)
    request: bytes
    subject: str
    names: tuple[str, ...]
    spki_sha256: str


def make(kind: str, subject: x509.Name, names: Sequence[x509.GeneralName]) -> Made:
    """A new key of this kind (of KEYS), and its request for a certificate for clients. RSA takes up to a second."""
    key = _new_key(kind)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(usage, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Made(
        key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        request=builder.sign(key, KEYS[kind][1]).public_bytes(Encoding.DER),
        subject=subject.rfc4514_string(),
        names=tuple(str(name.value) for name in names),
        spki_sha256=hashlib.sha256(spki).hexdigest(),
    )


def _new_key(kind: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    match kind:
        case "rsa-3072":
            return rsa.generate_private_key(public_exponent=65537, key_size=3072)
        case "ec-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ec-p384":
            return ec.generate_private_key(ec.SECP384R1())
    raise RequestError("Choose one of the kinds of keys.", "key")


def kind_like(key_kind: str) -> str:
    """The kind of key that is offered where the last one was of this kind (`facts.key_kind`)."""
    return {"EC P-256": "ec-p256", "EC P-384": "ec-p384"}.get(key_kind, "rsa-3072")


def text_of(request: bytes) -> str:
    """As PEM (RFC 7468 §7)."""
    return armoured(request, "CERTIFICATE REQUEST")


# --- The subject, one part a line -------------------------------------------------------------------------------------


def parts_of(subject: str) -> Parts:
    """The parts of an RFC 4514 text, with the string types that are usual today; none where it cannot be read."""
    try:
        return parts_in(x509.Name.from_rfc4514_string(subject))
    except ValueError:
        return []


def lines_of(parts: Parts) -> str:
    """For a text field: `CN=client.example.com`, a line for each part; a further one of the same RDN begins with +."""
    lines = []
    for rdn in reversed(parts):
        lines += [("+ " if number else "") + _line(part) for number, part in enumerate(rdn)]
    return "\n".join(lines)


def _line(part: Part) -> str:
    oid, _kind, value = part
    return f"{_SHORT.get(str(oid), oid)}={' '.join(str(value).split())}"


def subject_from(text: str, like: Parts = ()) -> x509.Name:
    """The name that these lines spell. A part that `like` has, too, keeps the string type that it has there: some
    partners compare names byte by byte. Raises RequestError."""
    known = {_line(part): part for rdn in like for part in rdn}
    kinds = {part[0]: part[1] for rdn in like for part in rdn}
    rdns: list[list[x509.NameAttribute]] = []
    for line in _lines(text, "subject"):
        joined, line = line.startswith("+"), line.removeprefix("+").strip()
        attribute = _kept(known[line]) if line in known else _attribute(line, kinds)
        if joined and rdns:
            rdns[-1].append(attribute)
        else:
            rdns.append([attribute])
    if not rdns:
        raise RequestError("Type at least one part, like CN=client.example.com.", "subject")
    try:
        return x509.Name([x509.RelativeDistinguishedName(rdn) for rdn in reversed(rdns)])
    except ValueError:
        raise RequestError("Two parts that are joined by + are the same; leave one out.", "subject") from None


def _kept(part: Part) -> x509.NameAttribute:
    oid, kind, value = part
    # Its length was judged by whoever issued it.
    return x509.NameAttribute(x509.ObjectIdentifier(str(oid)), str(value), _type_for(str(value), kind), _validate=False)


def _attribute(line: str, kinds: dict[str | int, str | int]) -> x509.NameAttribute:
    keyword, equals, value = (piece.strip() for piece in line.partition("="))
    if not equals or not keyword:
        raise RequestError(f"“{line[:60]}” is no part of a name; type one a line, like O=Example GmbH.", "subject")
    oid = _oid(keyword)
    if not value:
        raise RequestError(f"There is nothing after {keyword}=; type it, or leave the line out.", "subject")
    if re.search(rf"[,/;+]\s*({'|'.join(_KEYWORDS)})\s*=", value, re.IGNORECASE):
        raise RequestError(f"“{line[:60]}” is more than one part; put each on a line of its own.", "subject")
    try:
        return x509.NameAttribute(oid, value, _type_for(value, kinds.get(oid.dotted_string), oid))
    except ValueError:
        limit = "two letters, like DE" if oid == NameOID.COUNTRY_NAME else "at most 64 characters"
        raise RequestError(f"“{value[:60]}” does not fit: {keyword} has {limit}.", "subject") from None


def _oid(keyword: str) -> x509.ObjectIdentifier:
    name = _OTHER_SPELLINGS.get(keyword.lower(), keyword)
    if found := _OIDS.get(name.lower()):
        return found
    try:
        if re.fullmatch(r"[0-2](\.[0-9]{1,20}){2,20}", name):
            return x509.ObjectIdentifier(name)
    except ValueError:
        pass
    raise RequestError(
        f"“{keyword[:40]}” is not known as a part of a name; use CN, OU, O, L, ST, C, DC, UID, emailAddress,"
        " serialNumber, or a number like 2.5.4.97.",
        "subject",
    )


def _type_for(value: str, kind: str | int | None, oid: x509.ObjectIdentifier | None = None) -> _ASN1Type | None:
    """The string type `kind` where it can hold the value; else the usual one (None), or UTF-8."""
    fits = {
        _ASN1Type.UTF8String.value: True,
        _ASN1Type.PrintableString.value: _PRINTABLE.fullmatch(value) is not None,
        _ASN1Type.IA5String.value: value.isascii(),
        _ASN1Type.T61String.value: value.isascii(),
        _ASN1Type.BMPString.value: max(map(ord, value), default=0) < 0x10000,
    }
    if kind is not None:
        return _ASN1Type(kind) if fits.get(int(kind)) else _ASN1Type.UTF8String
    usual = x509.NameAttribute(oid, "xx")._type if oid is not None else _ASN1Type.UTF8String
    return None if fits[usual.value] else _ASN1Type.UTF8String


# --- Alternative names, one a line ------------------------------------------------------------------------------------


def names_from(text: str) -> list[x509.GeneralName]:
    """DNS and IP names, mail addresses and URIs, each told by how it looks, or named: `URI:…`. Raises RequestError."""
    return list(dict.fromkeys(_name(line) for line in _lines(text, "names")))


def split_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of the names of a certificate (`facts.names`), those that can be asked for here, and the others."""
    fine, others = [], []
    for name in names:
        try:
            names_from(name)
        except RequestError:
            others.append(name)
        else:
            fine.append(name)
    return fine, others


def _name(line: str) -> x509.GeneralName:
    kind, value = "", line
    if prefix := _KINDS_OF_NAMES.match(line):
        kind, value = prefix[1].lower(), line[prefix.end() :].strip()
    kind = kind or _kind_of(value)
    try:
        if kind == "ip":
            return x509.IPAddress(ipaddress.ip_address(value.strip("[]")))
        if kind == "uri" and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", value):
            return x509.UniformResourceIdentifier(value)
        if kind in ("mail", "email") and re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9.-]+", value):
            return x509.RFC822Name(value)
        if kind == "dns" and _HOST.fullmatch(value) and len(value) <= 253 and not re.fullmatch(r"[0-9.]+", value):
            return x509.DNSName(value)
    except ValueError:
        pass
    raise RequestError(_what_is_wrong(line, value, kind), "names")


def _kind_of(value: str) -> str:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        if "://" in value or value.lower().startswith("urn:"):
            return "uri"
        return "mail" if "@" in value else "dns"
    return "ip"


def _what_is_wrong(line: str, value: str, kind: str) -> str:
    shown = f"“{line[:60]}”"
    if not value.isascii():
        return f"{shown} has letters beyond ASCII; write the host as xn--…."
    if kind == "dns" and ":" in value:
        return f"{shown} is no name; leave the port out, and begin an address with https:// or urn:."
    words = {"ip": "an IP address", "uri": "a URI", "mail": "a mail address", "email": "a mail address"}
    return f"{shown} is not {words.get(kind, 'a host name')}; type one name a line, like api.example.com."


def _lines(text: str, field: str) -> list[str]:
    if len(text) > MAX_TEXT:
        raise RequestError(f"This is too long; type at most {MAX_TEXT:,} characters.", field)
    lines = [stripped for line in re.split(r"\r\n|\r|\n", text) if (stripped := line.strip())]
    if len(lines) > MAX_LINES:
        raise RequestError(f"These are {len(lines)} lines; at most {MAX_LINES} go into one request.", field)
    if any(not letter.isprintable() for line in lines for letter in line):
        raise RequestError("This contains control characters; type it instead of pasting it.", field)
    return lines
