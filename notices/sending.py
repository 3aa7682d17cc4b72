"""Sends what messages say, and tries again: a mail server that is away, or a service that says no, delays a message and
loses none. One that was being sent when its worker died is sent again under the same number, so that a mail program
shows it once."""

from __future__ import annotations

import logging
import smtplib
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from audit import trail
from audit.actors import PORTAL
from notices import services
from notices.models import Channel, Message
from rollouts.outbound import Door
from vault import safe
from vault.envelope import VaultError
from vault.models import SealedObject

log = logging.getLogger(__name__)

# How long after each failure the next try comes; the last one again and again, until a message is too old to be news.
AGAIN = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360)]
TOO_OLD = timedelta(days=7)
# A message whose worker has not come back by then is sent by another one.
CUT_OFF = timedelta(minutes=3)
AT_ONCE = 20
# Seconds for all of one turn: a server that hangs must not outlast the worker's patience.
ALTOGETHER = 45.0


class NotSent(Exception):
    """One sentence: why a message did not go out. Without any secret."""


def send_due(now: datetime) -> int:
    """Sends what is due, the oldest first, at most AT_ONCE; returns how many went out."""
    until = time.monotonic() + ALTOGETHER
    sent = 0
    for message in (
        _due(now).select_related("channel__application", "channel__sealed").order_by("next_try_at")[:AT_ONCE]
    ):
        sent += send(message, now)
        if time.monotonic() > until:
            break
    return sent


def _due(now: datetime) -> QuerySet[Message]:
    return Message.objects.filter(
        Q(state="waiting", next_try_at__lte=now) | Q(state="sending", next_try_at__lte=now - CUT_OFF)
    )


def send(message: Message, now: datetime) -> bool:
    """Tries once, if it is due and nobody else is at it."""
    mine = (
        _due(now)
        .filter(pk=message.pk, tries=message.tries)
        .update(state="sending", tries=F("tries") + 1, next_try_at=now)
    )
    if not mine:
        return False
    message.tries += 1
    try:
        deliver(message)
    except NotSent as error:
        _again(message, str(error), now)
        return False
    Message.objects.filter(pk=message.pk).update(state="sent", sent_at=timezone.now(), error="")
    return True


def deliver(message: Message) -> None:
    """Hands it over, now. Raises NotSent."""
    channel = message.channel
    if channel.is_mail:
        _mail(message)
    else:
        _say(channel, message)


def _again(message: Message, why: str, now: datetime) -> None:
    log.warning("message %s to %s: %s", message.pk, message.channel_id, why)
    # Not where somebody took it over meanwhile, or has even sent it.
    mine = Message.objects.filter(pk=message.pk, state="sending", tries=message.tries)
    if now - message.created_at > TOO_OLD:
        mine.update(state="given-up", error=why[:1000])
        return
    wait = AGAIN[min(message.tries, len(AGAIN)) - 1]
    mine.update(state="waiting", next_try_at=now + wait, error=why[:1000])


def _mail(message: Message) -> None:
    if not settings.MAILS:
        raise NotSent("This server sends no mail; whoever runs it can name a mail server in its settings.")
    if not message.recipients:
        raise NotSent("Nobody here has an e-mail address; add one to a person, or to this channel.")
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">") or "localhost"
    headers = {"Message-ID": f"<{message.pk}@{host}>", "Auto-Submitted": "auto-generated"}
    mail = EmailMessage(message.title, message.text, to=message.recipients, headers=headers)
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as error:
        refused = ", ".join(sorted(error.recipients))
        raise NotSent(f"The mail server refuses {refused}; correct the address.") from None
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise NotSent(f"The mail server says {error.smtp_code}: {str(said)[:200]}") from None
    except (OSError, smtplib.SMTPException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise NotSent(f"The mail server cannot be reached ({why}).") from None


def _say(channel: Channel, message: Message) -> None:
    door: Door = settings.DOORS["notices"]
    try:
        services.say(address_of(channel), title=message.title, text=message.text, door=door)
    except services.NotTaken as error:
        raise NotSent(str(error)) from None
    except VaultError as error:
        raise NotSent(str(error)) from None


def address_of(channel: Channel) -> str:
    """The address of a service, for sending to it. Raises vault errors, NotSent."""
    sealed = channel.sealed
    if sealed is None or (sealed.field, sealed.environment_id) != ("channel", channel.application_id):
        raise NotSent("The sealed address of this channel belongs to something else; enter it again.")

    def record(_sealed: SealedObject) -> None:
        with transaction.atomic():
            trail.record("channel.opened", by=PORTAL, subject=channel, reason="a message is sent")

    return safe.open_sealed(sealed, record=record).decode()
