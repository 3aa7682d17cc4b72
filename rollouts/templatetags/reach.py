"""What depends on a certificate, for pages that remove, disable or replace it."""

from __future__ import annotations

from typing import Any

from django import template

from certificates.models import ClientCertificate
from rollouts import reach

register = template.Library()


@register.inclusion_tag("rollouts/reach_part.html", takes_context=True)
def blast_radius(context: dict[str, Any], certificate: ClientCertificate, links: bool = True) -> dict[str, Any]:
    """Which pins of this slot depend on it, with their last tests, and whether it runs; and where else the same
    certificate is used, as far as the reader may see. A constant number of queries."""
    version = certificate.in_use
    of = reach.of_slots([certificate.pk])
    found = reach.reach(context["user"], of | reach.of_certificate(version.sha256) if version else of)
    here = next((row for row in found.rows if row.certificate.pk == certificate.pk), None)
    elsewhere = reach.Reach(tuple(row for row in found.in_use if row.certificate.pk != certificate.pk))
    return {"here": here, "elsewhere": elsewhere, "version": version, "links": links}
