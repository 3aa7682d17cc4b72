"""What a PKCS #12 file shows without its password: its parts, and the work that it asks of a reader.

No Django here. The structure is that of RFC 7292 §4. Everything is judged here before any of it is done: sizes, counts,
depth, algorithms and iterations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from certificates import der, protection
from certificates.der import Budget, Node
from certificates.derivation import Work, figure
from certificates.diagnosis import Refusal, looks_like
from certificates.protection import Mac, Scheme, string

MAX_FILE: Final = 1024 * 1024
MAX_SAFES: Final = 20
MAX_KEYS: Final = 20
MAX_CERTIFICATES: Final = 100
# An honest one has 1,000 to 5,000; what it says stands in rows and on pages.
MAX_CERTIFICATE_BYTES: Final = 32 * 1024
MAX_RSA_BITS: Final = 8192
# PKCS #8 of an RSA key of n bits takes about 4.5 × n / 8 bytes: 4,680 for 8,192 bits. Its size shows without the
# password.
MAX_KEY_BYTES: Final = 5120

_DATA: Final = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"
_BAGS: Final = "1.2.840.113549.1.12.10.1."
_KEY_BAG: Final = _BAGS + "1"
_SHROUDED_KEY_BAG: Final = _BAGS + "2"
_CERTIFICATE_BAG: Final = _BAGS + "3"
_SAFE_CONTENTS_BAG: Final = _BAGS + "6"
_X509: Final = "1.2.840.113549.1.9.22.1"
_FRIENDLY_NAME: Final = "1.2.840.113549.1.9.20"
_LOCAL_KEY_ID: Final = "1.2.840.113549.1.9.21"


@dataclass(frozen=True)
class Sealed:
    """An encrypted part. What is inside continues at `depth`."""

    scheme: Scheme
    ciphertext: bytes = field(repr=False)
    depth: int


@dataclass(frozen=True)
class KeyBag:
    """A private key: `pkcs8` is DER, or `sealed` where it is encrypted."""

    pkcs8: bytes | None = field(repr=False)
    sealed: Sealed | None
    name: str | None
    local_key_id: bytes | None


@dataclass(frozen=True)
class CertificateBag:
    certificate: bytes = field(repr=False)
    name: str | None
    local_key_id: bytes | None


@dataclass
class Outline:
    """The visible parts, in the order of the file. `others` counts bags that no identity is made of (CRLs, secrets)."""

    mac: Mac | None = None
    safes: list[Sealed] = field(default_factory=list)
    keys: list[KeyBag] = field(default_factory=list)
    certificates: list[CertificateBag] = field(default_factory=list)
    others: int = 0
    work: Work = field(default_factory=Work)
    budget: Budget = field(default_factory=Budget)

    @property
    def schemes(self) -> list[Scheme]:
        """How the visible parts are encrypted, in the order of the file."""
        return [one.scheme for one in self.safes] + [key.sealed.scheme for key in self.keys if key.sealed]

    def read_bags(self, contents: bytes, depth: int) -> None:
        """Adds the bags of a SafeContents, which stands inside a value of this depth. Raises Refusal."""
        waiting = list(reversed(_list(contents, depth, self.budget).children))
        while waiting:
            bag = waiting.pop()
            kind = bag.child(0, der.OID, "the kind of a bag").oid("the kind of a bag")
            value = bag.child(1, der.context(0), "the contents of a bag")
            if kind == _SAFE_CONTENTS_BAG:
                waiting.extend(reversed(value.child(0, der.SEQUENCE, "a nested safe").children))
            elif kind == _CERTIFICATE_BAG:
                self._read_certificate(value, bag)
            elif kind in (_KEY_BAG, _SHROUDED_KEY_BAG):
                self._read_key(value, bag, shrouded=kind == _SHROUDED_KEY_BAG)
            else:
                self.others += 1

    def _read_certificate(self, value: Node, bag: Node) -> None:
        name = "a certificate"
        holder = value.child(0, der.SEQUENCE, name)
        if holder.child(0, der.OID, name).oid(name) != _X509:
            self.others += 1
            return
        certificate = string(holder.child(1, der.context(0), name), 0, name)
        if len(certificate) > MAX_CERTIFICATE_BYTES:
            raise Refusal(
                "limit_exceeded",
                what="the size of a certificate in bytes",
                figure=figure(len(certificate)),
                limit=f"{MAX_CERTIFICATE_BYTES:,}",
            )
        self.certificates.append(CertificateBag(certificate, *_attributes(bag)))
        _at_most(MAX_CERTIFICATES, len(self.certificates), "the number of its certificates")

    def _read_key(self, value: Node, bag: Node, *, shrouded: bool) -> None:
        key = value.child(0, der.SEQUENCE, "a private key")
        limit = f"{MAX_KEY_BYTES:,} (RSA has at most {MAX_RSA_BITS:,} bits)"
        if key.length > MAX_KEY_BYTES:
            what = "the size of its private key in bytes"
            raise Refusal("limit_exceeded", what=what, figure=figure(key.length), limit=limit)
        if shrouded:
            scheme = protection.scheme(key.child(0, der.SEQUENCE, "a private key's algorithm"), self.work)
            sealed = Sealed(scheme, string(key, 1, "a private key"), key.depth)
            self.keys.append(KeyBag(None, sealed, *_attributes(bag)))
        else:
            self.keys.append(KeyBag(der.encode(key), None, *_attributes(bag)))
        _at_most(MAX_KEYS, len(self.keys), "the number of its private keys")


def outline(file: bytes) -> Outline:
    """The outline of `file`. Raises Refusal for what is no PKCS #12, or asks for more than the limits allow."""
    if len(file) > MAX_FILE:
        raise too_large(len(file))
    if kind := looks_like(file):
        raise Refusal("not_pkcs12", looks_like=kind)
    found = Outline()
    pfx = der.parse(file, found.budget, outermost=True)
    if kind := other_der(pfx):
        raise Refusal("not_pkcs12", looks_like=kind)
    if (version := pfx.children[0].integer("its version")) != 3:
        raise Refusal("damaged", place=f"its version is {version if -1 < version < 1000 else 'absurd'} instead of 3")
    authenticated = _data(pfx.child(1, der.SEQUENCE, "its content"), "its content")
    if len(pfx.children) > 2:
        found.mac = protection.mac(pfx.children[2], authenticated.octets(), found.work)
    safes = _list(authenticated.octets(), authenticated.depth, found.budget)
    _at_most(MAX_SAFES, len(safes.children), "the number of its safes")
    for safe in safes.children:
        _read_safe(safe, found)
    return found


def too_large(size: int) -> Refusal:
    return Refusal("limit_exceeded", what="its size in bytes", figure=f"{size:,}", limit=f"{MAX_FILE:,}", kind="size")


def other_der(pfx: Node) -> str | None:
    """Which other ASN.1 file this is, by its first parts; None for PKCS #12."""
    tags = [node.tag for node in pfx.children[:3]]
    if tags[:2] == [der.INTEGER, der.SEQUENCE] and not (len(tags) == 3 and tags[2] == der.OCTET_STRING):
        return None
    if tags[:2] == [der.INTEGER, der.SEQUENCE] or tags[:3] == [der.INTEGER, der.INTEGER, der.INTEGER]:
        return "private-key"
    if tags[:2] == [der.INTEGER, der.OCTET_STRING] or tags == [der.SEQUENCE, der.OCTET_STRING]:
        return "private-key"
    if tags[:1] == [der.OID]:
        return "pkcs7"
    if len(tags) == 3 and tags[:2] == [der.SEQUENCE, der.SEQUENCE]:
        first = pfx.children[0].children
        return "request" if first and first[0].tag == der.INTEGER and len(first) == 4 else "certificate"
    return "unknown" if pfx.tag != der.SEQUENCE else "other-der"


def _read_safe(safe: Node, found: Outline) -> None:
    if safe.child(0, der.OID, "the kind of a safe").oid("the kind of a safe") != _ENCRYPTED_DATA:
        plain = _data(safe, "a safe")
        found.read_bags(plain.octets(), plain.depth)
        return
    encrypted = safe.child(1, der.context(0), "a safe").child(0, der.SEQUENCE, "a safe")
    content = encrypted.child(1, der.SEQUENCE, "a safe")
    scheme = protection.scheme(content.child(1, der.SEQUENCE, "a safe's algorithm"), found.work)
    # [0] IMPLICIT OCTET STRING (RFC 5652 §8), in one piece or several.
    if len(content.children) < 3 or content.children[2].tag & ~der.CONSTRUCTED != 0x80:
        raise Refusal("damaged", place="the contents of a safe are missing")
    found.safes.append(Sealed(scheme, content.children[2].octets(), content.children[2].depth))


def _list(contents: bytes, depth: int, budget: Budget) -> Node:
    """The SEQUENCE that is packed inside an octet string."""
    if not contents:
        raise Refusal("damaged", place="a part is empty")
    node = der.parse(contents, budget, depth=depth)
    if node.tag != der.SEQUENCE:
        raise Refusal("damaged", place="a part is not a list")
    return node


def _data(content: Node, name: str) -> Node:
    """The octet string of a ContentInfo of type `data`."""
    kind = content.child(0, der.OID, name).oid(name)
    if kind != _DATA:
        protection.unsupported(kind)
    explicit = content.child(1, der.context(0), name)
    string(explicit, 0, name)
    return explicit.children[0]


def _attributes(bag: Node) -> tuple[str | None, bytes | None]:
    """The friendly name and the local key id of a bag. Raises Refusal where one has another type than RFC 2985 §5.5
    gives it; a name whose characters are broken is none."""
    name: str | None = None
    identifier: bytes | None = None
    attributes = bag.children[2].children if len(bag.children) > 2 and bag.children[2].tag == der.SET else []
    for attribute in attributes:
        kind = attribute.child(0, der.OID, "an attribute").oid("an attribute")
        if kind not in (_FRIENDLY_NAME, _LOCAL_KEY_ID):
            continue
        values = attribute.child(1, der.SET, "the value of an attribute").children
        if not values:
            raise Refusal("damaged", place="an attribute has no value")
        if kind == _LOCAL_KEY_ID:
            identifier = string(attribute.children[1], 0, "a local key id")
        elif values[0].tag == der.BMP_STRING:
            name = values[0].octets().decode("utf-16-be", "replace")
        elif values[0].tag == der.UTF8_STRING:
            name = values[0].octets().decode("utf-8", "replace")
        else:
            raise Refusal("damaged", place="a friendly name is not text")
    return name, identifier


def _at_most(limit: int, number: int, what: str) -> None:
    if number > limit:
        raise Refusal("limit_exceeded", what=what, figure=number, limit=limit)
