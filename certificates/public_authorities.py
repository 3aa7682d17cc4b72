"""Public authorities that stop issuing certificates for clients (the extended key usage clientAuth).

What they issued stays good until it expires; it is the renewal that fails. Their dates were moved more than once, so
they stand in a table that installation owners keep, each with its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from certificates.listing import name_parts
from certificates.models import PublicAuthority, Version

FOR_CLIENTS = {"clientAuth", "anyExtendedKeyUsage"}


@dataclass(frozen=True)
class Ending:
    """What to know about a certificate whose authority stops, and where that stands."""

    sentence: str
    source: str


def ending_of(version: Version) -> Ending | None:
    """None where its issuer is not on the list, or it is not meant for clients at all. One query."""
    if not FOR_CLIENTS & set(version.usages):
        return None
    organisations = [part[2:].casefold() for part in name_parts(version.issuer) if part.startswith("O=")]
    for authority in PublicAuthority.objects.all():
        if any(authority.organisation.casefold() in one for one in organisations):
            return Ending(_sentence(authority), authority.source)
    return None


def _sentence(authority: PublicAuthority) -> str:
    known: dict[str, Any] = {"name": authority.name, "day": date_format(authority.stops_on, "j M Y")}
    if authority.stops_on <= timezone.localdate():
        return (
            _(
                "%(name)s has issued no public certificates for clients since %(day)s, so its renewal has to come from"
                " another authority; ask the partner which they accept."
            )
            % known
        )
    return (
        _(
            "%(name)s stops issuing public certificates for clients on %(day)s; a renewal after that has to come from"
            " another authority, so ask the partner which they accept."
        )
        % known
    )
