"""What a PKCS #12 file shows without its password: its parts, and the work that it asks of a reader.

No Django here. The structure is that of RFC 7292 §4 (with PBMAC1 of RFC 9579 and PBES2 of RFC 8018 §6.2). The work is
judged here, before any of it is done, because libraries derive keys before they know that the password is right, and
cannot be interrupted while they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn

from certificates import der
from certificates.der import Budget, Node
from certificates.diagnosis import Refusal, looks_like

MAX_FILE: Final = 1024 * 1024
MAX_ITERATIONS: Final = 2_000_000
MAX_ITERATIONS_IN_ALL: Final = 6_000_000
MAX_SAFES: Final = 20
MAX_CERTIFICATES: Final = 100
# An honest one has 1,000 to 5,000; what it says stands in rows and on pages.
MAX_CERTIFICATE_BYTES: Final = 32 * 1024
MAX_SCRYPT_MEMORY: Final = 32 * 1024 * 1024
# N × r × p, which its time grows with: a third of a second. OpenSSL writes 16,384 × 8 × 1.
MAX_SCRYPT_WORK: Final = 2**20
MAX_RSA_BITS: Final = 8192
# PKCS #8 of an RSA key of n bits takes about 4.5 × n / 8 bytes: 4,680 for 8,192 bits. Checking a far larger key takes
# minutes, and its size shows without the password.
MAX_KEY_BYTES: Final = 5120

_DATA: Final = "1.2.840.113549.1.7.1"
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"
_BAGS: Final = "1.2.840.113549.1.12.10.1."
_KEY_BAG: Final = _BAGS + "1"
_SHROUDED_KEY_BAG: Final = _BAGS + "2"
_CERTIFICATE_BAG: Final = _BAGS + "3"
_SAFE_CONTENTS_BAG: Final = _BAGS + "6"
_PBES2: Final = "1.2.840.113549.1.5.13"
_PBKDF2: Final = "1.2.840.113549.1.5.12"
_PBMAC1: Final = "1.2.840.113549.1.5.14"
_SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"
# PBES1 of PKCS #5 (RFC 8018 §6.1) and of PKCS #12 (RFC 7292 appendix C): salt, iterations. Not those with MD2.
_PBES1: Final = frozenset(
    {f"1.2.840.113549.1.12.1.{n}" for n in range(1, 7)} | {f"1.2.840.113549.1.5.{n}" for n in (3, 6, 10, 11)}
)


@dataclass(frozen=True)
class Mac:
    """The integrity check: what is needed to compute it. `algorithm` is the digest's OID, or None for PBMAC1."""

    authenticated: bytes = field(repr=False)
    algorithm: str | None
    digest: bytes
    salt: bytes
    iterations: int


@dataclass
class Outline:
    """The visible parts. Keys and certificates in an encrypted safe are not visible: these counts are lower bounds."""

    mac: Mac | None = None
    keys: int = 0
    certificates: int = 0
    encrypted_safes: int = 0
    iterations: list[int] = field(default_factory=list)

    def derive(self, iterations: int) -> None:
        """Count one derivation. The count is the true integer of the file: some libraries truncate it to 32 bits."""
        if not 1 <= iterations <= MAX_ITERATIONS:
            _refuse("the number of iterations of one key derivation", iterations, f"1 to {MAX_ITERATIONS:,}")
        self.iterations.append(iterations)
        if (total := sum(self.iterations)) > MAX_ITERATIONS_IN_ALL:
            _refuse("the number of iterations of all key derivations", total, f"{MAX_ITERATIONS_IN_ALL:,}")


def outline(file: bytes) -> Outline:
    """The outline of `file`. Raises Refusal for what is no PKCS #12, or asks for more than the limits allow."""
    if len(file) > MAX_FILE:
        raise Refusal("too_large", size=len(file), limit=MAX_FILE)
    if not file:
        raise Refusal("empty")
    if kind := looks_like(file):
        raise Refusal("not_pkcs12", looks_like=kind)
    budget = Budget()
    pfx = der.parse(file, budget, outermost=True)
    if kind := _other_der(pfx):
        raise Refusal("not_pkcs12", looks_like=kind)
    if (version := pfx.children[0].integer("its version")) != 3:
        raise Refusal("damaged", place=f"its version is {version if -1 < version < 1000 else 'absurd'} instead of 3")
    found = Outline()
    authenticated = _data(pfx.child(1, der.SEQUENCE, "its content"), "its content")
    if len(pfx.children) > 2:
        found.mac = _mac(pfx.children[2], authenticated.octets(), found)
    safes = _inside(authenticated, budget)
    if len(safes.children) > MAX_SAFES:
        raise Refusal("limit_exceeded", what="the number of its safes", figure=len(safes.children), limit=MAX_SAFES)
    for safe in safes.children:
        _read_safe(safe, budget, found)
    return found


def _other_der(pfx: Node) -> str | None:
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


def _inside(octets: Node, budget: Budget) -> Node:
    """The SEQUENCE that is packed inside an octet string."""
    contents = octets.octets()
    if not contents:
        raise Refusal("damaged", place="a part is empty")
    node = der.parse(contents, budget, depth=octets.depth)
    if node.tag != der.SEQUENCE:
        raise Refusal("damaged", place="a part is not a list")
    return node


def _data(content: Node, name: str) -> Node:
    """The octet string of a ContentInfo of type `data`."""
    kind = content.child(0, der.OID, name).oid(name)
    if kind != _DATA:
        raise Refusal("unsupported_protection", algorithm="signature" if kind == _SIGNED_DATA else kind)
    explicit = content.child(1, der.context(0), name)
    _string(explicit, 0, name)
    return explicit.children[0]


def _string(parent: Node, index: int, name: str) -> bytes:
    """The octets of the OCTET STRING at `index`, in either form."""
    if index >= len(parent.children) or parent.children[index].tag & ~der.CONSTRUCTED != der.OCTET_STRING:
        raise Refusal("damaged", place=f"{name} is missing")
    return parent.children[index].octets()


def _read_safe(safe: Node, budget: Budget, found: Outline) -> None:
    if safe.child(0, der.OID, "the kind of a safe").oid("the kind of a safe") != _ENCRYPTED_DATA:
        _read_bags(_inside(_data(safe, "a safe"), budget), found)
        return
    found.encrypted_safes += 1
    encrypted = safe.child(1, der.context(0), "a safe").child(0, der.SEQUENCE, "a safe")
    _read_scheme(encrypted.child(1, der.SEQUENCE, "a safe").child(1, der.SEQUENCE, "a safe's algorithm"), found)


def _read_bags(bags: Node, found: Outline) -> None:
    waiting = list(bags.children)
    while waiting:
        bag = waiting.pop()
        kind = bag.child(0, der.OID, "the kind of a bag").oid("the kind of a bag")
        value = bag.child(1, der.context(0), "the contents of a bag")
        if kind == _CERTIFICATE_BAG:
            found.certificates += 1
        elif kind == _SAFE_CONTENTS_BAG:
            waiting.extend(value.child(0, der.SEQUENCE, "a nested safe").children)
        elif kind in (_KEY_BAG, _SHROUDED_KEY_BAG):
            found.keys += 1
            key = value.child(0, der.SEQUENCE, "a private key")
            if key.length > MAX_KEY_BYTES:
                raise Refusal(
                    "limit_exceeded",
                    what="the size of its private key in bytes",
                    figure=f"{key.length:,}",
                    limit=f"{MAX_KEY_BYTES:,} (RSA has at most {MAX_RSA_BITS:,} bits)",
                )
            if kind == _SHROUDED_KEY_BAG:
                _read_scheme(key.child(0, der.SEQUENCE, "a private key's algorithm"), found)
    if found.certificates > MAX_CERTIFICATES:
        raise Refusal(
            "limit_exceeded", what="the number of its certificates", figure=found.certificates, limit=MAX_CERTIFICATES
        )


def _read_scheme(algorithm: Node, found: Outline) -> None:
    """Count the work of an encryption scheme: PBES1 or PBES2."""
    scheme = algorithm.child(0, der.OID, "an algorithm").oid("an algorithm")
    if scheme not in _PBES1 and scheme != _PBES2:
        raise Refusal("unsupported_protection", algorithm=scheme)
    parameters = algorithm.child(1, der.SEQUENCE, "an algorithm's parameters")
    if scheme == _PBES2:
        _read_derivation(parameters.child(0, der.SEQUENCE, "a key derivation"), found)
    else:
        _string(parameters, 0, "a salt")
        found.derive(parameters.child(1, der.INTEGER, "a number of iterations").integer("a number of iterations"))


def _read_derivation(algorithm: Node, found: Outline) -> None:
    """Count the work of PBKDF2 (RFC 8018 §A.2) or scrypt (RFC 7914 §7)."""
    name = "a key derivation"
    kind = algorithm.child(0, der.OID, name).oid(name)
    parameters = algorithm.child(1, der.SEQUENCE, name)
    _string(parameters, 0, "a salt")
    if kind == _PBKDF2:
        found.derive(parameters.child(1, der.INTEGER, name).integer(name))
    elif kind == _SCRYPT:
        factors = [parameters.child(i, der.INTEGER, name).integer(name) for i in (1, 2, 3)]
        for factor in factors:  # Before they are multiplied: they may be as wide as the file.
            if not 1 <= factor <= MAX_SCRYPT_WORK:
                _refuse("a factor of one key derivation", factor, f"1 to {MAX_SCRYPT_WORK:,}")
        cost, block, parallel = factors
        # The library's own sum: p blocks of 128 r bytes, and a table of 128 r (N + 2).
        if (memory := 128 * block * (parallel + cost + 2)) > MAX_SCRYPT_MEMORY:
            _refuse("the memory of one key derivation in bytes", memory, f"{MAX_SCRYPT_MEMORY:,}")
        if (work := cost * block * parallel) > MAX_SCRYPT_WORK:
            _refuse("the work of one key derivation in blocks", work, f"{MAX_SCRYPT_WORK:,}")
        found.iterations.append(cost)
    else:
        raise Refusal("unsupported_protection", algorithm=kind)


def _mac(mac: Node, authenticated: bytes, found: Outline) -> Mac:
    """The integrity check, RFC 7292 §4 MacData, with its work counted."""
    name = "its integrity check"
    digest_info = mac.child(0, der.SEQUENCE, name)
    algorithm = digest_info.child(0, der.SEQUENCE, name)
    kind = algorithm.child(0, der.OID, name).oid(name)
    digest = _string(digest_info, 1, name)
    salt = _string(mac, 1, name)
    iterations = mac.children[2].integer("a number of iterations") if len(mac.children) > 2 else 1
    if kind == _PBMAC1:
        parameters = algorithm.child(1, der.SEQUENCE, name)
        _read_derivation(parameters.child(0, der.SEQUENCE, name), found)
        return Mac(authenticated, None, digest, salt, 1)
    found.derive(iterations)
    return Mac(authenticated, kind, digest, salt, iterations)


def _refuse(what: str, number: int, limit: str) -> NoReturn:
    raise Refusal("limit_exceeded", what=what, figure=_figure(number), limit=limit)


def _figure(number: int) -> str:
    """A number for a sentence: in full while it is short."""
    return f"{number:,}" if abs(number) < 10**21 else "above 10 to the power of 20"
