"""Whether the next renewal will fail, on the pages of the layer below, which does not know of tests of connections."""

from __future__ import annotations

from typing import Any

from django import template

from certificates.models import ClientCertificate, Version
from certificates.outlook import Concern
from rollouts import outlook

register = template.Library()


@register.inclusion_tag("rollouts/next_renewal.html")
def next_renewal(certificate: ClientCertificate) -> dict[str, Any]:
    return {"concerns": outlook.outlook_of(certificate)}


@register.simple_tag
def outlook_of_upload(version: Version, certificate: ClientCertificate | None) -> list[Concern]:
    return outlook.outlook_of_upload(version, certificate)
