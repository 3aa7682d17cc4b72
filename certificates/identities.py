"""From private keys and certificates, as files hold them in any order, to one key with its certificate and chain.

No Django here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import unicodedata
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from certificates import chain, der
from certificates.der import Budget
from certificates.diagnosis import Refusal
from certificates.opening import FoundKey
from certificates.outline import MAX_KEY_BYTES, MAX_RSA_BITS, CertificateBag

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)

MAX_FRIENDLY_NAME: Final = 200
PACK_FORMAT: Final = 1
_RSA: Final = frozenset({"1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"})
_KINDS: Final = {
    "1.3.101.110": "X25519",
    "1.3.101.111": "X448",
    "1.2.840.113549.1.3.1": "Diffie-Hellman",
    "1.2.643.2.2.19": "GOST R 34.10-2001",
    "1.2.643.7.1.1.1.1": "GOST R 34.10-2012",
    "1.2.643.7.1.1.1.2": "GOST R 34.10-2012",
    "1.2.156.10197.1.301": "SM2",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
    "2.16.840.1.101.3.4.4.1": "ML-KEM-512",
    "2.16.840.1.101.3.4.4.2": "ML-KEM-768",
    "2.16.840.1.101.3.4.4.3": "ML-KEM-1024",
}


@dataclass(frozen=True)
class Identity:
    """One private key with its certificate.

    `key` is unencrypted PKCS #8 DER, empty for a certificate that is only tracked; `certificate` is the DER of the
    leaf; `chain` is DER from its issuer towards the root, as far as the files had it. `friendly_name` is a partner's
    text, without control characters.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    chain: tuple[bytes, ...] = ()
    friendly_name: str | None = None


@dataclass(frozen=True)
class Found:
    """An identity, and how many certificates were left out of it: copies aside, they belong to something else."""

    identity: Identity
    strangers: int
    unreadable: int


@dataclass(frozen=True)
class _Certificate:
    x509: x509.Certificate
    bag: CertificateBag


@dataclass(frozen=True)
class _Key:
    key: PrivateKey
    found: FoundKey
    spki: bytes


def make(keys: Sequence[FoundKey], certificates: Sequence[CertificateBag]) -> list[Found]:
    """The identities that these make up, one for each key that has a certificate; at least one. Raises Refusal."""
    if not keys:
        raise Refusal("no_private_key", certificates=len(certificates))
    read, places = _readable(certificates)
    loaded = _loaded(keys)
    if not certificates:
        raise Refusal("no_certificate")
    pairs = [(key, leaf) for key in loaded if (leaf := _leaf(key, read)) is not None]
    if not pairs:
        if places:
            raise Refusal("unreadable_certificate", place=places[0])
        raise Refusal("key_certificate_mismatch")
    everything = [one.x509 for one in read]
    found = [(key, leaf, chain.ordered(leaf.x509, everything)) for key, leaf in pairs]
    known = {one for _key, leaf, above in found for one in (leaf.x509, *above)}
    strangers = len(set(everything) - known)
    return [_found(key, leaf, above, strangers, len(places)) for key, leaf, above in found]


def _found(key: _Key, leaf: _Certificate, above: Sequence[x509.Certificate], strangers: int, unreadable: int) -> Found:
    prove(key.key, leaf.x509)
    return Found(
        Identity(
            key=key.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            certificate=leaf.bag.certificate,
            chain=tuple(one.public_bytes(Encoding.DER) for one in above),
            friendly_name=visible(leaf.bag.name) or visible(key.found.name),
        ),
        strangers,
        unreadable,
    )


def only(identities: Iterable[Identity], *, choose: str | None = None) -> Identity:
    """The one that there is, or whose friendly name, common name or fingerprint of the certificate (SHA-256, hex) was
    chosen. Raises the Refusal `several_keys`, which lists them."""
    found = list(identities)
    called = {one: names_of(one) for one in found}
    if choose is not None and len(found) > 1:
        wanted = choose.strip().casefold().replace(":", "")
        found = [one for one in found if wanted in (name.casefold().replace(":", "") for name in called[one])]
    if len(found) == 1:
        return found[0]
    names = "; ".join(next(iter(names), "") for names in called.values())
    raise Refusal("several_keys", keys=len(called), names=names[:1000])


def names_of(identity: Identity) -> list[str]:
    """What an identity may be called: friendly name, subject, fingerprint."""
    subject = ""
    with contextlib.suppress(ValueError):
        subject = x509.load_der_x509_certificate(identity.certificate).subject.rfc4514_string()
    names = [identity.friendly_name or "", visible(subject) or "", hashlib.sha256(identity.certificate).hexdigest()]
    return [name for name in names if name]


def tracked(certificates: Sequence[CertificateBag], wanted: Container[str] = ()) -> list[Found]:
    """Certificates without a key: each whose public key (SHA-256) is wanted, wherever it stands; else the one that
    issued none of the others. With their chains. Raises Refusal."""
    read, places = _readable(certificates)
    if not read:
        raise Refusal("unreadable_certificate", place=places[0]) if places else Refusal("no_certificate")
    everything = list(dict.fromkeys(one.x509 for one in read))
    chains = {leaf: chain.ordered(leaf, everything) for leaf in everything}
    leaves = [one for one in everything if hashlib.sha256(_spki(one)).hexdigest() in wanted]
    if not leaves:
        issuers = {one for above in chains.values() for one in above}
        leaves = [one for one in everything if one not in issuers]
        if len(leaves) != 1:
            raise Refusal("no_private_key", certificates=len(everything))
    known = {one for leaf in leaves for one in (leaf, *chains[leaf])}
    strangers = len(set(everything) - known)
    return [_tracked(leaf, chains[leaf], read, strangers, len(places)) for leaf in leaves]


def _tracked(
    leaf: x509.Certificate,
    above: Sequence[x509.Certificate],
    read: Sequence[_Certificate],
    strangers: int,
    unreadable: int,
) -> Found:
    name = next((one.bag.name for one in read if one.x509 == leaf), None)
    links = tuple(one.public_bytes(Encoding.DER) for one in above)
    return Found(Identity(b"", leaf.public_bytes(Encoding.DER), links, visible(name)), strangers, unreadable)


def prove(key: PrivateKey, certificate: x509.Certificate) -> None:
    """That the key is the certificate's: what the one signs, the other verifies. Raises Refusal.

    The library's own check when it loads a key proves that its primes are primes (28 ms for RSA 2048, 23 s for RSA
    16384). That protects whoever makes a key. We did not make this one: its owner already relies on it, and a bad
    prime would be theirs and in their certificate. What can go wrong here is that the file joins the wrong key with a
    certificate, or that the key's bytes were changed; then the signature does not verify, because CRT parameters that
    do not fit give a wrong one. Sizes are bounded before the key is loaded, so this is one private operation: 1 ms for
    RSA 2048.
    """
    message = b"Countersign: does this key belong to this certificate?"
    sha256 = hashes.SHA256()
    try:
        public = certificate.public_key()
        match key, public:
            case rsa.RSAPrivateKey(), rsa.RSAPublicKey():
                public.verify(key.sign(message, padding.PKCS1v15(), sha256), message, padding.PKCS1v15(), sha256)
            case ec.EllipticCurvePrivateKey(), ec.EllipticCurvePublicKey():
                public.verify(key.sign(message, ec.ECDSA(sha256)), message, ec.ECDSA(sha256))
            case dsa.DSAPrivateKey(), dsa.DSAPublicKey():
                public.verify(key.sign(message, sha256), message, sha256)
            case ed25519.Ed25519PrivateKey(), ed25519.Ed25519PublicKey():
                public.verify(key.sign(message), message)
            case ed448.Ed448PrivateKey(), ed448.Ed448PublicKey():
                public.verify(key.sign(message), message)
            case _:
                raise Refusal("key_certificate_mismatch")
    except InvalidSignature:
        raise Refusal("damaged", place="its private key does not fit its own public key") from None
    except UnsupportedAlgorithm:
        raise Refusal("unsupported_algorithm", algorithm="its kind of key", kind="key") from None
    except ValueError:
        raise Refusal("damaged", place="its private key cannot sign") from None


def load_key(pkcs8: bytes) -> PrivateKey:
    """The key of PKCS #8 (or PKCS #1, SEC 1) DER, whose sizes are checked first. Raises Refusal."""
    kind = _bounded(pkcs8)
    try:
        # Not the check of its primes; `prove` says why.
        key = load_der_private_key(pkcs8, None, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        raise Refusal("unsupported_algorithm", algorithm=_KINDS.get(kind, kind), kind="key") from None
    except (ValueError, TypeError):
        if kind in _KINDS:
            raise Refusal("unsupported_algorithm", algorithm=_KINDS[kind], kind="key") from None
        raise Refusal("damaged", place="its private key cannot be read") from None
    if not isinstance(key, PrivateKey):
        name = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
        raise Refusal("unsupported_algorithm", algorithm=_KINDS.get(kind, name), kind="key")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size > MAX_RSA_BITS:
        _too_large(key.key_size)
    return key


def _bounded(key: bytes) -> str:
    """The kind of a key by its object identifier, "" for PKCS #1 and SEC 1; refuses RSA above the limit unread."""
    if len(key) > MAX_KEY_BYTES:
        raise Refusal(
            "limit_exceeded",
            what="the size of its private key in bytes",
            figure=f"{len(key):,}",
            limit=f"{MAX_KEY_BYTES:,} (RSA has at most {MAX_RSA_BITS:,} bits)",
        )
    outer = der.parse(key, Budget())
    kind, inner = "", outer
    if len(outer.children) > 2 and outer.children[1].tag == der.SEQUENCE and outer.children[2].tag == der.OCTET_STRING:
        kind = outer.child(1, der.SEQUENCE, "a key").child(0, der.OID, "the kind of a key").oid("the kind of a key")
        if kind not in _RSA:
            return kind
        inner = der.parse(outer.children[2].octets(), Budget())
    if len(inner.children) > 2 and inner.children[1].tag == der.INTEGER:
        # PKCS #1: version, modulus, …
        bits = inner.children[1].integer("a modulus").bit_length()
        if bits > MAX_RSA_BITS:
            _too_large(bits)
    return kind


def _too_large(bits: int) -> None:
    what = "the size of its RSA key in bits"
    raise Refusal("limit_exceeded", what=what, figure=f"{bits:,}", limit=f"{MAX_RSA_BITS:,}")


def _readable(bags: Iterable[CertificateBag]) -> tuple[list[_Certificate], list[str]]:
    """The certificates that are X.509, and for each that is not, the place where it breaks the format."""
    read: list[_Certificate] = []
    places: list[str] = []
    for bag in bags:
        try:
            read.append(_Certificate(x509.load_der_x509_certificate(bag.certificate), bag))
        except ValueError as error:
            places.append(_place(str(error)))
    return read, places


def _place(reason: str) -> str:
    """The field that the library's certificate parser names: `… location: ["Certificate::tbs_cert", …]`."""
    names = [part.rpartition("::")[2] for part in reason.split('"')[1::2]]
    named = ", ".join(name for name in names if name.replace("_", "").isalnum())[:100]
    return f"in {named}" if named else "it is not strict DER"


def _loaded(found: Sequence[FoundKey]) -> list[_Key]:
    """The keys that can be loaded, each once. Raises the Refusal of the first where none can."""
    keys: dict[bytes, _Key] = {}
    first: Refusal | None = None
    for one in found:
        try:
            key = load_key(one.pkcs8)
            spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except Refusal as refusal:
            if refusal.code == "limit_exceeded":
                raise
            first = first or refusal
        except (ValueError, UnsupportedAlgorithm):
            first = first or Refusal("damaged", place="its private key cannot be read")
        else:
            keys.setdefault(spki, _Key(key, one, spki))
    if not keys and first is not None:
        raise first
    return list(keys.values())


def _leaf(key: _Key, certificates: Sequence[_Certificate]) -> _Certificate | None:
    """The certificate of a key. Of several, the one that the file joins with it, then the one that ends last."""
    fitting = [one for one in certificates if _spki(one.x509) == key.spki]
    mark = key.found.local_key_id
    return max(
        fitting,
        key=lambda one: (mark is not None and one.bag.local_key_id == mark, one.x509.not_valid_after_utc),
        default=None,
    )


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def visible(name: str | None) -> str | None:
    """A partner's text made fit for a page: no control, format or unassigned characters, at most 200."""
    if name is None:
        return None
    kept = "".join(character for character in name if unicodedata.category(character)[0] != "C")
    return kept.strip()[:MAX_FRIENDLY_NAME] or None


def pack(identity: Identity) -> bytes:
    """The canonical bytes of an identity, for sealing. They contain the private key."""
    return json.dumps(
        {
            "format": PACK_FORMAT,
            "key": base64.b64encode(identity.key).decode("ascii"),
            "certificate": base64.b64encode(identity.certificate).decode("ascii"),
            "chain": [base64.b64encode(one).decode("ascii") for one in identity.chain],
            "friendly_name": identity.friendly_name,
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode("ascii")


def unpack(packed: bytes) -> Identity:
    """The inverse of `pack`. Raises ValueError, without showing anything of what was packed."""
    try:
        stored = json.loads(packed)
        if stored["format"] != PACK_FORMAT:
            raise ValueError
        name = stored["friendly_name"]
        return Identity(
            key=base64.b64decode(stored["key"], validate=True),
            certificate=base64.b64decode(stored["certificate"], validate=True),
            chain=tuple(base64.b64decode(one, validate=True) for one in stored["chain"]),
            friendly_name=name if isinstance(name, str) else None,
        )
    except (ValueError, KeyError, TypeError):
        raise ValueError("this is not an identity that this release packed") from None
