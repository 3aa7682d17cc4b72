"""Calendar feeds: an event on the day on which each certificate ends, with an alarm for each notice (RFC 5545).

A calendar program asks for a feed again and again without anybody at the keys, so its address is the secret; what it
answers follows from what its person may see at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet
from icalendar import Alarm, Calendar, Event

from certificates.models import ClientCertificate, TrustedAuthority
from environments.access import visible_environments
from environments.models import Environment
from notices import letters
from notices.models import Feed, Lead
from notices.thresholds import Plan, thresholds

# What has ended stays in the calendar for a while, so that nobody thinks that it went away by itself.
KEPT = timedelta(days=60)


def calendar(feed: Feed, now: datetime) -> bytes:
    """The feed as `text/calendar`; a constant number of queries."""
    made = Calendar()
    made.add("prodid", "-//Countersign//Certificates that end//EN")
    made.add("version", "2.0")
    made.add("calscale", "GREGORIAN")
    made.add("method", "PUBLISH")
    made.add("x-wr-calname", f"Certificates: {feed.title}")
    made.add("name", f"Certificates: {feed.title}")
    made.add("refresh-interval", timedelta(hours=6), parameters={"VALUE": "DURATION"})
    made.add("x-published-ttl", "PT6H")
    for event in _events(feed, now):
        made.add_component(event)
    return made.to_ical()


def _events(feed: Feed, now: datetime) -> Iterable[Event]:
    places = {environment.pk: environment for environment in _places(feed)}
    plans = {lead.environment_id: lead.plan for lead in Lead.objects.filter(environment__in=places)}
    certificates = ClientCertificate.objects.filter(
        environment__in=places, enabled=True, removed_at=None, in_use__isnull=False, expires_at__gt=now - KEPT
    )
    if feed.scope == "mine":
        certificates = certificates.filter(responsible=feed.person)
    for certificate in certificates.select_related("in_use").order_by("expires_at", "pk"):
        certificate.environment = places[certificate.environment_id]
        yield _certificate(certificate, plans, now)
    if feed.scope != "mine":
        trusted = TrustedAuthority.objects.filter(environment__in=places, removed_at=None, not_after__gt=now - KEPT)
        for authority in trusted.defer("certificate").order_by("not_after", "pk"):
            authority.environment = places[authority.environment_id]
            yield _authority(authority, plans, now)


def _places(feed: Feed) -> QuerySet[Environment]:
    seen = visible_environments(feed.person).filter(Q(archived_at=None))
    return seen.filter(application=feed.application_id) if feed.scope == "application" else seen


def _certificate(certificate: ClientCertificate, plans: dict[UUID, Plan], now: datetime) -> Event:
    version = certificate.in_use
    assert version is not None
    ask = " ".join(filter(None, [certificate.contact, certificate.contact_mail]))
    lines = [
        f"Issued by {version.issuer_common_name or version.issuer}, serial number {version.serial}.",
        *([f"Ask: {ask}"] if ask else []),
        *([f"Queue: {certificate.ticket_queue}"] if certificate.ticket_queue else []),
        *([f"How to renew: {certificate.how_to_renew}"] if certificate.how_to_renew else []),
    ]
    event = _event(
        f"{version.pk}@certificates", certificate.name, certificate.environment, version.not_after, version.created_at
    )
    event.add("description", "\n".join(lines))
    if address := letters.link(certificate.get_absolute_url()):
        event.add("url", address)
    return _alarmed(event, version.not_before, version.not_after, plans.get(certificate.environment_id, Plan()))


def _authority(authority: TrustedAuthority, plans: dict[UUID, Plan], now: datetime) -> Event:
    uid = f"{authority.pk}@authorities"
    event = _event(uid, authority.name, authority.environment, authority.not_after, authority.created_at)
    event.add("description", "A trusted authority: the app does not believe servers that it vouches for after that.")
    if address := letters.link(authority.get_absolute_url()):
        event.add("url", address)
    plan = plans.get(authority.environment_id, Plan())
    return _alarmed(event, authority.not_before, authority.not_after, plan)


def _event(uid: str, name: str, environment: Environment, ends: datetime, made: datetime) -> Event:
    """The moment of the end; its UID belongs to the version, so that a renewal takes the event away."""
    event = Event()
    event.add("uid", uid)
    event.add("dtstamp", made)
    event.add("summary", f"{name} expires ({environment}{', production' if environment.production else ''})")
    event.add("dtstart", ends)
    event.add("duration", timedelta(minutes=30))
    event.add("transp", "TRANSPARENT")
    event.add("categories", ["certificate"])
    return event


def _alarmed(event: Event, begins: datetime, ends: datetime, plan: Plan) -> Event:
    for one in thresholds(begins, ends, plan):
        if one.moment < ends:
            alarm = Alarm()
            alarm.add("action", "DISPLAY")
            alarm.add("description", str(event["summary"]))
            alarm.add("trigger", one.moment - ends)
            event.add_component(alarm)
    return event
