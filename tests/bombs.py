"""Files that ask a reader for absurd work: a generated set, for tests that upload them.

Each is written here byte by byte (X.690 for the encoding, RFC 7292 for the parts), because no honest program writes it.
Those with `hidden` work open with their password at no cost, and show what they ask for only then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests import pki

PASSWORD = "secret"

SEQUENCE, INTEGER, OCTETS = 0x30, 0x02, 0x04
DATA, ENCRYPTED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.6"
KEY_BAG, SHROUDED_KEY_BAG, CERTIFICATE_BAG, SAFE_BAG = (f"1.2.840.113549.1.12.10.1.{n}" for n in (1, 2, 3, 6))
AES_256_CBC, SHA_256 = "2.16.840.1.101.3.4.1.42", "2.16.840.1.101.3.4.2.1"
PBES2, PBKDF2, PBMAC1, SCRYPT = (
    "1.2.840.113549.1.5.13",
    "1.2.840.113549.1.5.12",
    "1.2.840.113549.1.5.14",
    ("1.3.6.1.4.1.11591.4.11"),
)
TRIPLE_DES = "1.2.840.113549.1.12.1.3"
RSA, HMAC_SHA_256 = "1.2.840.113549.1.1.1", "1.2.840.113549.2.9"

_SALT, _VECTOR = b"s" * 8, b"v" * 16
# What no count may be: below, around and beyond the widths that libraries keep it in.
COUNTS = {
    "10M": 10_000_000,
    "100M": 100_000_000,
    "2e31-1": 2**31 - 1,
    "2e32+1": 2**32 + 1,
    "2e64": 2**64,
    "2e64+1": 2**64 + 1,
    "0": 0,
    "-1": -1,
    "a-megabit": 2**1_000_000,
}


@dataclass(frozen=True)
class Bomb:
    """`said` are words that the refusal must have: one of them."""

    name: str
    file: bytes = field(repr=False)
    said: tuple[str, ...]
    hidden: bool = False


# --- Encoding ---------------------------------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    """One value, X.690 §8.1."""
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytes([first * 40 + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        body += bytes(reversed(groups))
    return der(0x06, body)


def number(value: int) -> bytes:
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def algorithm(kind: str, *parameters: bytes) -> bytes:
    return der(SEQUENCE, oid(kind), *parameters)


# --- Parts of a PKCS #12 file -----------------------------------------------------------------------------------------


def pbkdf2(iterations: int) -> bytes:
    return algorithm(PBKDF2, der(SEQUENCE, der(OCTETS, _SALT), number(iterations)))


def scrypt(cost: int, block: int, parallel: int) -> bytes:
    """RFC 7914 §7: N, r and p."""
    return algorithm(SCRYPT, der(SEQUENCE, der(OCTETS, _SALT), number(cost), number(block), number(parallel)))


def pbes2(derivation: bytes) -> bytes:
    return algorithm(PBES2, der(SEQUENCE, derivation, algorithm(AES_256_CBC, der(OCTETS, _VECTOR))))


def pbes1(iterations: int) -> bytes:
    return algorithm(TRIPLE_DES, der(SEQUENCE, der(OCTETS, _SALT), number(iterations)))


def bag(kind: str, contents: bytes) -> bytes:
    return der(SEQUENCE, oid(kind), der(0xA0, contents))


def shrouded_key(scheme: bytes, size: int = 64) -> bytes:
    return bag(SHROUDED_KEY_BAG, der(SEQUENCE, scheme, der(OCTETS, bytes(size))))


def certificate(encoded: bytes) -> bytes:
    x509 = "1.2.840.113549.1.9.22.1"
    return bag(CERTIFICATE_BAG, der(SEQUENCE, oid(x509), der(0xA0, der(OCTETS, encoded))))


def plain_safe(*bags: bytes) -> bytes:
    return der(SEQUENCE, oid(DATA), der(0xA0, der(OCTETS, der(SEQUENCE, *bags))))


def locked_safe(scheme: bytes, encrypted: bytes = bytes(64)) -> bytes:
    content = der(SEQUENCE, oid(DATA), scheme, der(0x80, encrypted))
    return der(SEQUENCE, oid(ENCRYPTED_DATA), der(0xA0, der(SEQUENCE, number(0), content)))


def cheap_safe(*bags: bytes) -> bytes:
    """An encrypted safe that PASSWORD opens after one iteration: what it holds is seen by nobody before that."""
    padder = padding.PKCS7(128).padder()
    padded = padder.update(der(SEQUENCE, *bags)) + padder.finalize()
    key = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), _SALT, 1, 32)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(_VECTOR)).encryptor()
    return locked_safe(pbes2(pbkdf2(1)), encryptor.update(padded) + encryptor.finalize())


def mac(iterations: int) -> bytes:
    digest = der(SEQUENCE, algorithm(SHA_256, b"\x05\x00"), der(OCTETS, bytes(32)))
    return der(SEQUENCE, digest, der(OCTETS, _SALT), number(iterations))


def pbmac1(derivation: bytes) -> bytes:
    """RFC 9579 §4."""
    scheme = algorithm(PBMAC1, der(SEQUENCE, derivation, algorithm(HMAC_SHA_256, b"\x05\x00")))
    digest = der(SEQUENCE, scheme, der(OCTETS, bytes(32)))
    return der(SEQUENCE, digest, der(OCTETS, _SALT), number(1))


def pfx(*safes: bytes, mac: bytes = b"") -> bytes:
    return der(SEQUENCE, number(3), der(SEQUENCE, oid(DATA), der(0xA0, der(OCTETS, der(SEQUENCE, *safes)))), mac)


# --- Keys that take long to check -------------------------------------------------------------------------------------


def rsa_16384() -> bytes:
    """An RSA key of 16,384 bits (PKCS #8) with real primes, which a reader checks for half a minute.

    Its primes are published ones of 8,192 bits: group 18 of RFC 3526 §7, and ffdhe8192 of RFC 7919 appendix A.5.
    """
    p = 2**8192 - 2**8128 - 1 + 2**64 * (_pi(8062) + 4743158)
    q = 2**8192 - 2**8128 + (_e(8062) + 10965728) * 2**64 - 1
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    parts = (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return der(SEQUENCE, number(0), algorithm(RSA, b"\x05\x00"), der(OCTETS, der(SEQUENCE, *map(number, parts))))


def _pi(bits: int) -> int:
    """2 to the power of `bits`, times π, rounded down (Machin's formula, with 64 bits to spare)."""

    def arctan_of_one_over(n: int) -> int:
        term = total = (1 << bits + 64) // n
        k = 1
        while term:
            term //= -n * n
            k += 2
            total += term // k
        return total

    return 4 * (4 * arctan_of_one_over(5) - arctan_of_one_over(239)) >> 64


def _e(bits: int) -> int:
    """2 to the power of `bits`, times e, rounded down."""
    term = total = 1 << bits + 64
    k = 1
    while term:
        term //= k
        total += term
        k += 1
    return total >> 64


# --- The set ----------------------------------------------------------------------------------------------------------

ASKS_FOR_MORE = ("asks for more than is allowed",)
# What is not seen before the file is open is stopped by a limit, or is refused once it shows.
STOPPED = ("was stopped", "asks for more than is allowed", "Other files are being read")


def all_bombs() -> list[Bomb]:
    return [*counts(), *scrypts(), *nests(), *crowds(), *sizes(), *hidden()]


def counts() -> Iterator[Bomb]:
    """An absurd number of iterations in each place that has one."""
    for name, count in COUNTS.items():
        yield Bomb(f"mac {name}", pfx(plain_safe(), mac=mac(count)), ASKS_FOR_MORE)
        yield Bomb(f"pbmac1 {name}", pfx(plain_safe(), mac=pbmac1(pbkdf2(count))), ASKS_FOR_MORE)
        for scheme, written in (("pbes1", pbes1(count)), ("pbes2", pbes2(pbkdf2(count)))):
            yield Bomb(f"{scheme} safe {name}", pfx(locked_safe(written)), ASKS_FOR_MORE)
            yield Bomb(f"{scheme} key {name}", pfx(plain_safe(shrouded_key(written))), ASKS_FOR_MORE)
            inner = bag(SAFE_BAG, der(SEQUENCE, shrouded_key(written)))
            yield Bomb(f"{scheme} key in a nested safe {name}", pfx(plain_safe(inner)), ASKS_FOR_MORE)
    most = 2_000_000
    yield Bomb("four derivations, each allowed", pfx(*[locked_safe(pbes1(most))] * 4, mac=mac(most)), ASKS_FOR_MORE)
    yield Bomb("1,000 keys, each allowed", pfx(plain_safe(*[shrouded_key(pbes2(pbkdf2(most)))] * 1000)), ASKS_FOR_MORE)


def scrypts() -> Iterator[Bomb]:
    absurd = 2**1_000_000
    for name, given in {
        "memory": (2**20, 8, 1),
        "blocks": (2, 2**30, 1),
        "parallel": (2**14, 8, 2**20),
        "much time in little memory": (2**15, 1, 200_000),
        "wide numbers": (absurd, absurd, absurd),
        "zero": (0, 0, 0),
        "negative": (-(2**40), -8, 1),
    }.items():
        yield Bomb(f"scrypt key: {name}", pfx(plain_safe(shrouded_key(pbes2(scrypt(*given))))), ASKS_FOR_MORE)
        yield Bomb(f"scrypt mac: {name}", pfx(plain_safe(), mac=pbmac1(scrypt(*given))), ASKS_FOR_MORE)


def nests() -> Iterator[Bomb]:
    yield Bomb("2,000 nested safes", pfx(plain_safe(nested_safes(2000))), ASKS_FOR_MORE)
    lists = b""
    for _level in range(5000):
        lists = der(SEQUENCE, lists)
    yield Bomb("5,000 nested lists", pfx(lists), ASKS_FOR_MORE)
    yield Bomb("300,000 nested lists without an end", b"\x30\x80" * 300_000, ASKS_FOR_MORE)
    strings = b"x"
    for _level in range(5000):
        strings = der(0x24, strings)
    whole = der(SEQUENCE, number(3), der(SEQUENCE, oid(DATA), der(0xA0, strings)))
    yield Bomb("5,000 nested strings", whole, ASKS_FOR_MORE)


def nested_safes(depth: int) -> bytes:
    inner = bag(SAFE_BAG, der(SEQUENCE))
    for _level in range(depth):
        inner = bag(SAFE_BAG, der(SEQUENCE, inner))
    return inner


def crowds() -> Iterator[Bomb]:
    one = certificate(pki.issue().certificate_der)
    yield Bomb("1,000 certificates", pfx(plain_safe(*[one] * 1000)), ASKS_FOR_MORE)
    yield Bomb("1,000 safes", pfx(*[plain_safe()] * 1000), ASKS_FOR_MORE)
    yield Bomb("1,000 keys", pfx(plain_safe(*[bag(KEY_BAG, der(SEQUENCE))] * 1000)), ASKS_FOR_MORE)
    yield Bomb("400,000 parts", pfx(plain_safe(*[b"\x05\x00"] * 400_000)), ASKS_FOR_MORE)
    yield Bomb("300,000 pieces of a string", broken_up(300_000), ASKS_FOR_MORE)


def broken_up(pieces: int) -> bytes:
    """A file whose content is a constructed string of many pieces, X.690 §8.7.3."""
    string = der(0x24, *[der(OCTETS, b"x")] * pieces)
    return der(SEQUENCE, number(3), der(SEQUENCE, oid(DATA), der(0xA0, string)))


def sizes() -> Iterator[Bomb]:
    yield Bomb("a byte more than one mebibyte", bytes(1024 * 1024 + 1), ("the limit is 1,048,576",))
    yield Bomb("announces 4 GiB", b"\x30\x84\xff\xff\xff\xff\x02\x01\x03", ("stops too early",))
    yield Bomb("announces 2⁶⁴ bytes", b"\x30\x88" + b"\xff" * 8 + b"\x02\x01\x03", ("stops too early",))
    yield Bomb("RSA-16384", pfx(plain_safe(bag(KEY_BAG, rsa_16384()))), ASKS_FOR_MORE)


def hidden() -> Iterator[Bomb]:
    """Work behind a password that opens at once."""
    for name, scheme in {
        "pbes2 key 2e31-1": pbes2(pbkdf2(2**31 - 1)),
        "pbes2 key 2e32+1": pbes2(pbkdf2(2**32 + 1)),
        "pbes1 key 2e31-1": pbes1(2**31 - 1),
        "scrypt key": pbes2(scrypt(2**15, 1, 200_000)),
    }.items():
        yield Bomb(f"hidden {name}", pfx(cheap_safe(shrouded_key(scheme))), (*STOPPED, "ask the partner"), hidden=True)
    many = [shrouded_key(pbes2(pbkdf2(2_000_000)))] * 1000
    yield Bomb("hidden 1,000 keys, each allowed", pfx(cheap_safe(*many)), (*STOPPED, "ask the partner"), hidden=True)
    yield Bomb("hidden RSA-16384", pfx(cheap_safe(bag(KEY_BAG, rsa_16384()))), (*STOPPED,), hidden=True)
    one = certificate(pki.issue().certificate_der)
    yield Bomb("hidden 1,000 certificates", pfx(cheap_safe(*[one] * 1000)), ("no private key", *STOPPED), hidden=True)
    wide = pki.issue(sans=[f"n{number}.example.com" for number in range(30_000)])
    yield Bomb("hidden 30,000 names in a certificate", pki.pfx(wide, PASSWORD), ASKS_FOR_MORE, hidden=True)
    yield Bomb(
        "hidden 2,000 nested safes", pfx(cheap_safe(nested_safes(2000))), (*STOPPED, "ask the partner"), hidden=True
    )
