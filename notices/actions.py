"""Who is told what: channels, lead times, snoozes and calendars. One verb, one transaction, one event."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import trail
from audit.actors import Actor
from certificates.models import ClientCertificate
from environments.actions import take_turns
from environments.models import Application, Environment, Person
from environments.names import checked_name
from environments.refusals import Refused
from notices import letters, sending, services, telling
from notices.models import Channel, Feed, Lead, Message, Snooze
from notices.thresholds import Plan
from vault import safe
from vault.envelope import VaultError

MOST_ADDRESSES = 20
LONGEST_SNOOZE = timedelta(days=90)


# --- Channels ---------------------------------------------------------------------------------------------------------


def add_mail(
    *, application: Application, title: str, to_people: bool, addresses: str, weekly: bool, rollouts: bool, by: Any
) -> Channel:
    """`addresses` as typed: one a line, or with commas. Raises Refused."""
    found = read_addresses(addresses)
    if not found and not to_people:
        raise Refused(_("Tell the people here, or type an address."), field="addresses")
    with transaction.atomic():
        channel = Channel.objects.create(
            application=application, kind="mail", title=checked_name(title, field="title"), to_people=to_people,
            addresses=found, weekly=weekly, rollouts=rollouts, created_at=timezone.now(), created_by=str(by),
        )  # fmt: skip
        trail.record("channel.added", by=by, subject=channel, kind="mail", addresses=found, people=to_people)
    return channel


def add_service(
    *, application: Application, title: str, address: str, weekly: bool, rollouts: bool, by: Any
) -> Channel:
    """`address` as Apprise spells it; it is sealed, and never shown again. Raises Refused."""
    try:
        service = services.kind_of(address.strip())
    except services.NotTaken as error:
        raise Refused(str(error), field="address") from None
    title = checked_name(title, field="title")
    try:
        sealed = safe.put(address.strip().encode(), environment_id=application.pk, field="channel")
    except VaultError as error:
        raise Refused(str(error), field="address") from None
    with safe.kept(sealed), transaction.atomic():
        sealed.save()
        channel = Channel.objects.create(
            application=application, kind="service", title=title, to_people=False, sealed=sealed,
            service=service[:60], weekly=weekly, rollouts=rollouts, created_at=timezone.now(),
            created_by=str(by),
        )  # fmt: skip
        trail.record("channel.added", by=by, subject=channel, kind=service)
    return channel


def read_addresses(typed: str) -> list[str]:
    """E-mail addresses, one a line or with commas, in their order and once each. Raises Refused."""
    found: list[str] = []
    for word in typed.replace(",", "\n").replace(";", "\n").splitlines():
        address = word.strip()
        if not address:
            continue
        try:
            validate_email(address)
        except ValidationError:
            raise Refused(
                _("“%(address)s” is no e-mail address; correct it.") % {"address": address}, field="addresses"
            ) from None
        if address not in found:
            found.append(address)
    if len(found) > MOST_ADDRESSES:
        raise Refused(
            _("These are %(n)d addresses; a channel has at most %(limit)d. Use a list of your mail server.")
            % {"n": len(found), "limit": MOST_ADDRESSES},
            field="addresses",
        )
    return found


def change_channel(
    *, channel: Channel, title: str, to_people: bool, addresses: str, weekly: bool, rollouts: bool, by: Any
) -> None:
    found = read_addresses(addresses) if channel.is_mail else []
    if channel.is_mail and not found and not to_people:
        raise Refused(_("Tell the people here, or type an address."), field="addresses")
    now = {"title": checked_name(title, field="title"), "weekly": weekly, "rollouts": rollouts}
    if channel.is_mail:
        now |= {"to_people": to_people, "addresses": found}
    changed = sorted(name for name, value in now.items() if getattr(channel, name) != value)
    if not changed:
        return
    with transaction.atomic():
        for name, value in now.items():
            setattr(channel, name, value)
        channel.save(update_fields=list(now))
        trail.record("channel.changed", by=by, subject=channel, changed=changed)


def remove_channel(*, channel: Channel, by: Any) -> None:
    """What it was sent stays listed; its address is forgotten."""
    sealed = channel.sealed
    with transaction.atomic():
        if not Channel.objects.filter(pk=channel.pk, removed_at=None).update(
            removed_at=timezone.now(), removed_by=str(by)[:200]
        ):
            return
        channel.messages.filter(state__in=("waiting", "sending")).update(
            state="given-up", error="The channel was removed before it could be sent."
        )
        trail.record("channel.removed", by=by, subject=channel)
    if sealed is not None:
        safe.destroy(sealed)


def test_channel(*, channel: Channel, by: Any) -> Message:
    """Sends a test now, while the person waits; the message says how that went."""
    now = timezone.now()
    recipients = telling.whom(channel, channel.application)
    message = Message(
        channel=channel, kind="test", title=f"{channel.application.name}: a test of {channel.title}"[:250],
        text=letters.test_text(channel.title, Actor.of(by).name), recipients=recipients, created_at=now,
        next_try_at=now, tries=1, state="given-up",
    )  # fmt: skip
    try:
        sending.deliver(message)
    except sending.NotSent as error:
        message.error = str(error)[:1000]
    else:
        message.state, message.sent_at = "sent", timezone.now()
    with transaction.atomic():
        message.save(force_insert=True)
        trail.record("channel.tested", by=by, subject=channel, outcome=message.state, error=message.error)
    return message


def send_again(*, message: Message, by: Any) -> None:
    """A message that was given up, or that waits for its next try, is due now."""
    with transaction.atomic():
        waiting = Message.objects.filter(pk=message.pk, state__in=("waiting", "given-up"), channel__removed_at=None)
        if waiting.update(state="waiting", next_try_at=timezone.now()):
            trail.record("message.retried", by=by, subject=message.channel, title=message.title)


# --- When -------------------------------------------------------------------------------------------------------------


def set_lead(*, environment: Environment, first: int, week: int, day: int, by: Any) -> None:
    """How many days before the end the notices of an environment come. Raises Refused where they are in no order."""
    if not first > week > day > 0:
        raise Refused(_("Each notice comes later than the one before: 60, 7 and 1 days, say."), field="first")
    if first > 365:
        raise Refused(_("At most 365 days before the end; earlier nobody renews."), field="first")
    with transaction.atomic():
        take_turns(environment)
        lead = Lead.objects.filter(environment=environment).first() or Lead(environment=environment)
        if (lead.first, lead.week, lead.day) == (first, week, day):
            return
        lead.first, lead.week, lead.day = first, week, day
        if lead.plan == Plan():
            Lead.objects.filter(environment=environment).delete()
        else:
            lead.save()
        trail.record("notices.changed", by=by, subject=environment, first=first, week=week, day=day)


def snooze(*, certificate: ClientCertificate, until: datetime, reason: str, by: Any) -> Snooze:
    """Holds the notices of a certificate back until then, for everybody, and everybody sees it. Raises Refused."""
    now, reason = timezone.now(), " ".join(reason.split())[:300]
    if not reason:
        raise Refused(_("Say why, so that the others know."), field="reason")
    if until <= now:
        raise Refused(_("This is over already; choose a later day."), field="until")
    if until > now + LONGEST_SNOOZE:
        raise Refused(_("At most 90 days; snooze it again then, if that is still right."), field="until")
    version = certificate.in_use
    if version is not None and now < version.not_after < until + timedelta(days=1):
        raise Refused(
            _("It expires on %(when)s; the notice of the last day is never held back. Choose an earlier day.")
            % {"when": letters.day(version.not_after)},
            field="until",
        )
    with transaction.atomic():
        take_turns(certificate.environment)
        certificate.snoozes.filter(ended_at=None).update(ended_at=now)
        made = Snooze.objects.create(
            certificate=certificate, until=until, reason=reason, created_at=now, created_by=str(by)
        )
        trail.record("certificate.snoozed", by=by, subject=certificate, until=until, reason=reason)
    return made


def wake(*, certificate: ClientCertificate, by: Any) -> None:
    """Ends a snooze: what was held back is told with the next look."""
    with transaction.atomic():
        if certificate.snoozes.filter(ended_at=None, until__gt=timezone.now()).update(ended_at=timezone.now()):
            trail.record("certificate.woken", by=by, subject=certificate)


# --- Calendars --------------------------------------------------------------------------------------------------------


def open_feed(*, person: Person, scope: str, application: Application | None, by: Any) -> str:
    """The token of a calendar's address, which is told now and never again; one that there was holds no more."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        Feed.objects.filter(person=person, scope=scope, application=application).delete()
        feed = Feed.objects.create(mark=mark_of(token), person=person, scope=scope, application=application)
        trail.record("feed.opened", by=by, subject=person, scope=str(feed.title))
    return token


def close_feed(*, feed: Feed, by: Any) -> None:
    with transaction.atomic():
        Feed.objects.filter(pk=feed.pk).delete()
        trail.record("feed.closed", by=by, subject=feed.person, scope=str(feed.title))


def mark_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
