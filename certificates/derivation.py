"""Bytes from passwords, and how much of such work a file may ask for.

No Django here. RFC 8018 (PBKDF2) and RFC 7292 appendix B (PKCS #12's own way), which OpenSSL computes where it can be
asked to: honest files take millions of hashes.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from certificates.diagnosis import Refusal

MAX_ITERATIONS: Final = 2_000_000
MAX_ITERATIONS_IN_ALL: Final = 6_000_000
# Four seconds of PKCS #12's own derivation by OpenSSL; the reader's time limit ends what takes longer.
MAX_ITERATIONS_DONE: Final = 20_000_000


@dataclass
class Work:
    """The iterations of one file: announced by it, and done so far."""

    announced: list[int] = field(default_factory=list)
    done: int = 0

    def announce(self, iterations: int) -> int:
        """Count one derivation that the file asks for. This is the true integer: some libraries keep 32 bits of it."""
        if not 1 <= iterations <= MAX_ITERATIONS:
            limit("the number of iterations of one key derivation", iterations, f"1 to {MAX_ITERATIONS:,}")
        self.announced.append(iterations)
        if (total := sum(self.announced)) > MAX_ITERATIONS_IN_ALL:
            limit("the number of iterations of all key derivations", total, f"{MAX_ITERATIONS_IN_ALL:,}")
        return iterations

    def spend(self, iterations: int) -> None:
        """Before a derivation is done. One that is announced once may be done several times: for each block of a long
        key, for the initialisation vector, for each way to spell the password."""
        self.done += iterations
        if self.done > MAX_ITERATIONS_DONE:
            limit("the number of iterations that opening it takes", self.done, f"{MAX_ITERATIONS_DONE:,}")

    @property
    def left_for_more(self) -> bool:
        """Whether another way to spell the password may still be tried."""
        return self.done <= MAX_ITERATIONS_IN_ALL


def pbkdf2(digest: str, password: bytes, salt: bytes, cost: int, length: int) -> bytes:
    """RFC 8018 §5.2, by the library, whose OpenSSL takes half the time of the system's."""
    kind = getattr(hashes, digest.upper(), None)
    if kind is not None:
        with contextlib.suppress(UnsupportedAlgorithm):
            return PBKDF2HMAC(kind(), length, salt, cost).derive(password)
    return hashlib.pbkdf2_hmac(digest, password, salt, cost, length)


# RFC 7292 §B.3: what derived bytes are for.
KEY, IV, MAC = b"\x01", b"\x02", b"\x03"


def pkcs12(digest: str, purpose: bytes, password: bytes, salt: bytes, cost: int, length: int, work: Work) -> bytes:
    """`length` bytes by RFC 7292 §B.2. `password` is in the form of §B.1. A million iterations take a fifth of a
    second, or half of one where OpenSSL's own function is out of reach."""
    size: int = hashlib.new(digest).digest_size
    for _block in range(-(-length // size)):
        work.spend(cost)
    derived = _derived_by_openssl(digest, purpose, password, salt, cost, length)
    return _derived(digest, purpose, password, salt, cost, length) if derived is None else derived


def _derived(digest: str, purpose: bytes, password: bytes, salt: bytes, cost: int, length: int) -> bytes:
    new = _hash(digest)
    block: int = new(b"").block_size
    size: int = new(b"").digest_size
    mixed = _filled(salt, block) + _filled(password, block)
    out = b""
    while len(out) < length:
        part = new(purpose * block + mixed).digest()
        for _ in range(cost - 1):
            part = new(part).digest()
        out += part
        if len(out) < length:
            added = int.from_bytes((part * (block // size + 1))[:block], "big") + 1
            mixed = b"".join(
                ((int.from_bytes(mixed[at : at + block], "big") + added) & (1 << 8 * block) - 1).to_bytes(block, "big")
                for at in range(0, len(mixed), block)
            )
    return out[:length]


@cache
def _hash(digest: str) -> Callable[[bytes], Any]:
    """Its constructor. The interpreter's own takes two thirds of the time of OpenSSL's for a few bytes."""
    for module in ("_md5", "_sha1", "_sha2", "_sha256", "_sha512"):
        with contextlib.suppress(ImportError, AttributeError):
            found: Callable[[bytes], Any] = getattr(importlib.import_module(module), digest)
            return found
    return getattr(hashlib, digest, None) or (lambda text: hashlib.new(digest, text, usedforsecurity=False))


# What OpenSSL calls the digests that `hashlib` spells otherwise.
_OPENSSL_NAMES: Final = {"sha3_224": "sha3-224", "sha3_256": "sha3-256", "sha3_384": "sha3-384", "sha3_512": "sha3-512"}


def _derived_by_openssl(
    digest: str, purpose: bytes, password: bytes, salt: bytes, cost: int, length: int
) -> bytes | None:
    """The same by PKCS12_key_gen_uni(3) of the OpenSSL that `hashlib` stands on; None where it is not to be had.

    Every length that it is given is that of a buffer here, and it is called in a child process with limits.
    """
    if (library := _openssl()) is None:
        return None
    kind = library.EVP_get_digestbyname(_OPENSSL_NAMES.get(digest, digest).encode())
    out = ctypes.create_string_buffer(length)
    given = (password, len(password), salt, len(salt), purpose[0], cost, length, out, kind)
    return out.raw if kind and library.PKCS12_key_gen_uni(*given) == 1 else None


@cache
def _openssl() -> ctypes.CDLL | None:
    try:
        import _hashlib

        library = ctypes.CDLL(_hashlib.__file__)
        number, text = ctypes.c_int, ctypes.c_char_p
        library.EVP_get_digestbyname.argtypes, library.EVP_get_digestbyname.restype = [text], ctypes.c_void_p
        library.PKCS12_key_gen_uni.argtypes = [
            *(text, number, text, number, number, number, number, text),
            ctypes.c_void_p,
        ]
    except (ImportError, AttributeError, OSError):
        return None  # an interpreter that has OpenSSL inside it, or none
    return library


def _filled(text: bytes, block: int) -> bytes:
    """Copies of `text` that fill a whole number of blocks; nothing for nothing."""
    length = block * -(-len(text) // block)
    return (text * (length // len(text) + 1))[:length] if text else b""


def limit(what: str, number: int, limit: str) -> NoReturn:
    raise Refusal("limit_exceeded", what=what, figure=figure(number), limit=limit)


def figure(number: int) -> str:
    """A number for a sentence: in full while it is short."""
    return f"{number:,}" if abs(number) < 10**21 else "above 10 to the power of 20"
