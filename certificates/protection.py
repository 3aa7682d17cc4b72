"""How PKCS #12 and PKCS #8 protect their parts: algorithms as a file names them, and what they do with a password.

No Django here. Everything that a file asks for is read and bounded before a password is needed (`scheme`, `mac`),
because deriving keys cannot be interrupted. Sources: RFC 7292 (PKCS #12 and its key derivation, appendix B and C),
RFC 8018 (PBES1, PBES2, PBKDF2), RFC 9579 (PBMAC1), RFC 7914 (scrypt).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final, NoReturn

from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from certificates import der, old_ciphers
from certificates.der import Node
from certificates.derivation import IV, KEY, MAC, Work, limit, pbkdf2, pkcs12
from certificates.diagnosis import Refusal

MAX_SALT: Final = 1024
MAX_SCRYPT_MEMORY: Final = 32 * 1024 * 1024
# N × r × p, which its time grows with: a third of a second. OpenSSL writes 16,384 × 8 × 1.
MAX_SCRYPT_WORK: Final = 2**20
MAX_PASSWORD_BYTES: Final = 1024
# RFC 9579 §5: a shorter key for the integrity check would let others forge it.
MIN_MAC_KEY: Final = 20

_PBES2: Final = "1.2.840.113549.1.5.13"
_PBKDF2: Final = "1.2.840.113549.1.5.12"
_PBMAC1: Final = "1.2.840.113549.1.5.14"
_SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"

# RFC 7292 appendix C: cipher and bytes of key; derived with SHA-1.
_PKCS12_SCHEMES: Final = {
    "1.2.840.113549.1.12.1.1": ("RC4", 16),
    "1.2.840.113549.1.12.1.2": ("RC4", 5),
    "1.2.840.113549.1.12.1.3": ("3DES", 24),
    "1.2.840.113549.1.12.1.4": ("3DES", 16),
    "1.2.840.113549.1.12.1.5": ("RC2", 16),
    "1.2.840.113549.1.12.1.6": ("RC2", 5),
}
# RFC 8018 §A.3, as far as the digest is known here: digest and cipher; 8 bytes of key and 8 of IV.
_PBES1_SCHEMES: Final = {
    "1.2.840.113549.1.5.3": ("md5", "DES"),
    "1.2.840.113549.1.5.6": ("md5", "RC2"),
    "1.2.840.113549.1.5.10": ("sha1", "DES"),
    "1.2.840.113549.1.5.11": ("sha1", "RC2"),
}
# RFC 8018 §B.2 and others: cipher and bytes of key (0: the derivation says how many).
_CIPHERS: Final = {
    "2.16.840.1.101.3.4.1.2": ("AES", 16),
    "2.16.840.1.101.3.4.1.22": ("AES", 24),
    "2.16.840.1.101.3.4.1.42": ("AES", 32),
    "1.2.840.113549.3.7": ("3DES", 24),
    "1.3.14.3.2.7": ("DES", 8),
    "1.2.840.113549.3.2": ("RC2", 0),
    "1.2.840.113549.3.4": ("RC4", 0),
    "1.2.392.200011.61.1.1.1.2": ("Camellia", 16),
    "1.2.392.200011.61.1.1.1.3": ("Camellia", 24),
    "1.2.392.200011.61.1.1.1.4": ("Camellia", 32),
}
_BLOCKS: Final = {"AES": 16, "Camellia": 16, "3DES": 8, "DES": 8, "RC2": 8, "RC4": 1}
# RFC 8018 §6: the effective key of RC2 in bits, by the version in its parameters.
_RC2_BITS: Final = {160: 40, 120: 64, 58: 128}
_HMACS: Final = {
    "1.2.840.113549.2.6": "md5",
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
    "1.2.840.113549.2.12": "sha512_224",
    "1.2.840.113549.2.13": "sha512_256",
    "2.16.840.1.101.3.4.2.13": "sha3_224",
    "2.16.840.1.101.3.4.2.14": "sha3_256",
    "2.16.840.1.101.3.4.2.15": "sha3_384",
    "2.16.840.1.101.3.4.2.16": "sha3_512",
}
_DIGESTS: Final = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "1.3.36.3.2.1": "ripemd160",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.5": "sha512_224",
    "2.16.840.1.101.3.4.2.6": "sha512_256",
    "2.16.840.1.101.3.4.2.7": "sha3_224",
    "2.16.840.1.101.3.4.2.8": "sha3_256",
    "2.16.840.1.101.3.4.2.9": "sha3_384",
    "2.16.840.1.101.3.4.2.10": "sha3_512",
}
# Named, so that the sentence for the sender can name them.
_NOT_READ: Final = {
    "1.2.840.113549.1.5.1": "PBES1 with MD2 and DES",
    "1.2.840.113549.1.5.4": "PBES1 with MD2 and RC2",
    "1.2.840.113549.1.7.2": "a signature with a public key",
    "1.2.840.113549.1.7.3": "encryption to a public key",
    "1.2.410.200046.1.1.2": "ARIA-128",
    "1.2.410.200046.1.1.7": "ARIA-192",
    "1.2.410.200046.1.1.12": "ARIA-256",
    "1.2.410.200004.1.4": "SEED",
    "1.3.6.1.4.1.3029.1.2": "Blowfish",
    "1.2.840.113533.7.66.10": "CAST5",
    "1.3.6.1.4.1.188.7.1.1.2": "IDEA",
    "1.2.840.113549.2.2": "MD2",
    "1.2.840.113549.2.4": "MD4",
    "1.2.643.2.2.21": "GOST 28147-89",
    "1.2.643.2.2.9": "GOST R 34.11-94",
    "1.2.643.7.1.1.2.2": "Streebog-256",
    "1.2.643.7.1.1.2.3": "Streebog-512",
    "1.2.643.7.1.1.4.1": "HMAC with Streebog-256",
    "1.2.643.7.1.1.4.2": "HMAC with Streebog-512",
    "2.16.840.1.101.3.4.1.6": "AES-128-GCM",
    "2.16.840.1.101.3.4.1.26": "AES-192-GCM",
    "2.16.840.1.101.3.4.1.46": "AES-256-GCM",
    "1.2.156.10197.1.104.2": "SM4",
}
_TITLES: Final = {"md5": "MD5", "ripemd160": "RIPEMD-160"} | {
    name: name.upper().replace("SHA", "SHA-").replace("SHA-3_", "SHA3-").replace("_", "/")
    for name in {*_DIGESTS.values(), *_HMACS.values()} - {"md5", "ripemd160"}
}


@dataclass(frozen=True)
class Spelling:
    """One of the ways in which programs turn a password into bytes: for PKCS #12's own derivation, and for PBES2."""

    bmp: bytes = field(repr=False)
    raw: bytes = field(repr=False)


def spellings(password: str) -> tuple[Spelling, ...]:
    """The ways to try, the standard's first (RFC 7292 §B.1, RFC 8018 §3). Raises Refusal for what is no password."""
    if "\0" in password:
        raise Refusal("password_not_expressible", reason="it contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise Refusal("password_not_expressible", reason="it contains half of a character")
    raw = password.encode()
    if len(raw) > MAX_PASSWORD_BYTES:
        raise Refusal("password_not_expressible", reason=f"it is longer than {MAX_PASSWORD_BYTES:,} bytes")
    bmp = password.encode("utf-16-be") + b"\0\0"
    found = [Spelling(bmp, raw)]
    if not password:  # An empty password is a lone terminator to some and nothing to others.
        found.append(Spelling(b"", b""))
    if not password.isascii():
        # OpenSSL before 1.1.0 took the bytes of UTF-8 for characters of ISO 8859-1.
        found.append(Spelling(raw.decode("latin-1").encode("utf-16-be") + b"\0\0", raw))
        with contextlib.suppress(UnicodeEncodeError):  # BouncyCastle took ISO 8859-1 where UTF-8 is meant.
            found.append(Spelling(bmp, password.encode("latin-1")))
    return tuple(found)


@dataclass(frozen=True)
class Derivation:
    """PBKDF2 with `digest`, or scrypt where that is empty. `length` is what the file says of the key's, or None."""

    salt: bytes
    cost: int
    digest: str
    length: int | None
    block: int = 8
    parallel: int = 1

    def key(self, password: bytes, length: int, work: Work) -> bytes:
        if self.digest:
            work.spend(self.cost * -(-length // hashlib.new(self.digest).digest_size))
            return pbkdf2(self.digest, password, self.salt, self.cost, length)
        work.spend(self.cost)
        return hashlib.scrypt(
            password,
            salt=self.salt, n=self.cost, r=self.block, p=self.parallel, dklen=length, maxmem=2 * MAX_SCRYPT_MEMORY,
        )  # fmt: skip

    @property
    def title(self) -> str:
        return f"PBKDF2 with {_TITLES[self.digest]}" if self.digest else "scrypt"


@dataclass(frozen=True)
class Scheme:
    """How one part is encrypted. `family` is pkcs12, pbes1 or pbes2; `bits` the effective key of RC2."""

    family: str
    cipher: str
    key_bytes: int
    derivation: Derivation
    iv: bytes = b""
    bits: int = 0

    @property
    def title(self) -> str:
        """For people: “AES-256”, “RC2-40”."""
        if self.cipher in ("3DES", "DES"):
            return "3DES with two keys" if self.key_bytes == 16 else self.cipher
        return f"{self.cipher}-{self.bits or 8 * self.key_bytes}"

    @property
    def derivation_title(self) -> str:
        return {"pkcs12": "PKCS #12 with SHA-1", "pbes1": "PBKDF1"}.get(self.family) or self.derivation.title

    @property
    def weak(self) -> bool:
        return self.cipher in ("RC2", "RC4", "DES", "3DES")

    def decrypt(self, ciphertext: bytes, spelling: Spelling, work: Work) -> bytes:
        """What comes out, with its padding and whatever the password; empty where the ciphertext has no such length."""
        if not ciphertext or len(ciphertext) % _BLOCKS[self.cipher]:
            return b""
        key, iv = self._key(spelling, work)
        if self.cipher == "RC4":
            return old_ciphers.rc4(key, ciphertext)
        if self.cipher == "RC2":
            return old_ciphers.rc2_cbc(key, self.bits or 8 * len(key), iv, ciphertext)
        if self.cipher in ("DES", "3DES"):
            return old_ciphers.des_cbc(key, iv, ciphertext)
        algorithm = AES(key) if self.cipher == "AES" else Camellia(key)
        decryptor = Cipher(algorithm, modes.CBC(iv)).decryptor()
        return decryptor.update(ciphertext) + decryptor.finalize()

    def unpad(self, plain: bytes) -> bytes | None:
        """Without its padding (RFC 8018 §6.1.1); None where there is no such padding."""
        if self.cipher == "RC4":
            return plain
        padding = plain[-1] if plain else 0
        whole = 1 <= padding <= _BLOCKS[self.cipher] and plain.endswith(bytes([padding]) * padding)
        return plain[:-padding] if whole else None

    def _key(self, spelling: Spelling, work: Work) -> tuple[bytes, bytes]:
        derivation = self.derivation
        if self.family == "pkcs12":
            salt, cost = derivation.salt, derivation.cost
            key = pkcs12("sha1", KEY, spelling.bmp, salt, cost, self.key_bytes, work)
            return key, b"" if self.cipher == "RC4" else pkcs12("sha1", IV, spelling.bmp, salt, cost, 8, work)
        if self.family == "pbes1":
            work.spend(derivation.cost)
            both = spelling.raw + derivation.salt
            for _ in range(derivation.cost):
                both = hashlib.new(derivation.digest, both, usedforsecurity=False).digest()
            return both[:8], both[8:16]
        return derivation.key(spelling.raw, self.key_bytes, work), self.iv


@dataclass(frozen=True)
class Mac:
    """The integrity check of a file over `authenticated`: PKCS #12's own, or PBMAC1 where `scheme` is one."""

    authenticated: bytes = field(repr=False)
    value: bytes
    digest: str
    derivation: Derivation
    pbmac1: bool = False

    def verifies(self, spelling: Spelling, work: Work) -> bool:
        if self.pbmac1:
            key = self.derivation.key(spelling.raw, self.derivation.length or 0, work)
        else:
            length = hashlib.new(self.digest).digest_size
            key = pkcs12(self.digest, MAC, spelling.bmp, self.derivation.salt, self.derivation.cost, length, work)
        return hmac.compare_digest(hmac.digest(key, self.authenticated, self.digest), self.value)

    @property
    def title(self) -> str:
        return f"PBMAC1 with {_TITLES[self.digest]}" if self.pbmac1 else _TITLES[self.digest]


# --- Reading what a file asks for -------------------------------------------------------------------------------------


def scheme(algorithm: Node, work: Work) -> Scheme:
    """The encryption that an AlgorithmIdentifier names. Raises Refusal; its work is announced."""
    kind = algorithm.child(0, der.OID, "an algorithm").oid("an algorithm")
    if kind not in _PKCS12_SCHEMES and kind not in _PBES1_SCHEMES and kind != _PBES2:
        unsupported(kind)
    parameters = algorithm.child(1, der.SEQUENCE, "an algorithm's parameters")
    if kind == _PBES2:
        derived = derivation(parameters.child(0, der.SEQUENCE, "a key derivation"), work)
        return _pbes2(parameters.child(1, der.SEQUENCE, "a cipher"), derived)
    salt = _salt(parameters, 0)
    cost = work.announce(_integer(parameters, 1, "a number of iterations"))
    if kind in _PKCS12_SCHEMES:
        cipher, length = _PKCS12_SCHEMES[kind]
        return Scheme("pkcs12", cipher, length, Derivation(salt, cost, "sha1", None))
    digest, cipher = _PBES1_SCHEMES[kind]
    return Scheme("pbes1", cipher, 8, Derivation(salt, cost, digest, None))


def _pbes2(algorithm: Node, derived: Derivation) -> Scheme:
    kind = algorithm.child(0, der.OID, "a cipher").oid("a cipher")
    if kind not in _CIPHERS:
        unsupported(kind)
    cipher, length = _CIPHERS[kind]
    bits, iv = 0, b""
    if cipher == "RC2":
        parameters = algorithm.child(1, der.SEQUENCE, "a cipher's parameters")
        version = _integer(parameters, 0, "a cipher's parameters") if len(parameters.children) > 1 else -1
        bits = 32 if version < 0 else _RC2_BITS.get(version, version)
        if not 1 <= bits <= 1024:
            raise Refusal("damaged", place="a cipher's parameters are absurd")
        length = derived.length or bits // 8
        iv = string(parameters, len(parameters.children) - 1, "an initialisation vector")
    elif cipher == "RC4":
        length = derived.length or 16
    else:
        iv = string(algorithm, 1, "an initialisation vector")
    if not 1 <= length <= 128:
        raise Refusal("damaged", place="the length of a key is absurd")
    if derived.length not in (None, length):
        # NSS before 3.29 announced 32 bytes for AES-128, and derived its key from another form of the password.
        unsupported(f"{cipher}-{8 * length} with a key of {derived.length} bytes")
    if cipher != "RC4" and len(iv) != _BLOCKS[cipher]:
        raise Refusal("damaged", place="an initialisation vector has the wrong length")
    return Scheme("pbes2", cipher, length, derived, iv, bits)


def derivation(algorithm: Node, work: Work) -> Derivation:
    """PBKDF2 (RFC 8018 §A.2) or scrypt (RFC 7914 §7). Raises Refusal; its work is announced."""
    name = "a key derivation"
    kind = algorithm.child(0, der.OID, name).oid(name)
    if kind not in (_PBKDF2, _SCRYPT):
        unsupported(kind)
    parameters = algorithm.child(1, der.SEQUENCE, name)
    salt = _salt(parameters, 0)
    if kind == _SCRYPT:
        return _scrypt(parameters, salt, work)
    cost = work.announce(_integer(parameters, 1, "a number of iterations"))
    rest = parameters.children[2:]
    length = None
    if rest and rest[0].tag == der.INTEGER:
        length = rest.pop(0).integer("the length of a key")
        if not 1 <= length <= 1024:
            raise Refusal("damaged", place="the length of a key is absurd")
    digest = "sha1"
    if rest:
        named = rest[0].child(0, der.OID, name).oid(name)
        digest = _known(_HMACS, named)
    return Derivation(salt, cost, digest, length)


def _scrypt(parameters: Node, salt: bytes, work: Work) -> Derivation:
    factors = [_integer(parameters, n, "a key derivation") for n in (1, 2, 3)]
    for factor in factors:  # Before they are multiplied: they may be as wide as the file.
        if not 1 <= factor <= MAX_SCRYPT_WORK:
            limit("a factor of one key derivation", factor, f"1 to {MAX_SCRYPT_WORK:,}")
    cost, block, parallel = factors
    # The library's own sum: p blocks of 128 r bytes, and a table of 128 r (N + 2).
    if (memory := 128 * block * (parallel + cost + 2)) > MAX_SCRYPT_MEMORY:
        limit("the memory of one key derivation in bytes", memory, f"{MAX_SCRYPT_MEMORY:,}")
    if (effort := cost * block * parallel) > MAX_SCRYPT_WORK:
        limit("the work of one key derivation in blocks", effort, f"{MAX_SCRYPT_WORK:,}")
    if cost < 2 or cost & (cost - 1):
        raise Refusal("damaged", place="a factor of a key derivation is no power of two")
    length = _integer(parameters, 4, "the length of a key") if len(parameters.children) > 4 else None
    work.announced.append(cost)
    return Derivation(salt, cost, "", length, block, parallel)


def mac(data: Node, authenticated: bytes, work: Work) -> Mac:
    """The integrity check of RFC 7292 §4 (MacData) over these bytes. Raises Refusal; its work is announced."""
    name = "its integrity check"
    digest_info = data.child(0, der.SEQUENCE, name)
    algorithm = digest_info.child(0, der.SEQUENCE, name)
    kind = algorithm.child(0, der.OID, name).oid(name)
    value = string(digest_info, 1, name)
    salt = _salt(data, 1)
    if kind != _PBMAC1:
        cost = work.announce(_integer(data, 2, "a number of iterations") if len(data.children) > 2 else 1)
        return Mac(authenticated, value, _known(_DIGESTS, kind), Derivation(salt, cost, "", None))
    parameters = algorithm.child(1, der.SEQUENCE, name)
    derived = derivation(parameters.child(0, der.SEQUENCE, name), work)
    if derived.length is None or derived.length < MIN_MAC_KEY:
        raise Refusal("damaged", place=f"the key of its integrity check must have {MIN_MAC_KEY} bytes or more")
    digest = _known(_HMACS, parameters.child(1, der.SEQUENCE, name).child(0, der.OID, name).oid(name))
    return Mac(authenticated, value, digest, derived, pbmac1=True)


def string(parent: Node, index: int, name: str) -> bytes:
    """The octets of the OCTET STRING at `index`, in either form."""
    if index >= len(parent.children) or parent.children[index].tag & ~der.CONSTRUCTED != der.OCTET_STRING:
        raise Refusal("damaged", place=f"{name} is missing")
    return parent.children[index].octets()


def unsupported(oid: str) -> NoReturn:
    raise Refusal("unsupported_algorithm", algorithm=_NOT_READ.get(oid, oid))


def _known(names: dict[str, str], oid: str) -> str:
    name = names.get(oid)
    if name is None or name not in hashlib.algorithms_available:
        unsupported(_TITLES[name] if name else oid)
    return name


def _integer(parent: Node, index: int, name: str) -> int:
    return parent.child(index, der.INTEGER, name).integer(name)


def _salt(parent: Node, index: int) -> bytes:
    salt = string(parent, index, "a salt")
    if len(salt) > MAX_SALT:
        limit("the size of a salt in bytes", len(salt), f"{MAX_SALT:,}")
    return salt
