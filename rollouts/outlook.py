"""Will the renewal fail? As certificates.outlook says it, and by what servers said in tests of connections.

A server that asks for a certificate may name the authorities that it accepts (RFC 8446 §4.2.4, RFC 5246 §7.4.4). Where
the issuer of ours is not among them, some clients send none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from certificates import addresses, outlook
from certificates.addresses import AddressError
from certificates.models import ClientCertificate, Pin, PublicAuthority, Version
from certificates.outlook import Concern
from certificates.spelled import common_name
from certificates.targets import HOST
from rollouts.connections import age
from rollouts.models import ConnectionTest

# Servers that one sentence names.
NAMED = 3


def outlooks(certificates: QuerySet[ClientCertificate]) -> dict[UUID, list[Concern]]:
    """What speaks against the next renewal of each of these certificates, by its id, gravest first; a certificate of
    which nothing is known has an empty list. Removed ones are left out.

    Five queries, for any number of certificates: of an environment (`environment.certificates.all()`), of many
    (`ClientCertificate.objects.filter(environment__in=…)`), or of one.
    """
    listed = list(certificates.filter(removed_at=None).select_related("in_use"))
    if not listed:
        return {}
    keys = certificates.filter(removed_at=None).order_by().values("pk")
    authorities = list(PublicAuthority.objects.all())
    following = _following(keys)
    tests = _tests(keys)
    found: dict[UUID, list[Concern]] = {}
    for one in listed:
        if one.in_use is None:
            found[one.pk] = []
            continue
        following_one = following.get(one.pk)
        found[one.pk] = [
            *outlook.concerns(
                one.in_use, authorities=authorities, identified_by=one.identified_by, following=following_one
            ),
            *_of_tests(one.in_use, tests[one.pk]),
            *(_of_tests(following_one, tests[one.pk]) if following_one is not None else ()),
        ]
    return found


def outlook_of(certificate: ClientCertificate) -> list[Concern]:
    """That of one certificate."""
    return outlooks(ClientCertificate.objects.filter(pk=certificate.pk)).get(certificate.pk, [])


def outlook_of_upload(version: Version, certificate: ClientCertificate | None) -> list[Concern]:
    """What an upload does not say in its own warnings: of a certificate, or of the renewal of this one. Three queries
    at most."""
    said = {warning["code"] for warning in version.warnings}
    found = [one for one in outlook.concerns(version) if one.code not in said]
    if certificate is not None:
        keys = ClientCertificate.objects.filter(pk=certificate.pk).values("pk")
        found += _of_tests(version, _tests(keys)[certificate.pk])
    return found


def _following(certificates: QuerySet[Any]) -> dict[UUID, Version]:
    """The newest version that is ready, of those that have one."""
    newer = Version.objects.filter(
        certificate__in=certificates, sealed__isnull=False, number__gt=F("certificate__in_use__number")
    )
    return {one.certificate_id: one for one in newer.order_by("number")}


def _tests(certificates: QuerySet[Any]) -> dict[UUID, list[ConnectionTest]]:
    """The last test of each pin's connection, by certificate, where it was to the address that the pin has now."""
    pins = Pin.objects.filter(certificate__in=certificates).order_by("key")
    columns = ("environment", "key", "certificate", "kind", "test_address")
    rows = {(environment, key): rest for environment, key, *rest in pins.values_list(*columns)}
    found: dict[UUID, list[ConnectionTest]] = defaultdict(list)
    asked = pins.order_by()
    last = ConnectionTest.objects.filter(
        is_last=True, environment__in=asked.values("environment"), key__in=asked.values("key")
    )
    for test in last.order_by("key"):
        if pin := rows.get((test.environment_id, test.key)):
            certificate, kind, typed = pin
            if test.address == _address(kind, test.key, typed):
                found[certificate].append(test)
    return found


def _address(kind: str, key: str, typed: str) -> str:
    if not typed and kind != HOST:
        return ""
    try:
        return str(addresses.read(typed or key))
    except AddressError:
        return ""


def accepts(version: Version, test: ConnectionTest) -> bool | None:
    """Whether the server of a test said that it accepts certificates of this version's issuers; None where it said
    nothing of that, or more names than were kept."""
    facts = test.facts
    if not facts.get("asked") or not facts.get("accepts"):
        return None
    among: bool | None = facts.get("among") if test.version_id == version.pk else None
    if among is not None:
        return among  # compared to the letter, when it was tested
    # By common names, because OpenSSL spells the rest of a name otherwise: rather no word than a wrong one.
    issuers = {version.issuer, *(link["issuer"] for link in version.chain)}
    if {common_name(one).casefold() for one in issuers} & {common_name(one).casefold() for one in facts["accepts"]}:
        return True
    return False if facts.get("accepts_count", 0) <= len(facts["accepts"]) else None


def _of_tests(version: Version, tests: Iterable[ConnectionTest]) -> list[Concern]:
    refusing = [test for test in tests if accepts(version, test) is False]
    if not refusing:
        return []
    oldest = min(refusing, key=lambda test: test.tested_at)
    servers = ", ".join(test.key for test in refusing[:NAMED]) + (" …" if len(refusing) > NAMED else "")
    named = [common_name(one) for one in refusing[0].facts["accepts"][:2]]
    more = " …" if refusing[0].facts["accepts_count"] > len(named) else ""
    sentence = _(
        "%(servers)s asked for certificates of %(accepted)s when it was tested (%(when)s); %(issuer)s, which issued"
        " this one, is not among them."
    ) % {
        "servers": servers,
        "accepted": _(" and ").join(named) + more,
        "when": age(oldest),
        "issuer": version.issuer_common_name or common_name(version.issuer),
    }
    to_do = _("Ask the partner from which authority they expect it; an app in Java may send no certificate at all.")
    return [Concern("issuer-not-accepted", sentence, to_do, outlook.pk_of(version))]
