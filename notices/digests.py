"""The weekly digest: on Mondays at seven, by the clock of the installation; late where nobody saw the Monday."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from certificates.models import ClientCertificate, TrustedAuthority
from environments.models import Application, Environment
from notices import letters, telling
from notices.letters import Digest, Item
from notices.models import Channel, Lead, Message, Snooze
from notices.thresholds import FIRST, Plan, thresholds
from notices.watching import AUTHORITY, CERTIFICATE, last
from rollouts.standing import Standing, standings

MONDAY, HOUR = 0, 7
# Applications that are looked at together, so that memory does not grow with them.
A_PART = 50


def week(now: datetime) -> str:
    """The week whose digest is due, “2026-W49”: until Monday at seven it is the one before."""
    return f"{timezone.localtime(now) - timedelta(hours=HOUR):%G-W%V}"


def write(now: datetime) -> int:
    """Writes what is due to each channel that wants it, once a week; returns the number of messages."""
    this = week(now)
    have = Message.objects.filter(kind="digest", once=this).values("channel")
    # Who came in the middle of a week waits for the next one.
    monday = timezone.localtime(now) - timedelta(hours=HOUR)
    began = (monday - timedelta(days=monday.weekday())).replace(hour=HOUR, minute=0, second=0, microsecond=0)
    due = Channel.objects.filter(weekly=True, removed_at=None, application__archived_at=None, created_at__lt=began)
    by_application: dict[UUID, list[Channel]] = defaultdict(list)
    for channel in due.exclude(pk__in=have).select_related("application"):
        by_application[channel.application_id].append(channel)
    written = 0
    keys = list(by_application)
    for start in range(0, len(keys), A_PART):
        part = {key: by_application[key] for key in keys[start : start + A_PART]}
        written += _write(part, this, now)
    return written


def _write(part: Mapping[UUID, list[Channel]], this: str, now: datetime) -> int:
    pulse, written = last(), 0
    for pk, digest in _digests({key: channels[0].application for key, channels in part.items()}, now).items():
        title, text = letters.digest_title(digest), letters.digest_text(digest, pulse, now)
        for channel in part[pk]:
            recipients = telling.whom(channel, digest.application)
            if channel.is_mail and not recipients:
                continue
            written += telling.say_once(channel, "digest", this, title, text, now, recipients=recipients)
    return written


def _digests(applications: Mapping[UUID, Application], now: datetime) -> dict[UUID, Digest]:
    environments = list(
        Environment.objects.filter(application__in=applications, archived_at=None).select_related("application")
    )
    places = {environment.pk: environment for environment in environments}
    plans = {lead.environment_id: lead.plan for lead in Lead.objects.filter(environment__in=environments)}
    digests = {pk: Digest(application, 0, [], [], [], [], []) for pk, application in applications.items()}
    for item in _items(places, plans, now):
        digest = digests[item.environment.application_id]
        (digest.expired if item.ends <= now else digest.soon).append(item)
    for stand in standings(environments).values():
        digest = digests[stand.environment.application_id]
        digest.watched += sum(stand.comparison.statuses.values())
        digest.refused += _refused(stand)
        if stand.count and stand.destination:
            digest.pending.append(f"{stand.environment}: {stand.configuration.text}")
    open_ones = Snooze.objects.filter(ended_at=None, until__gt=now, certificate__environment__in=environments)
    for snooze in open_ones.select_related("certificate"):
        snooze.certificate.environment = places[snooze.certificate.environment_id]
        digests[snooze.certificate.environment.application_id].snoozed.append(snooze)
    return digests


def _items(places: Mapping[UUID, Environment], plans: Mapping[UUID, Plan], now: datetime) -> Iterable[Item]:
    """What has expired, or is past its first notice, the next to end first."""
    horizon = now + timedelta(days=max([Plan.first, *(plan.first for plan in plans.values())]))
    found = []
    listed = ClientCertificate.objects.filter(
        Q(expires_at__lte=horizon), environment__in=list(places), enabled=True, removed_at=None, in_use__isnull=False
    )
    for row in listed.values_list("environment", "name", "in_use__not_before", "in_use__not_after"):
        found.append((CERTIFICATE, *row))
    trusted = TrustedAuthority.objects.filter(environment__in=list(places), removed_at=None, not_after__lte=horizon)
    for row in trusted.values_list("environment", "name", "not_before", "not_after"):
        found.append((AUTHORITY, *row))
    for kind, environment, name, begins, ends in sorted(found, key=lambda row: (row[4], row[2])):
        first = thresholds(begins, ends, plans.get(environment, Plan()))[0]
        if first.moment <= now:
            yield Item(kind, FIRST, places[environment], ends, name)


def _refused(stand: Standing) -> list[str]:
    names = dict(ClientCertificate.objects.filter(pk__in=list(stand.turned_away)).values_list("pk", "name"))
    return [f"{names.get(pk, '')}, in {stand.environment}, by {by.key}" for pk, by in stand.turned_away.items()]
