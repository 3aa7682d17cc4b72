"""Facts of ordinary and odd certificates, and what to be warned of."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from certificates.facts import Facts, facts, warnings
from tests import pki

ROOT = pki.make_authority("Partner Root", key="rsa-2048")
MIDDLE = pki.make_authority("Partner Issuing", authority=ROOT, key="rsa-2048")


def facts_of(issued: pki.Issued) -> Facts:
    return facts(issued.certificate_der, issued.chain_der, now=pki.NOW)


def codes(issued: pki.Issued) -> list[str]:
    return [one.code for one in warnings(facts_of(issued), now=pki.NOW)]


def signed_with_sha1(issued: pki.Issued, signer: pki.PrivateKey) -> bytes:
    """The same certificate with a real SHA-1 signature, which the builder no longer makes."""
    assert isinstance(signer, rsa.RSAPrivateKey)
    sha256_rsa, sha1_rsa = (bytes.fromhex(f"06092a864886f70d0101{arc}") for arc in ("0b", "05"))
    body = issued.certificate.tbs_certificate_bytes.replace(sha256_rsa, sha1_rsa, 1)
    signature = signer.sign(body, padding.PKCS1v15(), hashes.SHA1())
    whole = issued.certificate_der.replace(issued.certificate.tbs_certificate_bytes, body)
    return whole.replace(sha256_rsa, sha1_rsa).replace(issued.certificate.signature, signature)


def test_the_facts_of_an_ordinary_certificate() -> None:
    issued = pki.issue("client.example.com", key="rsa-2048", authority=MIDDLE, sans=["client.example.com"])
    found = facts_of(issued)

    assert found.subject == "CN=client.example.com,O=Example Partner"
    assert (found.common_name, found.issuer_common_name) == ("client.example.com", "Partner Issuing")
    assert found.serial == format(issued.certificate.serial_number, "x")
    assert found.not_before == pki.NOW - timedelta(days=1)
    assert found.not_after == pki.NOW + timedelta(days=365)
    assert found.not_after.tzinfo is not None
    assert found.sha1 == hashlib.sha1(issued.certificate_der).hexdigest()
    assert found.sha256 == issued.certificate.fingerprint(hashes.SHA256()).hex()
    assert (found.key_kind, found.key_bits, found.signature) == ("RSA", 2048, "sha256WithRSA")
    assert found.names == ("client.example.com",)
    assert found.usages == ("clientAuth",)
    assert [(link.subject, link.self_signed) for link in found.chain] == [
        ("CN=Partner Issuing,O=Example Partner", False),
        ("CN=Partner Root,O=Example Partner", True),
    ]
    assert found.chain[0].sha256 == MIDDLE.certificate.fingerprint(hashes.SHA256()).hex()
    assert found.missing_issuer is None
    assert warnings(found, now=pki.NOW) == ()


def test_a_renewal_with_the_same_key_keeps_the_fingerprint_of_the_key() -> None:
    key = pki.make_key()
    first, second = facts_of(pki.issue(key=key)), facts_of(pki.issue(key=key))
    assert first.spki_sha256 == second.spki_sha256
    assert first.sha256 != second.sha256
    assert facts_of(pki.issue()).spki_sha256 != first.spki_sha256


@pytest.mark.parametrize(
    ("kind", "named", "bits"),
    [
        ("rsa-3072", "RSA", 3072),
        ("ec-p256", "EC P-256", 256),
        ("ec-p384", "EC P-384", 384),
        ("ec-p521", "EC P-521", 521),
        ("ed25519", "Ed25519", 256),
        ("ed448", "Ed448", 456),
        ("dsa-2048", "DSA", 2048),
    ],
)
def test_each_kind_of_key_is_named(kind: str, named: str, bits: int) -> None:
    found = facts_of(pki.issue(key=kind))
    assert (found.key_kind, found.key_bits) == (named, bits)


def test_a_certificate_without_names_or_usages_has_facts() -> None:
    found = facts_of(pki.issue(None, organization=None, eku=None))
    assert (found.subject, found.common_name, found.names, found.usages) == ("", "", (), ())


def test_every_kind_of_alternative_name_is_text() -> None:
    issued = pki.issue(
        sans=[
            x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
            x509.RFC822Name("ops@example.com"),
            x509.UniformResourceIdentifier("urn:x"),
            x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "d")])),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01u"),
        ]
    )
    assert facts_of(issued).names == (
        "192.0.2.1",
        "ops@example.com",
        "urn:x",
        "CN=d",
        "1.2.3",
        "other name 1.3.6.1.4.1.311.20.2.3",
    )


def test_an_unknown_kind_of_key_is_named_by_its_number() -> None:
    issued = pki.issue(key="ed25519", authority=MIDDLE)
    # The object identifier of Ed25519 (1.3.101.112) in the public key becomes one that nobody knows (1.3.101.99).
    odd = issued.certificate_der.replace(bytes.fromhex("06032b6570"), bytes.fromhex("06032b6563"))
    found = facts(odd, issued.chain_der)
    assert (found.key_kind, found.key_bits, found.spki_sha256) == ("1.3.101.99", 0, "")


def test_a_broken_extension_hides_itself_and_nothing_else() -> None:
    issued = pki.issue(sans=["a.example.com"])
    # The tag of the alternative name (dNSName, [2]) becomes one that does not exist ([15]).
    odd = issued.certificate_der.replace(b"\x82\x0da.example.com", b"\x8f\x0da.example.com")
    assert odd != issued.certificate_der
    found = facts(odd)
    assert (found.common_name, found.names) == ("client.example.com", ())


def test_what_is_no_certificate_is_an_error() -> None:
    with pytest.raises(ValueError):
        facts(b"\x30\0")


def test_the_missing_issuer_is_named_without_asking_for_confirmation() -> None:
    alone = facts(pki.issue(authority=MIDDLE).certificate_der)
    assert alone.missing_issuer == "CN=Partner Issuing,O=Example Partner"
    half = facts(pki.issue(authority=MIDDLE).certificate_der, (MIDDLE.certificate_der,))
    assert half.missing_issuer == "CN=Partner Root,O=Example Partner"
    for found in (alone, half):
        (warning,) = warnings(found, now=pki.NOW)
        assert (warning.code, warning.confirm) == ("chain_incomplete", False)
        assert str(found.missing_issuer) in warning.sentence


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (["expired"], {"not_before": pki.NOW - timedelta(days=9), "not_after": pki.NOW - timedelta(seconds=1)}),
        ([], {"not_after": pki.NOW + timedelta(seconds=1)}),
        (["not_yet_valid"], {"not_before": pki.NOW + timedelta(hours=1)}),
        (["no_client_auth"], {"eku": ("serverAuth", "emailProtection")}),
        ([], {"eku": ("serverAuth", "clientAuth")}),
        ([], {"eku": ("anyExtendedKeyUsage",)}),
        ([], {"eku": None}),
        (["weak_key"], {"key": "rsa-1024"}),
        (["dsa_key"], {"key": "dsa-2048"}),
        ([], {"key": "rsa-2048"}),
        ([], {"key": "ed25519"}),
    ],
)
def test_what_needs_a_yes_is_warned_of(expected: list[str], changes: dict[str, object]) -> None:
    issued = pki.issue(authority=MIDDLE, **changes)  # type: ignore[arg-type]
    assert codes(issued) == expected
    for warning in warnings(facts_of(issued), now=pki.NOW):
        assert warning.confirm
        assert warning.sentence.endswith(".")


def test_a_sha1_signature_is_warned_of_on_the_leaf_only() -> None:
    issued = pki.issue(key="rsa-2048", authority=MIDDLE)
    found = facts(signed_with_sha1(issued, MIDDLE.key), issued.chain_der)
    assert found.signature == "sha1WithRSA"
    assert [(one.code, one.confirm) for one in warnings(found, now=pki.NOW)] == [("weak_signature", True)]

    old_root = signed_with_sha1(ROOT, ROOT.key)
    assert warnings(facts(issued.certificate_der, (MIDDLE.certificate_der, old_root)), now=pki.NOW) == ()


def test_an_issuer_that_ends_before_its_certificate_is_named() -> None:
    short = pki.make_authority("Short CA", not_after=pki.NOW + timedelta(days=20))
    found = facts(pki.issue(authority=short).certificate_der, (short.certificate_der,))
    (warning,) = warnings(found, now=pki.NOW)
    assert (warning.code, warning.confirm) == ("issuer_expires_first", False)
    assert "CN=Short CA" in warning.sentence
