"""What an environment should run now, read from its rows: two queries, for one environment or for a page of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from certificates.content import Content, PinnedTarget, Slot
from certificates.models import ClientCertificate, Pin
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
    ).select_related("in_use")
    for certificate in enabled:
        assert certificate.in_use is not None
        slots[certificate.environment_id].append(certificate.in_use.slot(certificate.slug))
        slugs[certificate.pk] = certificate.slug
    pins: dict[UUID, list[PinnedTarget]] = defaultdict(list)
    for pin in Pin.objects.filter(environment__in=environments):
        if pin.certificate_id is None:
            pins[pin.environment_id].append(PinnedTarget(pin.kind, pin.key, None))
        elif pin.certificate_id in slugs:
            pins[pin.environment_id].append(PinnedTarget(pin.kind, pin.key, slugs[pin.certificate_id]))
    return {
        e.pk: Content(
            runtime=e.runtime,
            runtime_version=e.runtime_version,
            profile=e.profile,
            base_folder=e.base_folder,
            slots=tuple(slots[e.pk]),
            pins=tuple(sorted(pins[e.pk], key=lambda p: p.key)),
        )
        for e in environments
    }
