"""What an environment should run now, read from its rows: three queries, for one environment or for a page of them.

This is the truth, and takes as long as there are certificates. Pages that only count read what was worked out from it
before (rollouts.comparisons); every table that is read here counts its writes (certificates.serials).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from certificates.content import Content, PinnedTarget, Slot
from certificates.models import ClientCertificate, Pin, TrustedAuthority
from environments.models import Environment


def content(environment: Environment) -> Content:
    """The wanted content of one environment."""
    return contents([environment])[environment.pk]


def contents(environments: Iterable[Environment]) -> dict[UUID, Content]:
    """The wanted content of each. A disabled certificate is left out, and so are its pins."""
    environments = list(environments)
    slots: dict[UUID, list[Slot]] = defaultdict(list)
    slugs: dict[UUID, str] = {}
    enabled = ClientCertificate.objects.filter(
        environment__in=environments, enabled=True, removed_at=None, in_use__sealed__isnull=False
    )
    columns = ("environment", "pk", "slug", "in_use__sha256", "in_use__chain")
    for environment, pk, slug, sha256, chain in enabled.values_list(*columns):
        slots[environment].append(Slot(slug, sha256, tuple(link["sha256"] for link in chain)))
        slugs[pk] = slug
    pins: dict[UUID, list[PinnedTarget]] = defaultdict(list)
    listed = Pin.objects.filter(environment__in=environments)
    for environment, kind, key, certificate in listed.values_list("environment", "kind", "key", "certificate"):
        if certificate is None or certificate in slugs:
            pins[environment].append(PinnedTarget(kind, key, slugs.get(certificate)))
    trusted: dict[UUID, list[str]] = defaultdict(list)
    authorities = TrustedAuthority.objects.filter(environment__in=environments, removed_at=None).order_by("sha256")
    for environment, sha256 in authorities.values_list("environment", "sha256"):
        trusted[environment].append(sha256)
    return {
        e.pk: Content(
            runtime=e.runtime,
            runtime_version=e.runtime_version,
            profile=e.profile,
            base_folder=e.base_folder,
            slots=tuple(slots[e.pk]),
            pins=tuple(sorted(pins[e.pk], key=lambda p: p.key)),
            authorities=tuple(trusted[e.pk]),
        )
        for e in environments
    }


def authorities(environment: Environment, content: Content) -> dict[str, bytes]:
    """The DER of the trusted authorities of a content, by fingerprint: also of those that were removed since."""
    if not content.authorities:
        return {}
    rows = TrustedAuthority.objects.filter(environment=environment, sha256__in=content.authorities).order_by()
    return {sha256: bytes(certificate) for sha256, certificate in rows.values_list("sha256", "certificate")}
