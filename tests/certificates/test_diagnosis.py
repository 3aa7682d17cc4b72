"""Every refusal is a sentence, and other formats are called by their names."""

from __future__ import annotations

import base64
import gzip
import io
import pickle
import string
import zipfile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

from certificates.der import MAX_DEPTH, MAX_NODES, Budget, parse
from certificates.diagnosis import LOOKS, SENTENCES, Refusal
from certificates.outline import outline
from tests import pki


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("client.pfx", content)
    return out.getvalue()


def other_formats() -> list[tuple[str, bytes]]:
    issued = pki.issue(key="rsa-2048", authority=pki.make_authority())
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    file = pki.pfx(issued)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(issued.key, hashes.SHA256())
    armoured = b"-----BEGIN PKCS12-----\n" + base64.encodebytes(file) + b"-----END PKCS12-----\n"
    locked = issued.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    p7b = [issued.certificate, *issued.chain]
    return [
        ("pem-certificate", issued.certificate_pem),
        ("pem-certificate-and-key", b"Bag Attributes\n" + issued.key_pem + issued.certificate_pem),
        ("pem-key", issued.key_pem),
        ("pem-pkcs12", armoured),
        ("pem", b"-----BEGIN X509 CRL-----\n"),
        ("request", request.public_bytes(Encoding.PEM)),
        ("request", request.public_bytes(Encoding.DER)),
        ("base64", base64.b64encode(file)),
        ("base64", base64.encodebytes(file)),
        ("empty", b""),
        ("zip", zipped(file)),
        ("gzip", gzip.compress(file)),
        ("7z", b"7z\xbc\xaf\x27\x1c" + bytes(30)),
        ("jks", b"\xfe\xed\xfe\xed\0\0\0\x02" + bytes(30)),
        ("jceks", b"\xce\xce\xce\xce\0\0\0\x02" + bytes(30)),
        ("pkcs7", pkcs7.serialize_certificates(p7b, Encoding.DER)),
        ("pkcs7", pkcs7.serialize_certificates(p7b, Encoding.PEM)),
        ("certificate", issued.certificate_der),
        ("private-key", issued.key_der),
        ("private-key", locked),
        ("private-key", issued.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())),
        ("private-key", pki.make_key().private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())),
        ("html", b"\xef\xbb\xbf\n<!DOCTYPE html><title>Log in</title>"),
        ("pdf", b"%PDF-1.7\n"),
        ("json", b'{"error": "not found"}'),
        ("something-in-front", b"\r\n" + file),
        ("something-in-front", b"\xef\xbb\xbf" + file),
        ("text-mangled", file.decode("utf-8", "replace").encode()),
        ("text", b"The password is in the other mail."),
        ("unknown", bytes(200)),
        ("other-der", bytes.fromhex("3003020105")),
    ]


@pytest.mark.parametrize(("kind", "file"), other_formats(), ids=lambda value: value if isinstance(value, str) else "")
def test_another_format_is_called_by_its_name(kind: str, file: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        outline(file)
    assert (refused.value.code, refused.value.looks_like, refused.value.field) == ("not_pkcs12", kind, "file")
    assert LOOKS[kind] in str(refused.value)


@pytest.mark.parametrize("code", sorted(SENTENCES))
def test_every_refusal_is_one_sentence_that_says_what_to_do(code: str) -> None:
    names = {name for _, name, _, _ in string.Formatter().parse(SENTENCES[code]) if name} - {"looks", "request"}
    details: dict[str, str | int] = dict.fromkeys(names, 7)
    if code == "not_pkcs12":
        details["looks_like"] = "zip"
    refusal = Refusal(code, **details)

    assert str(refusal)[0].isupper()
    assert str(refusal).endswith(".")
    assert ". " not in str(refusal)
    assert ";" in str(refusal) or ", so " in str(refusal)
    assert refusal.field in {"file", "password"}
    again = pickle.loads(pickle.dumps(refusal))
    assert (str(again), again.code, again.details) == (str(refusal), refusal.code, refusal.details)


def nested(depth: int, *, indefinite: bool) -> bytes:
    if indefinite:
        return b"\x30\x80" * depth + b"\0\0" * depth
    value = b""
    for _ in range(depth):
        size = len(value)
        value = b"\x30" + (bytes([size]) if size < 128 else b"\x81" + bytes([size])) + value
    return value


@pytest.mark.parametrize("indefinite", [False, True])
def test_nesting_is_followed_to_its_limit_and_no_further(indefinite: bool) -> None:
    assert parse(nested(MAX_DEPTH, indefinite=indefinite), Budget(), outermost=True).depth == 1
    with pytest.raises(Refusal) as refused:
        parse(nested(MAX_DEPTH + 1, indefinite=indefinite), Budget(), outermost=True)
    assert refused.value.code == "limit_exceeded"


def test_a_bomb_of_200_000_open_values_is_refused_at_once() -> None:
    with pytest.raises(Refusal) as refused:
        outline(b"\x30\x80" * 200_000)
    assert refused.value.code == "limit_exceeded"


def test_more_parts_than_allowed_are_refused() -> None:
    many = b"\x05\0" * MAX_NODES
    with pytest.raises(Refusal) as refused:
        parse(b"\x30\x83" + len(many).to_bytes(3, "big") + many, Budget(), outermost=True)
    assert refused.value.code == "limit_exceeded"


def test_strings_of_indefinite_length_are_joined() -> None:
    octets = parse(bytes.fromhex("2480 0402 6162 2403 0401 63 0400 0000"), Budget(), outermost=True)
    assert octets.octets() == b"abc"


@pytest.mark.parametrize(
    ("code", "file"),
    [
        ("truncated", "3084ffffffff020103"),
        ("truncated", "3080020103"),
        ("truncated", "30"),
        ("damaged", "308900000000000000000a020103"),
        ("damaged", "3003 0480 00"),
        ("damaged", "3004 0205 0103"),
        ("damaged", "3006 1fffffffffff"),
        ("damaged", "3008 020103 3003 020101"),
        ("damaged", "3005 020103 3000"),
        ("damaged", "3005 020104 3000"),
    ],
)
def test_broken_structure_is_called_truncated_or_damaged(code: str, file: str) -> None:
    with pytest.raises(Refusal) as refused:
        outline(bytes.fromhex(file) if code == "truncated" else bytes.fromhex(file) + b"\xff")
    assert refused.value.code == code
