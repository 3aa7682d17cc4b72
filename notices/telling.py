"""From what was crossed to messages: one to a channel for all that is new, written together with the note that it was
said. What is sent is what stands in the rows; sending it is another matter (notices.sending)."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef

from certificates.models import ClientCertificate, Pin, TrustedAuthority, Version
from environments.models import Application, Environment
from notices import letters
from notices.letters import Item
from notices.models import Channel, Crossing, Message, Snooze, Told
from notices.recipients import People, people_of
from notices.thresholds import ORDER
from notices.watching import AUTHORITY, ISSUER, RENEWAL, is_news, still_watched
from rollouts import scheduled
from rollouts.models import Rollout
from rollouts.outlook import outlooks

log = logging.getLogger(__name__)

# Crossings that are in memory at once.
A_PART = 2000
NAME_OF_THE_FIRST = "Mail to the people here"


def tell(now: datetime) -> int:
    """Writes a message to each channel for what it has not been told; returns their number."""
    give_everybody_a_channel(now)
    written, seen = 0, ""
    while True:
        # By application, so that what belongs together is one message. Where there is no channel, nobody is told.
        pending = Crossing.objects.filter(
            Exists(Channel.objects.filter(application=OuterRef("environment__application"), removed_at=None)),
            done=False,
            environment__application__slug__gt=seen,
        )
        part = list(
            pending.select_related("environment__application").order_by("environment__application__slug", "pk")[:A_PART]
        )
        if not part:
            return written
        last = part[-1].environment.application.slug
        if len(part) == A_PART and part[0].environment.application.slug != last:
            part = [one for one in part if one.environment.application.slug != last]
        elif len(part) == A_PART:
            part = list(pending.filter(environment__application__slug=last).select_related("environment__application"))
        seen = part[-1].environment.application.slug
        written += _tell(part, now)


def _tell(part: list[Crossing], now: datetime) -> int:
    watched = still_watched(part)
    snoozed = set(Snooze.objects.filter(ended_at=None, until__gt=now).values_list("certificate", flat=True))
    news = [one for one in part if one.subject in watched and one.certificate_id not in snoozed]
    by_application: dict[UUID, list[Crossing]] = defaultdict(list)
    for crossing in news:
        by_application[crossing.environment.application_id].append(crossing)
    channels: dict[UUID, list[Channel]] = defaultdict(list)
    for channel in Channel.objects.filter(application__in=list(by_application), removed_at=None):
        channels[channel.application_id].append(channel)
    people, known = people_of(by_application), _Known(news)
    return sum(
        _tell_application(crossings[0].environment.application, crossings, channels[pk], people, known, now)
        for pk, crossings in by_application.items()
    )


def _tell_application(
    application: Application,
    crossings: list[Crossing],
    channels: Sequence[Channel],
    people: People,
    known: _Known,
    now: datetime,
) -> int:
    written = 0
    for channel in channels:
        said = set(Told.objects.filter(channel=channel, crossing__in=crossings).values_list("crossing", flat=True))
        fresh = [one for one in crossings if one.pk not in said]
        for recipients, group in _by_recipients(channel, fresh, people, known).items():
            items = known.items(group)
            message = Message(
                channel=channel, kind="notice", title=letters.headline(application, items, now)[:250],
                text=letters.notice(application, items, now), recipients=list(recipients), created_at=now,
                next_try_at=now,
            )  # fmt: skip
            written += _write(message, group)
    if channels:
        # What has nobody to go to yet is kept: it is said as soon as somebody has an address.
        told = Crossing.objects.filter(pk__in=[one.pk for one in crossings], told__channel__in=channels)
        everywhere = told.annotate(to=Count("told")).filter(to__gte=len(channels)).values_list("pk", flat=True)
        Crossing.objects.filter(pk__in=list(everywhere)).update(done=True)
    return written


def _write(message: Message, group: Iterable[Crossing]) -> int:
    try:
        with transaction.atomic():
            message.save(force_insert=True)
            Told.objects.bulk_create(Told(crossing=one, channel=message.channel, message=message) for one in group)
    except IntegrityError:
        log.info("somebody else has just told %s", message.channel)
        return 0
    return 1


def _by_recipients(
    channel: Channel, crossings: Iterable[Crossing], people: People, known: _Known
) -> dict[tuple[str, ...], list[Crossing]]:
    """One message for each group of people; of what crossed several thresholds at once, the worst decides who."""
    if not channel.is_mail:
        found = list(crossings)
        return {(): found} if found else {}
    worst: dict[tuple[str, UUID], str] = {}
    crossings = list(crossings)
    for one in crossings:
        key = (one.kind, one.subject)
        worst[key] = max(worst.get(key, ""), one.threshold, key=_badness)
    groups: dict[tuple[str, ...], list[Crossing]] = defaultdict(list)
    for one in crossings:
        addresses = set(channel.addresses)
        if channel.to_people:
            threshold = worst[one.kind, one.subject]
            place = one.environment
            addresses |= people.of(place.application_id, place.pk, threshold, known.responsible(one.certificate_id))
        if addresses:
            groups[tuple(sorted(addresses))].append(one)
    return groups


def _badness(threshold: str) -> int:
    return ORDER.index(threshold) if threshold in ORDER else -1


class _Known:
    """What messages say of the things that were crossed: a few queries for all of them."""

    def __init__(self, crossings: Sequence[Crossing]) -> None:
        subjects = {one.subject for one in crossings}
        self.versions: Mapping[UUID, Version] = Version.objects.defer("chain", "sought").in_bulk(subjects)
        self.authorities: Mapping[UUID, TrustedAuthority] = TrustedAuthority.objects.defer("certificate").in_bulk(
            subjects
        )
        ids = {one.certificate_id for one in crossings if one.certificate_id}
        self.certificates: Mapping[UUID, ClientCertificate] = ClientCertificate.objects.select_related(
            "responsible"
        ).in_bulk(ids)
        self.pins: dict[UUID, list[str]] = defaultdict(list)
        # What speaks against the renewal stands beside what has to be renewed.
        self.concerns = outlooks(ClientCertificate.objects.filter(pk__in=ids))
        for certificate, key in (
            Pin.objects.filter(certificate__in=ids).order_by("key").values_list("certificate", "key")
        ):
            self.pins[certificate].append(key)

    def responsible(self, certificate: UUID | None) -> str:
        known = self.certificates.get(certificate) if certificate else None
        person = known.responsible if known is not None else None
        return person.email if person is not None and person.is_active else ""

    def items(self, crossings: Iterable[Crossing]) -> list[Item]:
        """One for each subject, the next to end first."""
        found: dict[tuple[str, UUID], Item] = {}
        for one in sorted(crossings, key=lambda one: _badness(one.threshold), reverse=True):
            item = found.get((one.kind, one.subject))
            if item is None:
                found[one.kind, one.subject] = self._item(one)
            else:
                item.also.append(one.threshold)
        return sorted(found.values(), key=lambda item: (item.kind == RENEWAL, item.ends, item.name))

    def _item(self, one: Crossing) -> Item:
        environment: Environment = one.environment
        if one.kind == AUTHORITY:
            authority = self.authorities[one.subject]
            authority.environment = environment
            return Item(one.kind, one.threshold, environment, authority.not_after, authority.name, authority=authority)
        version = self.versions[one.subject]
        certificate = self.certificates[one.certificate_id] if one.certificate_id else version.certificate
        ends = version.chain_ends_at if one.kind == ISSUER and version.chain_ends_at else version.not_after
        item = Item(one.kind, one.threshold, environment, ends, certificate.name, certificate, version)
        item.pins = self.pins[certificate.pk]
        concerns = self.concerns.get(certificate.pk, [])
        if one.kind == RENEWAL:
            concerns = [concern for concern in concerns if is_news(concern.code)]
        item.sentences = [f"{concern.sentence} {concern.to_do}" for concern in concerns]
        return item


def give_everybody_a_channel(now: datetime) -> None:
    """Where mail can be sent, an application that never had a channel gets one: nobody has to think of it first."""
    if not settings.MAILS:
        return
    without = Application.objects.filter(archived_at=None, channels=None)
    Channel.objects.bulk_create(
        Channel(application=application, kind="mail", title=NAME_OF_THE_FIRST, created_at=now, created_by="Countersign")
        for application in without
    )


def tell_of_scheduled(now: datetime) -> int:
    """Reminders of what begins within the hour, and results of what was scheduled; each once, to the channels of its
    application that want them, and to whoever asked for it."""
    with transaction.atomic():
        told = [("reminder", one) for one in scheduled.reminders(now)] + [
            ("result", one) for one in scheduled.results(now)
        ]
        return sum(_tell_of_rollout(kind, rollout, now) for kind, rollout in told)


def _tell_of_rollout(kind: str, rollout: Rollout, now: datetime) -> int:
    application = rollout.environment.application
    title, text = letters.of_scheduled(kind, rollout)
    # One that was put off is reminded of anew.
    once, written = f"{rollout.pk} {rollout.due_at:%Y-%m-%dT%H:%M}", 0
    asked = rollout.requester.email if rollout.requester is not None and rollout.requester.is_active else ""
    for channel in application.channels.filter(removed_at=None, rollouts=True):
        recipients = sorted({*whom(channel, application), *([asked] if asked else [])}) if channel.is_mail else []
        if recipients or not channel.is_mail:
            written += say_once(channel, kind, once, title, text, now, recipients=recipients)
    return written


def whom(channel: Channel, application: Application) -> list[str]:
    """The addresses of a mail that is about the application as a whole."""
    if not channel.is_mail:
        return []
    addresses = set(channel.addresses)
    if channel.to_people:
        people = people_of([application.pk])
        addresses |= people.everywhere.get(application.pk, set()) or people.owners
    return sorted(addresses)


def say_once(channel: Channel, kind: str, once: str, title: str, text: str, now: datetime, **more: Any) -> bool:
    """Writes a message that comes once; False where it was written before."""
    message = Message(
        channel=channel, kind=kind, once=once, title=title[:250], text=text, created_at=now, next_try_at=now, **more
    )
    try:
        with transaction.atomic():
            message.save(force_insert=True)
    except IntegrityError:
        return False
    return True
