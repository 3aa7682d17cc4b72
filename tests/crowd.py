"""Many certificates at once, as rows: what lists, searches and counts meet in a large installation.

The facts are as long as real ones are; no key stands behind them, so nothing here can be exported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Mod
from django.utils import timezone

from certificates.models import ClientCertificate, Pin, Version, sought_in
from environments.models import Environment
from vault.models import SealedObject

A_BATCH = 500


def fill(environment: Environment, count: int, *, pins: int | None = None, word: str = "client") -> None:
    """Adds `count` enabled certificates, and as many pins (or `pins`), whose lives end over the next three years.

    Names are “client 1”, …; common names `client-1.<slug>.example.com`; a pin to `host-1.<slug>.example.com` each.
    """
    first = environment.certificates.count() + 1
    now = timezone.now()
    numbers = range(first, first + count)
    for start in range(0, count, A_BATCH):
        with transaction.atomic():
            _add(environment, numbers[start : start + A_BATCH], word, now)
    certificates = list(environment.certificates.filter(removed_at=None).order_by("position"))
    wanted = count if pins is None else pins
    listed = [
        Pin(
            environment=environment,
            kind="host",
            key=f"host-{number}.{environment.slug}.example.com",
            certificate=certificates[number % len(certificates)],
            created_by="Grace",
        )
        for number in range(first, first + wanted)
    ]
    Pin.objects.bulk_create(listed, A_BATCH)


def _add(environment: Environment, numbers: Iterable[int], word: str, now: datetime) -> None:
    certificates, versions, sealed = [], [], []
    for number in numbers:
        name = f"{word} {number}"
        certificate = ClientCertificate(
            environment=environment,
            name=name,
            slug=f"{word}-{number}",
            position=number,
            created_by="Grace",
            sought=name.casefold(),
        )
        safe = SealedObject(
            storage_name=f"crowd/{uuid4()}", header=b"none", environment_id=environment.pk, field="identity", size=2500
        )
        version = Version(
            certificate=certificate, sealed=safe, number=1, created_by="Grace", **facts(name, number, environment, now)
        )
        version.sought = sought_in(version)
        version.chain_ends_at = min(datetime.fromisoformat(link["not_after"]) for link in version.chain)
        certificate.in_use = version
        certificate.follow()
        certificate.in_use = None  # until the version is there
        sealed.append(safe)
        versions.append(version)
        certificates.append(certificate)
    SealedObject.objects.bulk_create(sealed)
    ClientCertificate.objects.bulk_create(certificates)
    Version.objects.bulk_create(versions)
    for certificate, version in zip(certificates, versions, strict=True):
        certificate.in_use = version
    ClientCertificate.objects.bulk_update(certificates, ["in_use"], A_BATCH)


def facts(name: str, number: int, environment: Environment, now: datetime) -> dict[str, Any]:
    """The columns of a version, different for every name and environment."""
    digest = hashlib.sha256(f"{environment.pk} {name}".encode()).hexdigest()
    common_name = f"{name.replace(' ', '-')}.{environment.slug}.example.com"
    issuer = f"Partner Issuing CA {number % 31}"
    links = [
        {
            "subject": f"CN={title},OU=Trust Services,O=Partner Bank {number % 97},C=NL",
            "issuer": f"CN=Partner Root CA,OU=Trust Services,O=Partner Bank {number % 97},C=NL",
            "sha256": hashlib.sha256(f"{title} {number % 97}".encode()).hexdigest(),
            "not_after": (now + timedelta(days=3000)).isoformat(),
            "self_signed": title == "Partner Root CA",
        }
        for title in (issuer, "Partner Root CA")
    ]
    return {
        "file_name": f"{name}.pfx",
        "subject": f"CN={common_name},OU=Integration,O=Partner Bank {number % 97},L=Utrecht,C=NL",
        "common_name": common_name,
        "issuer": f"CN={issuer},OU=Trust Services,O=Partner Bank {number % 97},C=NL",
        "issuer_common_name": issuer,
        "serial": digest[:32].lstrip("0"),
        "not_before": now - timedelta(days=30),
        "not_after": now + timedelta(days=100 + number * 997 % 1000, seconds=number),
        "sha1": digest[:40],
        "sha256": digest,
        "spki_sha256": hashlib.sha256(digest.encode()).hexdigest(),
        "key_kind": "RSA",
        "key_bits": 2048,
        "signature": "sha256WithRSA",
        "names": [common_name, f"mutual-{number}.partner.example.com"],
        "usages": ["clientAuth"],
        "chain": links,
        "missing_issuer": "",
        "warnings": [],
    }


def mix(environment: Environment) -> None:
    """Makes them unlike one another, as lists meet them: of 61, one has expired, one is about to, one is weak, one is
    tracked only, two are disabled; one of four has an elliptic curve; the others end over three years."""
    listed = environment.certificates.filter(removed_at=None)
    by_number = listed.annotate(of=Mod("position", Value(61)))
    end(by_number.filter(of=1), timezone.now() - timedelta(days=1))
    end(by_number.filter(of=2), timezone.now() + timedelta(days=20))
    by_number.filter(of=3).update(weak=True)
    by_number.filter(of=4).update(tracked_only=True)
    by_number.filter(of__in=(5, 6)).update(enabled=False)
    listed.annotate(of=Mod("position", Value(4))).filter(of=0).update(public_key="EC P-256")


def end(certificates: QuerySet[ClientCertificate], when: datetime) -> None:
    """All of these end then, after a year."""
    of_these = Version.objects.filter(pk__in=certificates.values("in_use"))
    of_these.update(not_before=when - timedelta(days=365), not_after=when)
    certificates.update(expires_at=when)
