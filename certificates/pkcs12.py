"""Reading and writing PKCS #12 files (.pfx, .p12), RFC 7292.

No Django here. An upload is read once, in a child process of its own (`read_in_child`), and is never passed on: what
runs is written anew (`write`) with one key, its chain and algorithms that every runtime reads.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.hazmat.primitives.serialization import pkcs12 as library

from certificates import chain
from certificates.diagnosis import Refusal
from certificates.outline import MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES, MAX_RSA_BITS, Outline, outline

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)

MAX_PASSWORD_BYTES: Final = 1024
MAX_FRIENDLY_NAME: Final = 200
WRITTEN_ROUNDS: Final = 50_000
PACK_FORMAT: Final = 1


@dataclass(frozen=True)
class Identity:
    """One private key with its certificate.

    `key` is unencrypted PKCS #8 DER; `certificate` is the DER of the leaf; `chain` is DER from its issuer towards the
    root, as far as the file had it. `friendly_name` is a partner's text, without control characters.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    chain: tuple[bytes, ...] = ()
    friendly_name: str | None = None


def screen(file: bytes) -> Outline:
    """Judge a file before its password is asked for. Raises Refusal for a file that no password could open."""
    seen = outline(file)
    if seen.keys > 1:
        raise Refusal("several_keys", keys=seen.keys)
    return seen


def read(file: bytes, password: str) -> Identity:
    """The identity in `file`, read in this process. Raises Refusal.

    A hostile file can keep this process busy for minutes in one uninterruptible call: use `read_in_child` for uploads.
    """
    seen = _look(file, password)
    loaded = _load(file, password, seen)
    certificates = [one.certificate for one in (loaded.cert, *loaded.additional_certs) if one is not None]
    if loaded.key is None:
        raise Refusal("no_private_key", certificates=len(certificates))
    if len(certificates) > MAX_CERTIFICATES:
        raise Refusal(
            "limit_exceeded", what="the number of its certificates", figure=len(certificates), limit=MAX_CERTIFICATES
        )
    if not certificates:
        raise Refusal("no_certificate")
    if (size := max(len(one.public_bytes(Encoding.DER)) for one in certificates)) > MAX_CERTIFICATE_BYTES:
        raise Refusal(
            "limit_exceeded",
            what="the size of a certificate in bytes",
            figure=f"{size:,}",
            limit=f"{MAX_CERTIFICATE_BYTES:,}",
        )
    if loaded.cert is None:
        raise Refusal("key_certificate_mismatch")
    key = loaded.key
    if not isinstance(key, PrivateKey):
        raise Refusal("unsupported_key", kind=type(key).__name__.removesuffix("PrivateKey"))
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size > MAX_RSA_BITS:
        raise Refusal("limit_exceeded", what="the size of its RSA key in bits", figure=key.key_size, limit=MAX_RSA_BITS)
    leaf = loaded.cert.certificate
    _must_match(key, leaf)
    return Identity(
        key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        certificate=leaf.public_bytes(Encoding.DER),
        chain=tuple(one.public_bytes(Encoding.DER) for one in chain.ordered(leaf, certificates[1:])),
        friendly_name=_visible(loaded.cert.friendly_name),
    )


def read_in_child(file: bytes, password: str, *, places: Path | None = None) -> Identity:
    """The identity in `file`, read by a process of its own that ends with it. Raises Refusal.

    What can be judged without the password is judged here first, and starts no process. `places` is the folder of lock
    files that limits how many are read at once on this machine (default: `one_shot.default_places()`).
    """
    from certificates import one_shot  # Here, because the child imports this module and needs no subprocesses.

    _look(file, password)
    answer = one_shot.ask(file, password, places=places)
    try:
        return unpack(answer)
    except ValueError:
        raise Refusal("reader_stopped") from None


def write(identity: Identity, *, password: str, friendly_name: str) -> bytes:
    """A PKCS #12 file with the key, its certificate and chain, joined by localKeyID.

    PBES2 with AES-256-CBC, PBKDF2 and a MAC with SHA-256, 50,000 rounds each: what OpenJDK, OpenSSL 3, GnuTLS and NSS
    read. Raises ValueError for a name that is not printable ASCII, or a password that is not ASCII letters and digits:
    runtimes read both in ways of their own.
    """
    if not friendly_name or not friendly_name.isascii() or not friendly_name.isprintable():
        raise ValueError("the friendly name of a written PKCS #12 file must be printable ASCII")
    if not password.isascii() or not password.isalnum():
        raise ValueError("the password of a written PKCS #12 file must be ASCII letters and digits")
    # The key was checked when it was read; checking it again costs 28 ms for RSA 2048, 3 s for RSA 8192.
    key = load_der_private_key(identity.key, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, PrivateKey):
        raise ValueError("this kind of key cannot be written to a PKCS #12 file")
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(WRITTEN_ROUNDS)
        .key_cert_algorithm(library.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode("ascii"))
    )
    return library.serialize_key_and_certificates(
        friendly_name.encode("ascii"),
        key,
        x509.load_der_x509_certificate(identity.certificate),
        [x509.load_der_x509_certificate(one) for one in identity.chain] or None,
        encryption,
    )


def new_password() -> str:
    """24 random ASCII letters and digits (142 bits): no comma, quote or space that a configuration could trip over."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(24))


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


def _look(file: bytes, password: str) -> Outline:
    """Judge what needs no library and no password. Raises Refusal."""
    seen = screen(file)
    # A NUL makes the library panic with a message that prints the password, so these never reach it.
    if "\0" in password:
        raise Refusal("password_not_expressible", reason="it contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise Refusal("password_not_expressible", reason="it contains half of a character")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise Refusal("password_not_expressible", reason=f"it is longer than {MAX_PASSWORD_BYTES:,} bytes")
    return seen


def _load(file: bytes, password: str, seen: Outline) -> library.PKCS12KeyAndCertificates:
    """What the library makes of the file, and its few kinds of failure in our words."""
    try:
        return library.load_pkcs12(file, password.encode())
    except UnsupportedAlgorithm:
        raise Refusal("unsupported_key", kind="the library knows no such kind") from None
    except ValueError as error:
        reason = str(error)
    if "parsing asn1 value" in reason:
        raise Refusal("unreadable_certificate", place=_place(reason))
    if "deserialize key data" in reason:
        raise Refusal("unsupported_key", kind="or its encoding is damaged")
    if "deserialize PKCS12" in reason:
        raise Refusal("damaged", place="its structure cannot be followed")
    from certificates import integrity  # Here, because a file that opens does without it.

    if seen.mac is not None and integrity.verifies(seen.mac, password):
        raise Refusal("contents_not_readable")
    raise Refusal("wrong_password_or_damaged")


def _place(reason: str) -> str:
    """The field that the library's certificate parser names: `… location: ["Certificate::tbs_cert", …]`."""
    names = [part.rpartition("::")[2] for part in reason.split('"')[1::2]]
    visible = ", ".join(name for name in names if name.replace("_", "").isalnum())[:100]
    return f"in {visible}" if visible else "it is not strict DER"


def _must_match(key: PrivateKey, leaf: x509.Certificate) -> None:
    try:
        if leaf.public_key() == key.public_key():
            return
    except (ValueError, UnsupportedAlgorithm):
        raise Refusal("unreadable_certificate", place="in its public key") from None
    raise Refusal("key_certificate_mismatch")


def _visible(name: bytes | None) -> str | None:
    """A partner's text made fit for a page: no control, format or unassigned characters, at most 200."""
    if name is None:
        return None
    text = name.decode("utf-8", "replace")
    kept = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    return kept.strip()[:MAX_FRIENDLY_NAME] or None
