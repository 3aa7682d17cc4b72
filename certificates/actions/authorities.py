"""The list of public authorities that stop issuing certificates for clients."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from audit import trail
from certificates.models import PublicAuthority
from environments.names import checked_name
from environments.refusals import Refused


def save_authority(
    *, authority: PublicAuthority | None, name: str, organisation: str, stops_on: date, source: str, by: Any
) -> PublicAuthority:
    """Adds an authority to the list, or changes it."""
    name = checked_name(name)
    row = authority or PublicAuthority()
    row.name, row.organisation, row.stops_on, row.source = name, organisation.strip(), stops_on, source
    try:
        with transaction.atomic():
            row.save()
            done = "authority.added" if authority is None else "authority.changed"
            trail.record(done, by=by, subject=row, organisation=row.organisation, stops_on=str(stops_on), source=source)
    except IntegrityError:
        raise Refused(_("“%(name)s” is already on the list; change it there.") % {"name": name}, field="name") from None
    return row


@transaction.atomic
def remove_authority(*, authority: PublicAuthority, by: Any) -> None:
    trail.record("authority.removed", by=by, subject=authority)
    authority.delete()
