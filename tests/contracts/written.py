"""Real PFX files for made-up contents, made once: RSA, EC and Ed25519 keys, chains of none to two."""

from __future__ import annotations

import hashlib
from functools import cache

from certificates import pkcs12
from certificates.content import Content, WrittenPfx
from rollouts.exporters import EXPORTERS, exporter
from rollouts.exporters.folders import safe_name
from tests import pki

KEYS = ("rsa-2048", "ec-p256", "ed25519")
SHARED = "SharedPassword0123456789"


@cache
def authorities() -> tuple[pki.Issued | None, ...]:
    """None (a certificate that signed itself), a root, and an authority below it."""
    root = pki.make_authority("Root")
    return None, root, pki.make_authority("Issuing", authority=root)


@cache
def issued(number: int) -> pki.Issued:
    return pki.issue(f"client {number}", key=KEYS[number % 3], authority=authorities()[number % 3])


@cache
def trusted() -> dict[str, bytes]:
    """Two authorities for servers, by fingerprint."""
    ders = [pki.make_authority(name).certificate_der for name in ("Server CA 1", "Server CA 2")]
    return {hashlib.sha256(der).hexdigest(): der for der in ders}


@cache
def one(number: int, name: str, password: str, profile: str) -> WrittenPfx:
    identity = issued(number).identity
    return WrittenPfx(
        pkcs12.write(identity, password=password, friendly_name=name, profile=profile or "modern"), password, identity
    )


def written(content: Content, kind: str) -> dict[str, WrittenPfx]:
    """What is opened for an export of this kind: one PFX for each slot."""
    return {
        slot.slug: one(
            number,
            safe_name(slot.slug),
            SHARED if exporter(kind).one_password else f"Password{number:03}x",
            content.profile,
        )
        for number, slot in enumerate(content.slots)
    }


def seen_as(kind: str, one: WrittenPfx) -> tuple[bytes, str]:
    """What its reader (tests.contracts.readers) finds of a certificate: the file, or what the form has of it."""
    assert kind in EXPORTERS
    assert one.identity is not None
    if kind == "pem-bundle":
        ders = (one.identity.certificate, *one.identity.chain)
        return b"".join(pki.pem(der) for der in ders), ""
    return (one.identity.certificate if kind == "java-keystore" else one.pfx), one.password
