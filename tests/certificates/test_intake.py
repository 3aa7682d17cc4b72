"""Everything that carries keys and certificates: which of it is read, what is said of the rest."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

from certificates import intake, old_ciphers
from certificates.diagnosis import Refusal
from certificates.identities import Identity
from certificates.intake import Upload
from tests import pki
from tests.certificates.made import entry_password_file

ROOT = pki.make_authority("Partner Root")
ISSUER = pki.make_authority("Partner CA", authority=ROOT)
ISSUED = pki.issue("client.example.com", key="rsa-2048", authority=ISSUER)
PASSWORD = "Passw0rd!"
LEAF, CHAIN = ISSUED.certificate_der, ISSUED.chain_der


def encryption(password: str) -> BestAvailableEncryption | NoEncryption:
    return BestAvailableEncryption(password.encode()) if password else NoEncryption()


def pem_key(how: PrivateFormat = PrivateFormat.PKCS8, password: str = "") -> bytes:
    return ISSUED.key.private_bytes(Encoding.PEM, how, encryption(password))


def der_key(how: PrivateFormat, password: str = "") -> bytes:
    return ISSUED.key.private_bytes(Encoding.DER, how, encryption(password))


def armoured(label: str, content: bytes) -> bytes:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def pem_certificates(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates or (ISSUED.certificate, *ISSUED.chain))


def p7b(encoding: Encoding = Encoding.DER) -> bytes:
    return pkcs7.serialize_certificates([ISSUED.certificate, *ISSUED.chain], encoding)


def taken_in(*files: bytes, passwords: tuple[str, ...] = ("",)) -> Identity:
    reading = intake.read([Upload(f"file {n}", file) for n, file in enumerate(files)], passwords)
    assert len(reading.identities) == 1
    return reading.identities[0][0]


def refusal_of(*files: bytes, passwords: tuple[str, ...] = ("",)) -> Refusal:
    with pytest.raises(Refusal) as refused:
        intake.read([Upload(f"file {n}", file) for n, file in enumerate(files)], passwords)
    return refused.value


COMPLETE = {
    "key and certificates in one PEM": (pem_key() + pem_certificates(),),
    "in the other order": (pem_certificates() + pem_key(),),
    "key and certificates in two files": (pem_key(), pem_certificates()),
    "a key of PKCS #1": (pem_key(PrivateFormat.TraditionalOpenSSL), pem_certificates()),
    "with words around it": (b"Bag Attributes\n  friendlyName: x\n" + pem_key() + b"subject=x\n" + pem_certificates(),),
    "with a mark and DOS lines": (b"\xef\xbb\xbf" + (pem_key() + pem_certificates()).replace(b"\n", b"\r\n"),),
    "in UTF-16": ((pem_key() + pem_certificates()).decode().encode("utf-16"),),
    "DER key and certificates": (ISSUED.key_der, LEAF, *CHAIN),
    "DER key of PKCS #1": (der_key(PrivateFormat.TraditionalOpenSSL), LEAF, *CHAIN),
    "DER key and PKCS #7": (ISSUED.key_der, p7b()),
    "PEM key and PKCS #7 in PEM": (pem_key() + p7b(Encoding.PEM),),
    "a .pfx without its chain, and the chain": (pki.pfx(ISSUED, "", certificates=()), p7b()),
    "a .pfx in base64": (base64.encodebytes(pki.pfx(ISSUED, "")),),
    "a .pfx in base64 on one line": (base64.b64encode(pki.pfx(ISSUED, "")),),
    "a .pfx in PEM": (armoured("PKCS12", pki.pfx(ISSUED, "")),),
    "the same certificates twice": (pem_key(), pem_certificates(), pem_certificates()),
}  # fmt: skip


@pytest.mark.parametrize("files", COMPLETE.values(), ids=COMPLETE)
def test_what_is_complete_becomes_an_identity_with_its_chain(files: tuple[bytes, ...]):
    identity = taken_in(*files)
    assert (identity.key, identity.certificate, identity.chain) == (ISSUED.key_der, LEAF, CHAIN)


LOCKED = {
    "an encrypted PKCS #8": pem_key(password=PASSWORD),
    "the same in DER": der_key(PrivateFormat.PKCS8, PASSWORD),
    "OpenSSL's old encryption": pem_key(PrivateFormat.TraditionalOpenSSL, PASSWORD),
}  # fmt: skip


@pytest.mark.parametrize("key", LOCKED.values(), ids=LOCKED)
def test_an_encrypted_key_opens_with_its_password_and_no_other(key: bytes):
    assert taken_in(key, pem_certificates(), passwords=("wrong", PASSWORD)).key == ISSUED.key_der
    for wrong in ("", "wrong", PASSWORD + " "):
        assert refusal_of(key, pem_certificates(), passwords=(wrong,)).code == "wrong_password"


@pytest.mark.parametrize(
    "cipher", ["aes128", "aes192", "aes256", "des3", "des", "camellia128"], ids=lambda cipher: cipher
)
def test_keys_that_openssl_encrypted_in_its_old_way(cipher: str, tmp_path: Path):
    source, out = tmp_path / "key.pem", tmp_path / "locked.pem"
    source.write_bytes(pem_key())
    old = ["-provider", "default", "-provider", "legacy"]
    command = [
        "openssl",
        "rsa",
        "-in",
        source,
        "-traditional",
        f"-{cipher}",
        "-passout",
        f"pass:{PASSWORD}",
        "-out",
        out,
    ]
    subprocess.run([*command, *old], check=True, capture_output=True)
    if cipher.startswith("camellia"):
        refused = refusal_of(out.read_bytes(), pem_certificates(), passwords=(PASSWORD,))
        assert (refused.code, refused.details["algorithm"]) == ("unsupported_algorithm", "CAMELLIA-128-CBC")
    else:
        assert taken_in(out.read_bytes(), pem_certificates(), passwords=(PASSWORD,)).key == ISSUED.key_der


def test_a_key_with_a_password_of_its_own_needs_both():
    file = entry_password_file(ISSUED, "another")
    assert refusal_of(file, passwords=(PASSWORD,)).code == "entry_password_differs"
    assert refusal_of(file, passwords=(PASSWORD, "wrong")).code == "entry_password_differs"
    for passwords in ((PASSWORD, "another"), ("another", PASSWORD), ("wrong", "another", PASSWORD)):
        assert taken_in(file, p7b(), passwords=passwords).chain == CHAIN


def test_of_several_keys_each_is_an_identity():
    other = pki.issue("other.example.com")
    both = intake.read([Upload("both.pem", pem_key() + pem_certificates()), Upload("other.pfx", pki.pfx(other, ""))])
    assert [one.certificate for one, _remarks in both.identities] == [other.certificate_der, LEAF]
    assert all(not remarks or remarks[0].code != "strangers" for _one, remarks in both.identities)


REFUSED = {
    "certificates only": ((pem_certificates(),), "no_private_key"),
    "a key only": ((pem_key(),), "no_certificate"),
    "a key and the certificate of another": ((pem_key(), pki.issue().certificate_der), "key_certificate_mismatch"),
    "words": ((b"The password is in the other mail.",), "not_pkcs12"),
    "half of a PEM": (((pem_key() + pem_certificates())[:900],), "damaged"),
    "PEM with a bad character": ((pem_key().replace(b"M", b"*", 1) + pem_certificates(),), "damaged"),
    "a key of OpenSSH": ((armoured("OPENSSH PRIVATE KEY", b"openssh-key-v1"),), "unsupported_algorithm"),
    "nothing": ((b"",), "not_pkcs12"),
    "eleven files": ((pem_key(),) * 11, "limit_exceeded"),
    "ten files of more than a mebibyte": ((b" " * 200_000,) * 10, "limit_exceeded"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_incomplete_is_named(files: tuple[bytes, ...], code: str):
    refused = refusal_of(*files)
    assert refused.code == code
    assert str(refused).endswith(".")


def test_text_that_begins_a_thousand_parts_is_read_in_one_pass():
    text = b"-----BEGIN CERTIFICATE-----\n" * 30_000
    assert refusal_of(text).code == "damaged"


def test_certificates_alone_can_be_tracked_without_a_key():
    reading = intake.read([Upload("chain.p7b", p7b())], track=True)
    ((identity, _remarks),) = reading.identities
    assert (identity.key, identity.certificate, identity.chain) == (b"", LEAF, CHAIN)


# RFC 2268 §5, RFC 6229 §2 (the first key of 40 bits).
RC2 = [
    ("0000000000000000", 63, "0000000000000000", "ebb773f993278eff"),
    ("ffffffffffffffff", 64, "ffffffffffffffff", "278b27e42e2f0d49"),
    ("3000000000000000", 64, "1000000000000001", "30649edf9be7d2c2"),
    ("88", 64, "0000000000000000", "61a8a244adacccf0"),
    ("88bca90e90875a7f0f79c384627bafb2", 128, "0000000000000000", "2269552ab0f85ca6"),
    ("88bca90e90875a7f0f79c384627bafb216f80a6f85920584c42fceb0be255daf1e", 129, "0000000000000000", "5b78d3a43dfff1f1"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "bits", "plain", "cipher"), RC2)
def test_rc2_as_its_document_has_it(key: str, bits: int, plain: str, cipher: str):
    assert old_ciphers.rc2_cbc(bytes.fromhex(key), bits, bytes(8), bytes.fromhex(cipher)).hex() == plain


def test_rc4_as_its_document_has_it():
    assert old_ciphers.rc4(bytes.fromhex("0102030405"), bytes(16)).hex() == "b2396305f03dc027ccc3524a0a1118a8"
