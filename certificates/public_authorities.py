"""Public authorities that stop issuing certificates for clients (the extended key usage clientAuth).

What they issued stays good until it expires; it is the renewal that fails. Their dates were moved more than once, so
they stand in a table that installation owners keep, each with its source.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from certificates.models import PublicAuthority, Version
from certificates.spelled import name_parts

FOR_CLIENTS = {"clientAuth", "anyExtendedKeyUsage"}


@dataclass(frozen=True)
class Ending:
    """What to know and do about a certificate whose authority stops on this day, and where that stands."""

    sentence: str
    to_do: str
    day: date
    source: str


def ending_of(version: Version, authorities: Iterable[PublicAuthority] | None = None) -> Ending | None:
    """None where its issuer is not on the list, or it is not meant for clients at all. One query, or none where the
    `authorities` are given."""
    if not FOR_CLIENTS & set(version.usages):
        return None
    organisations = [part[2:].casefold() for part in name_parts(version.issuer) if part.startswith("O=")]
    for authority in PublicAuthority.objects.all() if authorities is None else authorities:
        if any(authority.organisation.casefold() in one for one in organisations):
            return _ending(authority)
    return None


def _ending(authority: PublicAuthority) -> Ending:
    known: dict[str, Any] = {"name": authority.name, "day": date_format(authority.stops_on, "j M Y")}
    if authority.stops_on <= timezone.localdate():
        words = _(
            "%(name)s has issued no public certificates for clients since %(day)s, so its renewal has to come from"
            " another authority."
        )
        to_do = _("Ask the partner which authorities they accept.")
    else:
        words = _(
            "%(name)s stops issuing public certificates for clients on %(day)s; a renewal after that has to come from"
            " another authority."
        )
        to_do = _("Renew it before that day, or ask the partner which other authorities they accept.")
    return Ending(words % known, to_do, authority.stops_on, authority.source)
