"""A private key that others may have: somebody says so, place after place is seen to, others are told, it is over."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from certificates.models import Announcement, ClientCertificate, Incident, Version
from environments.refusals import Refused
from rollouts import incidents

ANNOUNCEMENTS = ("revocation", "partner")


def open_incident(*, certificate: ClientCertificate, version: Version, reason: str, by: Any) -> Incident:
    """Says that others may have the key of this version. One that is open for the same key already goes on. Raises
    Refused for a version without a key: who has only the certificate cannot speak for the key."""
    reason = _why(reason)
    if version.certificate_id != certificate.pk or version.is_tracked_only:
        raise Refused(_("The private key of this version is not here; say it where its key is."), field="version")
    key = version.spki_sha256
    try:
        with transaction.atomic():
            incident = Incident.objects.filter(spki_sha256=key, closed_at=None).first()
            if incident is not None and incident.certificate_id == certificate.pk:
                return incident
            if incident is None:
                incident = Incident.objects.create(
                    spki_sha256=key, certificate=certificate, reason=reason, opened_by=str(by)
                )
            trail.record(
                "key.compromised", by=by, subject=certificate, slot=certificate.slug, version=version.number,
                spki_sha256=key, reason=reason,
            )  # fmt: skip
    except IntegrityError:
        return Incident.objects.get(spki_sha256=key, closed_at=None)  # one_open_incident_per_key
    return incident


def announce(
    *, incident: Incident, kind: str, version: Version, certificate: ClientCertificate, note: str, by: Any
) -> None:
    """Notes that the issuer was asked to revoke this version (`revocation`), or the partner was told (`partner`)."""
    if kind not in ANNOUNCEMENTS or version.spki_sha256 != incident.spki_sha256:
        raise TypeError(f"{kind} of {version} is nothing to announce in this incident")
    with transaction.atomic():
        _still_open(incident)
        made, new = Announcement.objects.get_or_create(
            incident=incident,
            kind=kind,
            sha256=version.sha256,
            defaults={"certificate": certificate, "note": " ".join(note.split())[:500], "announced_by": str(by)},
        )
        if not new:
            raise Refused(_("This is noted already."))
        action = {"revocation": "revocation.requested", "partner": "partner.told"}[kind]
        trail.record(action, by=by, subject=certificate, sha256=version.sha256, serial=version.serial, note=made.note)


def close_incident(*, incident: Incident, note: str = "", by: Any) -> None:
    """Everything that this person may see is done. The key stays marked."""
    course = incidents.course(incident, by)
    if course is None or course.why_not_closed:
        raise Refused(course.why_not_closed if course else _("There is no such incident."))
    _close(incident, "incident.closed", note, by)


def withdraw_incident(*, incident: Incident, note: str, by: Any) -> None:
    """It was a false alarm: the key is as good as any other."""
    note = _why(note, field="note")
    _close(incident, "incident.withdrawn", note, by, false_alarm=True)


def _close(incident: Incident, action: str, note: str, by: Any, **more: Any) -> None:
    with transaction.atomic():
        _still_open(incident)
        incident.closed_at, incident.closed_by = timezone.now(), str(by)
        incident.closing_note = " ".join(note.split())[:500]
        incident.false_alarm = more.get("false_alarm", False)
        incident.save(update_fields=["closed_at", "closed_by", "closing_note", "false_alarm"])
        trail.record(action, by=by, subject=incident, spki_sha256=incident.spki_sha256, note=incident.closing_note)


def _still_open(incident: Incident) -> None:
    """Holds its row until the transaction ends."""
    if Incident.objects.select_for_update().filter(pk=incident.pk, closed_at=None).first() is None:
        raise Refused(_("This incident was closed meanwhile; look at it once more."))


def _why(text: str, field: str = "reason") -> str:
    text = " ".join(text.split())[:500]
    if not text:
        raise Refused(_("Say why, in a few words; it stands in the audit log."), field=field)
    return text
