"""Reading and writing PKCS #12 files (.pfx, .p12), RFC 7292.

No Django here. An upload is read once, in a child process of its own (`one_shot`), and is never passed on: what runs is
written anew (`write`) with one key, its chain and algorithms that every runtime reads.

Reading is our own (`outline`, `protection`, `opening`, `identities`): the library reports one error for a wrong
password, a changed file and an unknown algorithm, takes the first of several keys in silence, truncates iteration
counts to 32 bits, spends its time on proving that the primes of an RSA key are primes, and has announced that it will
stop reading BER. Writing is the library's.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.hazmat.primitives.serialization import pkcs12 as library

from certificates import der, derivation
from certificates.der import MAX_NODES, Budget
from certificates.derivation import Work
from certificates.identities import Identity, PrivateKey, make, only
from certificates.opening import open_pfx
from certificates.outline import outline

WRITTEN_ROUNDS: Final = 50_000
SHA1: Final = hashes.SHA1()  # noqa: S303  # for readers that know nothing newer
# How each profile encrypts, and checks integrity (certificates.dialects says for whom).
PROFILES: Final[dict[str, tuple[library.PBES, hashes.HashAlgorithm]]] = {
    "modern": (library.PBES.PBESv2SHA256AndAES256CBC, hashes.SHA256()),
    "openssl11": (library.PBES.PBESv2SHA256AndAES256CBC, SHA1),
    "java8": (library.PBES.PBESv1SHA1And3KeyTripleDESCBC, SHA1),
}

# The contents of object identifiers: data (RFC 5652 §4), SHA-1 and SHA-256 (RFC 5754).
_DATA: Final = bytes.fromhex("2a864886f70d010701")
_DIGESTS: Final = {"sha1": bytes.fromhex("2b0e03021a"), "sha256": bytes.fromhex("608648016503040201")}


def read(file: bytes, password: str) -> Identity:
    """The identity in `file`, read in this process. Raises Refusal.

    A hostile file can keep this process busy for seconds: uploads are read by `one_shot`.
    """
    opened = open_pfx(outline(file), password)
    return only(found.identity for found in make(opened.keys, opened.certificates))


def write(identity: Identity, *, password: str, friendly_name: str, profile: str = "modern") -> bytes:
    """A PKCS #12 file with the key, its certificate and chain, joined by localKeyID.

    `modern`: PBES2 with AES-256-CBC, PBKDF2 and a MAC with SHA-256, 50,000 rounds each: what OpenJDK, OpenSSL 3, GnuTLS
    and NSS read. Raises KeyError for a profile that there is not, and ValueError for a name that is not printable ASCII
    or a password that is not ASCII letters and digits: runtimes read both in ways of their own.
    """
    if not friendly_name or not friendly_name.isascii() or not friendly_name.isprintable():
        raise ValueError("the friendly name of a written PKCS #12 file must be printable ASCII")
    if not password.isascii() or not password.isalnum():
        raise ValueError("the password of a written PKCS #12 file must be ASCII letters and digits")
    # The key was checked when it was read; checking it again costs 28 ms for RSA 2048, 3 s for RSA 8192.
    key = load_der_private_key(identity.key, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, PrivateKey):
        raise ValueError("this kind of key cannot be written to a PKCS #12 file")
    return library.serialize_key_and_certificates(
        friendly_name.encode("ascii"),
        key,
        x509.load_der_x509_certificate(identity.certificate),
        [x509.load_der_x509_certificate(one) for one in identity.chain] or None,
        encryption(profile, password),
    )


def encryption(profile: str, password: str) -> KeySerializationEncryption:
    """How the library is to encrypt under this profile. Raises KeyError for a profile that there is not."""
    cipher, digest = PROFILES[profile]
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(WRITTEN_ROUNDS)
        .key_cert_algorithm(cipher)
        .hmac_hash(digest)
        .build(password.encode("ascii"))
    )


def joined(files: Sequence[bytes], password: str, profile: str = "modern") -> bytes:
    """One PKCS #12 file with everything that is in these, which `write` wrote under the same password and profile.

    The safes of a file are encrypted one by one (RFC 7292 §4.1), so they are put one after the other as they are; the
    integrity check over them (§4) is made anew. Its salt follows from them: the same files give the same bytes.
    """
    budget = Budget(MAX_NODES * len(files))
    safes = []
    for file in files:
        info = der.parse(file, budget).child(1, der.SEQUENCE, "its contents")
        octets = info.child(1, der.context(0), "its contents").child(0, der.OCTET_STRING, "its contents").octets()
        safes += [der.encode(safe) for safe in der.parse(octets, budget).children]
    authenticated = der.value(der.SEQUENCE, *safes)
    digest = PROFILES[profile][1]
    salt = hashlib.sha256(authenticated).digest()[:16]
    way = f"{password}\0".encode("utf-16-be")
    key = derivation.pkcs12(digest.name, derivation.MAC, way, salt, WRITTEN_ROUNDS, digest.digest_size, Work())
    check = hmac.digest(key, authenticated, digest.name)
    return der.value(
        der.SEQUENCE,
        der.value(der.INTEGER, b"\x03"),
        der.value(
            der.SEQUENCE,
            der.value(der.OID, _DATA),
            der.value(der.context(0), der.value(der.OCTET_STRING, authenticated)),
        ),
        der.value(
            der.SEQUENCE,
            der.value(
                der.SEQUENCE,
                der.value(der.SEQUENCE, der.value(der.OID, _DIGESTS[digest.name]), der.value(der.NULL)),
                der.value(der.OCTET_STRING, check),
            ),
            der.value(der.OCTET_STRING, salt),
            der.value(der.INTEGER, WRITTEN_ROUNDS.to_bytes(3, "big")),
        ),
    )


def new_password() -> str:
    """24 random ASCII letters and digits (142 bits): no comma, quote or space that a configuration could trip over."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(24))
