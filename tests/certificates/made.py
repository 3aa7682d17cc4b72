"""PKCS #12 files of each family that the world produces, made here: by OpenSSL, keytool, GnuTLS's certtool and NSS's
pk12util, and by hand where no program at hand writes them."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from tests import bombs, pki
from tests.bombs import OCTETS, SEQUENCE, algorithm, bag, certificate, der, number, oid, pfx, plain_safe
from tests.certificates.walker import inside, shape

PASSWORD = "Passw0rd!"
FRIENDLY_NAME, LOCAL_KEY_ID = "1.2.840.113549.1.9.20", "1.2.840.113549.1.9.21"
CRL_BAG, SECRET_BAG = "1.2.840.113549.1.12.10.1.4", "1.2.840.113549.1.12.10.1.5"
SET = 0x31


@dataclass(frozen=True)
class Made:
    """`read` is False for what is refused although it is well made; `code` is then what is said."""

    name: str
    file: bytes = field(repr=False)
    password: str = PASSWORD
    code: str = "ok"
    issued: pki.Issued | None = field(default=None, repr=False)


@cache
def all_made() -> tuple[Made, ...]:
    with tempfile.TemporaryDirectory(prefix="countersign-made-") as folder:
        return tuple(_all(Path(folder)))


def _all(folder: Path) -> Iterator[Made]:
    issued = _partner()
    pem = folder / "identity.pem"
    pem.write_bytes(_pem(issued))
    yield from _by_openssl(folder, pem, issued)
    yield from _of_every_key(folder)
    yield from _by_java(folder, issued)
    yield from _by_gnutls(folder, pem, issued)
    yield from _by_nss(folder, issued)
    yield from _by_hand(issued)


@cache
def _partner() -> pki.Issued:
    root = pki.make_authority("Partner Root")
    return pki.issue("client.example.com", key="rsa-2048", authority=pki.make_authority("Partner CA", authority=root))


def _pem(issued: pki.Issued, *, chain: bool = True) -> bytes:
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    beside = issued.chain if chain else ()
    return b"".join([key, issued.certificate_pem, *(one.public_bytes(Encoding.PEM) for one in beside)])


def _run(*command: str | Path, **environ: str) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, env=os.environ | environ, timeout=120)
    assert done.returncode == 0, (command, done.stdout + done.stderr)


# --- OpenSSL ----------------------------------------------------------------------------------------------------------

OPENSSL = {
    "default": [],
    "legacy": ["-legacy"],
    "descert": ["-legacy", "-descert"],
    **{f"pbes2 {name}": ["-keypbe", name, "-certpbe", name] for name in (
        "AES-128-CBC", "AES-192-CBC", "AES-256-CBC", "DES-EDE3-CBC", "CAMELLIA-128-CBC", "CAMELLIA-256-CBC",
    )},
    **{f"pbes1 {name}": ["-legacy", "-keypbe", name, "-certpbe", name] for name in (
        "PBE-SHA1-3DES", "PBE-SHA1-2DES", "PBE-SHA1-RC2-40", "PBE-SHA1-RC2-128", "PBE-SHA1-RC4-40", "PBE-SHA1-RC4-128",
        "PBE-MD5-DES", "PBE-SHA1-DES", "PBE-MD5-RC2-64", "PBE-SHA1-RC2-64",
    )},
    **{f"mac {name}": ["-legacy", "-macalg", name] for name in (
        "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha512-256", "ripemd160",
    )},
    "no mac": ["-nomac"],
    "one iteration": ["-noiter", "-nomaciter"],
    "plain, with mac": ["-keypbe", "NONE", "-certpbe", "NONE"],
    "plain, no mac": ["-keypbe", "NONE", "-certpbe", "NONE", "-nomac"],
    "plain certificate": ["-certpbe", "NONE"],
    "plain key": ["-keypbe", "NONE"],
    "names": ["-name", "Bank ünïcode", "-caname", "the issuer"],
    "windows name": ["-CSP", "Microsoft Enhanced Cryptographic Provider v1.0", "-LMK"],
}  # fmt: skip
PASSWORDS = {
    "empty": "",
    "blanks": " a b ",
    "comma and quotes": "\"'`$(id)\\,%s",
    "latin": "pässwörd",
    "cyrillic": "пароль",
    "chinese": "密码",
    "emoji": "🔐🔑",
    "255 characters": "x" * 255,
    "1000 characters": "y" * 1000,
}


def _by_openssl(folder: Path, pem: Path, issued: pki.Issued) -> Iterator[Made]:
    def export(name: str, arguments: list[str], password: str = PASSWORD, source: Path = pem, code: str = "ok") -> Made:
        out = folder / "openssl.p12"
        given = [
            "openssl",
            "pkcs12",
            "-export",
            "-in",
            source,
            "-out",
            out,
            "-passout",
            "env:MADE_PASSWORD",
            *arguments,
        ]
        _run(*given, MADE_PASSWORD=password)
        return Made(f"OpenSSL, {name}", out.read_bytes(), password, code, issued)

    for name, arguments in OPENSSL.items():
        yield export(name, arguments)
    for name, password in PASSWORDS.items():
        yield export(f"password {name}", [], password)
        yield export(f"password {name}, legacy", ["-legacy"], password)
    yield export("600,000 iterations", ["-iter", "600000"])
    certificates = folder / "certificates.pem"
    certificates.write_bytes(issued.certificate_pem)
    yield export("certificates only", ["-nokeys"], source=certificates, code="no_private_key")
    yield export("key only", ["-nocerts"], code="no_certificate")


def _of_every_key(folder: Path) -> Iterator[Made]:
    kinds = ("rsa-1024", "rsa-3072", "rsa-4096", "dsa-2048", "ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448")
    for kind in kinds:
        issued = pki.issue(f"{kind}.example.com", key=kind)
        yield Made(f"key {kind}", pki.pfx(issued, PASSWORD), issued=issued)


# --- Java, GnuTLS, NSS ------------------------------------------------------------------------------------------------


def _by_java(folder: Path, issued: pki.Issued) -> Iterator[Made]:
    """OpenJDK's own writer, from our file."""
    source, out = folder / "source.p12", folder / "java.p12"
    source.write_bytes(pki.pfx(issued, PASSWORD))

    def convert(name: str, *java: str, code: str = "ok") -> Made:
        out.unlink(missing_ok=True)
        _run(
            "keytool", *java, "-importkeystore", "-noprompt", "-srckeystore", source, "-srcstorepass", PASSWORD,
            "-destkeystore", out, "-deststoretype", "PKCS12", "-deststorepass", PASSWORD,
        )  # fmt: skip
        return Made(f"Java, {name}", out.read_bytes(), PASSWORD, code, issued)

    yield convert("default")
    yield convert("legacy", "-J-Dkeystore.pkcs12.legacy")
    yield convert("no mac", "-J-Dkeystore.pkcs12.macAlgorithm=NONE")
    # Two keys in one store.
    convert("")
    _run("keytool", "-genkeypair", "-keystore", out, "-storepass", PASSWORD, "-alias", "second", "-keyalg", "EC",
         "-dname", "CN=second", "-validity", "30")  # fmt: skip
    yield Made("Java, two keys", out.read_bytes(), PASSWORD, "several_keys")


def _by_gnutls(folder: Path, pem: Path, issued: pki.Issued) -> Iterator[Made]:
    out, key, leaf = folder / "gnutls.p12", folder / "key.pem", folder / "leaf.pem"
    key.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    leaf.write_bytes(issued.certificate_pem + b"".join(one.public_bytes(Encoding.PEM) for one in issued.chain))
    for name, arguments in {
        "default": [],
        "3DES, PKCS #12": ["--pkcs-cipher", "3des-pkcs12"],
        "AES-192": ["--pkcs-cipher", "aes-192"],
        "SHA-512": ["--hash", "sha512"],
    }.items():
        _run(
            "certtool", "--to-p12", "--outder", "--load-privkey", key, "--load-certificate", leaf, "--p12-name", "bank",
            "--password", PASSWORD, "--outfile", out, *arguments,
        )  # fmt: skip
        yield Made(f"GnuTLS, {name}", out.read_bytes(), PASSWORD, issued=issued)


RC2 = "PKCS #12 V2 PBE With SHA-1 and 40 bit RC2 CBC"
TRIPLE_DES = "PKCS #12 V2 PBE With SHA-1 and 3KEY Triple DES-CBC"


def _by_nss(folder: Path, issued: pki.Issued) -> Iterator[Made]:
    """As Firefox exports: BER with indefinite lengths."""
    source, out = folder / "for-nss.p12", folder / "nss.p12"
    source.write_bytes(pki.pfx(issued, PASSWORD, name="bank"))
    store = f"sql:{folder}"
    _run("certutil", "-N", "-d", store, "--empty-password")
    _run("pk12util", "-i", source, "-d", store, "-W", PASSWORD)
    for name, arguments in {
        "default": [],
        "RC2 and 3DES": ["-C", RC2, "-c", TRIPLE_DES],
        "AES-256": ["-C", "AES-256-CBC", "-c", "AES-256-CBC"],
    }.items():  # fmt: skip
        _run("pk12util", "-o", out, "-n", "bank", "-d", store, "-W", PASSWORD, *arguments)
        yield Made(f"NSS, {name}", out.read_bytes(), PASSWORD, issued=issued)


# --- By hand ----------------------------------------------------------------------------------------------------------


def _by_hand(issued: pki.Issued) -> Iterator[Made]:
    leaf, key = issued.certificate_der, issued.key_der
    chain = [one.public_bytes(Encoding.DER) for one in issued.chain]
    other = pki.issue("other.example.com")

    def plain(name: str, *bags: bytes, code: str = "ok") -> Made:
        return Made(name, with_mac(pfx(plain_safe(*bags))), PASSWORD, code, issued)

    def named(kind: str, contents: bytes, *attributes: bytes) -> bytes:
        return der(SEQUENCE, oid(kind), der(0xA0, contents), der(SET, *attributes))

    key_bag = bag(bombs.KEY_BAG, key)
    certificate_bags = [certificate(one) for one in [leaf, *chain]]
    yield plain("plain key bag", key_bag, *certificate_bags)
    yield plain("chain reversed, with copies", *reversed(certificate_bags), certificate_bags[0], key_bag)
    yield plain("a stranger", key_bag, certificate(other.certificate_der), *certificate_bags)
    yield plain("nested safe", bag(bombs.SAFE_BAG, der(SEQUENCE, key_bag, *certificate_bags)))
    revoked = der(SEQUENCE, oid("1.2.840.113549.1.9.23.1"), der(0xA0, der(OCTETS, b"\x30\0")))
    yield plain("with a CRL and a secret", bag(CRL_BAG, revoked), bag(SECRET_BAG, revoked), key_bag, *certificate_bags)
    yield plain("an unknown bag", bag("1.3.6.1.4.1.99999.1", der(OCTETS, b"x")), key_bag, *certificate_bags)
    yield plain(
        "local key id of another certificate",
        named(bombs.KEY_BAG, key, _attribute(LOCAL_KEY_ID, der(OCTETS, b"1"))),
        der(SEQUENCE, oid(bombs.CERTIFICATE_BAG), *_rest(certificate(other.certificate_der)),
            der(SET, _attribute(LOCAL_KEY_ID, der(OCTETS, b"1")))),
        *certificate_bags,
    )  # fmt: skip
    hostile = '=cmd|"/c calc"!A1\0<script>‮../../etc/passwd'
    yield plain(
        "hostile friendly name",
        named(bombs.KEY_BAG, key, _attribute(FRIENDLY_NAME, der(0x1E, hostile.encode("utf-16-be")))), *certificate_bags,
    )  # fmt: skip
    yield plain("two keys, one certificate", bag(bombs.KEY_BAG, other.key_der), key_bag, certificate_bags[0])
    yield plain(
        "the key of another", bag(bombs.KEY_BAG, other.key_der), certificate_bags[0], code="key_certificate_mismatch"
    )
    yield plain("nothing", code="no_private_key")
    yield plain("an SDSI certificate only", _sdsi(), key_bag, code="no_certificate")
    whole = pki.pfx(issued, PASSWORD)
    yield Made("bytes after the end", whole + b"\r\n", issued=issued)
    yield Made("two files in one", whole + whole, issued=issued)
    yield Made("BER, indefinite lengths", indefinite(whole), issued=issued)
    yield Made("BER, strings in pieces", in_pieces(whole), issued=issued)
    yield Made("PBMAC1", pbmac1_file(issued, PASSWORD), issued=issued)
    yield Made("PBMAC1, password pässwörd", pbmac1_file(issued, "pässwörd"), "pässwörd", issued=issued)
    yield Made("scrypt", scrypt_file(issued), issued=issued)
    yield Made("entry password differs", entry_password_file(issued, "another"), code="entry_password_differs")


def _attribute(kind: str, value: bytes) -> bytes:
    return der(SEQUENCE, oid(kind), der(SET, value))


def _rest(bag: bytes) -> list[bytes]:
    return [der(tag, contents) for tag, contents in inside(inside(bag)[0][1])[1:]]


def _sdsi() -> bytes:
    kind = "1.2.840.113549.1.9.22.2"
    return bag(bombs.CERTIFICATE_BAG, der(SEQUENCE, oid(kind), der(0xA0, der(0x16, b"AAAA"))))


def with_mac(file: bytes, password: str = PASSWORD) -> bytes:
    """The file with an integrity check of one iteration of SHA-256 (RFC 7292 §B.2)."""
    octets = shape(file).octets
    secret = password.encode("utf-16-be") + b"\0\0"
    filled = (secret * 64)[: 64 * -(-len(secret) // 64)]
    key = hashlib.sha256(b"\x03" * 64 + b"saltsalt" * 8 + filled).digest()
    digest = der(SEQUENCE, algorithm(bombs.SHA_256, b"\x05\0"), der(OCTETS, hmac.digest(key, octets, "sha256")))
    parts = [der(tag, contents) for tag, contents in inside(inside(file)[0][1])[:2]]
    return der(SEQUENCE, *parts, der(SEQUENCE, digest, der(OCTETS, b"saltsalt"), number(1)))


def indefinite(value: bytes) -> bytes:
    """The same in BER: every constructed value with an indefinite length, also inside octet strings."""
    return b"".join(_indefinite(tag, contents) for tag, contents in _values(value))


def _indefinite(tag: int, contents: bytes) -> bytes:
    if tag & 0x20:
        return bytes([tag, 0x80]) + indefinite(contents) + b"\0\0"
    return der(tag, contents)


def in_pieces(value: bytes) -> bytes:
    """The same in BER: octet strings of more than 100 bytes in pieces, whose outermost holds the rest of the file."""
    out = b""
    for tag, contents in _values(value):
        if tag & 0x20:
            out += der(tag, in_pieces(contents))
        elif tag == OCTETS and len(contents) > 100:
            out += der(0x24, *(der(OCTETS, contents[at : at + 100]) for at in range(0, len(contents), 100)))
        else:
            out += der(tag, contents)
    return out


def _values(value: bytes) -> list[tuple[int, bytes]]:
    return inside(value)


def _locked(bags: bytes, scheme: bytes, key: bytes) -> bytes:
    padder = padding.PKCS7(128).padder()
    padded = padder.update(bags) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(b"v" * 16)).encryptor()
    return bombs.locked_safe(scheme, encryptor.update(padded) + encryptor.finalize())


def _bags(issued: pki.Issued) -> bytes:
    return der(SEQUENCE, bag(bombs.KEY_BAG, issued.key_der), certificate(issued.certificate_der))


def pbmac1_file(issued: pki.Issued, password: str) -> bytes:
    """RFC 9579: HMAC-SHA-256 under a key of 32 bytes from PBKDF2, 2,048 iterations."""
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), b"s" * 8, 2048, 32)
    sha256 = algorithm(bombs.HMAC_SHA_256, b"\x05\0")
    derivation = algorithm(bombs.PBKDF2, der(SEQUENCE, der(OCTETS, b"s" * 8), number(2048), number(32), sha256))
    cipher = algorithm(bombs.AES_256_CBC, der(OCTETS, b"v" * 16))
    file = pfx(_locked(_bags(issued), algorithm(bombs.PBES2, der(SEQUENCE, derivation, cipher)), key))
    scheme = algorithm(bombs.PBMAC1, der(SEQUENCE, derivation, sha256))
    value = der(OCTETS, hmac.digest(key, shape(file).octets, "sha256"))
    parts = [der(tag, contents) for tag, contents in inside(inside(file)[0][1])[:2]]
    return der(SEQUENCE, *parts, der(SEQUENCE, der(SEQUENCE, scheme, value), der(OCTETS, b"unused"), number(1)))


def scrypt_file(issued: pki.Issued) -> bytes:
    key = hashlib.scrypt(PASSWORD.encode(), salt=b"s" * 8, n=16384, r=8, p=1, dklen=32, maxmem=2**26)
    cipher = algorithm(bombs.AES_256_CBC, der(OCTETS, b"v" * 16))
    scheme = algorithm(bombs.PBES2, der(SEQUENCE, bombs.scrypt(16384, 8, 1), cipher))
    return with_mac(pfx(_locked(_bags(issued), scheme, key)))


def entry_password_file(issued: pki.Issued, entry_password: str) -> bytes:
    """As Java's KeyStore.setKeyEntry writes it: the key under a password of its own."""
    encryption = BestAvailableEncryption(entry_password.encode())
    locked = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)
    return with_mac(pfx(plain_safe(bag(bombs.SHROUDED_KEY_BAG, locked), certificate(issued.certificate_der))))
